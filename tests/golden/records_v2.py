#!/usr/bin/env python3
"""Writes records_v2.hex from the tables in docs/FORMATS.md alone: an encoder that shares nothing with src/engine/record.

Run it in tests/golden/ after a deliberate change of the format, and read the difference. The values are those of
`payload()` in src/engine/record/tests.rs."""
import struct

HOUR = 3_600_000_000
NOT_GIVEN = b"\xff\xff"
LINES = {"a period's name and bounds", "an event's length", "a feed's meter"}
lines = ["# The records of src/engine/record/tests.rs, `payload()`. Written by records_v2.py."]


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<H", len(data)) + data


def record(title, kind, *parts):
    """Each part: what it is, and its bytes."""
    length = sum(len(data) for _, data in parts)
    put([(title, bytes([kind])), ("body length", struct.pack("<I", length)), *parts])


def put(parts):
    """A line for the record, and one for each period, event and feed in it."""
    line = []
    for title, data in parts:
        if line and title in LINES:
            put_line(line)
            line = []
        line.append((title, data))
    put_line(line)


def put_line(parts):
    lines.append("# " + ", ".join(title for title, _ in parts))
    lines.append(" ".join(data.hex() for _, data in parts))


def feed(meter, late, window, period, value, dimensions):
    tag, scaled = value
    return [
        ("a feed's meter", struct.pack("<H", meter)),
        ("late", bytes([late])),
        ("window", struct.pack("<qq", *window)),
        ("period", struct.pack("<I", period)),
        ("value", bytes([tag]) + scaled.to_bytes(16, "little", signed=tag == 0)),
        ("dimensions", bytes([len(dimensions)]) + b"".join(NOT_GIVEN if d is None else text(d) for d in dimensions)),
    ]


def event(key, fingerprint, timestamp, customer, raw, feeds):
    parts = [
        ("key", key.to_bytes(16, "little")),
        ("fingerprint", struct.pack("<I", fingerprint)),
        ("timestamp", struct.pack("<q", timestamp)),
        ("customer", text(customer)),
        ("raw", struct.pack("<I", len(raw)) + raw),
        ("feeds", bytes([len(feeds)])),
    ] + [part for one in feeds for part in one]
    return [("an event's length", struct.pack("<I", sum(len(data) for _, data in parts)))] + parts


def period(label, start, end):
    return ("a period's name and bounds", text(label) + struct.pack("<qq", start, end))


ONE = 10**12
JANUARY, FEBRUARY = (0, 744 * HOUR), (744 * HOUR, 1416 * HOUR)
record("Genesis", 1, ("format", struct.pack("<H", 2)), ("store id", (0x0102).to_bytes(16, "little")),
       ("dedupe key", bytes([7] * 16)), ("incarnation", struct.pack("<I", 1)), ("created_at", struct.pack("<q", 5)))
record("Events", 3, ("tenant", text("acme")), ("received_at", struct.pack("<q", 2_000_000)),
       ("count", struct.pack("<I", 2)), ("periods", struct.pack("<I", 2)), period("1970-01", *JANUARY),
       period("1970-02", *FEBRUARY),
       *event(0xAB, 0xCD, 1_000_000, "c-1", b'{"a":1}',
              [feed(0, 0, (0, HOUR), 0, (0, 3 * ONE), ["gpt", None]), feed(1, 0, (0, HOUR), 0, (1, 9), [])]),
       *event(0xAC, 0xCE, 744 * HOUR, "c-2", b"{}",
              [feed(0, 0, (744 * HOUR, 745 * HOUR), 1, (0, 1), ["", "x"]),
               feed(1, 1, (-HOUR, 0), 0, (0, -ONE // 2), [])]))
record("Tick", 4, ("effective time", struct.pack("<q", 9)), ("horizon", struct.pack("<Q", 4)))
record("Tally", 5, ("tenant", text("acme")), ("duplicate, conflict, rejected, capped", struct.pack("<QQQQ", 1, 2, 3, 4)))
record("Closed", 6, ("windows", bytes([0])), ("meter", struct.pack("<H", 1)), ("bounds", struct.pack("<qq", 0, HOUR)),
       ("series", struct.pack("<I", 2)), ("name", text(b"one")), ("name", text(b"")))
record("Closed", 6, ("periods", bytes([1])), ("meter", struct.pack("<H", 0)), ("bounds", struct.pack("<qq", *JANUARY)),
       ("series", struct.pack("<I", 1)), ("name", text(b"\x00\xff")))
record("CustomerChanged", 7, ("tenant", text("acme")), ("customer", text("c-1")), ("settings", (
    b'{"plan":"pro","schedule":{"eras":[{"from":null,"anchor":15,"time_zone":null},'
    b'{"from":"2026-11","anchor":31,"time_zone":"Asia/Tokyo"}]}}')))
record("ClockReset", 8, ("effective time", struct.pack("<q", -1)), ("reason", text("it jumped")))

with open("records_v2.hex", "w", encoding="ascii") as out:
    out.write("\n".join(lines) + "\n")

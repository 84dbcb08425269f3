#!/usr/bin/env python3
"""Writes caps_v2.hex from the tables in docs/FORMATS.md alone: an encoder that shares nothing with src/engine/record.

Run it in tests/golden/ after a deliberate change of the format, and read the difference. The values are those of
`payload()` in src/engine/record/caps/tests.rs."""
import json
import struct

NO_EVENT, REFUSED, ACCEPTED = range(3)
HOUR = 3_600_000_000
lines = ["# The records of src/engine/record/caps/tests.rs, `payload()`. Written by caps_v2.py."]


def text(value):
    return struct.pack("<H", len(value.encode())) + value.encode()


def u16(value):
    return struct.pack("<H", value)


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def i64(value):
    return struct.pack("<q", value)


def quantity(whole, rest=0):
    scaled = whole * 10**12 + rest
    return scaled.to_bytes(16, "little", signed=True)


def as_json(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sized_json(value):
    return u16(len(as_json(value))) + as_json(value)


def record(title, kind, *parts):
    """Each part: what it is, and its bytes."""
    length = sum(len(data) for _, data in parts)
    parts = [(title, bytes([kind])), ("body length", u32(length)), *parts]
    lines.append("# " + ", ".join(title for title, _ in parts))
    lines.append(" ".join(data.hex() for _, data in parts if data))


def window(start, end):
    return i64(start) + i64(end)


def alert(title, kind, names, cap, threshold, amount, period, bounds, generation, used, event, late, at):
    how, event_id, seq = event
    record(title, kind, *((title, text(name)) for title, name in zip(("tenant", "customer", "meter"), names)),
           ("cap", sized_json(cap)), ("threshold", text(threshold)), ("amount", amount), ("period", text(period)),
           ("bounds", window(*bounds)), ("generation", u32(generation)), ("used", used), ("event", bytes([how])),
           ("event's id", text(event_id)), ("event's seq", u64(seq)), ("late", bytes([late])), ("at", i64(at)))


monthly = {"id": "default", "period": "billing", "hard": "1000", "soft": ["80%", "900.5"], "on_hard_cap": "reject",
           "grace": "10%", "enforce": True}
hourly = {"id": "bürst \"1\"", "period": "window", "hard": None, "soft": ["900000"], "on_hard_cap": "allow", "grace": "0",
          "enforce": False}

record("CapsDefined", 19, ("meter", u16(0x0102)),
       ("caps", as_json([{"plan": None, "cap": hourly}, {"plan": "pro", "cap": monthly}])))
record("CapsDefined", 19, ("meter", u16(3)), ("caps", as_json([])))
record("CustomerCapsChanged", 20, ("tenant", text("acmé")), ("customer", text("c-1")), ("meter", u16(0x0102)),
       ("at", i64(-7)), ("caps", as_json([hourly, monthly])))
record("CustomerCapsChanged", 20, ("tenant", text("acmé")), ("customer", text("c-1")), ("meter", u16(0x0102)),
       ("at", i64(2**40)), ("no caps", as_json(None)))
alert("AlertRaised", 21, ("acmé", "c-1", "tokens"), monthly, "80%", quantity(800), "1970-01", (0, 744 * HOUR), 1,
      quantity(800, 1), (ACCEPTED, "e-1", 0x0102030405), 0, 1_000_001)
alert("AlertRaised", 21, ("acmé", "c-2", "tokens"), {**monthly, "period": "window"}, "hard", quantity(1000), "",
      (-HOUR, 0), 2**32 - 1, quantity(-1), (REFUSED, "", 0), 1, -5)
alert("AlertRecovered", 22, ("acmé", "c-1", "tokens"), hourly, "900000", quantity(900_000), "1970-W01",
      (-72 * HOUR, 96 * HOUR), 2, quantity(0), (NO_EVENT, "", 0), 0, 1_000_002)
record("ReservationHeld", 23, ("tenant", text("acmé")), ("id", text("r-1/é")), ("customer", text("c-1")),
       ("meter", u16(0x0102)), ("quantity", quantity(2, 500_000_000_000)), ("period's name", text("1970-02")),
       ("period", window(744 * HOUR, 1416 * HOUR)), ("window", window(745 * HOUR, 746 * HOUR)),
       ("made at", i64(745 * HOUR + 1)), ("expires at", i64(745 * HOUR + 900_000_001)))
record("ReservationCommitted", 24, ("tenant", text("acmé")), ("id", text("r-1/é")), ("event's seq", u64(2**63 + 1)),
       ("quantity", quantity(3)), ("at", i64(12)))
record("ReservationReleased", 25, ("tenant", text("acmé")), ("id", text("r-2")), ("at", i64(13)))

with open("caps_v2.hex", "w", encoding="ascii") as out:
    out.write("\n".join(lines) + "\n")

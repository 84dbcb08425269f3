#!/usr/bin/env python3
"""Writes corrections_v2.hex from the tables in docs/FORMATS.md alone: an encoder that shares nothing with
src/engine/record.

Run it in tests/golden/ after a deliberate change of the format, and read the difference. The values are those of
`payload()` in src/engine/record/corrections/tests.rs."""
import struct

HOUR = 3_600_000_000
lines = ["# The records of src/engine/record/corrections/tests.rs, `payload()`. Written by corrections_v2.py."]


def u8(value):
    return bytes([value])


def u16(value):
    return struct.pack("<H", value)


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def i64(value):
    return struct.pack("<q", value)


def u128(value):
    return value.to_bytes(16, "little")


def text(value):
    return u16(0xFFFF) if value is None else u16(len(value.encode())) + value.encode()


def sized(data):
    return u16(len(data)) + data


def long(data):
    return u32(len(data)) + data


def quantity(trillionths):
    return trillionths.to_bytes(16, "little", signed=True)


def window(start, end):
    return i64(start) + i64(end)


def record(title, kind, *parts):
    body = b"".join(parts)
    lines.append(f"# {title}: kind, body length, then part by part")
    lines.append(" ".join(data.hex() for data in (u8(kind), u32(len(body)), *parts) if data))


JANUARY = text("1970-01") + window(0, 744 * HOUR)


def subtract():
    return u8(0)


def is_(data):
    return u8(1) + long(data)


def without(*members):
    return u8(2) + u32(len(members)) + b"".join(map(u128, members))


def change(meter, total, start, remains):
    changed = window(start * HOUR, (start + 1) * HOUR) + u64(7) + u8(start > 0) + u64(1)
    changed += quantity(-2_500_000_000_000) + i64(start * HOUR + 5) + remains
    return sized(b"\x00\x04acme\x00\x03c-1") + u16(meter) + JANUARY + total + u64(9) + u32(1) + changed


raw = b'{"usage_event_id":"e"}'
feed = u16(4) + u8(0) + window(0, HOUR) + u32(0) + u8(0) + quantity(10**12) + u8(0)
event = u128(1) + u32(2) + i64(3) + text("c-1") + long(raw) + u8(1) + feed
record("BackfilledEvents", 26, u32(9), text("acme"), i64(5), u32(1), u32(1), JANUARY, long(event))
record(
    "Retracted, a void", 27, text("acmé"), i64(12), u8(0), u64(0x0102_0304_0506), u128(0x0F0E << 64), text("e-1"),
    text(""), text("c-1"), text("sent twice under two ids"), u64(3), u32(3),
    change(0, subtract(), 0, subtract()), change(1, is_(b"\x01\x03\x09"), 1, is_(b"\x01\x03\x08")),
    change(2, without(5), 2, without(5, 1 << 127)),
)
record("Retracted, a slice of a revert", 27, text("acme"), i64(13), u8(1), u32(2), u64(0), u32(0))
record("BackfillOpened", 28, text("acme"), text("2023"), u32(1), i64(-1))
record("BackfillReverting", 29, u32(1), i64(2), text("wrong file"))
record("BackfillReverted", 30, u32(1), i64(3))
action = (text("caps.put"), text("c-1/tokens"))
record("OperatorAction", 31, text("acme"), i64(77), text("ops-1"), *action, long(b""), long(b"[]"))
record("OperatorAction, by nobody", 31, text(None), i64(77), text(None), *action, long(b"{}"), long(b""))
with open("corrections_v2.hex", "w", encoding="ascii") as out:
    out.write("\n".join(lines) + "\n")

#!/usr/bin/env python3
"""Writes delivery_v2.hex from the tables in docs/FORMATS.md alone: an encoder that shares nothing with src/engine/record.

Run it in tests/golden/ after a deliberate change of the format, and read the difference. The values are those of
`payload()` in src/engine/record/delivery/tests.rs."""
import struct

OPERATOR, GONE, MISFIT, RESTORED = range(4)
WINDOWS, ADJUSTMENTS, ALERTS = range(3)
lines = ["# The records of src/engine/record/delivery/tests.rs, `payload()`. Written by delivery_v2.py."]


def text(value):
    return struct.pack("<H", len(value.encode())) + value.encode()


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def i64(value):
    return struct.pack("<q", value)


def record(title, kind, *parts):
    """Each part: what it is, and its bytes."""
    length = sum(len(data) for _, data in parts)
    parts = [(title, bytes([kind])), ("body length", u32(length)), *parts]
    lines.append("# " + ", ".join(title for title, _ in parts))
    lines.append(" ".join(data.hex() for _, data in parts if data))


def reasoned(name, reason, at):
    return [("name", text(name)), ("reason", text(reason)), ("at", i64(at))]


def position(title, seq, index):
    return (title, u64(seq) + u32(index))


def attempt(at, took, status, error, answer):
    return [("attempt at", i64(at)), ("took", i64(took)), ("status", struct.pack("<H", status)), ("error", text(error)),
            ("answer", text(answer))]


record("Incarnation", 9, ("incarnation", u32(2)), ("reason", text("restored from a backup")))
record("SinkDefined", 10, ("name", text("crm")), ("kinds", bytes([1 << WINDOWS | 1 << ALERTS])))
record("SinkPaused", 11, ("name", text("crm")), ("cause", bytes([MISFIT])), ("reason", text("no column é")), ("at", i64(7)))
record("SinkResumed", 12, *reasoned("crm", "", -1))
record("SinkForgotten", 13, *reasoned("crm", "moved", 2**40))
record("DeliveryPlanned", 14, ("sink", text("crm")), ("kind", bytes([ADJUSTMENTS])), position("first", 0x0102, 3),
       position("last", 2**33, 2**32 - 1), ("rows", u32(5000)), ("at", i64(1_000_000)))
record("AttemptFailed", 15, ("delivery", u64(0x0A0B)), ("due", i64(6_000_000)),
       *attempt(1_000_001, 20_000_000, 503, "it answered 503", "try\nlater"))
record("AttemptFailed", 15, ("delivery", u64(0x0A0B)), ("due", i64(5)), *attempt(-5, 0, 0, "timed out", ""))
record("Delivered", 16, ("delivery", u64(0x0A0B)), *attempt(6_000_000, 12_345, 204, "", ""))
record("DeadLettered", 17, ("delivery", u64(0x0A0C)), *attempt(9, 1, 410, "gone", "{}"), ("rows", u32(2)),
       position("position", 0x0102, 0), ("length", u32(3)), ("value", b"\x00\xffz"),
       position("position", 0x0102, 1), ("length", u32(0)), ("value", b""))
record("ReplayRequested", 18, ("at", i64(11)), ("key", text("k-1")), ("request", u64(2**64 - 2)), ("count", u32(2)),
       ("delivery", u64(0x0A0C)), ("delivery", u64(0x0A0D)))
record("ReplayRequested", 18, ("at", i64(12)), ("no key", text("")), ("request", u64(0)), ("count", u32(0)))

with open("delivery_v2.hex", "w", encoding="ascii") as out:
    out.write("\n".join(lines) + "\n")

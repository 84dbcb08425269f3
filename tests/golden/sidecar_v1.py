#!/usr/bin/env python3
"""Writes sidecar_v1.hex from docs/FORMATS.md alone: an encoder that shares nothing with src/engine/evidence.

Run it in tests/golden/ after a deliberate change of the format, and read the difference."""
import struct

STORE_ID = 0x0F0E0D0C0B0A09080706050403020100
FIRST_SEQ, LAST_SEQ = 1001, 1009


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283
SEED = crc32c(STORE_ID.to_bytes(16, "little") + struct.pack("<Q", FIRST_SEQ))


def entry(number, body):
    return body + struct.pack("<I", crc32c(struct.pack("<I", number) + body, SEED))


def name(tenant, customer):
    return b"".join(struct.pack(">H", len(text)) + text for text in (tenant, customer))


records = [
    entry(0, struct.pack("<QqIIIII", 64, 1_000, 0, 0, 60, 0, 0xAAAAAAAA)),
    entry(1, struct.pack("<QqIIIII", 4096, 2_000, 7, 21, 30, 1, 0xBBBBBBBB)),
]
customers = []
for number, (customer, first, count) in enumerate([(name(b"acme", b"c-1"), 0, 2), (name(b"acme", b"c-22"), 2, 1)]):
    customers.append(entry(number, struct.pack("<H", len(customer)) + customer + struct.pack("<II", first, count)))
ends = [sum(len(customer) for customer in customers[:count]) for count in range(len(customers) + 1)]
offsets = b"".join(struct.pack("<I", end) for end in ends)
postings = [
    entry(0, struct.pack("<qQIIIII", -5, 1 << 63 | 1, 7, 1, 51, 300, 0x01020304)),
    entry(1, struct.pack("<qQIIIII", 500, 2, 1, 0, 260, 200, 0x11121314)),
    entry(2, struct.pack("<qQIIIII", 100, 1, 0, 0, 60, 200, 0x21222324)),
]
header = struct.pack("<HH16sQQQQIIIIIIqq24x", 1, 0, STORE_ID.to_bytes(16, "little"), FIRST_SEQ, LAST_SEQ, 70_000, 69_000,
                     0xCCCCCCCC, len(records), len(customers), ends[-1], len(postings), 0, -5, 500)
header = b"MTRDINDX" + struct.pack("<I", crc32c(struct.pack("<I", 0) + header, SEED)) + header
assert len(header) == 128 and len(records[0]) == 40 and len(postings[0]) == 40

parts = [("header", header)]
parts += [("a record: frame, received_at, first, offset, header bytes, packed, header's crc, crc", part) for part in records]
parts += [("a customer: name, first posting, postings, crc", part) for part in customers]
parts += [("the customers' offsets", offsets)]
parts += [("a posting: counted time, meters, seq, record, offset, bytes, event's crc, crc", part) for part in postings]
lines = ["# A sidecar of src/engine/evidence/format/tests.rs. Written by sidecar_v1.py."]
for part, data in parts:
    lines.append(f"# {part}")
    lines += [" ".join(f"{byte:02x}" for byte in data[at:at + 16]) for at in range(0, len(data), 16)]
open("sidecar_v1.hex", "w").write("\n".join(lines) + "\n")

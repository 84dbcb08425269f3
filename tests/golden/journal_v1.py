#!/usr/bin/env python3
"""Writes journal_v1.hex and journal_v1_lz4.hex from docs/FORMATS.md alone: an encoder that shares nothing with src/journal.

Run it in tests/golden/ after a deliberate change of the format, and read the difference."""
import struct

STORE_ID = 0x0F0E0D0C0B0A09080706050403020100


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283
SEED = crc32c(STORE_ID.to_bytes(16, "little"))


class Segment:
    def __init__(self, first_seq, previous):
        body = struct.pack("<HH16sQI20x", 1, 0, STORE_ID.to_bytes(16, "little"), first_seq, previous)
        self.link = crc32c(body, SEED)
        self.bytes = b"MTRDJRNL" + struct.pack("<I", self.link) + body
        self.parts = [("segment header", self.bytes)]
        self.durable_seq, self.durable_bytes = first_seq - 1, len(self.bytes)
        self.next = first_seq

    def frame(self, title, count, payload, stored=None):
        codec, stored = (0, payload) if stored is None else (1, stored)
        body = struct.pack("<IIIIQIB3xQQQ", self.link, crc32c(stored, SEED), len(stored), len(payload), self.next,
                           count, codec, self.durable_seq, self.durable_bytes, len(self.bytes))
        self.link = crc32c(body, SEED)
        frame = b"MFRM" + struct.pack("<I", self.link) + body + stored
        frame += bytes(-len(frame) % 8)
        self.parts.append((title, frame))
        self.bytes += frame
        self.next += count

    def sync(self):
        self.durable_seq, self.durable_bytes = self.next - 1, len(self.bytes)

    def write(self, name, title):
        lines = [f"# {title}"]
        for part, data in self.parts:
            lines.append(f"# {part}")
            lines += [" ".join(f"{byte:02x}" for byte in data[at:at + 16]) for at in range(0, len(data), 16)]
        open(name, "w").write("\n".join(lines) + "\n")


plain = Segment(1, 0)
plain.frame("frame of records 1 and 2", 2, b"hello, journal")
plain.frame("frame of record 3, written before a sync of the first", 1, b"")
plain.sync()
plain.frame("watermark frame", 0, b"")
plain.sync()
plain.frame("frame of records 4 to 1003", 1000, bytes(range(256)))
plain.write("journal_v1.hex", "00000000000000000001.log, without zeros written ahead")

# One literal "a", a match of 94 bytes at distance 1, five literals.
lz4 = Segment(18446744073709000000, 0xDEADBEEF)
lz4.frame("frame with an LZ4 block", 7, b"a" * 100, bytes([0x1F]) + b"a" + bytes([1, 0, 75, 0x50]) + b"aaaaa")
lz4.write("journal_v1_lz4.hex", "18446744073709000000.log: the codec, and the largest numbers")

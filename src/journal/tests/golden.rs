use super::*;
use crate::journal::frame::{ALIGNMENT, HEADER_BYTES, Header, Link, Seed, pack, unpack};
use crate::journal::segment::{SegmentHeader, SegmentHeaderError, file_name, parse_file_name};

fn golden(text: &str) -> Vec<u8> {
    let words = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    words.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn plain() -> Vec<u8> {
    golden(include_str!("../../../tests/golden/journal_v1.hex"))
}

fn lz4() -> Vec<u8> {
    golden(include_str!("../../../tests/golden/journal_v1_lz4.hex"))
}

#[test]
fn writes_the_golden_bytes() {
    let disk = SimDisk::new(1);
    let mut journal = create(&disk, options(4096));
    append(&mut journal, 2, b"hello, journal");
    append(&mut journal, 1, b"");
    journal.append_watermark().unwrap();
    let every_byte: Vec<u8> = (0..=255).collect();
    append(&mut journal, 1000, &every_byte);
    let mut expected = plain();
    assert_eq!(journal.segments()[0].bytes, expected.len() as u64);
    expected.resize(4096, 0);
    assert_eq!(disk.contents(&segment_path(1)).unwrap(), expected);
}

#[test]
fn reads_the_golden_bytes() {
    let disk = SimDisk::new(1);
    disk.set_contents(&segment_path(1), &plain());
    let (journal, recovered, frames) = recover_all(&disk).unwrap();
    let every_byte: Vec<u8> = (0..=255).collect();
    assert_eq!(frames, [frame(1, 2, b"hello, journal"), frame(3, 1, b""), frame(4, 1000, &every_byte)]);
    assert_eq!(recovered, Recovered { last: Seq(1003), frames: 3, bytes: 80 + 64 + 320, cut: None });
    assert_eq!((journal.store_id(), journal.durable()), (STORE_ID, Seq(1003)));
}

#[test]
fn reads_the_golden_lz4_block_and_the_largest_numbers() {
    let disk = SimDisk::new(1);
    let first_seq = 18_446_744_073_709_000_000;
    disk.set_contents(&segment_path(first_seq), &lz4());
    let (journal, _, frames) = recover(&disk, options(4096), after(first_seq - 1)).unwrap();
    assert_eq!(frames, [frame(first_seq, 7, &[b'a'; 100])]);
    assert_eq!(journal.last(), Seq(first_seq + 6));
}

fn frame(first_seq: u64, count: u32, payload: &[u8]) -> Frame {
    Frame { first_seq: Seq(first_seq), count, payload: payload.to_vec() }
}

#[test]
fn encodes_every_field_of_a_header_in_its_place() {
    let seed = Seed::new(STORE_ID);
    let header = Header {
        previous: Link(0x0102_0304),
        payload_crc: 0x1112_1314,
        stored_bytes: 0x2122_2324,
        payload_bytes: 0x3132_3334,
        first_seq: Seq(0x4142_4344_4546_4748),
        count: 0x5152_5354,
        codec: 0x61,
        durable: Seq(0x7172_7374_7576_7778),
        durable_bytes: 0x8182_8384_8586_8788,
        offset: 0x9192_9394_9596_9798,
    };
    let (bytes, link) = header.encode(seed);
    let expected = "14131211 24232221 34333231 4847464544434241 54535251 61000000 7877767574737271 8887868584838281 9897969594939291";
    assert_eq!(hex::encode(&bytes[12..]), expected.replace(' ', ""));
    assert_eq!(Header::decode(&bytes, seed), Some((header, link)));
    assert_eq!(Header::decode(&bytes, Seed::new(StoreId(1))), None);
    for bit in 0..HEADER_BYTES * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::decode(&flipped, seed), None, "bit {bit}");
    }
}

#[test]
fn a_segment_header_refuses_every_bit_flip_every_truncation_and_a_newer_version() {
    let header = SegmentHeader { store_id: STORE_ID, first_seq: Seq(77), previous: Link(5) };
    let (bytes, link) = header.encode();
    assert_eq!(SegmentHeader::decode(&bytes), Ok((header, link)));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(SegmentHeader::decode(&flipped), Err(SegmentHeaderError::Corrupt(_))), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(SegmentHeader::decode(&bytes[..len]).is_err());
    }
    let mut newer = bytes;
    newer[12] = 2;
    let crc = Seed::new(STORE_ID).checksum(&newer[12..]);
    newer[8..12].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&newer), Err(SegmentHeaderError::Newer(2)));
}

#[test]
fn names_segments_so_that_they_sort() {
    assert_eq!(file_name(Seq(52_310)), "00000000000000052310.log");
    assert_eq!(parse_file_name("00000000000000052310.log"), Some(Seq(52_310)));
    for name in
        ["52310.log", "00000000000000052310.tmp", "+0000000000000052310.log", "99999999999999999999.log", ".log"]
    {
        assert_eq!(parse_file_name(name), None, "{name}");
    }
}

#[test]
fn stores_what_lz4_makes_smaller_and_the_rest_as_it_is() {
    let mut noise = vec![0; 1000];
    fastrand::Rng::with_seed(1).fill(&mut noise);
    for (payload, codec) in [(&[7u8; 1000][..], 1), (&noise, 0), (&[], 0)] {
        let mut out = vec![9; 64];
        let stored = pack(payload, Compression::Lz4, &mut out);
        assert_eq!((stored.codec, out.len() % ALIGNMENT, stored.payload_bytes as usize), (codec, 0, payload.len()));
        let header = Header {
            previous: Link(0),
            payload_crc: 0,
            stored_bytes: stored.stored_bytes,
            payload_bytes: stored.payload_bytes,
            first_seq: Seq(1),
            count: 1,
            codec: stored.codec,
            durable: Seq(0),
            durable_bytes: 64,
            offset: 64,
        };
        let stored = &out[64..][..stored.stored_bytes as usize];
        assert_eq!(unpack(&header, stored, &mut Vec::new()), Ok(payload));
        assert!(unpack(&Header { codec: 2, ..header.clone() }, stored, &mut Vec::new()).is_err());
        assert!(unpack(&Header { payload_bytes: 1001, ..header }, stored, &mut Vec::new()).is_err());
    }
}

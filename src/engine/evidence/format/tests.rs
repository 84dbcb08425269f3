use super::*;
use crate::engine::key;

const STORE_ID: StoreId = StoreId(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100);
const FIRST_SEQ: Seq = Seq(1_001);

fn golden() -> Vec<u8> {
    let text = include_str!("../../../../tests/golden/sidecar_v1.hex");
    let words = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    words.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn header() -> Header {
    Header {
        store_id: STORE_ID,
        segment: SegmentInfo { first_seq: FIRST_SEQ, last_seq: Seq(1_009), bytes: 70_000 },
        newest: FrameMark { offset: 69_000, crc: 0xCCCC_CCCC },
        records: 2,
        customers: 2,
        customer_bytes: 25 + 26,
        postings: 3,
        earliest: -5,
        latest: 500,
    }
}

fn records() -> [RecordEntry; 2] {
    let record = |frame, received_at, [first, offset, header_bytes]: [u32; 3], is_packed, header_crc| RecordEntry {
        frame,
        received_at,
        first,
        offset,
        header_bytes,
        is_packed,
        header_crc,
    };
    [record(64, 1_000, [0, 0, 60], false, 0xAAAA_AAAA), record(4_096, 2_000, [7, 21, 30], true, 0xBBBB_BBBB)]
}

fn postings() -> [Posting; 3] {
    let posting = |counted, meters, [seq, record, offset, bytes, crc]: [u32; 5]| Posting {
        counted,
        meters,
        seq,
        record,
        offset,
        bytes,
        crc,
    };
    [
        posting(-5, 1 << 63 | 1, [7, 1, 51, 300, 0x0102_0304]),
        posting(500, 2, [1, 0, 260, 200, 0x1112_1314]),
        posting(100, 1, [0, 0, 60, 200, 0x2122_2324]),
    ]
}

fn customers() -> [(Vec<u8>, Range<u32>); 2] {
    [("c-1", 0..2), ("c-22", 2..3)].map(|(customer, postings)| {
        let mut name = Vec::new();
        key::put_customer(&mut name, "acme", customer);
        (name, postings)
    })
}

#[test]
fn writes_the_golden_bytes() {
    let seed = Seed::new(STORE_ID, FIRST_SEQ);
    let mut out = header().encode().to_vec();
    (0..).zip(records()).for_each(|(number, record)| record.put(seed, number, &mut out));
    let mut offsets = vec![0_u32];
    for (number, (name, postings)) in (0..).zip(customers()) {
        put_customer(&name, postings, seed, number, &mut out);
        offsets.push((out.len() - HEADER_BYTES - 2 * RECORD_BYTES) as u32);
    }
    offsets.iter().for_each(|offset| out.extend_from_slice(&offset.to_le_bytes()));
    (0..).zip(postings()).for_each(|(number, posting)| posting.put(seed, number, &mut out));
    assert_eq!(out, golden());
}

#[test]
fn reads_the_golden_bytes_and_notices_every_flip_and_every_other_place() {
    let (golden, seed) = (golden(), Seed::new(STORE_ID, FIRST_SEQ));
    let bytes = golden.first_chunk().unwrap();
    let header = Header::decode(bytes, STORE_ID, FIRST_SEQ).unwrap();
    assert_eq!((header, header.bytes()), (self::header(), golden.len() as u64));
    assert_eq!(Header::decode(bytes, STORE_ID, Seq(1)), None);
    assert_eq!(Header::decode(bytes, StoreId(1), FIRST_SEQ), None);
    for bit in 0..HEADER_BYTES * 8 {
        let mut flipped = *bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::decode(&flipped, STORE_ID, FIRST_SEQ), None, "bit {bit}");
    }
    let entry = |at: u64, len: usize| &golden[at as usize..][..len];
    for (number, expected) in (0..).zip(records()) {
        let bytes = entry(header.record_at(number), RECORD_BYTES).try_into().unwrap();
        assert_eq!(RecordEntry::read(seed, number, bytes), Some(expected));
        assert_eq!(RecordEntry::read(seed, number + 1, bytes), None);
    }
    for (number, expected) in (0..).zip(postings()) {
        let bytes: &[u8; POSTING_BYTES] = entry(header.posting_at(number), POSTING_BYTES).try_into().unwrap();
        assert_eq!(Posting::read(seed, number, bytes), Some(expected));
        assert_eq!(Posting::read(Seed::new(STORE_ID, Seq(1)), number, bytes), None);
        let flips = (0..POSTING_BYTES * 8).map(|bit| {
            let mut flipped = *bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        });
        assert!(flips.into_iter().all(|flipped| Posting::read(seed, number, &flipped).is_none()));
    }
    for (number, (name, postings)) in (0..).zip(customers()) {
        let [start, end] = [number, number + 1].map(|number| u32_at(entry(header.offset_at(number), 4), 0));
        let bytes = entry(header.customers_at() + u64::from(start), (end - start) as usize);
        assert_eq!(read_customer(seed, number, bytes), Some((&*name, postings)));
        assert!((0..bytes.len()).all(|len| read_customer(seed, number, &bytes[..len]).is_none()));
    }
}

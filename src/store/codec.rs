//! Bytes of the store's own keys and values. Pure.
//!
//! ```text
//! dedupe key    EventKey           16 bytes big-endian, so that keys sort as numbers
//! dedupe value  seq                 6 bytes little-endian
//!               fingerprint         4 bytes little-endian
//! meta          "format_version" →  4 bytes little-endian
//!               "position"       →  8 bytes little-endian
//!               "store_id"       → 16 bytes little-endian
//! ```

use super::StoreError;
use crate::model::{EventKey, Fingerprint, IdEntry, Seq};

/// The format that this version writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 2;
pub const META_FORMAT_VERSION: &[u8] = b"format_version";
pub const META_POSITION: &[u8] = b"position";

/// 2^48 records are 8,900 years at a million a second.
const SEQ_BYTES: usize = 6;
pub const ID_KEY_BYTES: usize = 16;
pub const ID_VALUE_BYTES: usize = SEQ_BYTES + 4;

pub fn encode_id_key(key: EventKey) -> [u8; ID_KEY_BYTES] {
    key.0.to_be_bytes()
}

pub fn decode_id_key(bytes: &[u8]) -> Result<EventKey, StoreError> {
    Ok(EventKey(u128::from_be_bytes(exactly("a dedupe key", bytes)?)))
}

/// The seq must be below 2^48.
pub fn encode_id_value(entry: IdEntry) -> [u8; ID_VALUE_BYTES] {
    let mut bytes = [0; ID_VALUE_BYTES];
    debug_assert!(entry.seq.0 >> (8 * SEQ_BYTES) == 0, "a seq has 48 bits");
    bytes[..SEQ_BYTES].copy_from_slice(&entry.seq.0.to_le_bytes()[..SEQ_BYTES]);
    bytes[SEQ_BYTES..].copy_from_slice(&entry.fingerprint.0.to_le_bytes());
    bytes
}

pub fn decode_id_value(bytes: &[u8]) -> Result<IdEntry, StoreError> {
    let [s0, s1, s2, s3, s4, s5, f0, f1, f2, f3] = exactly::<ID_VALUE_BYTES>("a dedupe value", bytes)?;
    Ok(IdEntry {
        seq: Seq(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, 0, 0])),
        fingerprint: Fingerprint(u32::from_le_bytes([f0, f1, f2, f3])),
    })
}

pub fn encode_position(position: Seq) -> [u8; 8] {
    position.0.to_le_bytes()
}

pub fn decode_position(bytes: &[u8]) -> Result<Seq, StoreError> {
    Ok(Seq(u64::from_le_bytes(exactly("the position", bytes)?)))
}

pub fn encode_format_version(version: u32) -> [u8; 4] {
    version.to_le_bytes()
}

pub fn decode_format_version(bytes: &[u8]) -> Result<u32, StoreError> {
    Ok(u32::from_le_bytes(exactly("the format version", bytes)?))
}

pub fn decode_store_id(bytes: &[u8]) -> Result<u128, StoreError> {
    Ok(u128::from_le_bytes(exactly("the store id", bytes)?))
}

fn exactly<const BYTES: usize>(what: &str, bytes: &[u8]) -> Result<[u8; BYTES], StoreError> {
    bytes
        .try_into()
        .map_err(|_| StoreError::Corrupt { detail: format!("{what} has {} bytes instead of {BYTES}", bytes.len()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: EventKey = EventKey(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    const ENTRY: IdEntry = IdEntry { seq: Seq(0x0605_0403_0201), fingerprint: Fingerprint(0x0a09_0807) };
    const KEY_BYTES: [u8; 16] =
        [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    const ENTRY_BYTES: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

    #[test]
    fn writes_and_reads_the_golden_bytes() {
        assert_eq!(encode_id_key(KEY), KEY_BYTES);
        assert_eq!(decode_id_key(&KEY_BYTES).unwrap(), KEY);
        assert_eq!(encode_id_value(ENTRY), ENTRY_BYTES);
        assert_eq!(decode_id_value(&ENTRY_BYTES).unwrap(), ENTRY);
        assert_eq!(encode_position(Seq(0x0102)), [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_position(&[2, 1, 0, 0, 0, 0, 0, 0]).unwrap(), Seq(0x0102));
        assert_eq!(encode_format_version(1), [1, 0, 0, 0]);
        assert_eq!(decode_format_version(&[1, 0, 0, 0]).unwrap(), 1);
        assert_eq!(decode_store_id(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]).unwrap(), (2 << 120) + 1);
    }

    #[test]
    fn refuses_values_of_another_length() {
        for len in (0..40).filter(|len| *len != ID_VALUE_BYTES) {
            assert!(matches!(decode_id_value(&vec![0; len]), Err(StoreError::Corrupt { .. })), "{len}");
        }
        assert!(decode_position(&[0; 7]).is_err());
        assert!(decode_id_key(&[0; 17]).is_err());
        assert!(decode_format_version(&[]).is_err());
        assert!(decode_store_id(&[0; 15]).is_err());
    }
}

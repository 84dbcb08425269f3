//! The two kinds of hash: keyed ones that the log holds, and a per-process one for tables in memory.
//!
//! 1. Ids, fingerprints and members use SipHash-1-3 (Aumasson and Bernstein 2012) under Genesis' key: stable for the life
//!    of a data directory, and not to be guessed by those who send events.
//! 2. Table hashes use a seed of this process; nothing durable may depend on them.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;
use siphasher::sip128::SipHasher13 as SipHasher13x128;

use crate::model::EventKey;

/// The keyed hashes of one data directory.
#[derive(Clone, Copy)]
pub struct Hasher {
    narrow: SipHasher13,
    wide: SipHasher13x128,
}

impl Hasher {
    pub fn new(key: &[u8; 16]) -> Self {
        Self { narrow: SipHasher13::new_with_key(key), wide: SipHasher13x128::new_with_key(key) }
    }

    pub fn hash64(&self, bytes: &[u8]) -> u64 {
        self.narrow.hash(bytes)
    }

    pub fn hash128(&self, bytes: &[u8]) -> u128 {
        self.wide.hash(bytes).as_u128()
    }

    /// The dedupe key: the hash of length-prefixed tenant, source and id. `scratch` is overwritten.
    pub fn event_key(&self, scratch: &mut Vec<u8>, tenant: &str, source: &str, usage_event_id: &str) -> EventKey {
        scratch.clear();
        for part in [tenant, source, usage_event_id] {
            super::key::put_text(scratch, part);
        }
        EventKey(self.hash128(scratch))
    }
}

/// Hashes names for tables in memory.
#[derive(Clone, Debug, Default)]
pub struct TableHasher(foldhash::fast::RandomState);

impl TableHasher {
    pub fn hash(&self, name: &[u8]) -> u64 {
        self.0.hash_one(name)
    }
}

//! One simulated file: what the page cache shows, what the platter holds, and the changes in between.

use fastrand::Rng;

/// The unit that a power loss keeps whole or drops whole.
pub const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub struct Inode {
    /// What a read sees.
    pub cached: Vec<u8>,
    /// What is certain to survive.
    pub durable: Vec<u8>,
    /// What a sync will carry over, oldest first.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Inode {
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        overlay(&mut self.cached, offset, bytes);
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub fn set_len(&mut self, len: usize) {
        self.cached.resize(len, 0);
        self.pending.push(Change::Length(len));
    }

    /// An honest sync. What an earlier failed sync dropped is not carried over: the kernel thinks it is clean.
    pub fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write { offset, bytes } => overlay(&mut self.durable, offset, &bytes),
                Change::Length(len) => self.durable.resize(len, 0),
            }
        }
    }

    /// A sync that failed: some sectors got there, the rest is marked clean and forgotten, and reads still show it.
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        self.scatter(rng);
    }

    /// A power loss: each sector of each pending write, and each change of length, is kept or dropped on its own.
    pub fn crash(&mut self, rng: &mut Rng) {
        self.scatter(rng);
        self.cached.clone_from(&self.durable);
    }

    pub fn flip_bit(&mut self, bit: usize) {
        for bytes in [&mut self.cached, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    fn scatter(&mut self, rng: &mut Rng) {
        let keep_percent = [0, 25, 50, 90, 100][rng.usize(..5)];
        let keep = |rng: &mut Rng| rng.usize(..100) < keep_percent;
        let mut len = self.durable.len();
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write { offset, bytes } => {
                    let end = offset + bytes.len();
                    if end > len && keep(rng) {
                        len = if rng.bool() { end } else { rng.usize(len..=end) };
                    }
                    for (start, piece) in sectors(offset, &bytes) {
                        if keep(rng) {
                            overlay(&mut self.durable, start, piece);
                        }
                    }
                }
                Change::Length(new) if keep(rng) => {
                    self.durable.resize(new, 0);
                    len = new;
                }
                Change::Length(_) => {}
            }
        }
        self.durable.resize(len, 0);
    }
}

/// Writes over `target` from `offset`, with zeros in any gap.
fn overlay(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[offset..end].copy_from_slice(bytes);
}

/// Cuts a write at sector boundaries: (offset, bytes) of each piece.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = offset + at;
        let take = (SECTOR_BYTES - start % SECTOR_BYTES).min(bytes.len() - at);
        let piece = &bytes[at..at + take];
        at += take;
        (take > 0).then_some((start, piece))
    })
}

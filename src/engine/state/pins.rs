//! Keeps counters in memory while a reader that began before they could leave has not ended.
//!
//! 1. A reader takes a pin with the state's lock held, and its view of the store under the same hold: what leaves memory
//!    later is then in memory until the reader ends, and what left before is in its view of the store.
//! 2. A batch of counters that may leave gets the present generation; it leaves once no pin is that old.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Clone, Debug, Default)]
pub struct Pins(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    generation: u64,
    /// Readers by the generation in which they began.
    readers: BTreeMap<u64, u32>,
}

/// Held by a reader; given back on drop.
#[derive(Debug)]
pub struct Pin {
    pins: Pins,
    generation: u64,
}

impl Pins {
    pub fn pin(&self) -> Pin {
        let mut held = self.0.lock();
        let generation = held.generation;
        *held.readers.entry(generation).or_default() += 1;
        Pin { pins: self.clone(), generation }
    }

    /// The generation of what may leave from now on: readers that begin later do not keep it.
    pub fn next_generation(&self) -> u64 {
        let mut held = self.0.lock();
        held.generation += 1;
        held.generation - 1
    }

    /// Whether no reader is as old as this generation.
    pub fn may_leave(&self, generation: u64) -> bool {
        self.0.lock().readers.first_key_value().is_none_or(|(oldest, _)| *oldest > generation)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.pins.0.lock();
        if let Some(readers) = held.readers.get_mut(&self.generation) {
            *readers -= 1;
            if *readers == 0 {
                held.readers.remove(&self.generation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_leaves_once_the_readers_that_began_before_it_have_ended() {
        let pins = Pins::default();
        let early = pins.pin();
        let batch = pins.next_generation();
        let late = pins.pin();
        assert!(!pins.may_leave(batch));
        drop(early);
        assert!(pins.may_leave(batch), "a reader that began later does not keep it");
        assert!(!pins.may_leave(pins.next_generation()));
        drop(late);
        assert!(pins.0.lock().readers.is_empty());
    }
}

//! The gate in front of the engine: how many bytes may be under way, and when nothing may come in at all.
//!
//! 1. A permit covers a request's decoded body from arrival to answer, so memory stays bounded whatever clients do.
//! 2. A full disk refuses before the journal would fail, from `disk_reserve_bytes` on; reads stay possible.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Why nothing was taken. Nothing of the request has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("more is under way than limits.queue allows")]
    Overloaded,
    #[error("less than storage.reserve is free on the data directory's file system")]
    DiskFull,
    #[error("the daemon is shutting down")]
    Stopping,
}

#[derive(Debug)]
pub struct Gate {
    bytes_max: usize,
    bytes: AtomicUsize,
    stopping: AtomicBool,
    disk_full: AtomicBool,
}

/// The right to have so many bytes under way; given back on drop.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    bytes: usize,
}

impl Gate {
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            bytes: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
        })
    }

    /// A single request is let in however large it is when nothing else is under way.
    pub fn admit(self: &Arc<Self>, bytes: usize) -> Result<Permit, Refusal> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(Refusal::Stopping);
        }
        if self.disk_full.load(Ordering::Acquire) {
            return Err(Refusal::DiskFull);
        }
        let fits = |used: usize| (used == 0 || used + bytes <= self.bytes_max).then(|| used + bytes);
        match self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => Ok(Permit { gate: self.clone(), bytes }),
            Err(_) => Err(Refusal::Overloaded),
        }
    }

    /// For the few bytes that say what became of something: they are taken also on a full disk, whose reserve is kept for
    /// them, and while the daemon stops.
    pub fn pass(self: &Arc<Self>) -> Permit {
        Permit { gate: self.clone(), bytes: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Acquire)
    }

    /// True when that is a change.
    pub fn set_disk_full(&self, full: bool) -> bool {
        self.disk_full.swap(full, Ordering::AcqRel) != full
    }
}

impl Permit {
    /// Asks for more, under the same rule: alone, a request is let in however large it becomes.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let fits = |used: usize| (used == self.bytes || used + bytes <= self.gate.bytes_max).then(|| used + bytes);
        let grown = self.gate.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        grown.map_err(|_| Refusal::Overloaded)?;
        self.bytes += bytes;
        Ok(())
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_past_the_limit_and_takes_again_once_a_permit_is_gone() {
        let gate = Gate::new(100);
        let first = gate.admit(60).unwrap();
        assert_eq!(gate.admit(50).unwrap_err(), Refusal::Overloaded);
        let second = gate.admit(40).unwrap();
        drop(first);
        assert_eq!(gate.bytes(), 40);
        drop(second);
        assert!(gate.admit(1_000).is_ok(), "one large request alone is let in");
    }

    #[test]
    fn a_permit_grows_within_the_limit_or_alone() {
        let gate = Gate::new(100);
        let mut first = gate.admit(10).unwrap();
        first.grow(500).unwrap();
        assert_eq!((first.bytes(), gate.bytes()), (510, 510), "alone");
        drop(first);
        let mut first = gate.admit(10).unwrap();
        let second = gate.admit(50).unwrap();
        assert_eq!(first.grow(41).unwrap_err(), Refusal::Overloaded);
        first.grow(40).unwrap();
        drop((first, second));
        assert_eq!(gate.bytes(), 0);
    }

    #[test]
    fn refuses_everything_while_the_disk_is_full_or_the_daemon_stops() {
        let gate = Gate::new(100);
        assert!(gate.set_disk_full(true) && !gate.set_disk_full(true));
        assert_eq!(gate.admit(1).unwrap_err(), Refusal::DiskFull);
        gate.set_disk_full(false);
        gate.stop();
        assert_eq!(gate.admit(1).unwrap_err(), Refusal::Stopping);
    }
}

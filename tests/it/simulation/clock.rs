//! When the clock is believed, once more and as plainly as can be.

use meterd::model::Timestamp;

pub const MAX_STEP_MICROS: i64 = 3_600_000_000;
pub const SETTLE_MICROS: i64 = 600_000_000;

/// Wall time and monotonic time, in µs.
#[derive(Clone, Copy)]
pub struct Seen {
    pub wall: i64,
    pub mono: i64,
}

pub struct Believed {
    highest: Seen,
    /// How far the wall clock was ahead of the monotonic one at the jump, and when that was.
    jump: Option<(i64, i64)>,
}

impl Believed {
    /// As a daemon starts, with the log's effective time.
    pub fn new(effective: Timestamp, mono: i64) -> Self {
        Self { highest: Seen { wall: effective.micros(), mono }, jump: None }
    }

    pub fn reset(&mut self, now: Seen) {
        *self = Self { highest: now, jump: None };
    }

    /// The time by which things are decided; none while the clock is not believed.
    pub fn observe(&mut self, now: Seen) -> Option<i64> {
        let expected = self.highest.wall + now.mono - self.highest.mono;
        if now.wall <= expected + MAX_STEP_MICROS {
            self.jump = None;
        } else {
            let ahead = now.wall - now.mono;
            let (_, since) = match self.jump {
                Some((jump, since)) if (ahead - jump).abs() <= MAX_STEP_MICROS => (jump, since),
                _ => *self.jump.insert((ahead, now.mono)),
            };
            if now.mono - since < SETTLE_MICROS {
                return None;
            }
            self.jump = None;
        }
        if now.wall >= self.highest.wall {
            self.highest = now;
        }
        Some(now.wall)
    }
}

//! What a schedule does to the clocks.

use meterd::env::Clock;
use meterd::journal::JournalError;
use meterd::model::{Duration, Timestamp};

use super::{HOUR_MICROS, World};

impl World {
    pub(super) fn pass_time(&mut self) -> Result<(), JournalError> {
        let millis = match self.rng.u32(..6) {
            0 | 1 => self.rng.u64(10..40) * 3_600_000,
            2 => 600_000,
            _ => self.rng.u64(1..5_000),
        };
        self.clock.advance(Duration::from_millis(millis));
        Ok(())
    }

    pub(super) fn step_clock(&mut self) -> Result<(), JournalError> {
        if self.rng.u32(..4) == 0 {
            return self.race_clock();
        }
        let hours = match self.rng.u32(..8) {
            0 => 48,
            1 => -720,
            2 => 720,
            _ => self.rng.i64(-3..3),
        };
        self.seen.clock_steps_back += u64::from(hours < 0);
        let now = self.clock.now().micros() + hours * HOUR_MICROS;
        self.clock.set(Timestamp::from_micros(now).expect("in range"));
        Ok(())
    }

    /// The wall clock runs sixty times too fast for a while, and is looked at now and then.
    fn race_clock(&mut self) -> Result<(), JournalError> {
        for _ in 0..self.rng.u32(1..10) {
            self.clock.advance(Duration::from_secs(10));
            let now = self.clock.now().saturating_add(Duration::from_secs(590));
            self.clock.set(now);
            self.tick()?;
        }
        Ok(())
    }
}

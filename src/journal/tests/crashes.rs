//! Random lives of a journal on a disk that fails, checked against a list of frames.
//!
//! What must hold at every recovery: it succeeds; it visits the appended frames in order, without a gap; among them
//! all that a successful sync covered. A violation is an `Err`, so that the positive controls can ask for one.

use fastrand::Rng;

use super::*;

const LIVES: usize = 5;
const OPERATIONS: usize = 12;

struct Run {
    rng: Rng,
    disk: SimDisk,
    options: Options,
    /// Every frame appended that may still be there, oldest first.
    frames: Vec<Frame>,
    /// Covered by a sync that returned success.
    acknowledged: Seq,
    /// What a store has persisted: recovery starts there.
    persisted: Seq,
    payloads: u32,
}

impl Run {
    fn new(seed: u64, lie: fn(&SimDisk)) -> Self {
        let mut rng = Rng::with_seed(seed);
        let disk = SimDisk::new(rng.u64(..));
        lie(&disk);
        let segment_bytes = [300, 1024, 4096, 16 << 10][rng.usize(..4)];
        let compression = if rng.u8(..4) == 0 { Compression::Lz4 } else { Compression::None };
        let options = Options { segment_bytes, compression };
        Self { rng, disk, options, frames: Vec::new(), acknowledged: Seq(0), persisted: Seq(0), payloads: 0 }
    }

    fn live(&mut self) -> Result<(), String> {
        for _ in 0..LIVES {
            // Faults may strike anywhere in the start as well; then the next start is on a healthy disk.
            let is_healthy = self.rng.bool();
            if !is_healthy {
                self.plan_fault(30);
            }
            if let Some(journal) = self.start(is_healthy)? {
                self.work(journal);
            }
            self.disk = if self.rng.u8(..4) == 0 { self.disk.restart() } else { self.disk.crash() };
        }
        self.start(true).map(drop)
    }

    fn plan_fault(&mut self, within: u64) {
        let calls = self.rng.u64(1..=within);
        match self.rng.u8(..6) {
            0 => self.disk.fail_sync_data_in(calls.div_ceil(4)),
            1 => self.disk.fail_sync_dir_in(calls.div_ceil(8)),
            2 => self.disk.fail_write_in(calls.div_ceil(2)),
            _ => self.disk.power_off_in(calls),
        }
    }

    /// Recovers or creates. None if a planned fault struck; a healthy disk is no excuse.
    fn start(&mut self, is_healthy: bool) -> Result<Option<Journal>, String> {
        let exists = Journal::exists(&self.disk).map_err(|error| error.to_string())?;
        let result = if !exists && self.acknowledged == Seq(0) {
            self.frames.clear();
            let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
            let created = Journal::create(disk, self.options, STORE_ID, Seq(1));
            created.map(|journal| (journal, Recovered { last: Seq(0), frames: 0, bytes: 0, cut: None }, Vec::new()))
        } else {
            let start = Start { after: self.persisted, floor: self.persisted, store_id: Some(STORE_ID) };
            recover(&self.disk, self.options, start)
        };
        match result {
            Ok((journal, recovered, visited)) => self.check(&recovered, &visited).map(|()| Some(journal)),
            Err(JournalError::Io { .. }) if !is_healthy => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn check(&mut self, recovered: &Recovered, visited: &[Frame]) -> Result<(), String> {
        let expected: Vec<Frame> =
            self.frames.iter().filter(|frame| frame.last_seq() > self.persisted).cloned().collect();
        if !expected.starts_with(visited) {
            return Err("recovery visited something else than what was appended".into());
        }
        if recovered.last < self.acknowledged {
            return Err(format!("{} is acknowledged, {} is the last", self.acknowledged, recovered.last));
        }
        if visited.last().map_or(self.persisted, Frame::last_seq) != recovered.last {
            return Err("the last seq is not the last frame's".into());
        }
        self.frames.retain(|frame| frame.last_seq() <= recovered.last);
        self.acknowledged = recovered.last;
        Ok(())
    }

    fn work(&mut self, mut journal: Journal) {
        let mut preparer = journal.preparer(0);
        if self.rng.bool() {
            self.plan_fault(40);
        }
        for _ in 0..self.rng.usize(..=OPERATIONS) {
            let result = match self.rng.u8(..10) {
                0..=4 => self.append(&mut journal),
                5..=6 => journal.sync().map(|durable| self.acknowledged = durable),
                7 => journal.append_watermark().map(|()| self.acknowledged = journal.last()),
                // The owner of a preparer only logs its failures.
                8 => preparer.prepare().or(Ok(())),
                _ => {
                    self.persisted = Seq(self.rng.u64(self.persisted.0..=self.acknowledged.0));
                    self.persisted = self.whole_frames(self.persisted);
                    journal.remove_below(self.persisted).map(drop)
                }
            };
            if result.is_err() {
                return;
            }
        }
    }

    fn append(&mut self, journal: &mut Journal) -> Result<(), JournalError> {
        self.payloads += 1;
        let len = if self.rng.u8(..8) == 0 { self.rng.usize(..6000) } else { self.rng.usize(..400) };
        let mut payload = self.payloads.to_le_bytes().to_vec();
        payload.resize(4 + len, self.rng.u8(..));
        let frame = Frame { first_seq: journal.last().next(), count: self.rng.u32(1..20), payload };
        // After an error the frame may be there or not.
        self.frames.push(frame);
        let frame = &self.frames[self.frames.len() - 1];
        journal.append(frame.first_seq, frame.count, &frame.payload).map(drop)
    }

    /// A store's position is always a frame's last seq.
    fn whole_frames(&self, seq: Seq) -> Seq {
        self.frames.iter().map(Frame::last_seq).filter(|last| *last <= seq).max().unwrap_or(self.persisted).max(Seq(0))
    }
}

/// How many of `seeds` end in a violation, and the first one of them.
fn violations(seeds: std::ops::Range<u64>, lie: fn(&SimDisk)) -> (usize, Option<String>) {
    let found =
        seeds.filter_map(|seed| Run::new(seed, lie).live().err().map(|violation| format!("seed {seed}: {violation}")));
    let found: Vec<String> = found.collect();
    (found.len(), found.into_iter().next())
}

#[test]
fn whatever_is_acknowledged_survives_power_loss_process_death_and_failing_syncs() {
    let seeds = std::env::var("METERD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(5_000);
    assert_eq!(violations(0..seeds, |_| {}), (0, None));
}

#[test]
fn the_same_check_catches_a_lying_fdatasync() {
    assert!(violations(0..300, |disk| disk.lie_on_sync_data(true)).0 > 30);
}

#[test]
fn the_same_check_catches_a_lying_directory_fsync() {
    assert!(violations(0..300, |disk| disk.lie_on_sync_dir(true)).0 > 30);
}

#[test]
fn a_crash_at_any_change_of_a_short_life_loses_nothing_acknowledged() {
    for prepare in [false, true] {
        let mut at = 1;
        while !short_life(at, prepare) {
            at += 1;
        }
        assert!(at > 30, "only {at} places to crash at");
    }
}

/// Creates, appends and rolls with the power going at the `at`-th change, and checks, by a few seeds. True if it lived.
fn short_life(at: u64, prepare: bool) -> bool {
    (0..20).all(|seed| {
        let disk = SimDisk::new(seed);
        disk.power_off_in(at);
        let mut frames = Vec::new();
        let mut acknowledged = Seq(0);
        let lived = script(&disk, prepare, &mut frames, &mut acknowledged).is_ok();
        let disk = disk.crash();
        if acknowledged == Seq(0) && !Journal::exists(&disk).unwrap() {
            return lived;
        }
        let (_, recovered, visited) = recover(&disk, options(400), Start::default()).unwrap();
        assert!(frames.starts_with(&visited) && recovered.last >= acknowledged, "seed {seed}, change {at}");
        lived
    })
}

fn script(disk: &SimDisk, prepare: bool, frames: &mut Vec<Frame>, acknowledged: &mut Seq) -> Result<(), JournalError> {
    let mut journal = Journal::create(Arc::new(disk.clone()), options(400), STORE_ID, Seq(1))?;
    let mut preparer = journal.preparer(0);
    for number in 0..6u8 {
        if prepare {
            preparer.prepare()?;
        }
        let frame = Frame { first_seq: journal.last().next(), count: 2, payload: vec![number; 150] };
        frames.push(frame.clone());
        journal.append(frame.first_seq, frame.count, &frame.payload)?;
        if number % 2 == 1 {
            *acknowledged = journal.sync()?;
        }
    }
    Ok(())
}

#[test]
fn a_cut_that_a_failed_sync_lost_is_made_good_by_the_next_recovery() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let mut journal = create(&disk, options(4096));
        append(&mut journal, 1, b"good");
        let end = usize::try_from(journal.segments()[0].bytes).unwrap();
        append(&mut journal, 1, &[7; 1000]);
        let mut torn = disk.contents(&segment_path(1)).unwrap();
        torn[end + 500] ^= 1;
        disk.set_contents(&segment_path(1), &torn);
        disk.fail_sync_data_in(1);
        assert!(matches!(recover_all(&disk), Err(JournalError::Io { .. })));
        let disk = disk.restart();
        let (_, recovered, _) = recover_all(&disk).unwrap();
        assert_eq!((recovered.last, recovered.cut), (Seq(1), None), "the cache shows the zeros");
        let platter = disk.crash().contents(&segment_path(1)).unwrap();
        assert_eq!(platter[end..end + 64], [0; 64], "seed {seed}");
    }
}

//! The keeper against a journal on a simulated disk and a store in a directory, and what a crash may leave of both.

use tempfile::TempDir;

use super::*;
use crate::env::{ManualClock, SimDisk};
use crate::journal::{Compression, Journal, Options, Start, StoreId};
use crate::store::{Commit, RocksStore, Table};

const AGE: Duration = Duration::from_secs(100);

fn at(seconds: u64) -> Timestamp {
    Timestamp::EPOCH.saturating_add(Duration::from_secs(seconds))
}

struct Scene {
    home: TempDir,
    disk: SimDisk,
    journal: Journal,
    store: Arc<RocksStore>,
    clock: Arc<ManualClock>,
}

impl Scene {
    fn new() -> Self {
        let (home, disk) = (TempDir::new().unwrap(), SimDisk::new(1));
        let options = Options { segment_bytes: 2_048, compression: Compression::None };
        let journal = Journal::create(Arc::new(disk.clone()), options, StoreId(7), Seq(1)).unwrap();
        let store = Arc::new(RocksStore::open(&home.path().join("store"), &Default::default()).unwrap());
        Self { home, disk, journal, store, clock: Arc::new(ManualClock::new(at(0))) }
    }

    /// A record each second, from this one on, in a frame of its own; every tenth tells the time. The store follows.
    fn write(&mut self, seconds: std::ops::Range<u64>) {
        for second in seconds {
            let mut payload = Vec::new();
            match second % 10 {
                0 => record::put_tick(&mut payload, at(second), Seq::ZERO),
                _ => record::put_tally(&mut payload, &"t".repeat(200), &Default::default()),
            }
            self.journal.append(self.journal.last().next(), 1, &payload).unwrap();
        }
        self.journal.sync().unwrap();
        let mut commit = Commit { position: self.journal.last(), ..Commit::default() };
        commit.rows.put(Table::Counters, b"last", &self.journal.last().0.to_le_bytes());
        self.store.commit(&commit).unwrap();
    }

    fn keeper(&self, rule: Rule) -> Keeper {
        let retention = Retention { rule, directory: Some(self.home.path().to_owned()) };
        Keeper::new(&retention, Arc::new(self.disk.clone()), self.store.clone(), self.clock.clone()).unwrap()
    }

    fn look(&self, keeper: &mut Keeper, now: u64) -> Seq {
        keeper.look(&self.journal.segments(), Some(at(now))).unwrap()
    }

    fn base(&self) -> Option<Seq> {
        Bases::new(self.home.path()).newest().unwrap().map(|base| base.position)
    }

    fn first(&self) -> Seq {
        self.journal.segments()[0].first_seq
    }
}

#[test]
fn nothing_goes_and_no_base_is_made_before_a_segment_is_old_enough() {
    let mut scene = Scene::new();
    scene.write(0..50);
    let mut keeper = scene.keeper(Rule { age: Some(AGE), bytes: None });
    let segments = scene.journal.segments();
    assert!(segments.len() > 4);
    let ended = segments[0].last_seq.0.next_multiple_of(10);
    assert_eq!(scene.look(&mut keeper, ended + 99), Seq::ZERO);
    assert_eq!(scene.base(), None);
    assert_eq!(keeper.look(&segments, None).unwrap(), Seq::ZERO, "no time is believed");
    assert_eq!(scene.look(&mut keeper, ended + 100), segments[0].last_seq);
    assert_eq!(scene.base(), Some(Seq(50)), "at the store's position");
}

#[test]
fn one_base_serves_until_a_segment_is_to_go_that_it_does_not_cover() {
    let mut scene = Scene::new();
    let mut keeper = scene.keeper(Rule { age: Some(AGE), bytes: None });
    let mut bases = Vec::new();
    for second in 0..1_000 {
        scene.write(second..second + 1);
        let removable = scene.look(&mut keeper, second);
        scene.journal.remove_below(removable).unwrap();
        let (first, base) = (scene.first(), scene.base());
        assert!(base.unwrap_or_default().next() >= first, "all before {first} is in the base at {base:?}");
        bases.extend(base.filter(|base| bases.last() != Some(base)));
        assert!(scene.journal.last().0 - first.0 < 160, "{first} is there still at {second}");
    }
    assert!((6..=10).contains(&bases.len()), "{bases:?}");
}

#[test]
fn with_a_bound_on_bytes_a_base_is_made_for_several_segments() {
    let mut scene = Scene::new();
    let mut keeper = scene.keeper(Rule { age: None, bytes: Some(6_000) });
    let mut bases = Vec::new();
    for second in 0..400 {
        scene.write(second..second + 1);
        let removable = scene.look(&mut keeper, second);
        scene.journal.remove_below(removable).unwrap();
        bases.extend(scene.base().filter(|base| bases.last() != Some(base)));
        let bytes: u64 = scene.journal.segments().iter().map(|segment| segment.bytes).sum();
        assert!(bytes <= 6_000 + 5 * 2_048, "{bytes} at {second}");
    }
    let segments = 400 / (scene.journal.segments()[0].last_seq.next().0 - scene.first().0);
    assert!(bases.len() as u64 <= segments / 4 + 2 && bases.len() > 3, "{bases:?} of {segments} segments");
}

#[test]
fn a_store_that_is_behind_keeps_its_segments() {
    let mut scene = Scene::new();
    scene.write(0..20);
    let position = scene.store.position();
    for _ in 0..60 {
        let mut payload = Vec::new();
        record::put_tick(&mut payload, at(20), Seq::ZERO);
        scene.journal.append(scene.journal.last().next(), 1, &payload).unwrap();
    }
    let mut keeper = scene.keeper(Rule { age: Some(AGE), bytes: None });
    assert_eq!((scene.look(&mut keeper, 9_000), scene.base()), (Seq::ZERO, None), "it is asked again later");
    scene.write(80..81);
    assert!(scene.look(&mut keeper, 9_000) > position);
}

#[test]
fn a_crash_at_any_step_is_made_good_by_the_next_run() {
    let rule = Rule { age: None, bytes: Some(0) };
    for step in 0..4 {
        let mut scene = Scene::new();
        scene.write(0..50);
        let base = scene.home.path().join(format!("base-{:020}", 50));
        match step {
            // Within the making of a base.
            0 => {
                scene.store.checkpoint(&scene.home.path().join("base.tmp")).unwrap();
                std::fs::remove_file(scene.home.path().join("base.tmp/CURRENT")).unwrap();
            }
            // It has its name, and nothing is removed yet.
            1 => drop(scene.store.checkpoint(&base).unwrap()),
            // The old base is there beside the new one, and one segment is removed.
            2 => {
                scene.store.checkpoint(&base).unwrap();
                scene.write(50..60);
                scene.store.checkpoint(&scene.home.path().join(format!("base-{:020}", 60))).unwrap();
                scene.journal.remove_below(scene.journal.segments()[0].last_seq).unwrap();
            }
            // Somebody has removed the base, when segments were gone already.
            _ => drop(scene.journal.remove_below(Seq(30)).unwrap()),
        }
        drop(scene.journal);
        let disk = scene.disk.restart();
        let options = Options { segment_bytes: 2_048, compression: Compression::None };
        let start = Start { after: scene.store.position(), floor: scene.store.position(), store_id: None };
        let visit = &mut |_: crate::journal::FrameView<'_>| Ok::<_, std::convert::Infallible>(());
        let (journal, _) = Journal::recover(Arc::new(disk.clone()), options, start, visit).unwrap();
        (scene.journal, scene.disk) = (journal, disk);
        let mut keeper = scene.keeper(rule);
        let removable = scene.look(&mut keeper, 60);
        scene.journal.remove_below(removable).unwrap();
        assert!(scene.base().unwrap().next() >= scene.first(), "step {step}");
        assert_eq!(scene.journal.segments().len(), 1, "step {step}: only what is appended to is left");
        let left = std::fs::read_dir(scene.home.path()).unwrap().count();
        assert_eq!(left, 2, "step {step}: the store and one base");
    }
}

#[test]
fn without_a_place_for_bases_nothing_is_kept_or_removed() {
    let scene = Scene::new();
    let (disk, store) = (Arc::new(scene.disk.clone()), scene.store.clone());
    assert!(Keeper::new(&Retention::default(), disk, store, scene.clock.clone()).is_none());
}

#[test]
fn the_desk_wakes_the_keeper_for_news_and_lets_it_go_at_the_end() {
    let desk = Arc::new(Desk::default());
    let segment = SegmentInfo { first_seq: Seq(1), last_seq: Seq(9), bytes: 100 };
    desk.publish(vec![segment]);
    assert_eq!(desk.wait(), Some(vec![segment]));
    desk.allow(Seq(5));
    desk.allow(Seq(3));
    assert_eq!(desk.removable(), Seq(5), "what may go may go for good");
    drop(DeskOfJournal(desk.clone()));
    assert_eq!(desk.wait(), None);
}

//! A wall clock that steps and runs wild under the real daemon (libfaketime): no window closes early, twice or never.
//!
//! 1. The daemon's wall clock is this machine's plus an offset that the test sets. Its monotonic clock is never touched.
//! 2. Every look at the windows holds them against all looks before it: what is final stays final and is never less.
//! 3. At the end each window is there once, with the events that were sent for it and no other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::harness::skip;
use crate::windows::billing::{Books, Cell, Row, month};
use crate::windows::checks;
use crate::windows::faked::{Faked, HOUR_MS, Rows, Scene, TIMED, UNTIMED, library};

const DAY_MS: i64 = 24 * HOUR_MS;
/// Between two looks at a clock that is stepped all the time.
const LOOK: Duration = Duration::from_millis(100);

fn scene(what: &str, settle: &str) -> Option<Scene> {
    let library = library();
    if library.is_none() {
        skip(&format!("{what}: there is no libfaketime (apt-get install faketime)"));
    }
    Some(Scene::start(Faked::new(&library?, settle)))
}

#[test]
fn no_window_closes_early_twice_or_never_whatever_the_wall_clock_does() {
    let Some(mut scene) = scene("steps of the wall clock", "10m") else { return };
    scene.feed_for(Duration::from_secs(1), &[0, -1_500]);
    scene.wait_until("a window is final", |rows, _| rows.values().any(is_final));
    back_and_forth(&mut scene, HOUR_MS);
    a_jump_pauses_until_it_is_taken_back(&mut scene);
    back_and_forth(&mut scene, 30 * DAY_MS);
    sixty_times_too_fast(&mut scene, Duration::from_secs(5));
    a_reset_believes_the_jump(&mut scene);
    let books = every_window_is_there_once(&mut scene);
    scene.restart();
    assert!(scene.books() == books, "the books after a restart are not those before it");
    a_reset_takes_the_jump_back(&mut scene, &books);
    scene.verify();
}

#[test]
fn a_jump_that_persists_is_believed_once_it_has_settled() {
    let Some(mut scene) = scene("a wall clock that was wrong before", "3s") else { return };
    scene.feed_for(Duration::from_secs(1), &[0]);
    let stepped = Instant::now();
    scene.step_to(2 * DAY_MS);
    scene.wait_until_paused(true);
    scene.feed_for(Duration::from_secs(1), &[0]);
    scene.wait_until_paused(false);
    assert!(stepped.elapsed() >= Duration::from_secs(3), "believed after {:?}", stepped.elapsed());
    scene.wait_until("every window is final", |rows, _| rows.values().all(is_final));
    every_window_is_there_once(&mut scene);
    scene.verify();
}

fn is_final(row: &Row) -> bool {
    row.state == "finalized"
}

/// A step back makes events late, and neither it nor the way forth is a jump.
fn back_and_forth(scene: &mut Scene, by_ms: i64) {
    let before = scene.effective_ms();
    scene.step_to(-by_ms);
    let (sent, late) = scene.feed_for(Duration::from_secs(1), &[0]);
    assert_eq!(late, sent, "all of it lies {by_ms} ms back, where every window has closed");
    assert!(scene.effective_ms() >= before, "effective time went back with the wall clock");
    assert!(!scene.is_paused());
    scene.step_to(0);
    for _ in 0..10 {
        scene.feed(&[0]);
        assert!(!scene.is_paused(), "the way back from {by_ms} ms ago is no jump");
        std::thread::sleep(LOOK);
    }
}

/// Nothing closes by a time that nobody believes, not even after a SIGKILL; then all goes on as if nothing had been.
fn a_jump_pauses_until_it_is_taken_back(scene: &mut Scene) {
    scene.feed(&[0]);
    scene.step_to(2 * DAY_MS);
    scene.wait_until_paused(true);
    let (effective, before) = (scene.effective_ms(), scene.look());
    let nothing_closed = |rows: &Rows| {
        let was_final = |cell: &Cell| before.get(cell).is_some_and(is_final);
        let closed = rows.iter().find(|(cell, row)| is_final(row) && !was_final(cell));
        assert!(closed.is_none(), "closed during the pause: {closed:?}");
    };
    for _ in 0..30 {
        assert_eq!(scene.feed(&[-2 * DAY_MS, 0]).1, 0, "neither now nor the jump's now is late");
        nothing_closed(&scene.look());
        std::thread::sleep(LOOK);
    }
    assert_eq!(scene.effective_ms(), effective, "effective time stands while paused");
    scene.kill_and_restart();
    scene.wait_until_paused(true);
    scene.feed_for(Duration::from_secs(1), &[-2 * DAY_MS, 0]);
    nothing_closed(&scene.look());
    assert_eq!(scene.effective_ms(), effective, "and over a restart");
    scene.step_to(0);
    scene.wait_until_paused(false);
    let now = scene.now_ms();
    scene.wait_until("what was open before the jump is final", |rows, _| {
        rows.iter().all(|(cell, row)| cell.start_ms > now || is_final(row))
    });
    let rows = scene.look();
    let ahead = rows.iter().filter(|(cell, _)| cell.start_ms > now + DAY_MS).collect::<Vec<_>>();
    assert!(!ahead.is_empty() && ahead.iter().all(|(_, row)| row.state == "open"), "the jump's own windows: {ahead:?}");
}

/// Small steps, each of them believed.
fn sixty_times_too_fast(scene: &mut Scene, span: Duration) {
    let began = Instant::now();
    while began.elapsed() < span {
        let passed = i64::try_from(began.elapsed().as_millis()).unwrap();
        scene.step_to(59 * passed);
        scene.feed(&[0, -1_500]);
        scene.look();
        assert!(!scene.is_paused(), "small steps are no jump");
        std::thread::sleep(LOOK);
    }
    let now = scene.now_ms();
    scene.wait_until("effective time follows", |_, effective| effective >= now);
}

/// An operator says that it is two days later: now everything closes.
fn a_reset_believes_the_jump(scene: &mut Scene) {
    scene.step_to(scene.offset_ms() + 2 * DAY_MS);
    scene.wait_until_paused(true);
    scene.feed(&[0]);
    scene.reset();
    scene.wait_until_paused(false);
    assert!(scene.effective_ms() > scene.now_ms() - 10_000, "effective time is the wall clock's");
    scene.wait_until("every window is final", |rows, _| rows.values().all(is_final));
}

/// Each window once, with what was sent for it; what came late is an adjustment, each event one.
fn every_window_is_there_once(scene: &mut Scene) -> Books {
    scene.look();
    let books = scene.books();
    let mut expected = scene.sent.clone();
    let untimed = books.windows.iter().filter(|(cell, _)| cell.meter == UNTIMED);
    let counted = untimed.clone().map(|(_, row)| row.sum.events).sum::<u64>();
    assert_eq!(counted, scene.untimed_events, "events that the daemon itself gave a time");
    // Their windows are the daemon's choice, so only their number can be wrong.
    expected.extend(untimed.map(|(cell, row)| (cell.clone(), row.sum)));
    checks::all(&expected, &books).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(books.adjustments.len() as u64, scene.late_events, "late events and adjustments");
    let months = books.windows.keys().map(|cell| month(cell.start_ms)).collect::<BTreeSet<_>>();
    println!("{} windows in {months:?}, {} adjustments", books.windows.len(), books.adjustments.len());
    books
}

/// The jump was wrong after all: an operator sets effective time back. What is final stays so, new windows are open.
fn a_reset_takes_the_jump_back(scene: &mut Scene, before: &Books) {
    scene.step_to(0);
    scene.restart();
    assert!(!scene.is_paused(), "time that goes back is no jump");
    assert!(scene.effective_ms() > scene.now_ms() + DAY_MS, "a restart does not set it back");
    scene.reset();
    assert!(scene.effective_ms() < scene.now_ms() + 10_000, "an operator does");
    assert!(scene.books() == *before, "nothing that was final has changed");
    let cell = Cell {
        meter: TIMED.into(),
        customer: "new here".into(),
        model: None,
        start_ms: scene.now_ms().div_euclid(2_000) * 2_000,
    };
    assert_eq!(scene.send_one(&cell), 0, "now is not late any more");
    assert!(!is_final(&scene.look()[&cell]));
    scene.wait_until("it closes in its turn", |rows, _| is_final(&rows[&cell]));
}

//! A sync that fails is the end: nothing pending is acknowledged, nothing is tried again, and a restart finds everything
//! that was acknowledged. The failure is injected with strace; skipped aloud without.

use std::time::Duration;

use meterd::cli::daemon::Daemon;

use crate::harness::sender::Sender;
use crate::harness::{ANYWHERE, Home, can_inject, client};

#[test]
fn a_failed_sync_ends_the_process_and_nothing_pending_was_acknowledged() {
    if !can_inject("failing syncs") {
        return;
    }
    let home = Home::small();
    home.start().stop().unwrap();
    let sender = Sender::new(3).over(1);
    for failing in [9, 14, 40, 150] {
        let answered_before = sender.answered_batches();
        let place = home.traced(&format!("fdatasync:error=EIO:when={failing}"));
        let mut daemon = Daemon::start(&place, ANYWHERE).unwrap();
        let target = daemon.target().unwrap();
        let status = sender.send_to(&target, || daemon.wait(Duration::from_secs(20)).unwrap());
        assert_eq!(status.expect("it ends by itself").code(), Some(74), "sync {failing} of a thread failed");
        // One connection: each answer took a sync of its own; rolling to another segment takes two more.
        let answered = sender.answered_batches() - answered_before;
        assert!(answered < failing, "{answered} answers, although sync {failing} failed");
        assert!(2 * answered + 8 > failing, "{answered} answers before sync {failing}: something else failed");
        let said = home.log();
        assert!(said.contains("Input/output error"), "{said}");
        let daemon = home.start();
        sender.check_after_crash(&mut client(&daemon)).unwrap();
        sender.settle(&mut client(&daemon)).unwrap();
        daemon.stop().unwrap();
    }
    home.verify();
}

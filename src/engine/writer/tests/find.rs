use super::daemon::Daemon;
use crate::engine::outbox::Done;
use crate::engine::writer::Operation;
use crate::model::{Outcome, Seq};

#[test]
fn an_event_is_found_however_long_the_look_up_waits_for_the_writer() {
    let mut daemon = Daemon::new("2026-11-22T10:30:00Z", Vec::new());
    let (early, stranger) = (daemon.look_up("e-1"), daemon.look_up("nobody"));
    let Outcome::Accepted(seq) = daemon.use_up("c", 1) else { panic!("a new event is accepted") };
    assert!(matches!(daemon.operate(Operation::Find(early)), Done::Found(Some(found)) if found == seq));
    while daemon.recent_floor() < seq {
        daemon.commit();
        daemon.use_up("c", 1);
    }
    assert!(early.index_position < seq && daemon.recent_floor() > Seq::ZERO, "the id has left memory meanwhile");
    assert!(matches!(daemon.operate(Operation::Find(early)), Done::Found(Some(found)) if found == seq));
    assert!(matches!(daemon.operate(Operation::Find(stranger)), Done::Found(None)));
}

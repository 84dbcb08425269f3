//! A data directory that is in use, changed, cut or damaged: what `meterd run` and `meterd verify` make of it.

use std::fs::{self, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use meterd::cli::totals;
use meterd::store::{Commit, Options, RocksStore, Rows, Store, Table};

use crate::harness::sender::Sender;
use crate::harness::{Home, METERS, SMALL, client, post, used_bytes};

const EXIT_IO: Option<i32> = Some(74);
const EXIT_IN_USE: Option<i32> = Some(75);
const EXIT_CONFIG: Option<i32> = Some(78);

/// A directory with usage in it, and the sender that knows what.
fn used() -> (Home, Sender) {
    let home = Home::small();
    let sender = Sender::new(11).over(2);
    let daemon = home.start();
    sender.send_while(&daemon, || std::thread::sleep(Duration::from_millis(200)));
    sender.settle(&mut client(&daemon)).unwrap();
    daemon.stop().unwrap();
    assert!(sender.answered_events() > 200);
    (home, sender)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_second_daemon_on_the_directory_exits_75_and_disturbs_nothing() {
    let (home, sender) = used();
    let daemon = home.start();
    let (code, said) = home.refused();
    assert_eq!(code, EXIT_IN_USE, "{said}");
    assert!(said.contains("in use"), "{said}");
    assert_eq!(home.run("verify", &[]).status.code(), EXIT_IN_USE, "verify wants the directory for itself too");
    sender.check_after_crash(&mut client(&daemon)).unwrap();
    daemon.stop().unwrap();
    home.verify();
}

#[test]
fn a_meter_whose_window_changed_exits_78_and_names_file_and_line() {
    let (home, _sender) = used();
    let config = format!("{SMALL}{METERS}").replace("window = \"1d\"", "window = \"1h\"");
    let line = 1 + config.lines().position(|line| line.contains("window")).unwrap();
    fs::write(&home.place.config, config).unwrap();
    let (code, said) = home.refused();
    assert_eq!(code, EXIT_CONFIG, "{said}");
    assert!(said.contains(&format!("meterd.toml:{line}:")) && said.contains("bytes"), "line {line}: {said}");
    let checked = home.run("check-config", &[]);
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), EXIT_CONFIG, "check-config knows it before the restart: {told}");
    assert!(told.contains(&format!("meterd.toml:{line}:")), "line {line}: {told}");
}

#[test]
fn a_deleted_store_is_folded_again_from_the_journal() {
    let (home, sender) = used();
    fs::remove_dir_all(home.store()).unwrap();
    let daemon = home.start();
    sender.check_after_crash(&mut client(&daemon)).unwrap();
    sender.settle(&mut client(&daemon)).unwrap();
    daemon.stop().unwrap();
    home.verify();
}

#[test]
fn a_deleted_journal_beside_its_store_is_refused() {
    for leave_directory in [false, true] {
        let (home, _sender) = used();
        fs::remove_dir_all(home.journal()).unwrap();
        if leave_directory {
            fs::create_dir(home.journal()).unwrap();
        }
        let (code, said) = home.refused();
        assert_eq!(code, EXIT_IO, "{said}");
        assert!(said.contains("there is no journal"), "{said}");
        assert_eq!(home.run("verify", &[]).status.code(), EXIT_IO);
    }
}

#[test]
fn a_journal_that_ends_before_the_store_is_refused() {
    let (home, _sender) = used();
    let newest = home.segments().pop().unwrap();
    let file = OpenOptions::new().write(true).open(&newest).unwrap();
    file.set_len(used_bytes(&newest) as u64 / 2).unwrap();
    let (code, said) = home.refused();
    assert_eq!(code, EXIT_IO, "{said}");
    assert!(said.contains(&name(&newest)), "it names the segment: {said}");
    assert_eq!(home.run("verify", &[]).status.code(), EXIT_IO);
}

#[test]
fn a_missing_segment_is_refused() {
    let (home, sender) = used();
    let daemon = home.start();
    while home.segments().len() < 3 {
        sender.send_while(&daemon, || std::thread::sleep(Duration::from_millis(200)));
    }
    daemon.stop().unwrap();
    fs::remove_dir_all(home.store()).unwrap();
    let gone = home.segments().remove(1);
    fs::remove_file(&gone).unwrap();
    let (code, said) = home.refused();
    assert_eq!(code, EXIT_IO, "{said}");
    assert!(said.contains("gap"), "{said}");
}

#[test]
fn a_flipped_byte_in_the_journal_is_refused_with_file_and_offset() {
    let (home, _sender) = used();
    let oldest = home.segments().remove(0);
    let file = OpenOptions::new().read(true).write(true).open(&oldest).unwrap();
    let offset = used_bytes(&oldest) as u64 / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    let verified = home.run("verify", &[]);
    assert_eq!(verified.status.code(), EXIT_IO, "{}", String::from_utf8_lossy(&verified.stderr));

    fs::remove_dir_all(home.store()).unwrap();
    let (code, said) = home.refused();
    assert_eq!(code, EXIT_IO, "{said}");
    assert!(said.contains("corrupt") && said.contains(&name(&oldest)) && said.contains("at byte"), "{said}");

    file.write_all_at(&byte, offset).unwrap();
    home.start().stop().unwrap();
    home.verify();
}

#[test]
fn a_torn_tail_after_sigkill_is_cut_and_reported() {
    let (home, sender) = used();
    let daemon = home.start();
    sender.send_while(&daemon, || std::thread::sleep(Duration::from_millis(100)));
    // When idle, the journal notes what is durable: that note is what gets torn.
    std::thread::sleep(Duration::from_millis(500));
    daemon.kill().unwrap();
    let newest = home.segments().pop().unwrap();
    let file = OpenOptions::new().write(true).open(&newest).unwrap();
    file.set_len(used_bytes(&newest) as u64 - 7).unwrap();
    let before = home.log().len();
    let daemon = home.start();
    let said = home.log()[before..].to_owned();
    assert!(said.contains("torn tail") && said.contains(&name(&newest)), "it reports the cut: {said}");
    sender.check_after_crash(&mut client(&daemon)).unwrap();
    sender.settle(&mut client(&daemon)).unwrap();
    daemon.stop().unwrap();
    home.verify();
}

#[test]
fn garbage_behind_the_last_frame_is_cut_and_reported() {
    let (home, sender) = used();
    let daemon = home.start();
    daemon.kill().unwrap();
    let newest = home.segments().pop().unwrap();
    let file = OpenOptions::new().write(true).open(&newest).unwrap();
    file.write_all_at(&[0xa5; 3_000], used_bytes(&newest) as u64).unwrap();
    let daemon = home.start();
    assert!(home.log().contains("torn tail"), "{}", home.log());
    sender.check_after_crash(&mut client(&daemon)).unwrap();
    daemon.stop().unwrap();
    home.verify();
}

#[test]
fn a_journal_of_another_directory_is_refused() {
    let (home, _sender) = used();
    let (other, _) = used();
    fs::remove_dir_all(home.journal()).unwrap();
    fs::rename(other.journal(), home.journal()).unwrap();
    let (code, said) = home.refused();
    assert_eq!(code, EXIT_IO, "{said}");
    assert!(said.contains("belongs to another store"), "{said}");
}

/// Does something to a directory's store that no daemon would.
fn tamper(home: &Home, change: impl FnOnce(&RocksStore, &mut Rows)) {
    let store = RocksStore::open(&home.store(), &Options::default()).unwrap();
    let mut rows = Rows::default();
    change(&store, &mut rows);
    store.commit(&Commit { position: store.position(), ids: Vec::new(), rows }).unwrap();
    store.persist().unwrap();
}

fn counters(store: &RocksStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut keep = |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    store.scan(Table::Counters, b"", &mut keep).unwrap();
    rows
}

#[test]
fn verify_exits_1_and_names_a_counter_that_was_changed_or_removed() {
    let (home, _sender) = used();
    home.verify();
    tamper(&home, |store, rows| {
        let counters = counters(store);
        let sums = counters.iter().filter(|(key, _)| key.windows(5).any(|text| text == b"bytes")).collect::<Vec<_>>();
        assert_ne!(sums[0].1, sums[1].1);
        rows.put(Table::Counters, &sums[0].0, &sums[1].1);
    });
    let verified = home.run("verify", &["--json"]);
    assert_eq!(verified.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(found["difference_count"], 1, "{found}");
    assert!(found["differences"][0]["what"].as_str().unwrap().contains("/bytes"), "{found}");

    tamper(&home, |store, rows| rows.delete(Table::Counters, &counters(store)[0].0));
    let verified = home.run("verify", &[]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(1), "{said}");
    assert!(said.contains("differences"), "{said}");
}

#[test]
fn verify_reads_a_directory_that_was_killed_and_changes_nothing() {
    let (home, sender) = used();
    let daemon = home.start();
    sender.send_while(&daemon, || std::thread::sleep(Duration::from_millis(100)));
    daemon.kill().unwrap();
    let sizes = || home.segments().iter().map(|path| (name(path), used_bytes(path))).collect::<Vec<_>>();
    let before = sizes();
    home.verify();
    assert_eq!(sizes(), before);
    let daemon = home.start();
    sender.check_after_crash(&mut client(&daemon)).unwrap();
}

#[test]
fn totals_are_the_same_byte_for_byte_after_a_refold() {
    let (home, _sender) = used();
    let read = |home: &Home| {
        let daemon = home.start();
        let mut client = client(&daemon);
        let paths = ["/v1/meters/tokens/usage?group_by=customer,model", "/v1/meters/requests/usage", "/v1/meters"];
        let bodies = paths.map(|path| client.get(path).unwrap().body);
        assert_eq!(totals::fetch(&mut client, "bytes").unwrap().len(), 40);
        daemon.stop().unwrap();
        bodies
    };
    let before = read(&home);
    fs::remove_dir_all(home.store()).unwrap();
    assert_eq!(read(&home), before);
}

#[test]
fn a_meter_that_left_the_config_keeps_its_totals_and_takes_nothing_more() {
    let (home, sender) = used();
    fs::write(&home.place.config, SMALL).unwrap();
    let daemon = home.start();
    let mut client = client(&daemon);
    sender.check_after_crash(&mut client).unwrap();
    let event = serde_json::json!({"usage_event_id": "after", "customer": "c", "meter": "bytes", "quantity": 1});
    let (status, answer) = post(&mut client, "/v1/events", &event);
    assert_eq!((status, &answer["events"][0]["code"]), (207, &"unknown_meter".into()), "{answer}");
    daemon.stop().unwrap();
    home.verify();
}

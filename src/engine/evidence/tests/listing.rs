use std::time::Duration as StdDuration;

use crossbeam_channel::bounded;

use super::*;
use crate::engine::Found;
use crate::env::OsDisk;

#[test]
fn lists_like_a_plain_filter_whatever_is_open_sealed_or_compressed_and_after_a_restart() {
    for (seed, compression) in (0..6).zip([Compression::None, Compression::Lz4].into_iter().cycle()) {
        let mut log = Log::new(seed, compression);
        for round in 0..6 {
            log.assert_lists(8);
            log.grow(12);
            if round == 3 {
                log.reopen();
            }
        }
        log.assert_lists(30);
        assert!(log.sealed().len() >= 3 && log.known.len() > 100);
        let missing = log.sidecars().iter().filter(|path| log.disk.contents(path).is_err()).count();
        assert!(missing <= 1, "the newest may wait for its sidecar");
    }
}

#[test]
fn pages_go_on_where_the_last_one_ended_whatever_was_added_meanwhile() {
    let mut log = Log::new(1, Compression::None);
    log.grow(60);
    let query = Query::everything("c-1");
    let before = log.expected(&query);
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = query.page(&log.evidence, after, 7).unwrap();
        let Some(last) = page.last() else { break };
        after = Some((at(last.counted), Seq(last.seq)));
        pages.extend(page);
        log.grow(1);
    }
    let shown: Vec<&Known> = pages.iter().filter(|known| before.contains(known)).collect();
    assert_eq!(shown, before.iter().collect::<Vec<_>>(), "each once, in order");
    assert!(pages.is_sorted_by_key(|known| (known.counted, known.seq)));
    let narrow = Query { from: Some(at(3 * HOUR)), ..query };
    let early = narrow.page(&log.evidence, Some((at(HOUR), Seq(1))), usize::MAX).unwrap();
    assert_eq!(early, log.expected(&narrow), "`from` holds beside a cursor before it");
}

#[test]
fn an_event_is_found_by_its_record() {
    for compression in [Compression::None, Compression::Lz4] {
        let mut log = Log::new(2, compression);
        log.grow(60);
        let last = log.journal().last();
        for seq in 0..last.0 + 3 {
            let mut shown = None;
            let found = log.evidence.event(Seq(seq), &mut |event| shown = Some(Known::of(event))).unwrap();
            let expected = log.known.iter().find(|known| known.seq == seq);
            assert_eq!((shown.as_ref(), found == Found::Yes), (expected, expected.is_some()), "record {seq}");
            assert_ne!(found, Found::Expired);
        }
    }
}

#[test]
fn a_scan_shows_a_tenants_events_in_log_order_piece_by_piece() {
    for (tenant, bytes, stop_after) in [(None, 1, 100), (Some("acme"), 3_000, 100), (Some("acme"), u64::MAX, 3)] {
        let mut log = Log::new(3, Compression::None);
        log.grow(60);
        let to = Seq(log.journal().last().0 - 20);
        let (mut shown, mut after, mut pieces) = (Vec::new(), Seq::ZERO, 0);
        loop {
            let mut left = stop_after;
            let next = log.evidence.scan(tenant, after, to, bytes, &mut |event| {
                shown.push(Known::of(event));
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            pieces += 1;
            let Some(next) = next.unwrap() else { break };
            assert!(next > after);
            after = next;
        }
        let is_wanted = |known: &&Known| known.seq <= to.0 && tenant.is_none_or(|tenant| known.tenant == tenant);
        assert_eq!(shown, log.known.iter().filter(is_wanted).cloned().collect::<Vec<_>>());
        assert!(pieces > 5);
    }
}

#[test]
fn what_was_removed_is_expired_and_the_rest_is_listed() {
    let mut log = Log::new(4, Compression::None);
    log.grow(60);
    log.assert_lists(5);
    assert_eq!((log.evidence.oldest().unwrap(), log.evidence.kept_from().unwrap()), (Seq(1), None));
    let kept = log.sealed()[3];
    log.journal().remove_below(Seq(kept.0 - 1)).unwrap();
    let gone: Vec<Known> = log.known.extract_if(.., |known| known.seq < kept.0).collect();
    log.assert_lists(30);
    assert_eq!(log.evidence.oldest().unwrap(), kept);
    assert_eq!(log.evidence.kept_from().unwrap(), Some(at(log.known[0].received)));
    assert_eq!(log.evidence.event(Seq(gone[0].seq), &mut |_| ()).unwrap(), Found::Expired);
    let mut first = None;
    let mut visit = |event: &EvidenceEvent<'_>| {
        first = Some(Known::of(event));
        ControlFlow::Break(())
    };
    log.evidence.scan(None, Seq::ZERO, Seq(u64::MAX), u64::MAX, &mut visit).unwrap();
    assert_eq!(first.as_ref(), log.known.first());
}

#[test]
fn without_room_no_sidecar_is_written_and_the_answers_are_the_same() {
    let mut log = Log::new(5, Compression::None);
    log.grow(40);
    let disk: Arc<dyn Disk> = Arc::new(log.disk.clone());
    log.evidence = Evidence::open_leaving(disk, STORE_ID, log.durable.subscribe(), u64::MAX);
    log.assert_lists(10);
    log.grow(20);
    log.assert_lists(10);
    assert_eq!(log.evidence.event(Seq(log.known[3].seq), &mut |_| ()).unwrap(), Found::Yes);
    assert!(log.sidecars().iter().all(|path| log.disk.contents(path).is_err()));
}

#[test]
fn the_thread_makes_all_sidecars_removes_those_without_a_segment_and_ends_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::create(directory.path().join("data")).unwrap());
    let mut log = Log::new(6, Compression::None);
    log.journal = Some(Journal::create(disk.clone(), options(Compression::None), STORE_ID, Seq(1)).unwrap());
    log.evidence = Evidence::open(disk.clone(), STORE_ID, log.durable.subscribe());
    log.grow(30);
    let orphan = sidecar_paths(Seq(99_999)).0;
    disk.create(&orphan).unwrap();
    let evidence = Evidence::open(disk.clone(), STORE_ID, log.durable.subscribe());
    let (running, stop) = bounded(0);
    let thread = std::thread::Builder::new().spawn(move || evidence.run(&stop)).unwrap();
    log.grow(30);
    let sidecars = log.sidecars();
    let is_done = || sidecars.iter().all(|path| disk.open_read_only(path).is_ok()) && disk.open(&orphan).is_err();
    for _ in 0..1_000 {
        if is_done() {
            break;
        }
        std::thread::sleep(StdDuration::from_millis(10));
    }
    assert!(is_done() && sidecars.len() > 5);
    drop(running);
    thread.join().unwrap();
    log.assert_lists(30);
}

use std::sync::atomic::{AtomicU64, Ordering};

use super::{BLOCK_BITS, FIRST_IDS, Filter, GENERATION_IDS_MAX, next_capacity};
use crate::model::{EventKey, Seq};

fn keys(seed: u64) -> impl Iterator<Item = EventKey> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || EventKey(random.u128(..)))
}

#[test]
fn finds_every_inserted_id_across_generations_and_few_others() {
    let filter = Filter::new();
    let inserted = FIRST_IDS as usize * 3 + 1;
    filter.insert_many(keys(1).take(inserted), Seq(1));
    assert_eq!(filter.ids(), inserted as u64);
    assert_eq!(filter.generations.load().len(), 3);

    let present: Vec<_> = keys(1).take(inserted).collect();
    let mut found = Vec::new();
    filter.contains_many(&present, &mut found);
    assert!(found.iter().all(|found| *found));
    assert!(present.iter().step_by(997).all(|key| filter.contains(*key)));

    let absent: Vec<_> = keys(2).take(200_000).collect();
    filter.contains_many(&absent, &mut found);
    let wrong = found.iter().filter(|found| **found).count();
    assert!(
        (1..1_000).contains(&wrong),
        "{wrong} false positives in 200,000, over two full generations and an empty one"
    );
    let one_by_one: Vec<_> = absent.iter().map(|key| filter.contains(*key)).collect();
    assert_eq!(one_by_one, found);
}

#[test]
fn answers_for_no_keys_and_for_batches_around_the_look_ahead() {
    let filter = Filter::new();
    let mut found = vec![true];
    for count in [0, 1, 31, 32, 33, 64, 65] {
        let batch: Vec<_> = keys(3).take(count).collect();
        filter.contains_many(&batch, &mut found);
        assert_eq!(found, vec![false; count]);
    }
    filter.insert_many([EventKey(u128::MAX)], Seq(1));
    filter.insert_many([EventKey(0)], Seq(1));
    filter.contains_many(&[EventKey(1 << 70), EventKey(0), EventKey(u128::MAX)], &mut found);
    assert_eq!(found, [false, true, true]);
}

#[test]
fn generations_double_to_a_limit_and_room_can_be_given_ahead() {
    assert_eq!(next_capacity(FIRST_IDS), 2 * FIRST_IDS);
    assert_eq!(next_capacity(GENERATION_IDS_MAX), GENERATION_IDS_MAX);
    assert_eq!(next_capacity(4 * GENERATION_IDS_MAX), GENERATION_IDS_MAX);
    assert_eq!(Filter::new().bytes(), FIRST_IDS * 2);
    let filter = Filter::with_room_for(FIRST_IDS + 1);
    assert_eq!(filter.bytes(), ((FIRST_IDS + 1) * 16).div_ceil(BLOCK_BITS) * 64);
    filter.insert_many(keys(4).take(FIRST_IDS as usize + 1), Seq(1));
    assert_eq!(filter.generations.load().len(), 1);
    filter.insert_many([EventKey(7)], Seq(1));
    assert_eq!(filter.generations.load().len(), 2);
}

#[test]
fn a_prepared_generation_is_used_and_prepared_once() {
    let filter = Filter::new();
    filter.prepare();
    assert!(filter.writer.lock().spare.is_none(), "an empty generation needs no successor yet");
    filter.insert_many(keys(5).take(FIRST_IDS as usize * 3 / 4), Seq(1));
    filter.prepare();
    let spare = filter.writer.lock().spare.clone().unwrap();
    filter.prepare();
    filter.insert_many(keys(6).take(FIRST_IDS as usize / 4 + 1), Seq(1));
    let generations = filter.generations.load();
    assert!(std::sync::Arc::ptr_eq(&generations[1], &spare));
    assert_eq!((generations.len(), spare.capacity_ids), (2, 2 * FIRST_IDS));
}

#[test]
fn readers_find_what_was_published_while_another_thread_inserts() {
    let total = FIRST_IDS + 200_000;
    let (filter, published) = (Filter::new(), AtomicU64::new(0));
    let all: Vec<_> = keys(8).take(total as usize).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for chunk in all.chunks(10_000) {
                filter.insert_many(chunk.iter().copied(), Seq(1));
                published.fetch_add(chunk.len() as u64, Ordering::Release);
            }
        });
        let mut found = Vec::new();
        loop {
            let seen = published.load(Ordering::Acquire) as usize;
            filter.contains_many(&all[seen.saturating_sub(20_000)..seen], &mut found);
            assert!(found.iter().all(|found| *found), "an id below {seen} is missing");
            if seen == all.len() {
                break;
            }
        }
    });
}

#[test]
fn a_generation_goes_once_all_its_ids_are_forgotten() {
    let filter = Filter::new();
    let old: Vec<_> = keys(8).take(FIRST_IDS as usize).collect();
    filter.insert_many(old.iter().copied(), Seq(100));
    filter.insert_many([EventKey(7)], Seq(200));
    let bytes = filter.bytes();
    filter.drop_below(Seq(100));
    assert_eq!(filter.bytes(), bytes, "record 100 is not forgotten");
    assert!(old.iter().all(|key| filter.contains(*key)));
    filter.drop_below(Seq(101));
    assert!(filter.bytes() < bytes && filter.contains(EventKey(7)));
    filter.drop_below(Seq(10_000));
    assert!(filter.contains(EventKey(7)), "the newest generation stays");
}

use super::*;
use crate::env::OsDisk;
use std::time::Instant;

#[test]
#[ignore]
fn measure() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::create(directory.path().join("data")).unwrap());
    let options = Options { segment_bytes: 128 << 20, compression: Compression::None };
    let mut journal = Journal::create(disk.clone(), options, STORE_ID, Seq(1)).unwrap();
    let durable = watch::Sender::new(Seq::ZERO);
    let mut rng = Rng::with_seed(1);
    let raw = vec![b'x'; 180];
    let (frames, per_frame) = (150, 16_000_u32);
    let total = frames as i64 * i64::from(per_frame);
    let mut n = 0_i64;
    let mut event = Vec::new();
    for _ in 0..frames {
        let mut payload = Vec::new();
        for _ in 0..per_frame / 100 {
            let period = Window { start: at(0), end: at(744 * HOUR) };
            let periods = vec![BillingPeriod { label: "1970-01".parse().unwrap(), bounds: period }];
            let mut writer = EventsWriter::start(&mut payload, ("default", None), at(n), &periods);
            for _ in 0..100 {
                n += 1;
                let micros = n * 720 * HOUR / total;
                let start = micros - micros % HOUR;
                event.clear();
                let customer = format!("customer-{}", rng.u32(..10_000));
                let mut encoder =
                    EventEncoder::start(&mut event, (EventKey(n as u128), Fingerprint(1)), at(micros), &customer, &raw);
                let window = Window { start: at(start), end: at(start + HOUR) };
                let value = Value::Quantity(Quantity::from_integer(1));
                for meter in 0..2 {
                    encoder.feed(MeterId(meter), (window, 0), value, [Some("gpt-4"), Some("eu")].into_iter());
                }
                encoder.finish();
                writer.push(&mut payload, &event, std::iter::empty());
            }
            writer.finish(&mut payload);
        }
        journal.append(journal.last().next(), per_frame, &payload).unwrap();
    }
    durable.send_replace(journal.sync().unwrap());
    println!("{} events, {} segments, event {} bytes", n, journal.segments().len(), event.len());
    let evidence = Evidence::open(disk.clone(), STORE_ID, durable.subscribe());
    let t = Instant::now();
    drop(evidence.0.caught_up().unwrap());
    println!("caught up open segment in {:?}", t.elapsed());
    let t = Instant::now();
    let segments = journal::segments(&*disk).unwrap();
    for first in &segments[..segments.len() - 1] {
        evidence.0.sealed(*first, super::super::live::Who::Reader).unwrap();
    }
    println!("{} sidecars in {:?}", segments.len() - 1, t.elapsed());
    let day = 24 * HOUR;
    for (name, from, to) in [("a day", 10 * day, 11 * day), ("everything", 0, i64::MAX / 100)] {
        let t = Instant::now();
        let query = EvidenceQuery {
            tenant: "default",
            customer: "customer-77",
            meter: Some(MeterId(1)),
            from: Some(at(from)),
            to: Some(at(to)),
            after: None,
        };
        let mut count = 0;
        evidence
            .events(&query, &mut |_| {
                count += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        println!("{name}: {count} events in {:?}", t.elapsed());
    }
    let t = Instant::now();
    evidence.event(Seq(1_000_000), &mut |_| ()).unwrap();
    println!("one event in {:?}", t.elapsed());
    for first in &segments[..segments.len() - 1] {
        println!("{} idx bytes", disk.open(&sidecar_paths(*first).0).unwrap().len().unwrap());
    }
}

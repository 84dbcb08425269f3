use super::*;
use crate::engine::record::{Genesis, SinkRecord};
use crate::model::{Incarnation, RowKinds, Timestamp};

#[test]
fn a_record_is_described_by_its_kind_and_content_and_shows_no_key() {
    let genesis = Genesis {
        store_id: 7,
        dedupe_key: *b"0123456789abcdef",
        incarnation: Incarnation(1),
        created_at: Timestamp::EPOCH,
    };
    let (kind, text) = described(&Record::Genesis(genesis));
    assert_eq!(kind, "Genesis");
    assert!(text.contains("incarnation 1") && !text.contains("48, 49, 50") && !text.contains("3031"), "{text}");
    let tick = Record::Tick { effective: Timestamp::EPOCH, horizon: Seq(3) };
    assert_eq!(described(&tick).0, "Tick");
    let sink = Record::Sink(SinkRecord::Defined { name: "billing", kinds: RowKinds::ALL });
    let (kind, text) = described(&sink);
    assert_eq!(kind, "Sink Defined");
    assert!(text.contains("billing"), "{text}");
}

#[test]
fn long_text_is_cut_between_characters() {
    assert_eq!(shortened("short"), "short");
    let long = shortened(&"ä".repeat(1_000));
    assert_eq!((long.chars().count(), long.chars().next_back()), (TEXT_CHARS_MAX + 1, Some('…')));
}

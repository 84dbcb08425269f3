//! Backfills, voids, runs and the trail as rows of the store, and back.
//!
//! A backfill's row: tenant, id, reason texts · number u32 · state u8 (0 open, 1 reverting, 2 reverted) · opened at i64 · events
//! u64 · first, last seq u64 · reverted feeds u64 · reverting at, reverted at i64 (the least there is, year 1: none) · reverted to: series
//! (u16 length; empty: none), window's start i64.

use super::{Corrections, Run};
use crate::engine::corrections::{Backfill, BackfillState, TrailEntry, Voided};
use crate::engine::key;
use crate::engine::record::bytes::{Cursor, put_bytes, put_text, put_time};
use crate::engine::record::corrections::{put_action, read_action};
use crate::engine::state::LoadError;
use crate::engine::state::rows::load_table;
use crate::model::{EventKey, Fingerprint, IdEntry, Seq, TenantId, Timestamp};
use crate::store::{Store, Table};

pub const BACKFILL: &[u8] = b"backfill/";
pub const RUN: &[u8] = b"run/";
pub const RETRACTIONS: &[u8] = b"retractions";

pub fn backfill_key(number: u32) -> Vec<u8> {
    [BACKFILL, &number.to_be_bytes()].concat()
}

pub fn run_key(first: Seq) -> Vec<u8> {
    [RUN, &first.0.to_be_bytes()].concat()
}

pub fn id_key(backfill: u32, key: EventKey) -> Vec<u8> {
    [&backfill.to_be_bytes()[..], &key.0.to_be_bytes()].concat()
}

pub fn encode_id(entry: IdEntry) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&entry.seq.0.to_le_bytes());
    out[8..].copy_from_slice(&entry.fingerprint.0.to_le_bytes());
    out
}

pub fn decode_id(value: &[u8]) -> Option<IdEntry> {
    let mut cursor = Cursor(value);
    let entry = IdEntry { seq: Seq(cursor.u64()?), fingerprint: Fingerprint(cursor.u32()?) };
    cursor.0.is_empty().then_some(entry)
}

/// The key of a void's row; without the event, the prefix of a tenant's.
pub fn void_key(out: &mut Vec<u8>, tenant: &str, event: Seq) {
    out.clear();
    key::put_text(out, tenant);
    out.extend_from_slice(&event.0.to_be_bytes());
}

/// The event of a void's row.
pub fn split_void_key(name: &[u8]) -> Option<Seq> {
    name.last_chunk().map(|seq| Seq(u64::from_be_bytes(*seq)))
}

pub fn encode_void(voided: &Voided) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + voided.reason.len());
    out.extend_from_slice(&voided.seq.0.to_le_bytes());
    put_time(&mut out, voided.at);
    out.extend_from_slice(&voided.adjusted.to_le_bytes());
    put_text(&mut out, &voided.reason);
    out
}

pub fn decode_void(value: &[u8]) -> Option<Voided> {
    let mut cursor = Cursor(value);
    let voided = Voided {
        seq: Seq(cursor.u64()?),
        at: cursor.time()?,
        adjusted: cursor.u32()?,
        reason: cursor.text()??.to_owned(),
    };
    cursor.0.is_empty().then_some(voided)
}

pub fn encode_run(run: &Run) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&run.last.0.to_le_bytes());
    out[8..].copy_from_slice(&run.backfill.to_le_bytes());
    out
}

pub fn decode_run(value: &[u8]) -> Option<Run> {
    let mut cursor = Cursor(value);
    let run = Run { last: Seq(cursor.u64()?), backfill: cursor.u32()? };
    cursor.0.is_empty().then_some(run)
}

pub fn encode_trail(entry: &TrailEntry) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    put_action(&mut out, entry);
    out
}

pub fn decode_trail(seq: Seq, value: &[u8]) -> Option<TrailEntry> {
    let mut cursor = Cursor(value);
    let entry = TrailEntry { seq, ..read_action(&mut cursor)? };
    cursor.0.is_empty().then_some(entry)
}

pub fn encode_backfill(backfill: &Backfill) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    for text in [backfill.tenant.as_str(), &backfill.id, &backfill.reason] {
        put_text(&mut out, text);
    }
    out.extend_from_slice(&backfill.number.to_le_bytes());
    out.push(backfill.state as u8);
    put_time(&mut out, backfill.opened_at);
    for number in [backfill.events, backfill.first_seq.0, backfill.last_seq.0, backfill.reverted_feeds] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_time(&mut out, backfill.reverting_at.unwrap_or(Timestamp::MIN));
    put_time(&mut out, backfill.reverted_at.unwrap_or(Timestamp::MIN));
    let (series, start) = backfill.reverted_to.as_ref().map_or((&[][..], Timestamp::MIN), |(name, at)| (name, *at));
    put_bytes(&mut out, series);
    put_time(&mut out, start);
    out
}

pub fn decode_backfill(value: &[u8]) -> Option<Backfill> {
    let mut cursor = Cursor(value);
    let (tenant, id, reason) = (cursor.text()??, cursor.text()??, cursor.text()??);
    let number = cursor.u32()?;
    let state = match cursor.u8()? {
        0 => BackfillState::Open,
        1 => BackfillState::Reverting,
        2 => BackfillState::Reverted,
        _ => return None,
    };
    let opened_at = cursor.time()?;
    let (events, first_seq, last_seq) = (cursor.u64()?, Seq(cursor.u64()?), Seq(cursor.u64()?));
    let reverted_feeds = cursor.u64()?;
    let given = |time: Timestamp| Some(time).filter(|time| *time != Timestamp::MIN);
    let (reverting_at, reverted_at) = (given(cursor.time()?), given(cursor.time()?));
    let (series, start) = (cursor.sized()?.to_vec(), cursor.time()?);
    let backfill = Backfill {
        tenant: TenantId::new(tenant),
        id: id.to_owned(),
        number,
        opened_at,
        state,
        events,
        first_seq,
        last_seq,
        reverted_feeds,
        reverted_to: (!series.is_empty()).then_some((series, start)),
        reverting_at,
        reverted_at,
        reason: reason.to_owned(),
    };
    cursor.0.is_empty().then_some(backfill)
}

impl Corrections {
    pub(in crate::engine::state) fn load(store: &dyn Store) -> Result<Self, LoadError> {
        let mut corrections = Self::default();
        load_table(store, Table::Meta, RETRACTIONS, |_, value| {
            corrections.restore_retractions(u64::from_le_bytes(value.try_into().ok()?));
            Some(())
        })?;
        load_table(store, Table::Meta, BACKFILL, |_, value| {
            let backfill = decode_backfill(value)?;
            corrections.restore_backfill(backfill.number, backfill)
        })?;
        load_table(store, Table::Meta, RUN, |key, value| {
            let first = Seq(u64::from_be_bytes(key[RUN.len()..].try_into().ok()?));
            corrections.restore_run(first, decode_run(value)?);
            Some(())
        })?;
        load_table(store, Table::Voids, &[], |key, value| {
            corrections.restore_void(split_void_key(key)?, decode_void(value)?.seq);
            Some(())
        })?;
        Ok(corrections)
    }
}

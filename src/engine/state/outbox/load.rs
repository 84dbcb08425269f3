//! The outbox as the store has it.

use super::Outbox;
use super::codec::{REQUEST, SINK, decode_delivery, decode_request, decode_sink};
use crate::engine::outbox::DeliveryState;
use crate::engine::state::LoadError;
use crate::engine::state::rows::load_table;
use crate::model::{OutboxPosition, RowKind, Seq};
use crate::store::{Store, Table};

impl Outbox {
    /// As of the store's position.
    pub fn load(store: &dyn Store) -> Result<Self, LoadError> {
        let mut outbox = Self::default();
        load_table(store, Table::Meta, SINK, |key, value| {
            let name = std::str::from_utf8(&key[SINK.len()..]).ok()?;
            outbox.sinks.insert(name.into(), decode_sink(value)?);
            Some(())
        })?;
        load_table(store, Table::Deliveries, &[], |key, value| {
            outbox.take_in(Seq(u64::from_be_bytes(key.try_into().ok()?)), value)
        })?;
        load_table(store, Table::Meta, REQUEST, |key, value| {
            let seq = Seq(u64::from_be_bytes(key[REQUEST.len()..].try_into().ok()?));
            outbox.requests.push_back(decode_request(seq, value)?);
            Some(())
        })?;
        // Any row up to here may be there, and none before what is needed is.
        outbox.newest = [OutboxPosition::new(store.position(), u32::MAX); 3];
        for kind in RowKind::ALL {
            outbox.trimmed[kind as usize] = outbox.needed(kind);
        }
        Ok(outbox)
    }

    fn take_in(&mut self, seq: Seq, value: &[u8]) -> Option<()> {
        let known = decode_delivery(seq, value)?;
        let (name, _) = self.sinks.get_key_value(&known.delivery.sink)?;
        let name = name.clone();
        let sink = self.sinks.get_mut(&name)?;
        match known.delivery.state {
            DeliveryState::Pending { due } => {
                sink.pending.insert((due, seq));
                if known.copied_at.is_none() {
                    self.firsts[known.delivery.kind as usize].insert((known.delivery.first, seq));
                }
            }
            DeliveryState::Delivered { .. } => drop(sink.delivered.insert((known.delivered_at?, seq))),
            DeliveryState::Dead { .. } => drop(sink.dead.insert(seq)),
        }
        self.deliveries.insert(seq, known);
        Some(())
    }
}

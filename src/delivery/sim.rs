//! The log of one sink, plainly: what the engine's fold must come to, for tests that need no engine.

use std::collections::BTreeMap;

use crate::delivery::testing;
use crate::engine::{
    Attempt, Delivery, DeliveryId, DeliveryOperation, DeliveryState, Done, OutboxRow, Plan, Refused, RowContent,
    SinkPause, SinkWork, UsageChange, UsageRow,
};
use crate::model::{Duration, Incarnation, OutboxPosition, Quantity, RowKind, RowKinds, Seq, Timestamp, Window};

pub mod engine;

pub const SINK: &str = "billing";

pub struct SimLog {
    pub sink: String,
    seq: Seq,
    pub rows: BTreeMap<(RowKind, OutboxPosition), OutboxRow>,
    cursors: BTreeMap<RowKind, OutboxPosition>,
    pub deliveries: BTreeMap<Seq, Delivery>,
    pub attempts: BTreeMap<Seq, Vec<Attempt>>,
    pub pause: Option<SinkPause>,
}

pub fn start() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000).unwrap()
}

impl SimLog {
    pub fn new(kinds: RowKinds) -> Self {
        Self {
            sink: SINK.to_owned(),
            seq: Seq(1),
            rows: BTreeMap::new(),
            cursors: kinds.iter().map(|kind| (kind, OutboxPosition::default())).collect(),
            deliveries: BTreeMap::new(),
            attempts: BTreeMap::new(),
            pause: None,
        }
    }

    /// Seqs of a log that begins at `seq`: those of several sinks stay apart.
    pub fn of(sink: &str, seq: Seq, kinds: RowKinds) -> Self {
        let from = OutboxPosition::new(seq, 0);
        let cursors = kinds.iter().map(|kind| (kind, from)).collect();
        Self { sink: sink.to_owned(), seq, cursors, ..Self::new(kinds) }
    }

    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// One record that makes so many rows.
    pub fn add_rows(&mut self, kind: RowKind, count: u32) {
        self.seq = self.seq.next();
        for index in 0..count {
            let row = row(kind, OutboxPosition::new(self.seq, index));
            self.rows.insert((kind, row.position), row);
        }
    }

    pub fn outbox(&self, kind: RowKind, from: OutboxPosition, limit: usize) -> Vec<OutboxRow> {
        let last = OutboxPosition::new(Seq(u64::MAX), u32::MAX);
        self.rows.range((kind, from)..=(kind, last)).take(limit).map(|(_, row)| row.clone()).collect()
    }

    pub fn payload(&self, delivery: &Delivery) -> Vec<OutboxRow> {
        let of = |position| (delivery.kind, position);
        self.rows.range(of(delivery.first)..=of(delivery.last)).map(|(_, row)| row.clone()).collect()
    }

    pub fn work(&self, limit: usize) -> SinkWork {
        let mut pending = self.in_state(|state| matches!(state, DeliveryState::Pending { .. }));
        pending.sort_by_key(|delivery| (due(delivery), delivery.id.seq));
        let pending_total = pending.len();
        pending.truncate(limit);
        let cursors = self.cursors.iter().map(|(kind, at)| (*kind, *at)).collect();
        SinkWork { seq: self.seq, pause: self.pause.clone(), cursors, pending, pending_total }
    }

    pub fn in_state(&self, is: impl Fn(DeliveryState) -> bool) -> Vec<Delivery> {
        self.deliveries.values().filter(|delivery| is(delivery.state)).cloned().collect()
    }

    pub fn delivered(&self) -> usize {
        self.in_state(|state| matches!(state, DeliveryState::Delivered { .. })).len()
    }

    pub fn dead(&self) -> usize {
        self.in_state(|state| matches!(state, DeliveryState::Dead { .. })).len()
    }

    /// Panics where the engine would say that an outcome is of no pending delivery: one worker never does that.
    pub fn apply(&mut self, operation: DeliveryOperation) -> Done {
        self.seq = self.seq.next();
        match operation {
            DeliveryOperation::Plan { plans, at, .. } => return self.plan(plans, at),
            DeliveryOperation::Failed { delivery, attempt, due } => {
                let delivery = self.attempted(delivery, &attempt);
                delivery.failures += 1;
                delivery.state = DeliveryState::Pending { due };
            }
            DeliveryOperation::Delivered { delivery, attempt } => {
                self.attempted(delivery, &attempt).state = DeliveryState::Delivered { at: attempt.at };
            }
            DeliveryOperation::Dead { delivery, attempt } => {
                let delivery = self.attempted(delivery, &attempt);
                delivery.failures += 1;
                delivery.state = DeliveryState::Dead { at: attempt.at };
            }
            DeliveryOperation::Replay { at, .. } => return self.replay(at),
            DeliveryOperation::Pause { pause, .. } => self.pause = Some(pause),
            DeliveryOperation::Resume { .. } => self.pause = None,
            DeliveryOperation::Forget { .. } => return Done::Refused(Refused::StillConfigured),
        }
        Done::Done
    }

    fn attempted(&mut self, id: DeliveryId, attempt: &Attempt) -> &mut Delivery {
        let delivery = self.deliveries.get_mut(&id.seq).expect("a delivery that was planned");
        assert!(matches!(delivery.state, DeliveryState::Pending { .. }), "{id} is not pending");
        delivery.attempts += 1;
        delivery.last_attempt = Some(attempt.clone());
        self.attempts.entry(id.seq).or_default().push(attempt.clone());
        delivery
    }

    fn plan(&mut self, plans: Vec<Plan>, at: Timestamp) -> Done {
        let is_in_order = |plans: &[Plan]| plans.is_sorted_by_key(|plan| plan.first);
        assert!(is_in_order(&plans), "{plans:?}");
        let mut ids = Vec::new();
        for plan in plans {
            let cursor = self.cursors.get_mut(&plan.kind).expect("a kind of the sink's");
            let stretch = (plan.kind, *cursor)..=(plan.kind, plan.last);
            let positions = self.rows.range(stretch).map(|((_, position), _)| *position).collect::<Vec<_>>();
            assert_eq!(positions.len(), plan.rows as usize, "contiguous from the cursor on");
            assert_eq!((positions.first(), positions.last()), (Some(&plan.first), Some(&plan.last)));
            *cursor = plan.last.next();
            let id = DeliveryId { store: 7, incarnation: Incarnation(1), seq: self.seq };
            self.seq = self.seq.next();
            self.deliveries.insert(id.seq, Delivery::planned(id, self.sink.as_str().into(), &plan, at));
            ids.push(id);
        }
        Done::Planned(ids)
    }

    fn replay(&mut self, at: Timestamp) -> Done {
        let mut replayed = 0;
        for delivery in self.deliveries.values_mut() {
            if let DeliveryState::Dead { .. } = delivery.state {
                delivery.state = DeliveryState::Pending { due: at };
                (delivery.failures, delivery.replays) = (0, delivery.replays + 1);
                replayed += 1;
            }
        }
        Done::Replayed(replayed)
    }
}

pub fn due(delivery: &Delivery) -> Timestamp {
    let DeliveryState::Pending { due } = delivery.state else { panic!("{} is not pending", delivery.id) };
    due
}

/// Some row at this place.
pub fn row(kind: RowKind, position: OutboxPosition) -> OutboxRow {
    let change = match kind {
        RowKind::Windows => UsageChange::Final,
        RowKind::Adjustments => UsageChange::Adjusted { delta: Some(Quantity::ZERO) },
        RowKind::Alerts => return OutboxRow { position, ..testing::alert(position.index) },
    };
    let end = start().saturating_add(Duration::from_secs(position.seq.0));
    let usage = UsageRow {
        change,
        tenant: "default".into(),
        customer: format!("c{}", position.index),
        meter: "requests".into(),
        dimensions: Vec::new(),
        window: Window { start: start(), end },
        value: Some(Quantity::ZERO),
        event_count: 1,
        revision: 1,
        incarnation: Incarnation(1),
        hash: [0; 32],
        at: end,
    };
    OutboxRow { position, content: RowContent::Usage(usage) }
}

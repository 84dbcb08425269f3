//! What sinks and deliveries ought to be, as plainly as can be: every operation that was decided, and a fold over those
//! that the log still has.

use std::collections::BTreeMap;

use meterd::engine::{
    Attempt, Delivery, DeliveryId, DeliveryOperation, DeliveryState, Done, PauseCause, Plan, Refused, ReplayFilter,
    SinkDefinition,
};
use meterd::model::{Incarnation, OutboxPosition, RowKind, RowKinds, Seq};

/// Where the rows of a sink begin that were never planned.
pub type Cursor = (String, RowKind, OutboxPosition);

/// What a start of the daemon did to the sinks.
#[derive(Clone, Debug)]
pub struct Start {
    pub sinks: Vec<SinkDefinition>,
    /// Of the kinds that a sink did not get before.
    pub cursors: Vec<Cursor>,
    /// The incarnation that began with it, if the directory was restored.
    pub restored: Option<Incarnation>,
}

#[derive(Clone, Debug)]
enum Fact {
    Start(Start),
    Operation(DeliveryOperation),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    pub kinds: RowKinds,
    pub cursors: BTreeMap<RowKind, OutboxPosition>,
    /// By kind: rows from here on are the sink's.
    pub since: BTreeMap<RowKind, OutboxPosition>,
    pub pause: Option<PauseCause>,
}

#[derive(Clone, Debug)]
pub struct Letter {
    pub delivery: Delivery,
    /// Every attempt, with its record.
    pub attempts: Vec<(Seq, Attempt)>,
    /// The record that brought a copy of its rows.
    pub copied_at: Option<Seq>,
}

impl Letter {
    /// Its rows can be read from a store that is as far as this.
    pub fn needs(&self) -> Seq {
        self.copied_at.unwrap_or(self.delivery.last.seq)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Known {
    pub sinks: BTreeMap<String, Sink>,
    pub letters: BTreeMap<Seq, Letter>,
    configured: Vec<String>,
    /// Key, digest and count.
    requests: Vec<(String, u64, u32)>,
    /// The record after which each but the first incarnation is in force.
    incarnations: Vec<(Seq, Incarnation)>,
}

#[derive(Default)]
pub struct Ledger {
    facts: Vec<(Seq, Fact)>,
    pub known: Known,
}

impl Ledger {
    /// The daemon has started; `position` is the newest record of its start.
    pub fn start(&mut self, position: Seq, start: Start) {
        self.known.start(position, &start);
        self.facts.push((position, Fact::Start(start)));
    }

    /// What must come of an operation, and how many records it takes. `first` would be the first of them.
    pub fn decide(&mut self, first: Seq, committed: Seq, operation: &DeliveryOperation) -> (Done, u64) {
        let (done, records) = match self.known.decide(first, committed, operation) {
            Ok(decided) => decided,
            Err(refused) => (Done::Refused(refused), 0),
        };
        if records > 0 {
            self.facts.push((Seq(first.0 + records - 1), Fact::Operation(operation.clone())));
        }
        (done, records)
    }

    /// Only records up to `last` survived.
    pub fn forget_after(&mut self, last: Seq) {
        let all = self.facts.len();
        self.facts.retain(|(seq, _)| *seq <= last);
        if self.facts.len() == all {
            return;
        }
        self.known = Known::default();
        for (seq, fact) in &self.facts {
            match fact {
                Fact::Start(start) => self.known.start(*seq, start),
                Fact::Operation(operation) => {
                    let records = match operation {
                        DeliveryOperation::Plan { plans, .. } => plans.len() as u64,
                        _ => 1,
                    };
                    let first = Seq(seq.0 + 1 - records);
                    self.known.decide(first, Seq(u64::MAX), operation).expect("it was decided before");
                }
            }
        }
    }
}

impl Known {
    /// The incarnation of what a record brought.
    pub fn incarnation_at(&self, seq: Seq) -> Incarnation {
        let began = self.incarnations.iter().rfind(|(began, _)| *began < seq);
        began.map_or(Incarnation(1), |(_, incarnation)| *incarnation)
    }

    pub fn is_configured(&self, sink: &str) -> bool {
        self.configured.iter().any(|name| name == sink)
    }

    /// The kinds that a definition would give a sink anew.
    pub fn new_kinds(&self, definition: &SinkDefinition) -> Vec<RowKind> {
        let known = self.sinks.get(&definition.name).map_or(RowKinds::NONE, |sink| sink.kinds);
        definition.kinds.iter().filter(|kind| !known.contains(*kind)).collect()
    }

    fn start(&mut self, position: Seq, start: &Start) {
        self.configured = start.sinks.iter().map(|sink| sink.name.clone()).collect();
        for SinkDefinition { name, kinds } in &start.sinks {
            let sink = self.sinks.entry(name.clone()).or_insert_with(|| Sink {
                kinds: *kinds,
                cursors: BTreeMap::new(),
                since: BTreeMap::new(),
                pause: None,
            });
            sink.kinds = *kinds;
            sink.cursors.retain(|kind, _| kinds.contains(*kind));
            sink.since.retain(|kind, _| kinds.contains(*kind));
        }
        for (name, kind, cursor) in &start.cursors {
            let sink = self.sinks.get_mut(name).expect("a configured sink");
            sink.cursors.insert(*kind, *cursor);
            sink.since.insert(*kind, *cursor);
        }
        if let Some(incarnation) = start.restored {
            assert!(incarnation > self.incarnation_at(Seq(u64::MAX)), "an incarnation is greater than those before");
            self.incarnations.push((position, incarnation));
            self.sinks.values_mut().for_each(|sink| sink.pause = Some(PauseCause::Restored));
        }
    }

    fn decide(&mut self, first: Seq, committed: Seq, operation: &DeliveryOperation) -> Result<(Done, u64), Refused> {
        match operation {
            DeliveryOperation::Plan { sink, plans, .. } => {
                let mut cursors = self.sinks.get(sink).ok_or(Refused::UnknownSink)?.cursors.clone();
                for Plan { kind, first, last, .. } in plans {
                    let cursor = cursors.get_mut(kind).expect("kinds that the sink gets");
                    if *first < *cursor || last.seq > committed {
                        return Err(Refused::OutOfPlace);
                    }
                    *cursor = last.next();
                }
                return Ok((Done::Planned(self.plan(first, operation)), plans.len() as u64));
            }
            DeliveryOperation::Failed { delivery, attempt, due } => {
                let letter = self.pending(*delivery)?;
                letter.delivery.failures += 1;
                letter.note(first, attempt, DeliveryState::Pending { due: *due });
            }
            DeliveryOperation::Delivered { delivery, attempt } => {
                let letter = self.pending(*delivery)?;
                letter.copied_at = None;
                letter.note(first, attempt, DeliveryState::Delivered { at: attempt.at.saturating_add(attempt.took) });
            }
            DeliveryOperation::Dead { delivery, attempt } => {
                let letter = self.pending(*delivery)?;
                if letter.copied_at.is_none() && letter.needs() > committed {
                    return Err(Refused::NotCommitted);
                }
                letter.delivery.failures += 1;
                letter.copied_at.get_or_insert(first);
                letter.note(first, attempt, DeliveryState::Dead { at: attempt.at.saturating_add(attempt.took) });
            }
            DeliveryOperation::Replay { .. } => return self.replay(operation),
            DeliveryOperation::Pause { sink, pause } => {
                let sink = self.sinks.get_mut(sink).ok_or(Refused::UnknownSink)?;
                let outranks = |before| pause.cause == PauseCause::Operator && before != PauseCause::Operator;
                let changes = sink.pause.is_none_or(outranks);
                sink.pause = if changes { Some(pause.cause) } else { sink.pause };
                return Ok((Done::Done, u64::from(changes)));
            }
            DeliveryOperation::Resume { sink, .. } => {
                let sink = self.sinks.get_mut(sink).ok_or(Refused::UnknownSink)?;
                return Ok((Done::Done, u64::from(sink.pause.take().is_some())));
            }
            DeliveryOperation::Forget { sink, .. } if self.is_configured(sink) => return Err(Refused::StillConfigured),
            DeliveryOperation::Forget { sink, .. } => {
                self.sinks.remove(sink).ok_or(Refused::UnknownSink)?;
                self.letters.retain(|_, letter| *letter.delivery.sink != **sink);
            }
        }
        Ok((Done::Done, 1))
    }

    fn plan(&mut self, first: Seq, operation: &DeliveryOperation) -> Vec<DeliveryId> {
        let DeliveryOperation::Plan { sink, plans, at } = operation else { return Vec::new() };
        let mut ids = Vec::new();
        for (number, plan) in (0..).zip(plans) {
            let seq = first.plus(number);
            let id = DeliveryId { store: 0, incarnation: self.incarnation_at(seq), seq };
            let known = self.sinks.get_mut(sink).expect("it was looked up");
            known.cursors.insert(plan.kind, plan.last.next());
            let delivery = Delivery {
                id,
                sink: sink.as_str().into(),
                kind: plan.kind,
                first: plan.first,
                last: plan.last,
                rows: plan.rows,
                planned_at: *at,
                state: DeliveryState::Pending { due: *at },
                failures: 0,
                attempts: 0,
                replays: 0,
                last_attempt: None,
            };
            self.letters.insert(seq, Letter { delivery, attempts: Vec::new(), copied_at: None });
            ids.push(id);
        }
        ids
    }

    fn pending(&mut self, id: DeliveryId) -> Result<&mut Letter, Refused> {
        let known = self.letters.get_mut(&id.seq).filter(|letter| letter.delivery.id == id);
        let is_pending = |letter: &&mut Letter| matches!(letter.delivery.state, DeliveryState::Pending { .. });
        known
            .ok_or(Refused::UnknownDelivery)
            .and_then(|letter| Some(letter).filter(is_pending).ok_or(Refused::NotPending))
    }

    fn replay(&mut self, operation: &DeliveryOperation) -> Result<(Done, u64), Refused> {
        let DeliveryOperation::Replay { filter, key, at } = operation else { return Ok((Done::Done, 0)) };
        if let Some(key) = key
            && let Some((_, request, count)) = self.requests.iter().find(|(known, ..)| *known == key.key)
        {
            let same = *request == key.request;
            return if same { Ok((Done::Replayed(*count), 0)) } else { Err(Refused::KeyReused) };
        }
        let mut count = 0;
        for seq in self.meant(filter)? {
            let delivery = &mut self.letters.get_mut(&seq).expect("it is meant").delivery;
            delivery.state = DeliveryState::Pending { due: *at };
            delivery.failures = 0;
            delivery.replays += 1;
            count += 1;
        }
        if let Some(key) = key {
            self.requests.push((key.key.clone(), key.request, count));
        }
        Ok((Done::Replayed(count), u64::from(count > 0 || key.is_some())))
    }

    /// The dead letters that a filter means.
    fn meant(&self, filter: &ReplayFilter) -> Result<Vec<Seq>, Refused> {
        let is_dead = |delivery: &Delivery| matches!(delivery.state, DeliveryState::Dead { .. });
        if let Some(id) = filter.delivery {
            let known = self.letters.get(&id.seq).filter(|letter| letter.delivery.id == id);
            let known = known.ok_or(Refused::UnknownDelivery)?;
            return if is_dead(&known.delivery) { Ok(vec![id.seq]) } else { Err(Refused::NotDead) };
        }
        if filter.sink.as_ref().is_some_and(|sink| !self.sinks.contains_key(sink)) {
            return Err(Refused::UnknownSink);
        }
        let is_meant = |delivery: &Delivery| {
            is_dead(delivery)
                && filter.sink.as_ref().is_none_or(|sink| **sink == *delivery.sink)
                && filter.kind.is_none_or(|kind| kind == delivery.kind)
        };
        Ok(self.letters.iter().filter(|(_, letter)| is_meant(&letter.delivery)).map(|(seq, _)| *seq).collect())
    }
}

impl Letter {
    fn note(&mut self, seq: Seq, attempt: &Attempt, state: DeliveryState) {
        self.delivery.state = state;
        self.delivery.attempts += 1;
        self.delivery.last_attempt = Some(attempt.clone());
        self.attempts.push((seq, attempt.clone()));
    }
}

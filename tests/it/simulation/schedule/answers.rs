//! What the writer answered, compared with what the model makes of it.

use meterd::engine::{Answer, Done, ReservationRefused, ReservationState};
use meterd::model::{Code, Outcome, Quantity, Seq, Timestamp};

use super::super::caps::{Broken, CAPPED, Held, Place, Stretch, worth};
use super::super::model::{Accepted, Expected, Label, Sent, hour_of};
use super::World;

fn expected_of(outcome: &Outcome) -> Expected {
    match outcome {
        Outcome::Accepted(_) => Expected::Accepted,
        Outcome::Duplicate(seq) | Outcome::Voided(seq) => Expected::Duplicate(*seq),
        Outcome::Conflict(seq) => Expected::Conflict(*seq),
        Outcome::Rejected(Code::TooLate, _) => Expected::TooLate,
        Outcome::Rejected(Code::TooEarly, _) => Expected::TooEarly,
        Outcome::Rejected(Code::LateRejected, _) => Expected::LateRejected,
        Outcome::Capped(_) => Expected::Capped,
        Outcome::Rejected(code, detail) => panic!("rejected as {code:?}: {detail}"),
    }
}

/// The caps say no to what would have been taken.
fn cap(expected: &mut [Expected]) {
    expected.iter_mut().filter(|one| **one == Expected::Accepted).for_each(|one| *one = Expected::Capped);
}

impl World {
    pub(super) fn check_answer(&mut self, events: &[Sent], received_at: Timestamp, now: i64, answer: &Answer) {
        assert_eq!(answer.outcomes.len(), events.len(), "one outcome per event");
        assert_eq!(answer.done, Done::Done);
        let mut late_events = Vec::new();
        for (place, (sent, outcome)) in (0..).zip(events.iter().zip(&answer.outcomes)) {
            let at = sent.timestamp.unwrap_or(received_at);
            let late = self.model.late_feeds(sent, at, now, None);
            let broken = self.desk.book.known.judge(&self.model, sent, at, &late, now);
            let mut expected = self.model.expect(sent, received_at, now);
            if !broken.is_empty() {
                cap(&mut expected);
            }
            let got = expected_of(outcome);
            assert!(expected.contains(&got), "{sent:?}: {got:?}, expected one of {expected:?}; {broken:#?}");
            self.seen.forgotten += u64::from(expected.len() > 1 && got == Expected::Accepted);
            match outcome {
                Outcome::Accepted(seq) => {
                    late_events.extend((!late.is_empty()).then_some(place));
                    self.note_accepted((*seq, sent), (at, received_at, now), None);
                }
                Outcome::Capped(_) => self.note_capped(sent, &broken, received_at),
                _ => {}
            }
            self.count_outcome(outcome);
        }
        self.seen.late += late_events.len() as u64;
        assert_eq!(answer.late, late_events, "late events are told apart");
    }

    fn count_outcome(&mut self, outcome: &Outcome) {
        let seen = &mut self.seen;
        let counter = match outcome {
            Outcome::Accepted(_) => &mut seen.accepted,
            Outcome::Capped(_) => &mut seen.capped,
            Outcome::Rejected(Code::LateRejected, _) => &mut seen.late_rejected,
            Outcome::Duplicate(_) | Outcome::Voided(_) => &mut seen.duplicates,
            Outcome::Conflict(_) => &mut seen.conflicts,
            Outcome::Rejected(..) => &mut seen.refused,
        };
        *counter += 1;
    }

    /// An event was counted; by itself, or where a reservation was made.
    fn note_accepted(
        &mut self,
        (seq, sent): (Seq, &Sent),
        (timestamp, received_at, now): (Timestamp, Timestamp, i64),
        set_aside: Option<(Timestamp, &Label)>,
    ) {
        let counted = set_aside.map_or(timestamp, |(counted, _)| counted);
        let label = set_aside.map(|(_, label)| label);
        let late = self.model.late_feeds(sent, counted, now, label);
        let of = |meter: &usize| (*meter, late.contains(meter), self.model.label_of(sent, *meter, counted, label));
        let accepted = Accepted {
            seq,
            sent: sent.clone(),
            timestamp,
            counted,
            now,
            now_then: now,
            may_be_forgotten: false,
            feeds: sent.meters.iter().map(of).collect(),
        };
        self.note_exempt(&accepted, now);
        self.model.accept(accepted.clone());
        self.seen.negative += u64::from(sent.quantity < 0);
        self.seen.capped_then_taken += u64::from(self.desk.was_refused(sent));
        let raised = self.desk.book.known.counted(&self.model, &accepted, received_at);
        self.seen.alerts_together += u64::from(raised > 1);
    }

    /// Where nothing may be refused although the period's total is past the limit: late usage of a period that is over.
    fn note_exempt(&mut self, event: &Accepted, now: i64) {
        for (meter, late, label) in event.feeds.iter().filter(|(meter, ..)| CAPPED.contains(meter)) {
            let place = Place { label: label.clone(), hour: hour_of(event.counted), late: *late };
            let account = (event.sent.customer, *meter);
            let more = worth(*meter, event.sent.quantity);
            let known = &mut self.desk.book.known;
            let over = known.broken(&self.model, account, &place, more, None).len();
            if over > known.broken(&self.model, account, &place, more, Some(now)).len() {
                self.seen.never_refused += 1;
            }
            if over > 0 {
                known.exempt.insert((event.seq, *meter));
            }
        }
    }

    fn note_capped(&mut self, sent: &Sent, broken: &[Broken], received_at: Timestamp) {
        let first = broken.first().expect("something refused it");
        self.desk.book.known.refused(&self.model, sent, first, received_at);
        self.desk.note_refused(sent);
    }

    /// The answer to the commit of a reservation.
    pub(super) fn check_commit(&mut self, id: u8, sent: &Sent, received_at: Timestamp, now: i64, answer: &Answer) {
        let Some(held) = self.desk.book.known.reservations.get(&id).cloned() else {
            return self.refused_commit(answer, &ReservationRefused::Unknown);
        };
        let got = answer.outcomes.first().map(expected_of);
        match &held.state {
            ReservationState::Held => {}
            ReservationState::Expired { .. } => {
                let at = Timestamp::from_micros(held.expires_at).expect("in range");
                return self.refused_commit(answer, &ReservationRefused::Expired(at));
            }
            ReservationState::Released { at } => {
                return self.refused_commit(answer, &ReservationRefused::Released(*at));
            }
            ReservationState::Committed { seq, .. } => {
                if got != Some(Expected::Duplicate(*seq)) {
                    return self.refused_commit(answer, &ReservationRefused::Committed(*seq));
                }
                let expected = self.model.expect(sent, received_at, now);
                assert!(expected.contains(&Expected::Duplicate(*seq)), "{sent:?}");
                self.seen.committed_again += 1;
                return self.check_reservation(id, &answer.done);
            }
        }
        if (sent.customer, sent.meters[0]) != held.account {
            return self.refused_commit(answer, &ReservationRefused::Differs);
        }
        let counted = self.set_aside(&held, received_at);
        let broken = self.commit_breaks(id, &held, sent, (counted, now));
        let mut expected = self.model.expect(sent, received_at, now);
        if !broken.is_empty() {
            cap(&mut expected);
        }
        let got = got.unwrap_or_else(|| panic!("{sent:?} {held:?}: {answer:?}"));
        assert!(expected.contains(&got), "{sent:?} {held:?}: {got:?}, expected one of {expected:?}");
        self.count_outcome(&answer.outcomes[0]);
        match answer.outcomes[0] {
            Outcome::Accepted(seq) => {
                self.end_commit((id, &held), (seq, sent), now);
                let set_aside = Some((counted, &held.place.label));
                self.note_accepted((seq, sent), (received_at, received_at, now), set_aside);
                self.seen.late += answer.late.len() as u64;
            }
            // It was counted before, by itself: what was held for it is not needed any more.
            Outcome::Duplicate(seq) => self.end_commit((id, &held), (seq, sent), now),
            _ => {
                assert_eq!(answer.done, Done::Done);
                if let Outcome::Capped(_) = answer.outcomes[0] {
                    self.note_capped(sent, &broken, received_at);
                    self.seen.commits_capped += 1;
                }
                return;
            }
        }
        self.check_reservation(id, &answer.done);
    }

    fn end_commit(&mut self, (id, held): (u8, &Held), (seq, sent): (Seq, &Sent), now: i64) {
        let quantity = Quantity::from_scaled(worth(held.account.1, sent.quantity));
        let at = Timestamp::from_micros(now).expect("in range");
        let known = &mut self.desk.book.known;
        known.commits.insert(seq, held.clone());
        let reservation = known.reservations.get_mut(&id).expect("it is held");
        reservation.state = ReservationState::Committed { seq, quantity, at };
        self.seen.committed += 1;
    }

    /// Where in time a commit is counted: in the reservation's billing period, and in its window if caps count by that.
    fn set_aside(&self, held: &Held, received_at: Timestamp) -> Timestamp {
        let is_hourly = self.desk.book.known.caps(&self.model, held.account).iter().any(|cap| cap.hourly);
        let stretch = match is_hourly {
            true => Stretch::Hour(held.place.hour),
            false => Stretch::Billing(held.place.label.clone()),
        };
        let (start, end) = stretch.bounds();
        Timestamp::from_micros(received_at.micros().clamp(start, end - 1)).expect("in range")
    }

    /// The caps that a commit would break: none, up to what was held.
    fn commit_breaks(&mut self, id: u8, held: &Held, sent: &Sent, (counted, now): (Timestamp, i64)) -> Vec<Broken> {
        let (account, more) = (held.account, worth(held.account.1, sent.quantity));
        let mut without = self.desk.book.known.clone();
        without.reservations.remove(&id);
        let label = self.model.label_of(sent, account.1, counted, Some(&held.place.label));
        let late = self.model.late_feeds(sent, counted, now, Some(&held.place.label));
        let place = Place { label, hour: hour_of(counted), late: late.contains(&account.1) };
        let caps = without.broken(&self.model, account, &place, more, Some(now));
        if caps.is_empty() || more <= held.quantity {
            self.seen.committed_past_cap += u64::from(!caps.is_empty());
            return Vec::new();
        }
        vec![Broken { account, caps, place }]
    }

    fn refused_commit(&mut self, answer: &Answer, why: &ReservationRefused) {
        assert_eq!(answer.done, Done::ReservationRefused(why.clone()));
        assert!(answer.outcomes.is_empty(), "nothing became of the event: {answer:?}");
        self.seen.commits_refused += 1;
    }
}

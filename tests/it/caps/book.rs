//! Which alerts a customer must have raised, told from what was sent and answered, in order. Pure, and by rules of its own.
//!
//! 1. A threshold fires with the event that leaves usage at or above it, unless it has fired and not recovered since.
//! 2. It recovers with the event, or the change of caps, that leaves usage below it, or takes it away.
//! 3. Each period begins anew; within one, each further alert of a threshold is one generation more.

use std::collections::BTreeMap;

use meterd::model::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Of the meter whose cap counts by window.
pub const WINDOW_MS: i64 = 2_000;

/// A cap in whole units, of which every percentage comes to whole units, too.
#[derive(Clone, Debug, PartialEq)]
pub struct Cap {
    pub id: &'static str,
    pub by_window: bool,
    pub hard: i64,
    /// Ascending in what they come to.
    pub soft: Vec<&'static str>,
    pub enforce: bool,
}

impl Cap {
    pub fn json(&self) -> Value {
        let on_hard_cap = if self.enforce { "allow" } else { "reject" };
        let period = if self.by_window { "window" } else { "month" };
        json!({
            "id": self.id, "hard": self.hard.to_string(), "soft": self.soft, "on_hard_cap": on_hard_cap,
            "period": period, "enforce": self.enforce,
        })
    }

    pub fn toml(&self, meter: &str) -> String {
        let cap = self.json();
        let text = |name: &str| format!("{name} = {}\n", cap[name]);
        let members = ["id", "hard", "soft", "on_hard_cap", "period", "enforce"].map(text).concat();
        format!("[[cap]]\nmeter = \"{meter}\"\n{members}")
    }

    /// With what each comes to.
    fn thresholds(&self) -> Vec<(&'static str, i64)> {
        let amount = |text: &&'static str| match text.strip_suffix('%') {
            Some(percent) => (*text, self.hard * percent.parse::<i64>().unwrap() / 100),
            None => (*text, text.parse().unwrap()),
        };
        self.soft.iter().map(amount).chain([("hard", self.hard)]).collect()
    }
}

/// An event that was accepted.
#[derive(Clone, Debug)]
pub struct Counted {
    pub id: String,
    /// The record that holds it.
    pub seq: u64,
    pub meter: &'static str,
    pub quantity: i64,
    pub at_ms: i64,
}

/// An alert that must be there.
#[derive(Clone, Debug)]
pub struct Due {
    meter: &'static str,
    cap: Cap,
    threshold: &'static str,
    amount: i64,
    window_ms: Option<i64>,
    pub generation: u32,
    used: i64,
    event: Value,
    /// What was used then, and the event that did it.
    pub recovered: Option<(i64, Value)>,
}

#[derive(Default)]
struct Account {
    used: i64,
    /// By cap and threshold: how often it fired, and its place among the alerts while it is crossed.
    fired: BTreeMap<(&'static str, &'static str), (u32, Option<usize>)>,
}

/// One customer.
pub struct Book {
    pub customer: String,
    caps: BTreeMap<&'static str, Vec<Cap>>,
    accounts: BTreeMap<(&'static str, Option<i64>), Account>,
    pub due: Vec<Due>,
    /// By record of events: how many records of alerts follow it.
    follow: BTreeMap<u64, u64>,
}

impl Book {
    pub fn new(customer: String, caps: BTreeMap<&'static str, Vec<Cap>>) -> Self {
        Self { customer, caps, accounts: BTreeMap::new(), due: Vec::new(), follow: BTreeMap::new() }
    }

    pub fn caps(&self, meter: &str) -> &[Cap] {
        &self.caps[meter]
    }

    pub fn used(&self, meter: &'static str) -> i64 {
        self.accounts.get(&(meter, None)).map_or(0, |account| account.used)
    }

    pub fn count(&mut self, event: &Counted) {
        let caps = self.caps[event.meter].clone();
        let named = json!({"usage_event_id": event.id, "seq": event.seq});
        let window = event.at_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
        for key in [(event.meter, None), (event.meter, Some(window))] {
            self.accounts.entry(key).or_default().used += event.quantity;
        }
        let of_caps = caps.iter().flat_map(|cap| cap.thresholds().into_iter().map(move |each| (cap, each)));
        let mut ascending = of_caps.collect::<Vec<_>>();
        ascending.sort_by_key(|(cap, (threshold, amount))| (*amount, cap.id, *threshold == "hard"));
        let follow = self.follow.entry(event.seq).or_default();
        for (cap, (threshold, amount)) in ascending {
            let window_ms = cap.by_window.then_some(window);
            let account = self.accounts.get_mut(&(event.meter, window_ms)).expect("it was just counted");
            let (generation, crossed) = account.fired.entry((cap.id, threshold)).or_default();
            match *crossed {
                None if account.used >= amount => {
                    *generation += 1;
                    *crossed = Some(self.due.len());
                    *follow += 1;
                    self.due.push(Due {
                        meter: event.meter,
                        cap: cap.clone(),
                        threshold,
                        amount,
                        window_ms,
                        generation: *generation,
                        used: account.used,
                        event: named.clone(),
                        recovered: None,
                    });
                }
                Some(alert) if account.used < amount => {
                    *crossed = None;
                    *follow += 1;
                    self.due[alert].recovered = Some((account.used, named.clone()));
                }
                _ => {}
            }
        }
    }

    /// Of a meter whose caps count by billing period.
    pub fn change(&mut self, meter: &'static str, caps: Vec<Cap>) {
        let amounts = caps.iter().flat_map(|cap| cap.thresholds().into_iter().map(|(name, it)| ((cap.id, name), it)));
        let amounts = amounts.collect::<BTreeMap<_, _>>();
        if let Some(account) = self.accounts.get_mut(&(meter, None)) {
            for (name, (_, crossed)) in &mut account.fired {
                let stays = amounts.get(name).is_some_and(|amount| account.used >= *amount);
                if let Some(alert) = crossed.take_if(|_| !stays) {
                    self.due[alert].recovered = Some((account.used, Value::Null));
                }
            }
        }
        self.caps.insert(meter, caps);
    }

    /// Whether the alerts that are listed for the customer, oldest first, are those that are due, in order.
    pub fn check(&self, listed: &[Value]) -> Result<(), String> {
        if let Some((due, row)) = self.due.iter().zip(listed).find(|(due, row)| !due.is(&self.customer, row)) {
            return Err(format!("{}: {row} is listed where {due:?} was due", self.customer));
        }
        if self.due.len() != listed.len() {
            let (due, found) = (self.due.get(listed.len()), listed.get(self.due.len()));
            let counts = format!("{} alerts are listed, {} were due", listed.len(), self.due.len());
            return Err(format!("{}: {counts}; the first of more: {found:?} {due:?}", self.customer));
        }
        for row in listed {
            let (own, of_event) = (row["seq"].as_u64().unwrap(), row["event"]["seq"].as_u64().unwrap());
            // Directly after the record of events, with nothing but other alerts of it in between.
            if own <= of_event || own - of_event > self.follow[&of_event] {
                return Err(format!(
                    "{} records follow {of_event}, and {row} is not among them",
                    self.follow[&of_event]
                ));
            }
            if row["alert_id"] != alert_id(row) {
                return Err(format!("{row} should be called {}", alert_id(row)));
            }
        }
        Ok(())
    }

    /// What sinks must be told of the listed alerts: by type and id.
    pub fn told(&self, listed: &[Value]) -> Told {
        let mut told = Told::new();
        for (due, row) in self.due.iter().zip(listed) {
            let mut said = members(row);
            told.insert(("alert.triggered".into(), row["alert_id"].to_string()), said.clone());
            if let Some((used, event)) = &due.recovered {
                (said["used"], said["event"]) = (json!(used.to_string()), event.clone());
                told.insert(("alert.recovered".into(), row["alert_id"].to_string()), said);
            }
        }
        told
    }
}

/// What sinks were told, by type and id of the alert.
pub type Told = BTreeMap<(String, String), Value>;

/// What an alert says wherever it is shown, but for its cap, which a recovery may show as it is by then.
pub fn members(alert: &Value) -> Value {
    let names = [
        "customer",
        "meter",
        "cap",
        "threshold",
        "used",
        "period",
        "period_start",
        "period_end",
        "generation",
        "late",
        "event",
    ];
    Value::Object(names.iter().map(|name| ((*name).to_owned(), alert[*name].clone())).collect())
}

impl Due {
    fn is(&self, customer: &str, row: &Value) -> bool {
        let state = if self.recovered.is_some() { "recovered" } else { "triggered" };
        let text = |number: i64| json!(number.to_string());
        let bounds = self.window_ms.map(|start| [start, start + WINDOW_MS]);
        let bounds = bounds.map(|bounds| bounds.map(|ms| json!(Timestamp::from_millis(ms).unwrap().to_string())));
        let expected = [
            ("customer", json!(customer)),
            ("meter", json!(self.meter)),
            ("state", json!(state)),
            ("cap", json!(self.cap.id)),
            ("threshold", json!(self.threshold)),
            ("amount", text(self.amount)),
            ("used", text(self.used)),
            ("hard", text(self.cap.hard)),
            ("soft", json!(self.cap.soft)),
            ("generation", json!(self.generation)),
            ("late", json!(false)),
            ("enforce", json!(self.cap.enforce)),
            ("event", self.event.clone()),
            ("recovered_used", self.recovered.as_ref().map_or(Value::Null, |(used, _)| text(*used))),
        ];
        expected.iter().all(|(name, value)| row[*name] == *value)
            && row["triggered_at"].is_string()
            && row["recovered_at"].is_string() == self.recovered.is_some()
            && row["period"].is_null() == self.window_ms.is_some()
            && bounds.is_none_or(|[start, end]| row["period_start"] == start && row["period_end"] == end)
    }
}

/// The id that an alert must have, by the recipe that the documentation gives.
pub fn alert_id(row: &Value) -> String {
    let micros = |name: &str| Timestamp::parse_rfc3339(row[name].as_str().unwrap()).unwrap().micros();
    let kind = if row["period"].is_null() { "window" } else { "billing" };
    let parts = json!([
        "default",
        row["customer"],
        row["meter"],
        row["cap"],
        kind,
        micros("period_start"),
        micros("period_end"),
        row["threshold"],
        row["generation"]
    ]);
    let digest = Sha256::digest(parts.to_string());
    format!("alert_{}", digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cap(id: &'static str, hard: i64, soft: &[&'static str]) -> Cap {
        Cap { id, by_window: false, hard, soft: soft.to_vec(), enforce: true }
    }

    fn counted(seq: u64, quantity: i64) -> Counted {
        Counted { id: format!("e{seq}"), seq, meter: "m", quantity, at_ms: 0 }
    }

    fn told(book: &Book) -> Vec<String> {
        let said =
            |due: &Due| format!("{} {} {} {}", due.cap.id, due.threshold, due.generation, due.recovered.is_some());
        book.due.iter().map(said).collect()
    }

    #[test]
    fn a_jump_fires_all_in_order_and_a_raise_and_a_negative_event_recover() {
        let mut book =
            Book::new("c".into(), BTreeMap::from([("m", vec![cap("a", 100, &["50%", "120%"]), cap("b", 60, &[])])]));
        book.count(&counted(1, 140));
        assert_eq!(told(&book), ["a 50% 1 false", "b hard 1 false", "a hard 1 false", "a 120% 1 false"]);
        book.change("m", vec![cap("a", 200, &["50%"])]);
        assert_eq!(told(&book), ["a 50% 1 false", "b hard 1 true", "a hard 1 true", "a 120% 1 true"]);
        book.count(&counted(6, 60));
        book.count(&counted(8, -150));
        assert_eq!(told(&book)[4..], ["a hard 2 true"]);
        assert_eq!((told(&book)[0].as_str(), book.used("m")), ("a 50% 1 true", 50));
    }
}

//! A cap in the model's own words, and how caps are drawn.

use fastrand::Rng;
use meterd::meter::{Amount, Cap, CapPeriod, OnHardCap};
use meterd::model::Quantity;

use super::{CAPPED, ONE, PLANS};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub id: &'static str,
    /// It counts by the hour, not by the billing period.
    pub hourly: bool,
    pub hard: Option<i128>,
    pub soft: Vec<Part>,
    pub rejects: bool,
    pub grace: Part,
    pub enforced: bool,
}

/// An amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole(i128),
    /// Thousandths of a percent of the hard cap.
    Thousandths(i128),
}

/// Something to be crossed.
#[derive(Clone, Debug)]
pub struct Line {
    pub cap: Limits,
    pub text: String,
    pub amount: i128,
}

impl Part {
    /// Rounded up.
    fn of(self, hard: Option<i128>) -> i128 {
        match self {
            Part::Whole(amount) => amount,
            Part::Thousandths(part) => {
                let product = hard.expect("a part of something") * part;
                product / 100_000 + i128::from(product % 100_000 != 0)
            }
        }
    }

    fn text(self) -> String {
        match self {
            Part::Whole(amount) => decimal(amount, 12),
            Part::Thousandths(part) => format!("{}%", decimal(part, 3)),
        }
    }

    fn amount(self) -> Amount {
        self.text().parse().expect("a valid amount")
    }
}

/// A whole number of 10^-digits as a decimal.
fn decimal(number: i128, digits: u32) -> String {
    let one = 10i128.pow(digits);
    let rest = format!("{:0width$}", number % one, width = digits as usize);
    let text = format!("{}.{}", number / one, rest.trim_end_matches('0'));
    text.trim_end_matches('.').to_owned()
}

impl Limits {
    /// What usage must not exceed.
    pub fn limit(&self) -> Option<i128> {
        let stops = self.rejects && self.enforced;
        self.hard.filter(|_| stops).map(|hard| hard + self.grace.of(self.hard))
    }

    /// In ascending order; the hard cap after a soft one of the same amount.
    pub fn lines(&self) -> Vec<Line> {
        let line = |text: String, amount| Line { cap: self.clone(), text, amount };
        let mut lines: Vec<((i128, u8), Line)> = Vec::new();
        for part in &self.soft {
            let amount = part.of(self.hard);
            let rank = if matches!(part, Part::Whole(_)) { 0 } else { 1 };
            lines.push(((amount, rank), line(part.text(), amount)));
        }
        lines.extend(self.hard.map(|hard| ((hard, 2), line("hard".to_owned(), hard))));
        lines.sort_by_key(|(rank, _)| *rank);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// As the engine has it.
    pub fn cap(&self) -> Cap {
        let mut cap = Cap {
            id: self.id.to_owned(),
            period: if self.hourly { CapPeriod::Window } else { CapPeriod::Billing },
            hard: self.hard.map(Quantity::from_scaled),
            soft: self.soft.iter().map(|part| part.amount()).collect(),
            on_hard_cap: if self.rejects { OnHardCap::Reject } else { OnHardCap::Allow },
            grace: self.grace.amount(),
            enforce: self.enforced,
        };
        cap.check().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        cap
    }
}

/// What caps of several can be crossed, in order: by amount, then by cap.
pub fn all_lines(caps: &[Limits]) -> Vec<Line> {
    let mut lines: Vec<Line> = caps.iter().flat_map(Limits::lines).collect();
    lines.sort_by(|one, other| (one.amount, one.cap.id).cmp(&(other.amount, other.cap.id)));
    lines
}

/// Caps for a meter: in order of id, no two of one.
pub fn draw_caps(rng: &mut Rng, meter: usize) -> Vec<Limits> {
    let ids: &[&'static str] = match rng.u32(..8) {
        0 => &[],
        1..=4 => &["default"],
        5 => &["b"],
        6 => &["b", "default"],
        _ => &["a", "b", "default"],
    };
    ids.iter().map(|id| draw(rng, meter, id)).collect()
}

fn draw(rng: &mut Rng, meter: usize, id: &'static str) -> Limits {
    let hourly = rng.u32(..3) == 0;
    let most: i64 = match (meter, hourly) {
        (0, true) => 4,
        (0, false) => 9,
        (_, true) => 1_200,
        (_, false) => 3_500,
    };
    let whole = |rng: &mut Rng, most: i64| ONE * i128::from(rng.i64(1..=most)) + [0, ONE / 2][rng.usize(..8) / 7];
    let hard = match rng.u32(..24) {
        0 => Some(0),
        1..=2 => None,
        _ => Some(whole(rng, most)),
    };
    let rejects = rng.u32(..3) > 0;
    let mut soft: Vec<Part> = Vec::new();
    let wanted = rng.usize(usize::from(hard.is_none())..4);
    while soft.len() < wanted && hard != Some(0) {
        let part = match (hard, rng.bool()) {
            (Some(_), true) => Part::Thousandths([50_000, 80_000, 33_333, 100_000][rng.usize(..4)]),
            (Some(_), false) if !rejects && rng.bool() => Part::Thousandths(120_500),
            _ => Part::Whole(whole(rng, most)),
        };
        let fits = !rejects || hard.is_none_or(|hard| part.of(Some(hard)) <= hard);
        if fits && !soft.contains(&part) {
            soft.push(part);
        } else if hard.is_some() {
            break;
        }
    }
    let grace = match (hard, rng.u32(..6)) {
        (None, _) | (_, 0..=2) => Part::Whole(0),
        (_, 3) => Part::Thousandths(10_000),
        (_, 4) => Part::Thousandths(33_333),
        _ => Part::Whole(ONE * i128::from(rng.u8(1..4))),
    };
    Limits { id, hourly, hard, soft, rejects, grace, enforced: rng.u32(..5) > 0 }
}

/// What a config with this number says: always the same. 0: nothing.
pub fn config(number: u64) -> Vec<(Option<&'static str>, usize, Limits)> {
    let mut rng = Rng::with_seed(number);
    let mut caps = Vec::new();
    for meter in CAPPED.into_iter().filter(|_| number > 0) {
        for plan in [None, Some(PLANS[0]), Some(PLANS[1])] {
            if rng.u32(..3) > 0 {
                caps.extend(draw_caps(&mut rng, meter).into_iter().map(|cap| (plan, meter, cap)));
            }
        }
    }
    caps
}

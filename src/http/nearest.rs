//! `meterd_cap_used_ratio`: the accounts nearest to their hard caps, and one row for all others.
//!
//! The exporter keeps a label for as long as the process lives; these come and go, so the lines are made here.
//!
//! 1. Off unless `metrics.top_customers` says how many.
//! 2. Looked at afresh at most every ten seconds, by one scrape at a time, off the threads that answer requests.

use std::fmt::Write;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::engine::{Engine, NearestCaps};
use crate::http::problem::Problem;
use crate::metrics::CAP_USED_RATIO;
use crate::model::Duration;

const FRESH: Duration = Duration::from_secs(10);
/// The customer of all who are not named.
const OTHER: &str = "other";

#[derive(Default)]
pub struct Nearest(Mutex<Option<(Duration, String)>>);

impl Nearest {
    /// Nothing if `limit` is 0.
    pub async fn lines(&self, engine: &Engine, limit: usize) -> Result<String, Problem> {
        if limit == 0 {
            return Ok(String::new());
        }
        let mut known = self.0.lock().await;
        let now = engine.monotonic();
        if let Some((at, lines)) = known.as_ref().filter(|(at, _)| now < at.saturating_add(FRESH)) {
            debug_assert!(*at <= now, "it never goes back");
            return Ok(lines.clone());
        }
        let view = engine.view();
        let nearest = spawn_blocking(move || view.nearest_caps(limit)).await.map_err(|_| Problem::EngineFailed)?;
        let lines = rendered(&nearest);
        *known = Some((now, lines.clone()));
        Ok(lines)
    }
}

fn rendered(nearest: &NearestCaps) -> String {
    let mut out = String::with_capacity(256 + nearest.top.len() * 128);
    out += "# HELP meterd_cap_used_ratio Used part of the hard cap in the present period: of the accounts nearest to theirs, and the greatest of all others.\n# TYPE meterd_cap_used_ratio gauge\n";
    for near in &nearest.top {
        line(&mut out, (&near.tenant, &near.customer, &near.meter), near.ratio);
    }
    if let Some(other) = nearest.other {
        line(&mut out, ("", OTHER, ""), other);
    }
    out.push('\n');
    out
}

/// An empty label is as good as none.
fn line(out: &mut String, (tenant, customer, meter): (&str, &str, &str), ratio: f64) {
    let [tenant, customer, meter] = [tenant, customer, meter].map(escaped);
    let written =
        writeln!(out, "{CAP_USED_RATIO}{{tenant=\"{tenant}\",customer=\"{customer}\",meter=\"{meter}\"}} {ratio}");
    debug_assert!(written.is_ok(), "a String takes everything");
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::NearCap;

    #[test]
    fn whoever_is_named_stands_there_escaped_and_the_rest_as_one_row() {
        let near = |customer: &str, ratio| NearCap {
            tenant: "default".into(),
            customer: customer.into(),
            meter: "tokens".into(),
            ratio,
        };
        let nearest = NearestCaps { top: vec![near("a\"b\\c\nd", 1.25), near("plain", 1.0)], other: Some(0.5) };
        let lines = rendered(&nearest);
        let rows: Vec<&str> = lines.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        let expected = [
            r#"meterd_cap_used_ratio{tenant="default",customer="a\"b\\c\nd",meter="tokens"} 1.25"#,
            r#"meterd_cap_used_ratio{tenant="default",customer="plain",meter="tokens"} 1"#,
            r#"meterd_cap_used_ratio{tenant="",customer="other",meter=""} 0.5"#,
        ];
        assert_eq!(rows, expected);
        assert!(
            lines.starts_with("# HELP meterd_cap_used_ratio ")
                && lines.contains("# TYPE meterd_cap_used_ratio gauge\n")
        );
    }
}

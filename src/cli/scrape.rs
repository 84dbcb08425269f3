//! Reads histograms from Prometheus' text format, to say how long the daemon's disk took.

use std::time::Duration;

use crate::cli::client::Client;

/// A histogram's cumulative buckets at one moment, or what was added between two.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Upper bound in seconds, observations up to it.
    buckets: Vec<(f64, u64)>,
    pub count: u64,
    pub sum_seconds: f64,
}

/// A histogram of `/metrics`; empty if the daemon has none of that name.
pub fn histogram(client: &mut Client, name: &str) -> Histogram {
    let reply = client.get("/metrics").ok().filter(|reply| reply.status == 200);
    reply.map(|reply| Histogram::parse(&String::from_utf8_lossy(&reply.body), name)).unwrap_or_default()
}

impl Histogram {
    /// Adds up all label sets.
    pub fn parse(text: &str, name: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(name) else { continue };
            let Some((series, value)) = rest.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            if series.starts_with("_sum") {
                found.sum_seconds += value;
            } else if series.starts_with("_count") {
                found.count += value as u64;
            } else if let Some(bound) = series.strip_prefix("_bucket").and_then(le) {
                match found.buckets.iter_mut().find(|(known, _)| *known == bound) {
                    Some((_, count)) => *count += value as u64,
                    None => found.buckets.push((bound, value as u64)),
                }
            }
        }
        found.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        found
    }

    /// What was observed after `earlier`.
    pub fn since(&self, earlier: &Histogram) -> Self {
        let before =
            |bound: f64| earlier.buckets.iter().find(|(known, _)| *known == bound).map_or(0, |(_, count)| *count);
        let buckets = self.buckets.iter().map(|(bound, count)| (*bound, count.saturating_sub(before(*bound))));
        Self {
            buckets: buckets.collect(),
            count: self.count.saturating_sub(earlier.count),
            sum_seconds: self.sum_seconds - earlier.sum_seconds,
        }
    }

    pub fn mean(&self) -> Option<Duration> {
        (self.count > 0).then(|| seconds(self.sum_seconds / self.count as f64)).flatten()
    }

    /// The upper bound of the bucket that holds this quantile; none without buckets or past the last bound.
    pub fn quantile_at_most(&self, permille: u64) -> Option<Duration> {
        let rank = (self.count * permille).div_ceil(1_000).max(1);
        let bucket = self.buckets.iter().find(|(_, count)| *count >= rank)?;
        seconds(bucket.0)
    }
}

/// The bound in `{…le="0.005"…}`.
fn le(labels: &str) -> Option<f64> {
    let bound = labels.split_once("le=\"")?.1.split_once('"')?.0;
    if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() }
}

fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE a_seconds histogram\n\
        a_seconds_bucket{x=\"1\",le=\"0.001\"} 90\na_seconds_bucket{x=\"1\",le=\"0.01\"} 99\n\
        a_seconds_bucket{x=\"1\",le=\"+Inf\"} 100\na_seconds_sum{x=\"1\"} 0.5\na_seconds_count{x=\"1\"} 100\n\
        a_seconds_other_total 7\n";

    #[test]
    fn reads_mean_and_quantiles_of_a_histogram() {
        let histogram = Histogram::parse(TEXT, "a_seconds");
        assert_eq!(histogram.mean(), Some(Duration::from_millis(5)));
        assert_eq!(histogram.quantile_at_most(500), Some(Duration::from_millis(1)));
        assert_eq!(histogram.quantile_at_most(990), Some(Duration::from_millis(10)));
        assert_eq!(histogram.quantile_at_most(1_000), None);
        assert_eq!(Histogram::parse(TEXT, "b").mean(), None);
    }

    #[test]
    fn a_difference_holds_only_what_came_after() {
        let earlier = Histogram::parse(TEXT, "a_seconds");
        let later = Histogram::parse(&TEXT.replace(" 99", " 109").replace(" 100", " 110"), "a_seconds");
        let added = later.since(&earlier);
        assert_eq!((added.count, added.quantile_at_most(990)), (10, Some(Duration::from_millis(10))));
    }
}

//! The name of a series (tenant, customer, meter, dimension values) as bytes, and of one of its windows.
//!
//! | part | bytes |
//! | --- | --- |
//! | tenant, customer, meter slug | each: length u16 BE, text |
//! | dimension values, in the definition's order | count u8; each: length u16 BE, text; length 0xFFFF: not given |
//! | window start (counter rows only) | µs since 1970 as i64 BE with the sign bit flipped, so that it sorts |
//!
//! An account is the first row alone: tenant, customer, meter slug, over all dimensions.
//!
//! 1. Lengths go first, so `a|b` + `c` can never equal `a` + `b|c`.
//! 2. A key holds names, never process-local numbers: it means the same after every restart.

use crate::model::{Timestamp, Window};

const NOT_GIVEN: u16 = u16::MAX;
pub const START_BYTES: usize = 8;

pub fn put_text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() < usize::from(NOT_GIVEN), "names are bounded at the door");
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_dimension(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(text) => put_text(out, text),
        None => out.extend_from_slice(&NOT_GIVEN.to_be_bytes()),
    }
}

/// The part that names a customer: the prefix of all its series.
pub fn put_customer(out: &mut Vec<u8>, tenant: &str, customer: &str) {
    put_text(out, tenant);
    put_text(out, customer);
}

/// The name of an account: a customer's usage of one meter, the beginning of all its series' names.
pub fn account_name(tenant: &str, customer: &str, meter: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(tenant.len() + customer.len() + meter.len() + 6);
    put_customer(&mut name, tenant, customer);
    put_text(&mut name, meter);
    name
}

/// The account that a series belongs to.
pub fn account_prefix(series: &[u8]) -> &[u8] {
    let mut rest = series;
    for _ in 0..3 {
        let length = rest.first_chunk::<2>().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
        rest = rest.get(2 + length..).expect("series names are written by this process");
    }
    &series[..series.len() - rest.len()]
}

/// Tenant, customer and meter of an account's name.
pub fn split_account(name: &[u8]) -> Option<(&str, &str, &str)> {
    let mut rest = name;
    let parts = read_account(&mut rest)?;
    rest.is_empty().then_some(parts)
}

/// Appends the rest of a series' name to a customer's prefix.
pub fn put_meter<'a>(out: &mut Vec<u8>, slug: &str, dimensions: impl ExactSizeIterator<Item = Option<&'a str>>) {
    put_text(out, slug);
    out.push(dimensions.len() as u8);
    dimensions.for_each(|value| put_dimension(out, value));
}

pub fn put_start(out: &mut Vec<u8>, start: Timestamp) {
    out.extend_from_slice(&((start.micros() as u64) ^ (1 << 63)).to_be_bytes());
}

/// A series' name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesName<'a> {
    pub tenant: &'a str,
    pub customer: &'a str,
    pub meter: &'a str,
    pub dimensions: smallvec::SmallVec<[Option<&'a str>; 4]>,
}

/// Reads a series' name off the front; returns it with the number of bytes it took.
pub fn read_series(key: &[u8]) -> Option<(SeriesName<'_>, usize)> {
    let mut rest = key;
    let tenant = take_text(&mut rest)??;
    let customer = take_text(&mut rest)??;
    let meter = take_text(&mut rest)??;
    let (&count, after) = rest.split_first()?;
    rest = after;
    let dimensions = (0..count).map(|_| take_text(&mut rest)).collect::<Option<_>>()?;
    Some((SeriesName { tenant, customer, meter, dimensions }, key.len() - rest.len()))
}

/// The length of the prefix that names the customer.
pub fn customer_prefix_len(key: &[u8]) -> Option<usize> {
    let mut rest = key;
    take_text(&mut rest)??;
    take_text(&mut rest)??;
    Some(key.len() - rest.len())
}

/// The tenant, and the rest of the name.
pub fn split_tenant(key: &[u8]) -> Option<(&str, &[u8])> {
    let mut rest = key;
    let tenant = take_text(&mut rest)??;
    Some((tenant, rest))
}

/// A name without the second of the texts it begins with: a period row's key without the period's name.
pub fn without_second_text(key: &[u8]) -> Option<Vec<u8>> {
    let mut rest = key;
    take_text(&mut rest)??;
    let tenant = &key[..key.len() - rest.len()];
    take_text(&mut rest)??;
    Some([tenant, rest].concat())
}

/// Takes a text off the front.
pub fn read_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    take_text(rest)?
}

/// An account's tenant, customer and meter, off the front.
pub fn read_account<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, &'a str, &'a str)> {
    Some((read_text(rest)?, read_text(rest)?, read_text(rest)?))
}

/// A time as [`put_start`] wrote it, off the front.
fn read_start(rest: &mut &[u8]) -> Option<Timestamp> {
    let (start, after) = rest.split_first_chunk::<START_BYTES>()?;
    *rest = after;
    from_start(*start)
}

/// What [`put_bounds`] wrote, off the front.
pub fn read_bounds(rest: &mut &[u8]) -> Option<Window> {
    Some(Window { start: read_start(rest)?, end: read_start(rest)? })
}

fn from_start(start: [u8; START_BYTES]) -> Option<Timestamp> {
    Timestamp::from_micros((u64::from_be_bytes(start) ^ (1 << 63)) as i64).ok()
}

/// Reads a counter row's key: the series' bytes, and the window's start.
pub fn split_start(key: &[u8]) -> Option<(&[u8], Timestamp)> {
    let (series, start) = key.split_last_chunk::<START_BYTES>()?;
    Some((series, from_start(*start)?))
}

/// Appends a period's bounds.
pub fn put_bounds(out: &mut Vec<u8>, bounds: Window) {
    put_start(out, bounds.start);
    put_start(out, bounds.end);
}

/// Reads a period row's key without the period's name: the series' bytes, and the period's bounds.
pub fn split_bounds(key: &[u8]) -> Option<(&[u8], Window)> {
    let (rest, end) = split_start(key)?;
    let (series, start) = split_start(rest)?;
    Some((series, Window { start, end }))
}

/// `Some(None)` is a value that was not given, `None` a key that is cut short or not UTF-8.
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a str>> {
    let (len, after) = rest.split_first_chunk::<2>()?;
    let len = u16::from_be_bytes(*len);
    if len == NOT_GIVEN {
        *rest = after;
        return Some(None);
    }
    let (text, after) = after.split_at_checked(usize::from(len))?;
    *rest = after;
    Some(Some(std::str::from_utf8(text).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(tenant: &str, customer: &str, dimensions: &[Option<&str>]) -> Vec<u8> {
        let mut key = Vec::new();
        put_customer(&mut key, tenant, customer);
        put_meter(&mut key, "tokens", dimensions.iter().copied());
        key
    }

    #[test]
    fn reads_back_what_it_wrote_and_keeps_an_empty_value_apart_from_a_missing_one() {
        let key = series("acme", "c-1", &[Some("gpt"), None, Some("")]);
        let (name, len) = read_series(&key).expect("a whole key");
        assert_eq!((name.tenant, name.customer, name.meter), ("acme", "c-1", "tokens"));
        assert_eq!(name.dimensions.as_slice(), [Some("gpt"), None, Some("")]);
        assert_eq!(len, key.len());
        assert_eq!(customer_prefix_len(&key), Some(2 + 4 + 2 + 3));
        assert!((0..key.len()).all(|end| read_series(&key[..end]).is_none()), "every truncation is noticed");
    }

    #[test]
    fn names_that_join_alike_stay_apart() {
        assert_ne!(series("a", "bc", &[]), series("ab", "c", &[]));
        assert_ne!(series("a", "b", &[None]), series("a", "b", &[Some("")]));
    }

    #[test]
    fn window_starts_sort_also_before_1970() {
        let mut keys: Vec<Vec<u8>> = [-5, -1, 0, 7, i64::from(i32::MAX)]
            .map(|micros| {
                let mut key = series("a", "b", &[]);
                put_start(&mut key, Timestamp::from_micros(micros).expect("in range"));
                key
            })
            .to_vec();
        let written = keys.clone();
        keys.sort();
        assert_eq!(keys, written);
        assert_eq!(split_start(&keys[0]).map(|(_, start)| start.micros()), Some(-5));
    }
}

//! Where the next page begins: the last row's key, as hex, opaque to clients.
//!
//! Bytes: version 3 · tie to the query (u64 BE) · when "current" and "previous" are meant (µs, i64 BE) · key.
//!
//! 1. A cursor fits the query it came from: tenant, period, customer, meter and state; and it is whole. Form and length
//!    of a page may change from page to page.
//! 2. It means the same after a restart. It is no secret and proves nothing: whoever reads by it still looks at rows of
//!    the query's tenant and period only.

use crate::engine::{Hasher, TotalsQuery};
use crate::http::totals::request::period_name;
use crate::model::{Timestamp, hex};

const VERSION: u8 = 3;
const KEY: [u8; 16] = *b"meterd cursor v2";

/// A cursor for what follows `key`, in a listing that was begun at `at`.
pub fn encode(query: &TotalsQuery, at: Timestamp, key: &[u8]) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(tie(query, at, key).to_be_bytes());
    bytes.extend(at.micros().to_be_bytes());
    bytes.extend(key);
    hex::encode(&bytes)
}

/// When the listing was begun, and the key to go on after; `None` if the text is no cursor of this query.
pub fn decode(text: &str, query: &TotalsQuery) -> Option<(Timestamp, Vec<u8>)> {
    let bytes = hex::decode(text)?;
    let (&VERSION, rest) = bytes.split_first()? else { return None };
    let (tied, rest) = rest.split_first_chunk::<8>()?;
    let (at, key) = rest.split_first_chunk::<8>()?;
    let at = Timestamp::from_micros(i64::from_be_bytes(*at)).ok()?;
    (u64::from_be_bytes(*tied) == tie(query, at, key)).then(|| (at, key.to_vec()))
}

fn tie(query: &TotalsQuery, at: Timestamp, key: &[u8]) -> u64 {
    let period = period_name(query.period);
    let meter = query.meter.map(|meter| meter.0.to_string());
    let state = query.state.map(|state| state.as_str());
    let parts = [Some(query.tenant.as_str()), Some(&period), query.customer.as_deref(), meter.as_deref(), state];
    let mut bytes = Vec::new();
    for part in parts {
        bytes.push(u8::from(part.is_some()));
        let text = part.unwrap_or_default();
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes.extend(at.micros().to_be_bytes());
    bytes.extend(key);
    Hasher::new(&KEY).hash64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{PeriodChoice, WindowState};
    use crate::model::{MeterId, TenantId};

    fn query() -> TotalsQuery {
        TotalsQuery {
            tenant: TenantId::new("acme"),
            period: PeriodChoice::Named("2026-11".parse().unwrap()),
            at: None,
            meter: Some(MeterId(1)),
            customer: None,
            state: None,
            after: None,
            limit: 10,
        }
    }

    #[test]
    fn leads_back_to_the_key_for_the_same_query_whatever_the_page() {
        let text = encode(&query(), Timestamp::EPOCH, b"key\0");
        let other_page = TotalsQuery { after: Some(vec![1]), limit: 5, ..query() };
        assert_eq!(decode(&text, &other_page), Some((Timestamp::EPOCH, b"key\0".to_vec())));
    }

    #[test]
    fn refuses_other_queries_truncations_and_what_is_no_cursor() {
        let text = encode(&query(), Timestamp::EPOCH, b"a longer key");
        for other in [
            TotalsQuery { tenant: TenantId::new("other"), ..query() },
            TotalsQuery { period: PeriodChoice::Named("2026-12".parse().unwrap()), ..query() },
            TotalsQuery { period: PeriodChoice::Current, ..query() },
            TotalsQuery { meter: None, customer: Some("1".into()), ..query() },
            TotalsQuery { meter: Some(MeterId(2)), ..query() },
            TotalsQuery { customer: Some(String::new()), ..query() },
            TotalsQuery { state: Some(WindowState::Open), ..query() },
        ] {
            assert_eq!(decode(&text, &other), None, "{other:?}");
        }
        assert!((0..text.len()).all(|end| decode(&text[..end], &query()).is_none()));
        assert!(["zz", "é", "02"].iter().all(|text| decode(text, &query()).is_none()));
    }
}

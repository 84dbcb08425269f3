//! A row of totals as a CSV record, and the header.

use crate::http::totals::row::TotalRow;
use crate::model::csv::Record;

pub const HEADER: &str = "customer,meter,dimensions,period,period_start,period_end,value,original_value,adjustment,overage,\
event_count,adjustments,state,revision,incarnation,hash,as_of,final,approximate\r\n";

/// Appends the row's record.
pub fn put(out: &mut Vec<u8>, row: &TotalRow<'_>) {
    let mut record = Record::new(out);
    record.text(row.customer);
    record.text(row.meter);
    record.quoted(&serde_json::to_string(&row.dimensions).unwrap_or_default());
    record.plain(row.period);
    record.plain(row.period_start);
    record.plain(row.period_end);
    for value in [row.value, row.original_value, row.adjustment, row.overage] {
        match value {
            Some(value) => record.plain(value.0),
            None => record.plain(""),
        }
    }
    record.plain(row.event_count);
    record.plain(row.adjustments);
    record.plain(row.state);
    record.plain(row.revision);
    record.plain(row.incarnation);
    record.plain(&row.hash);
    record.plain(row.as_of);
    record.plain(row.is_final);
    record.plain(row.approximate);
    record.end();
}

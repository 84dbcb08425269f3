//! The members of exact sets, which the store keeps in rows of their own.

use crate::meter::Aggregate;
use crate::store::{Snapshot, StoreError, Table};

const MEMBER_BYTES: usize = 16;

/// Reads the members of a set, up to so many; answers with how many there are. The rows of one that has become an estimate
/// stay behind, and are not wanted.
///
/// It goes no further than it must: what comes next may be thousands of rows that were deleted.
pub fn load_members(
    snapshot: &dyn Snapshot,
    table: Table,
    prefix: &[u8],
    (aggregate, expected): (&mut Aggregate, u64),
) -> Result<u64, StoreError> {
    let mut found = 0;
    if !aggregate.takes_members() || expected == 0 {
        return Ok(found);
    }
    let mut cursor = snapshot.cursor(table)?;
    cursor.seek(prefix)?;
    while let Some((row, _)) = cursor.row().filter(|(row, _)| row.starts_with(prefix)) {
        if let Some((rest, member)) = row.split_last_chunk::<MEMBER_BYTES>()
            && rest == prefix
        {
            found += u64::from(aggregate.insert_member(u128::from_be_bytes(*member)));
            if found == expected {
                break;
            }
        }
        cursor.advance()?;
    }
    Ok(found)
}

//! Whether a table fits: what the catalog says of it against what the rows need. Pure.
//!
//! 1. A type that bends values does not fit: `numeric(12,2)` rounds, `timestamptz(0)` cuts, `varchar(20)` refuses.
//! 2. More columns are fine as long as a row that says nothing of them is taken.
//! 3. The key must be a unique index on its columns alone, on all rows and checked at once: `ON CONFLICT` needs it so.

use crate::delivery::postgres::TableName;

/// What a table must be for the rows that go into it.
pub struct Layout {
    pub needed: &'static [Needed],
    /// The columns of the key, sorted.
    pub key: &'static [&'static str],
    pub privileges: &'static [&'static str],
    /// Makes the table, and an index for whoever reads by customer and time.
    pub create_sql: fn(&TableName) -> String,
}

/// A column that rows need, the types it may have, as `format_type` writes them, and whether null must be allowed.
pub struct Needed {
    pub name: &'static str,
    pub types: &'static [&'static str],
    pub takes_null: bool,
}

pub const TEXT: &[&str] = &["text", "character varying"];
pub const TIME: &[&str] = &["timestamp with time zone"];
pub const COUNTER: &[&str] = &["integer", "bigint"];
pub const NUMERIC: &[&str] = &["numeric"];
pub const JSONB: &[&str] = &["jsonb"];
pub const BOOLEAN: &[&str] = &["boolean"];

pub const fn column(name: &'static str, types: &'static [&'static str]) -> Needed {
    Needed { name, types, takes_null: false }
}

pub const fn nullable(name: &'static str, types: &'static [&'static str]) -> Needed {
    Needed { name, types, takes_null: true }
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_name: String,
    pub is_not_null: bool,
    /// It has a default, or numbers itself.
    pub fills_itself: bool,
    /// The database computes it, and takes no value.
    pub is_generated: bool,
}

/// What the catalog says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// `pg_class.relkind`.
    pub kind: char,
    pub columns: Vec<Column>,
    pub has_key: bool,
    /// Those of the layout's privileges that this user lacks.
    pub lacking: Vec<&'static str>,
}

/// `Err`: the first thing that does not fit, what it is and what it should be.
pub fn check(shape: &Shape, layout: &Layout) -> Result<(), String> {
    match shape.kind {
        'r' | 'p' => {}
        'v' => return Err("it is a view, and must be a table".to_owned()),
        'm' => return Err("it is a materialized view, and must be a table".to_owned()),
        'f' => return Err("it is a foreign table, and must be a table of this database".to_owned()),
        _ => return Err("it is not a table".to_owned()),
    }
    for needed in layout.needed {
        check_needed(shape, needed)?;
    }
    let extra = |column: &&Column| layout.needed.iter().all(|needed| needed.name != column.name);
    for column in shape.columns.iter().filter(extra) {
        if column.is_not_null && !column.fills_itself && !column.is_generated {
            return Err(format!(
                "column {} is NOT NULL without a default, and meterd has no value for it",
                column.name
            ));
        }
    }
    if !shape.has_key {
        return Err(match layout.key {
            [one] => format!("column {one} has no unique index of its own, and must be the primary key or UNIQUE"),
            several => format!("columns {} have no unique index of their own", several.join(" and ")),
        });
    }
    if !shape.lacking.is_empty() {
        return Err(format!("permission denied: this user needs {} on it as well", shape.lacking.join(" and ")));
    }
    Ok(())
}

fn check_needed(shape: &Shape, needed: &Needed) -> Result<(), String> {
    let Needed { name, types, .. } = needed;
    let should = types.join(" or ");
    let Some(column) = shape.columns.iter().find(|column| column.name == *name) else {
        return Err(format!("column {name} is missing, and must be {should}"));
    };
    if !types.contains(&column.type_name.as_str()) {
        return Err(format!("column {name} is {}, and must be {should}", column.type_name));
    }
    if column.is_generated {
        return Err(format!("column {name} is generated, and must be an ordinary column"));
    }
    if needed.takes_null && column.is_not_null {
        return Err(format!("column {name} is NOT NULL, and must take null"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::postgres::{alerts, batch};

    fn shape(layout: &Layout) -> Shape {
        let column = |needed: &Needed| Column {
            name: needed.name.to_owned(),
            type_name: needed.types[0].to_owned(),
            is_not_null: !needed.takes_null,
            fills_itself: false,
            is_generated: false,
        };
        Shape { kind: 'r', columns: layout.needed.iter().map(column).collect(), has_key: true, lacking: Vec::new() }
    }

    fn said(change: impl FnOnce(&mut Shape)) -> String {
        said_of(&batch::LAYOUT, change)
    }

    fn said_of(layout: &Layout, change: impl FnOnce(&mut Shape)) -> String {
        let mut shape = shape(layout);
        change(&mut shape);
        check(&shape, layout).err().unwrap_or_default()
    }

    fn of<'a>(shape: &'a mut Shape, name: &str) -> &'a mut Column {
        shape.columns.iter_mut().find(|column| column.name == name).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_it_should_be() {
        assert_eq!(said(|_| {}), "");
        for (change, expected) in [
            (
                (|shape| of(shape, "value").type_name = "numeric(12,2)".into()) as fn(&mut Shape),
                "column value is numeric(12,2), and must be numeric",
            ),
            (|shape| shape.columns.retain(|column| column.name != "hash"), "column hash is missing"),
            (|shape| of(shape, "revision").type_name = "smallint".into(), "must be integer or bigint"),
            (|shape| of(shape, "value").is_not_null = true, "column value is NOT NULL, and must take null"),
            (|shape| of(shape, "meter").is_generated = true, "column meter is generated"),
            (|shape| shape.kind = 'v', "it is a view"),
            (|shape| shape.kind = 'S', "it is not a table"),
            (|shape| shape.has_key = false, "column row_key has no unique index"),
            (|shape| shape.lacking = vec!["SELECT", "UPDATE"], "SELECT and UPDATE"),
        ] {
            let found = said(change);
            assert!(found.contains(expected), "{found:?} should say {expected:?}");
        }
    }

    #[test]
    fn the_table_of_alerts_has_columns_and_a_key_of_its_own() {
        let layout = &alerts::LAYOUT;
        assert_eq!(said_of(layout, |_| {}), "");
        let unkeyed = "columns alert_id and state have no unique index of their own";
        assert_eq!(said_of(layout, |shape| shape.has_key = false), unkeyed);
        let cents = |shape: &mut Shape| of(shape, "used").type_name = "numeric(12,2)".into();
        assert_eq!(said_of(layout, cents), "column used is numeric(12,2), and must be numeric");
        assert!(said_of(layout, |shape| of(shape, "event_seq").is_not_null = true).contains("must take null"));
    }

    #[test]
    fn other_columns_are_fine_if_a_row_without_them_is_taken() {
        let more = |is_not_null, fills_itself| Column {
            name: "note".into(),
            type_name: "text".into(),
            is_not_null,
            fills_itself,
            is_generated: false,
        };
        assert_eq!(said(|shape| shape.columns.push(more(false, false))), "");
        assert_eq!(said(|shape| shape.columns.push(more(true, true))), "");
        assert!(said(|shape| shape.columns.push(more(true, false))).contains("column note is NOT NULL"));
    }
}

//! The file to compare with: CSV to rows by customer, meter and dimensions. Every error names the file and the line.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail, ensure};

use crate::cli::evidence::Dimensions;
use crate::model::Quantity;
use crate::model::csv::{Row, Rows, unguarded};

/// What a row is known by; dimensions without those that are not given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub customer: String,
    pub meter: String,
    pub dimensions: Dimensions,
}

/// A row of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub line: u64,
    /// None: the cell is empty.
    pub value: Option<Quantity>,
    pub event_count: Option<u64>,
}

/// How fine the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// A `dimensions` column: by all of them.
    ByAll,
    /// By these: `dim:` columns. None of them: totals over all dimensions.
    By(Vec<String>),
}

/// The file's rows.
#[derive(Debug)]
pub struct Claims {
    /// The file's.
    pub name: String,
    pub rows: HashMap<Key, Claim>,
    pub split: Split,
    /// What was ignored.
    pub notes: Vec<String>,
}

impl Split {
    /// The dimensions by which a total is compared.
    pub fn of(&self, dimensions: &Dimensions) -> Dimensions {
        let given = dimensions.iter().filter(|(_, value)| value.is_some());
        let compared = given.filter(|(name, _)| match self {
            Split::ByAll => true,
            Split::By(names) => names.contains(name),
        });
        compared.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// Where the columns are.
struct Columns {
    customer: usize,
    meter: usize,
    value: usize,
    event_count: Option<usize>,
    dimensions: Option<usize>,
    /// By name.
    dim: BTreeMap<String, usize>,
    ignored: Vec<String>,
    count: usize,
}

impl Columns {
    fn of(header: &Row<'_>) -> anyhow::Result<Self> {
        let names: Vec<&str> = header.fields.iter().map(|name| name.trim()).collect();
        let place = |wanted: &str| names.iter().position(|name| *name == wanted);
        let needed = |wanted: &str| {
            let columns = "a header with the columns customer, meter and value is needed";
            place(wanted).with_context(|| format!("there is no column {wanted:?}: {columns}"))
        };
        let (mut dim, mut ignored) = (BTreeMap::new(), Vec::new());
        for (at, name) in names.iter().enumerate() {
            ensure!(place(name) == Some(at), "there are two columns {name:?}");
            match name.strip_prefix("dim:") {
                Some(dimension) => _ = dim.insert(dimension.to_owned(), at),
                None if ["customer", "meter", "value", "event_count", "dimensions"].contains(name) => {}
                None => ignored.push((*name).to_owned()),
            }
        }
        let (event_count, dimensions) = (place("event_count"), place("dimensions"));
        ensure!(dimensions.is_none() || dim.is_empty(), "there are dimensions and dim: columns: one of them is enough");
        let (customer, meter, value) = (needed("customer")?, needed("meter")?, needed("value")?);
        Ok(Self { customer, meter, value, event_count, dimensions, dim, ignored, count: names.len() })
    }

    fn split(&self) -> Split {
        match self.dimensions {
            Some(_) => Split::ByAll,
            None => Split::By(self.dim.keys().cloned().collect()),
        }
    }

    fn claim(&self, row: &Row<'_>) -> anyhow::Result<(Key, Claim)> {
        let (found, count) = (row.fields.len(), self.count);
        ensure!(found == count, "{found} fields, and the header has {count}");
        let cell = |at: usize| &*row.fields[at];
        let name = |at: usize, column: &str| {
            let text = unguarded(cell(at));
            ensure!(!text.is_empty(), "{column} is empty");
            Ok(text.to_owned())
        };
        let value = match cell(self.value).trim() {
            "" => None,
            text => Some(Quantity::parse(text).with_context(|| format!("value {text:?}"))?),
        };
        let event_count = match self.event_count.map(|at| cell(at).trim()) {
            None | Some("") => None,
            Some(text) => Some(text.parse().with_context(|| format!("event_count {text:?} is no whole number"))?),
        };
        let dimensions = match self.dimensions {
            Some(at) => json_dimensions(cell(at))?,
            None => {
                let given = self.dim.iter().filter(|(_, at)| !cell(**at).is_empty());
                given.map(|(name, at)| (name.clone(), Some(unguarded(cell(*at)).to_owned()))).collect()
            }
        };
        let key = Key { customer: name(self.customer, "customer")?, meter: name(self.meter, "meter")?, dimensions };
        Ok((key, Claim { line: row.line, value, event_count }))
    }
}

fn json_dimensions(text: &str) -> anyhow::Result<Dimensions> {
    if text.trim().is_empty() {
        return Ok(Dimensions::new());
    }
    let dimensions: Dimensions = serde_json::from_str(text)
        .with_context(|| format!("dimensions {text:?} is not a JSON object of names and texts"))?;
    Ok(dimensions.into_iter().filter(|(_, value)| value.is_some()).collect())
}

impl Claims {
    /// Reads a file; of one meter only, if one is given.
    pub fn read(name: &str, bytes: &[u8], meter: Option<&str>) -> anyhow::Result<Self> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
                bail!("{name}, line {line}: the text is not UTF-8");
            }
        };
        let mut rows = Rows::new(text).map(|row| row.map_err(|error| anyhow::anyhow!("{name}, {error}")));
        let header = rows.next().with_context(|| format!("{name}, line 1: there is no header"))??;
        let columns = Columns::of(&header).with_context(|| format!("{name}, line {}", header.line))?;
        let (mut claims, mut of_other_meters) = (HashMap::new(), 0_u64);
        for row in rows {
            let row = row?;
            let (key, claim) = columns.claim(&row).with_context(|| format!("{name}, line {}", row.line))?;
            if meter.is_some_and(|meter| meter != key.meter) {
                of_other_meters += 1;
                continue;
            }
            let line = claim.line;
            if let Some(first) = claims.insert(key, claim) {
                let first = first.line;
                bail!("{name}, line {line}: customer, meter and dimensions are those of line {first}");
            }
        }
        let mut notes: Vec<String> = Vec::new();
        if !columns.ignored.is_empty() {
            notes.push(format!("ignored columns: {}", columns.ignored.join(", ")));
        }
        if of_other_meters > 0 {
            notes.push(format!("ignored rows of other meters: {of_other_meters}"));
        }
        Ok(Self { name: name.to_owned(), rows: claims, split: columns.split(), notes })
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

//! Report of a consistency check: number of rows checked, and the inconsistent ones.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

use serde::Serialize;

/// Maximum number of inconsistencies listed.
const MAX_LISTED: usize = 20;
/// Relative tolerance for recomputed numbers, whose sums may be rounded in another order.
const ROUNDING: f64 = 1e-9;

/// A cell of a table: the table, the id of the row and the column.
type Cell<'a> = (&'a str, &'a dyn Display, &'a str);

/// A row that is inconsistent with other rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inconsistency {
    /// Table.
    pub table: String,
    /// Id of the row.
    pub row: String,
    /// Description of the problem.
    pub problem: String,
}

/// Outcome of a consistency check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConsistencyReport {
    /// Number of rows checked, by table.
    pub checked: BTreeMap<String, u64>,
    /// Number of inconsistencies.
    pub count: u64,
    /// First inconsistencies.
    #[serde(rename = "misaligned")]
    pub inconsistencies: Vec<Inconsistency>,
}

impl ConsistencyReport {
    /// Counts rows of a table as checked.
    pub fn count_checked(&mut self, table: &str, rows: usize) {
        *self.checked.entry(table.to_owned()).or_default() += rows as u64;
    }

    /// Adds an inconsistency.
    pub fn add(&mut self, table: &str, row: impl Display, problem: impl Into<String>) {
        self.count += 1;
        if self.inconsistencies.len() < MAX_LISTED {
            let (table, row, problem) = (table.into(), row.to_string(), problem.into());
            self.inconsistencies.push(Inconsistency { table, row, problem });
        }
    }

    /// Adds an inconsistency unless the stored value equals the recomputed one.
    pub(super) fn expect_equal<T: PartialEq + Debug>(&mut self, at: Cell<'_>, stored: &T, recomputed: &T) {
        if stored != recomputed {
            let (table, row, column) = at;
            self.add(table, row, format!("{column} is {stored:?} and should be {recomputed:?}"));
        }
    }

    pub(super) fn expect_near(&mut self, at: Cell<'_>, stored: Option<f64>, recomputed: Option<f64>) {
        let same = match (stored, recomputed) {
            (Some(a), Some(b)) => (a - b).abs() <= ROUNDING * a.abs().max(b.abs()).max(1.0),
            (a, b) => a == b,
        };
        if !same {
            let (table, row, column) = at;
            let shown = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
            self.add(table, row, format!("{column} is {} and should be {}", shown(stored), shown(recomputed)));
        }
    }

    /// Adds the outcome of another check.
    pub fn merge(&mut self, other: Self) {
        for (table, rows) in other.checked {
            *self.checked.entry(table).or_default() += rows;
        }
        self.count += other.count;
        self.inconsistencies.extend(other.inconsistencies);
        self.inconsistencies.truncate(MAX_LISTED);
    }
}

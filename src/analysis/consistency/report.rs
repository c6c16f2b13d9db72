//! The report of a consistency check: how many rows were checked and which are inconsistent.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;

/// How many misalignments are named.
const NAMED: usize = 20;
/// How far a figure that is computed again may be off: sums are rounded in their order.
const ROUNDING: f64 = 1e-9;

/// A row that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inconsistency {
    /// The table.
    pub table: String,
    /// The row's id.
    pub row: String,
    /// What does not fit.
    pub problem: String,
}

/// What checking found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConsistencyReport {
    /// Rows checked, by table.
    pub checked: BTreeMap<String, u64>,
    /// Rows that do not fit.
    pub count: u64,
    /// The first of them.
    pub misaligned: Vec<Inconsistency>,
}

impl ConsistencyReport {
    /// Says that rows of a table are checked.
    pub fn checked(&mut self, table: &str, rows: usize) {
        *self.checked.entry(table.to_owned()).or_default() += rows as u64;
    }

    /// Says that a row does not fit.
    pub fn add(&mut self, table: &str, row: impl Display, problem: impl Into<String>) {
        self.count += 1;
        if self.misaligned.len() < NAMED {
            self.misaligned.push(Inconsistency { table: table.into(), row: row.to_string(), problem: problem.into() });
        }
    }

    /// Says that a row does not fit, unless what is stored is what comes out.
    pub(super) fn expect<T: PartialEq + std::fmt::Debug>(
        &mut self,
        at: (&str, &dyn Display, &str),
        stored: &T,
        out: &T,
    ) {
        if stored != out {
            let (table, row, column) = at;
            self.add(table, row, format!("{column} is {stored:?} and should be {out:?}"));
        }
    }

    pub(super) fn expect_near(&mut self, at: (&str, &dyn Display, &str), stored: Option<f64>, out: Option<f64>) {
        let same = match (stored, out) {
            (Some(a), Some(b)) => (a - b).abs() <= ROUNDING * a.abs().max(b.abs()).max(1.0),
            (a, b) => a == b,
        };
        if !same {
            let (table, row, column) = at;
            let shown = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
            self.add(table, row, format!("{column} is {} and should be {}", shown(stored), shown(out)));
        }
    }

    /// Adds what another check found.
    pub fn merge(&mut self, other: Self) {
        for (table, rows) in other.checked {
            *self.checked.entry(table).or_default() += rows;
        }
        self.count += other.count;
        self.misaligned.extend(other.misaligned);
        self.misaligned.truncate(NAMED);
    }
}

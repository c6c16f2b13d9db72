//! The writer that puts the rows of a table into the store as one object.

use crate::store::{ObjectKind, Output, StagedFile, Store};
use crate::tables::{TableRow, TableWriter};

use super::Result;

/// Writes rows of one table to a new object.
pub struct TableOutput<R: TableRow>(TableWriter<R, StagedFile>);

impl<R: TableRow> TableOutput<R> {
    /// Creates an empty table, which becomes visible when it is finished.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn new(store: &Store) -> Result<Self> {
        Ok(Self(TableWriter::new(store.stage()?)?))
    }

    /// Adds a row.
    ///
    /// # Errors
    /// The row has a value that the table does not allow, or the store cannot be written to.
    pub fn push(&mut self, row: R) -> Result<()> {
        Ok(self.0.push(row)?)
    }

    /// Publishes the object.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn finish(self, store: &Store) -> Result<Output> {
        let rows = self.0.rows();
        let (object, bytes) = store.publish_object(self.0.finish()?, ObjectKind::Parquet)?;
        Ok(Output { role: R::TABLE.to_owned(), object, rows, bytes })
    }

    /// Publishes rows as one object.
    ///
    /// # Errors
    /// Those of [`push`](Self::push) and [`finish`](Self::finish).
    pub fn write_all(store: &Store, rows: impl IntoIterator<Item = R>) -> Result<Output> {
        let mut out = Self::new(store)?;
        for row in rows {
            out.push(row)?;
        }
        out.finish(store)
    }
}

//! Rows of a shard together with their stored listing, which the shard's action names.

use serde::Serialize;

use super::Result;
use crate::canonical::to_canonical;
use crate::store::{Input, ObjectId, ObjectKind, Store, StoreError};

/// Rows that are processed together.
pub struct ListedRows<T> {
    pub(super) rows: Vec<T>,
    listing: ObjectId,
}

impl<T: Serialize + Clone> ListedRows<T> {
    /// Stores the listing of rows.
    pub(super) fn new(store: &Store, rows: Vec<T>) -> Result<Self> {
        Ok(Self { listing: put_listing(store, &rows)?, rows })
    }

    /// Splits rows into shards of `size` rows.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn split(store: &Store, rows: &[T], size: usize) -> Result<Vec<Self>> {
        rows.chunks(size.max(1)).map(|rows| Self::new(store, rows.to_vec())).collect()
    }

    /// Returns the listing as the inputs of an action.
    pub(super) fn inputs(&self, role: &str) -> Vec<Input> {
        vec![Input { role: role.to_owned(), object: self.listing }]
    }
}

/// Stores the rows that a shard covers, so that its action can name them by digest.
pub(super) fn put_listing<T: Serialize>(store: &Store, rows: &[T]) -> Result<ObjectId> {
    let listing = to_canonical(rows).map_err(StoreError::from)?;
    Ok(store.ensure_object(&listing, ObjectKind::Json)?)
}

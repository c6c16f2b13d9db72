//! Files about rounds under way: copies of their pipeline files, and records of submissions.

use super::backend::{FileEntry, PublishMode, PublishOutcome};
use super::error::StoreError;
use super::{Store, layout};

impl Store {
    /// Writes a file below `jobs/`. With `create_only`, an existing file stays as it is and `false`
    /// is returned.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn put_job_file(&self, name: &str, bytes: &[u8], create_only: bool) -> Result<bool, StoreError> {
        let mode = if create_only { PublishMode::CreateOnly } else { PublishMode::Replace };
        Ok(self.put_file(&job(name), bytes, mode)? == PublishOutcome::Published)
    }

    /// Reads a file below `jobs/`; `None` if it does not exist.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_job_file(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.backend.refresh(&job(name.rsplit_once('/').map_or("", |(folder, _)| folder)));
        self.backend.read(&job(name))
    }

    /// Lists the files in a folder below `jobs/`, sorted by name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn job_files(&self, folder: &str) -> Result<Vec<FileEntry>, StoreError> {
        self.backend.list(&job(folder))
    }

    /// Removes a file below `jobs/`, if it exists.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_job_file(&self, name: &str) -> Result<(), StoreError> {
        match self.backend.head(&job(name))? {
            Some(entry) => self.backend.remove(&entry),
            None => Ok(()),
        }
    }
}

fn job(name: &str) -> String {
    format!("{}/{name}", layout::JOBS)
}

//! The log of a worker in the store, and the form of its lines.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::batch_job::BatchJob;
use crate::store::{Process, Store, format_utc, now_ms};

/// Folder of the logs in a store.
const FOLDER: &str = "logs";

/// Writes lines with time, host and task to a worker's log.
pub struct StoreLog {
    file: Option<Mutex<File>>,
    /// Host and task: `n1 4711_3`, or `host 1234` outside of a batch system.
    worker: String,
    /// The evolution and the round, as `nano/3`.
    round: Mutex<String>,
}

impl StoreLog {
    /// Opens the log of this process. None is kept where standard error goes to a file in the
    /// folder of logs already, as in the jobs of `visplay submit`.
    pub fn open(store: &Store) -> Self {
        let Process { host, pid, .. } = Process::current();
        let job = BatchJob::current();
        let task = job.as_ref().map_or_else(|| pid.to_string(), |job| job.id.clone());
        let node = job.and_then(|job| job.node).unwrap_or_else(|| host.clone());
        let folder = store.root().join(FOLDER);
        let file = (!is_standard_error_in(&folder))
            .then(|| {
                std::fs::create_dir_all(&folder).ok()?;
                let path = folder.join(format!("{host}-{pid}.log"));
                OpenOptions::new().create(true).append(true).open(path).ok()
            })
            .flatten();
        let round = Mutex::new("-".to_owned());
        Self { file: file.map(Mutex::new), worker: format!("{node} {task}"), round }
    }

    /// Names the round that the following lines are about.
    pub fn works_on(&self, evolution: &str, round: u32) {
        *self.round.lock().unwrap_or_else(PoisonError::into_inner) = format!("{evolution}/{round}");
    }

    /// Returns a message as a line of a log.
    pub fn line(&self, message: &str) -> String {
        let round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{} {} {round} {}", format_utc(now_ms()), self.worker, message.replace('\n', " | "))
    }

    /// Writes a message to the log. A log that cannot be written costs its lines, not the work.
    pub fn write(&self, message: &str) {
        if let Some(file) = &self.file {
            let line = format!("{}\n", self.line(message));
            let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        }
    }
}

/// Lists the logs of a store, sorted by name.
pub fn log_files(store: &Store) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(store.root().join(FOLDER)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Whether standard error is a file in a folder.
fn is_standard_error_in(folder: &Path) -> bool {
    let Ok(error) = rustix::fs::fstat(std::io::stderr()) else { return false };
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let is_it = |meta: std::fs::Metadata| (meta.dev(), meta.ino()) == (error.st_dev, error.st_ino);
    entries.flatten().any(|entry| entry.metadata().is_ok_and(is_it))
}

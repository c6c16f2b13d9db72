//! A file mapped into memory, read only: the only module of the model code that needs `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};

/// A read-only mapping of a whole file.
///
/// Weight files are written once and never changed in place: the store and the exporter write a new
/// file and rename it. If another program truncates a mapped file, the system kills this program
/// when it reads the missing bytes.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    bytes: Option<Mmap>,
}

impl MappedFile {
    /// Maps the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Checked before opening: opening a named pipe would wait for its other end.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let file = File::open(path)?;
        let bytes = match file.metadata()?.len() {
            0 => None,
            // SAFETY: the mapping is private to this value and read only, so nothing in this
            // program writes to it. That no other program changes the file while it is mapped is
            // the documented condition of this type.
            _ => Some(unsafe { Mmap::map(&file)? }),
        };
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the bytes of the whole file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(&[])
    }

    /// Tells the system that these bytes can leave memory; reading them loads them again.
    ///
    /// Otherwise a converted checkpoint would take memory twice, once as the pages of its file.
    /// This is a hint: a failure is ignored.
    pub fn release(&self, range: Range<usize>) {
        let Some(bytes) = &self.bytes else { return };
        if range.start < range.end && range.end <= bytes.len() {
            // SAFETY: the mapping is a read-only view of a file, without private changes that could
            // be lost: released pages are read from the same file again. The range was checked to
            // lie within the mapping.
            let _ = unsafe { bytes.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        }
    }
}

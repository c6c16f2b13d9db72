//! A file mapped into memory, read only: the only module of the model code that needs `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::network_files::unless_stale;
use memmap2::{Mmap, MmapMut, MmapOptions, UncheckedAdvice};

/// A read-only mapping of a whole file.
///
/// File systems without shared mappings, such as 9p and some of FUSE, get a private one, and those
/// without any a copy in memory.
///
/// Weight files are written once and never changed in place: the store and the exporter write a new
/// file and rename it. If another program truncates a mapped file, the system kills this program
/// when it reads the missing bytes.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    bytes: Option<Mmap>,
    /// Whether the bytes are a copy, which cannot be read from the file again.
    is_copy: bool,
}

impl MappedFile {
    /// Maps the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Checked before opening: opening a named pipe would wait for its other end.
        if !unless_stale(|| std::fs::metadata(path))?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let mut file = unless_stale(|| File::open(path))?;
        let length = file.metadata()?.len();
        let (bytes, is_copy) = match length {
            0 => (None, false),
            _ => match map(&file) {
                Ok(mapping) => (Some(mapping), false),
                // Systems disagree on the error that says that a file cannot be mapped.
                Err(_) => (Some(read(&mut file, length)?), true),
            },
        };
        Ok(Self { path: path.to_owned(), bytes, is_copy })
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
    /// This is a hint: a failure is ignored. A copy stays in memory.
    pub fn release(&self, range: Range<usize>) {
        let (Some(bytes), false) = (&self.bytes, self.is_copy) else { return };
        if range.start < range.end && range.end <= bytes.len() {
            // SAFETY: the mapping is a read-only view of a file, without private changes that could
            // be lost: released pages are read from the same file again. The range was checked to
            // lie within the mapping.
            let _ = unsafe { bytes.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        }
    }
}

/// Maps a file, privately if it cannot be shared.
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private to one `MappedFile` and read only, so nothing in this program
    // writes to it. That no other program changes the file while it is mapped is the documented
    // condition of that type.
    unsafe { Mmap::map(file).or_else(|_| MmapOptions::new().map_copy_read_only(file)) }
}

/// Reads a file into pages of memory, which are aligned as those of a mapping.
fn read(file: &mut File, length: u64) -> io::Result<Mmap> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut pages = MmapMut::map_anon(length)?;
    file.read_exact(&mut pages)?;
    pages.make_read_only()
}

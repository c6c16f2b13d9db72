//! Entries of the ingested sources (files, images in Parquet files, members of archives), and where
//! their bytes are.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::IngestRequest;
use crate::ids::Digest;
use crate::stages::{Rejection, Runner};

/// An entry of the sources: everything that its ingest depends on, which excludes its location.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Name within the source.
    pub(super) label: String,
    /// Row, for an entry of a Parquet file.
    pub(super) row: Option<u64>,
    /// Digest of its bytes; `None` when they could not be read.
    pub(super) blob: Option<Digest>,
    /// Number of its bytes.
    pub(super) bytes: u64,
    /// Reason why it was not read.
    #[serde(rename = "refusal")]
    pub(super) rejection: Option<Rejection>,
}

impl Entry {
    /// Returns an entry without bytes.
    pub(super) fn rejected(label: String, bytes: u64, rejection: Rejection) -> Self {
        Self { label, row: None, blob: None, bytes, rejection: Some(rejection) }
    }

    /// Returns the entry's name for messages.
    pub(super) fn display_name(&self) -> String {
        crate::tables::source_display_name(&self.label, self.row)
    }
}

/// Location of a blob's bytes on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A file.
    File(PathBuf),
    /// A cell of a Parquet file.
    Cell {
        /// Path of the file.
        file: PathBuf,
        /// Name of the column, when the user gave it.
        column: Option<String>,
        /// Position in the column.
        position: CellPosition,
    },
    /// A member of an archive.
    Member {
        /// Path of the archive.
        file: PathBuf,
        /// Location in the archive.
        position: MemberPosition,
    },
}

/// The content of the sources.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every entry, sorted by label, row and digest.
    pub(super) entries: Vec<Entry>,
    /// For each entry, the number of the source that it was found in.
    pub(super) source_of: Vec<usize>,
    /// Location of each blob.
    pub(super) origins: HashMap<Digest, Origin>,
    /// Number of files whose bytes had to be read.
    pub(super) read: usize,
    /// For each source that holds something else than images, by its number: the thing that it
    /// holds, and what to do.
    pub(super) mistaken: BTreeMap<usize, String>,
}

impl Scan {
    pub(super) fn push(&mut self, entry: Entry, origin: Option<Origin>) {
        if let (Some(blob), Some(origin)) = (entry.blob, origin) {
            self.origins.entry(blob).or_insert(origin);
        }
        self.entries.push(entry);
    }
}

/// A scan in progress. Its methods are in `scan`, in `parquet` and `links` for Parquet
/// files, and in `archive` for archives.
pub(super) struct Scanner<'a> {
    pub(super) request: &'a IngestRequest<'a>,
    pub(super) runner: &'a Runner<'a>,
    pub(super) scan: Scan,
}

impl Scanner<'_> {
    /// Returns the maximum size of a file to read.
    pub(super) fn max_bytes(&self) -> u64 {
        self.request.options.limits.max_bytes
    }
}

/// Position of an image within its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct CellPosition {
    /// Row, from 0.
    pub(super) row: u64,
    /// Index within the row's list of images, from 0; `None` where a row has one image.
    pub(super) item: Option<usize>,
}

/// Location of a member's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct MemberPosition {
    /// Offset in the archive; in the decompressed archive for [`Encoding::Gzip`].
    pub(super) offset: u64,
    /// Number of bytes that it takes there.
    pub(super) stored: u64,
    pub(super) encoding: Encoding,
}

/// The encoding of a member's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Encoding {
    /// The content itself.
    Stored,
    /// Compressed with deflate.
    Deflated,
    /// Part of an archive that is compressed as a whole.
    Gzip,
}

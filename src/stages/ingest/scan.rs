//! The scan of the sources: labels and digests of their entries, before anything is decoded.
//!
//! A label is an entry's name within its source: the path relative to the source folder, with `/`
//! between parts; an entry of a Parquet file also has a row. The location of the source is not part of
//! it, so a moved folder gives the same table.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::fingerprints::{Fingerprint, Fingerprints};
use super::rows;
use crate::ids::Digest;
use crate::stages::{Rejection, Runner, StageError};
use crate::store::now_ms;

/// An entry of the sources, without its location: everything that its ingest depends on.
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
    /// Returns its name for messages.
    pub(super) fn shown(&self) -> String {
        crate::tables::shown_source(&self.label, self.row)
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
        position: rows::CellPosition,
    },
}

/// The content of the sources.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every entry, sorted by label, row and digest.
    pub(super) entries: Vec<Entry>,
    /// Location of each blob.
    pub(super) origins: HashMap<Digest, Origin>,
    /// Number of files whose bytes had to be read.
    pub(super) read: usize,
}

impl Scan {
    fn push(&mut self, entry: Entry, origin: Option<Origin>) {
        if let (Some(blob), Some(origin)) = (entry.blob, origin) {
            self.origins.entry(blob).or_insert(origin);
        }
        self.entries.push(entry);
    }

    /// Sorts the entries into the order that all later steps keep.
    fn sort(&mut self) {
        self.entries.par_sort();
    }
}

/// Options of a scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanOptions<'a> {
    /// Maximum size of a file to read.
    pub(super) max_bytes: u64,
    /// Image column of Parquet sources; detected when not given.
    pub(super) column: Option<&'a str>,
}

/// A file that the walk over a source came to.
struct WalkedEntry {
    /// Path relative to the source.
    relative: PathBuf,
    path: PathBuf,
    state: Result<(Fingerprint, u64), Rejection>,
}

/// A file whose digest is known.
struct DigestedFile {
    entry: WalkedEntry,
    content: Result<FileContent, Rejection>,
}

struct FileContent {
    digest: Digest,
    is_parquet: bool,
    was_read: bool,
}

/// Scans sources: folders, image files, Parquet files.
///
/// # Errors
/// A source does not exist or cannot be opened; files below a folder are rejected instead.
pub(super) fn scan(sources: &[PathBuf], options: ScanOptions<'_>, runner: &Runner<'_>) -> Result<Scan, StageError> {
    let mut scan = Scan::default();
    for source in sources {
        scan_source(source, options, runner, &mut scan)?;
    }
    scan.sort();
    Ok(scan)
}

fn scan_source(
    source: &Path,
    options: ScanOptions<'_>,
    runner: &Runner<'_>,
    scan: &mut Scan,
) -> Result<(), StageError> {
    let refuse = |e: io::Error| StageError::Source { path: source.to_owned(), problem: plain(&e) };
    let root = source.canonicalize().map_err(refuse)?;
    let store = runner.store.root().canonicalize().ok();
    if is_within(&root, store.as_deref()) {
        let problem = "it lies within the store itself".to_owned();
        return Err(StageError::Source { path: source.to_owned(), problem });
    }
    let is_folder = root.metadata().map_err(refuse)?.is_dir();
    if is_folder {
        // A folder that cannot be listed is an error of the command, not an empty source.
        root.read_dir().map_err(refuse)?;
    }
    let began_ms = now_ms();
    let cached = Fingerprints::load(runner.store, &root)?;
    let entries = if is_folder { walk(&root, store.as_deref()) } else { vec![single_file(source, &root)] };
    runner.interrupt.check()?;
    let files = read_all(entries, &cached, options, runner)?;
    remember(&files, &cached, &root, began_ms, runner)?;
    for file in files {
        add_file(file, options, !is_folder, runner, scan)?;
    }
    Ok(())
}

/// Returns every file below a folder, without the store itself.
fn walk(root: &Path, store: Option<&Path>) -> Vec<WalkedEntry> {
    let walk = WalkDir::new(root).follow_links(true).into_iter();
    let outside_store = walk.filter_entry(|e| !(e.file_type().is_dir() && is_within(e.path(), store)));
    outside_store
        .filter_map(|item| match item {
            Ok(item) if item.file_type().is_dir() => None,
            Ok(item) => Some(stat_entry(root, item.into_path())),
            Err(e) => Some(unwalkable(root, &e)),
        })
        .collect()
}

/// Whether a folder is inside the open store, also through symbolic links.
fn is_within(folder: &Path, store: Option<&Path>) -> bool {
    store.is_some_and(|store| folder.canonicalize().is_ok_and(|folder| folder.starts_with(store)))
}

fn stat_entry(root: &Path, path: PathBuf) -> WalkedEntry {
    let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
    let state = match std::fs::metadata(&path) {
        // Opening a pipe would block forever, and a device has no end.
        Ok(meta) if !meta.is_file() => Err(Rejection::new("not_a_file", "it is a pipe, socket or device")),
        Ok(meta) => Ok(state_of(&meta)),
        Err(e) => Err(unreadable(&e)),
    };
    WalkedEntry { relative, path, state }
}

fn state_of(meta: &Metadata) -> (Fingerprint, u64) {
    (Fingerprint::of(meta), meta.len())
}

fn unwalkable(root: &Path, e: &walkdir::Error) -> WalkedEntry {
    let path = e.path().unwrap_or(root).to_owned();
    let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
    let rejection = match (e.loop_ancestor(), e.io_error()) {
        (Some(_), _) => Rejection::new("symlink_loop", "the link leads to a folder that it lies in"),
        (None, Some(io)) if io.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            Rejection::new("unreadable", "the symbolic link leads nowhere")
        }
        (None, Some(io)) => unreadable(io),
        (None, None) => Rejection::new("unreadable", "it cannot be listed"),
    };
    WalkedEntry { relative, path, state: Err(rejection) }
}

fn single_file(source: &Path, root: &Path) -> WalkedEntry {
    let name = source.file_name().map_or_else(|| PathBuf::from("file"), PathBuf::from);
    WalkedEntry { relative: name, ..stat_entry(Path::new("/"), root.to_owned()) }
}

/// Returns the digests of all files; those of unchanged files are taken from the cache.
fn read_all(
    entries: Vec<WalkedEntry>,
    cached: &Fingerprints,
    options: ScanOptions<'_>,
    runner: &Runner<'_>,
) -> Result<Vec<DigestedFile>, StageError> {
    runner.progress.begin("reading sources", entries.len() as u64);
    let files = entries
        .into_par_iter()
        .map(|entry| {
            runner.interrupt.check()?;
            let content = match &entry.state {
                Err(rejection) => Err(rejection.clone()),
                Ok((fingerprint, bytes)) => read_one(&entry, *fingerprint, *bytes, cached, options),
            };
            runner.progress.advance(1);
            Ok(DigestedFile { entry, content })
        })
        .collect();
    runner.progress.end();
    files
}

fn read_one(
    entry: &WalkedEntry,
    fingerprint: Fingerprint,
    bytes: u64,
    cached: &Fingerprints,
    options: ScanOptions<'_>,
) -> Result<FileContent, Rejection> {
    // The size limit applies to cached files too, so that a cache does not change the result.
    let is_allowed = |is_parquet| {
        if bytes <= options.max_bytes || is_parquet {
            return Ok(());
        }
        Err(Rejection::new("too_large", &format!("{bytes} bytes, the limit is {}", options.max_bytes)))
    };
    if let Some((digest, is_parquet)) = cached.get(&entry.relative, fingerprint) {
        is_allowed(is_parquet)?;
        return Ok(FileContent { digest, is_parquet, was_read: false });
    }
    let mut file = File::open(&entry.path).map_err(|e| unreadable(&e))?;
    let mut buffer = [0; 1 << 16];
    let start = read_some(&mut file, &mut buffer).map_err(|e| unreadable(&e))?;
    // The content decides the file type, not the name.
    let is_parquet = buffer[..start].starts_with(b"PAR1");
    is_allowed(is_parquet)?;
    let digest = digest_file(file, &mut buffer, start, fingerprint).map_err(|e| unreadable(&e))?;
    Ok(FileContent { digest, is_parquet, was_read: true })
}

/// Returns the digest of a file, or an error if it changes meanwhile. The first `start` bytes are in the
/// buffer already.
fn digest_file(mut file: File, buffer: &mut [u8], start: usize, before: Fingerprint) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut n = start;
    while n > 0 {
        hasher.update(&buffer[..n]);
        n = read_some(&mut file, buffer)?;
    }
    if Fingerprint::of(&file.metadata()?) != before {
        return Err(io::Error::other("it changed while it was read"));
    }
    Ok(Digest::from(hasher.finalize()))
}

/// Reads the next bytes of a file; none at its end.
fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Caches the digests of the files, unless all of them are in the cache already.
fn remember(
    files: &[DigestedFile],
    cached: &Fingerprints,
    root: &Path,
    began_ms: u64,
    runner: &Runner<'_>,
) -> Result<(), StageError> {
    let all_known = files.iter().all(|f| f.content.as_ref().is_ok_and(|c| !c.was_read));
    if all_known && files.len() == cached.len() {
        return Ok(());
    }
    let lines = files.iter().filter_map(|f| match (&f.entry.state, &f.content) {
        (Ok((fingerprint, _)), Ok(content)) => {
            Some((f.entry.relative.clone(), *fingerprint, content.digest, content.is_parquet))
        }
        _ => None,
    });
    if let Err(e) = Fingerprints::save(runner.store, root, began_ms, lines) {
        runner
            .progress
            .say(&format!("cannot cache the digests of the source files, so they will be read again next time: {e}"));
    }
    Ok(())
}

fn add_file(
    file: DigestedFile,
    options: ScanOptions<'_>,
    alone: bool,
    runner: &Runner<'_>,
    scan: &mut Scan,
) -> Result<(), StageError> {
    let label = label(&file.entry.relative);
    let bytes = file.entry.state.as_ref().map_or(0, |(_, bytes)| *bytes);
    match file.content {
        Err(rejection) => scan.push(Entry { label, row: None, blob: None, bytes, rejection: Some(rejection) }, None),
        Ok(content) => {
            scan.read += usize::from(content.was_read);
            if content.is_parquet {
                let state = file.entry.state.as_ref().ok().map(|(fingerprint, _)| *fingerprint);
                let found = rows::ParquetFile { path: &file.entry.path, label: &label, digest: content.digest, state };
                return rows::scan_rows(found, options, alone, runner, scan);
            }
            let entry = Entry { label, row: None, blob: Some(content.digest), bytes, rejection: None };
            scan.push(entry, Some(Origin::File(file.entry.path)));
        }
    }
    Ok(())
}

impl Scan {
    /// Adds an image of a Parquet file.
    pub(super) fn push_row(&mut self, entry: Entry, origin: Origin) {
        self.push(entry, Some(origin));
    }

    /// Adds an entry without bytes.
    pub(super) fn push_rejected(&mut self, entry: Entry) {
        self.push(entry, None);
    }
}

/// Returns a relative path as a label. Bytes that are not UTF-8 are written `%XX`.
fn label(relative: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::new();
    for chunk in relative.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn unreadable(e: &io::Error) -> Rejection {
    Rejection::new("unreadable", &plain(e))
}

/// Returns an I/O error without its number, which differs between systems.
fn plain(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn labels_are_text_for_any_file_name() {
        assert_eq!(label(Path::new("a/b c.png")), "a/b c.png");
        assert_eq!(label(Path::new(OsStr::from_bytes(b"a/\xff\xfeb.png"))), "a/%FF%FEb.png");
        assert_eq!(label(Path::new("ü.png")), "ü.png");
    }
}

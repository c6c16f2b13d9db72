//! Scan: what the sources hold now, as labels and digests, before anything is decoded.
//!
//! A label is an entry's name within its source: the path relative to the source folder, `/` between parts; an entry of a
//! Parquet file has its row beside it. It does not say where the source lies, so that the same folder elsewhere gives
//! the same table.

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
use crate::stages::{Runner, StageError};
use crate::store::now_ms;

/// An entry of the sources, without where it lies: what the ingest of it depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The name within the source.
    pub(super) label: String,
    /// The row, for an entry of a Parquet file.
    pub(super) row: Option<u64>,
    /// The digest of its bytes; `None` when they could not be read.
    pub(super) blob: Option<Digest>,
    /// The number of its bytes.
    pub(super) bytes: u64,
    /// Why it was not read.
    pub(super) refusal: Option<Refusal>,
}

impl Entry {
    /// Its name for people.
    pub(super) fn shown(&self) -> String {
        crate::tables::shown_source(&self.label, self.row)
    }
}

/// Why an entry was left out before its bytes were looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Refusal {
    /// The reason's code in the `rejects` table.
    pub(super) reason: String,
    /// The particulars.
    pub(super) detail: String,
}

/// Where the bytes of a blob can be had on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A file.
    File(PathBuf),
    /// A cell of a Parquet file.
    Cell {
        /// The file.
        file: PathBuf,
        /// The column, when the user named it.
        column: Option<String>,
        /// Where in it.
        place: rows::CellPosition,
    },
}

/// What the sources hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every entry, sorted by label, row and digest.
    pub(super) entries: Vec<Entry>,
    /// Where each blob can be had.
    pub(super) origins: HashMap<Digest, Origin>,
    /// Files whose bytes had to be read.
    pub(super) read: usize,
}

impl Scan {
    fn push(&mut self, entry: Entry, origin: Option<Origin>) {
        if let (Some(blob), Some(origin)) = (entry.blob, origin) {
            self.origins.entry(blob).or_insert(origin);
        }
        self.entries.push(entry);
    }

    /// Puts entries into the order that every later step keeps.
    fn sort(&mut self) {
        self.entries.par_sort();
    }
}

/// What a scan is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanOptions<'a> {
    /// Files larger than this are not read.
    pub(super) max_bytes: u64,
    /// The image column of Parquet sources; found when not given.
    pub(super) column: Option<&'a str>,
}

/// A file met on the walk.
struct WalkedEntry {
    /// Path relative to the source.
    relative: PathBuf,
    path: PathBuf,
    state: Result<(Fingerprint, u64), Refusal>,
}

/// A file whose bytes are known.
struct DigestedFile {
    met: WalkedEntry,
    content: Result<FileContent, Refusal>,
}

struct FileContent {
    digest: Digest,
    is_parquet: bool,
    was_read: bool,
}

/// Scans sources: folders, image files, Parquet files.
///
/// # Errors
/// A source that does not exist or cannot be opened; files below a folder become refusals instead.
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
    let known = Fingerprints::load(runner.store, &root)?;
    let met = if is_folder { walk(&root, store.as_deref()) } else { vec![lone_file(source, &root)] };
    runner.interrupt.check()?;
    let files = read_all(met, &known, options, runner)?;
    remember(&files, &known, &root, began_ms, runner)?;
    for file in files {
        add_file(file, options, !is_folder, runner, scan)?;
    }
    Ok(())
}

/// Every entry below a folder that is not a folder, the store itself left out.
fn walk(root: &Path, store: Option<&Path>) -> Vec<WalkedEntry> {
    let walk = WalkDir::new(root).follow_links(true).into_iter();
    let outside_store = walk.filter_entry(|e| !(e.file_type().is_dir() && is_within(e.path(), store)));
    outside_store
        .filter_map(|item| match item {
            Ok(item) if item.file_type().is_dir() => None,
            Ok(item) => Some(stat_entry(root, item.into_path())),
            Err(e) => Some(refused(root, &e)),
        })
        .collect()
}

/// Whether a folder lies within the store in use, by whatever way it was reached: what that holds is not a source of it.
fn is_within(folder: &Path, store: Option<&Path>) -> bool {
    store.is_some_and(|store| folder.canonicalize().is_ok_and(|folder| folder.starts_with(store)))
}

fn stat_entry(root: &Path, path: PathBuf) -> WalkedEntry {
    let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
    let state = match std::fs::metadata(&path) {
        // Opening a pipe would wait for ever, and a device has no end.
        Ok(meta) if !meta.is_file() => Err(refusal("not_a_file", "it is a pipe, socket or device")),
        Ok(meta) => Ok(state_of(&meta)),
        Err(e) => Err(unreadable(&e)),
    };
    WalkedEntry { relative, path, state }
}

fn state_of(meta: &Metadata) -> (Fingerprint, u64) {
    (Fingerprint::of(meta), meta.len())
}

fn refused(root: &Path, e: &walkdir::Error) -> WalkedEntry {
    let path = e.path().unwrap_or(root).to_owned();
    let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
    let refusal = match (e.loop_ancestor(), e.io_error()) {
        (Some(_), _) => refusal("symlink_loop", "the link leads to a folder that it lies in"),
        (None, Some(io)) if io.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            refusal("unreadable", "the symbolic link leads nowhere")
        }
        (None, Some(io)) => unreadable(io),
        (None, None) => refusal("unreadable", "it cannot be listed"),
    };
    WalkedEntry { relative, path, state: Err(refusal) }
}

fn lone_file(source: &Path, root: &Path) -> WalkedEntry {
    let name = source.file_name().map_or_else(|| PathBuf::from("file"), PathBuf::from);
    WalkedEntry { relative: name, ..stat_entry(Path::new("/"), root.to_owned()) }
}

/// Digests of all files, those that did not change taken from what is known.
fn read_all(
    met: Vec<WalkedEntry>,
    known: &Fingerprints,
    options: ScanOptions<'_>,
    runner: &Runner<'_>,
) -> Result<Vec<DigestedFile>, StageError> {
    runner.progress.begin("reading sources", met.len() as u64);
    let files = met
        .into_par_iter()
        .map(|met| {
            runner.interrupt.check()?;
            let content = match &met.state {
                Err(refusal) => Err(refusal.clone()),
                Ok((fingerprint, bytes)) => read_one(&met, *fingerprint, *bytes, known, options),
            };
            runner.progress.advance(1);
            Ok(DigestedFile { met, content })
        })
        .collect();
    runner.progress.end();
    files
}

fn read_one(
    met: &WalkedEntry,
    fingerprint: Fingerprint,
    bytes: u64,
    known: &Fingerprints,
    options: ScanOptions<'_>,
) -> Result<FileContent, Refusal> {
    // Whether a file is too large must not depend on whether it was read before, so that both ways end at the same digests.
    let is_allowed = |is_parquet| {
        if bytes <= options.max_bytes || is_parquet {
            return Ok(());
        }
        Err(refusal("too_large", &format!("{bytes} bytes, the limit is {}", options.max_bytes)))
    };
    if let Some((digest, is_parquet)) = known.get(&met.relative, fingerprint) {
        is_allowed(is_parquet)?;
        return Ok(FileContent { digest, is_parquet, was_read: false });
    }
    let mut file = File::open(&met.path).map_err(|e| unreadable(&e))?;
    let mut buffer = [0; 1 << 16];
    let start = read_some(&mut file, &mut buffer).map_err(|e| unreadable(&e))?;
    // What a file is, its content says and not its name.
    let is_parquet = buffer[..start].starts_with(b"PAR1");
    is_allowed(is_parquet)?;
    let digest = digest_file(file, &mut buffer, start, fingerprint).map_err(|e| unreadable(&e))?;
    Ok(FileContent { digest, is_parquet, was_read: true })
}

/// The digest of a file that does not change meanwhile. The first `start` bytes are in the buffer already.
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

/// The next bytes of a file; none at its end.
fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Notes the digests of the files read, unless nothing is new.
fn remember(
    files: &[DigestedFile],
    known: &Fingerprints,
    root: &Path,
    began_ms: u64,
    runner: &Runner<'_>,
) -> Result<(), StageError> {
    let all_known = files.iter().all(|f| f.content.as_ref().is_ok_and(|c| !c.was_read));
    if all_known && files.len() == known.len() {
        return Ok(());
    }
    let lines = files.iter().filter_map(|f| match (&f.met.state, &f.content) {
        (Ok((fingerprint, _)), Ok(content)) => {
            Some((f.met.relative.clone(), *fingerprint, content.digest, content.is_parquet))
        }
        _ => None,
    });
    if let Err(e) = Fingerprints::save(runner.store, root, began_ms, lines) {
        runner.progress.say(&format!("the files will be read again next time: {e}"));
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
    let label = label(&file.met.relative);
    let bytes = file.met.state.as_ref().map_or(0, |(_, bytes)| *bytes);
    match file.content {
        Err(refusal) => scan.push(Entry { label, row: None, blob: None, bytes, refusal: Some(refusal) }, None),
        Ok(content) => {
            scan.read += usize::from(content.was_read);
            if content.is_parquet {
                let state = file.met.state.as_ref().ok().map(|(fingerprint, _)| *fingerprint);
                let found = rows::ParquetFile { path: &file.met.path, label: &label, digest: content.digest, state };
                return rows::scan_rows(found, options, alone, runner, scan);
            }
            let entry = Entry { label, row: None, blob: Some(content.digest), bytes, refusal: None };
            scan.push(entry, Some(Origin::File(file.met.path)));
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
    pub(super) fn push_refused(&mut self, entry: Entry) {
        self.push(entry, None);
    }
}

/// A relative path as a label. Bytes that are not UTF-8 are written `%XX`.
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

pub(super) fn refusal(reason: &str, detail: &str) -> Refusal {
    Refusal { reason: reason.to_owned(), detail: detail.to_owned() }
}

fn unreadable(e: &io::Error) -> Refusal {
    refusal("unreadable", &plain(e))
}

/// An error of the system without its number, which differs between systems.
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
    fn a_label_is_text_whatever_the_name() {
        assert_eq!(label(Path::new("a/b c.png")), "a/b c.png");
        assert_eq!(label(Path::new(OsStr::from_bytes(b"a/\xff\xfeb.png"))), "a/%FF%FEb.png");
        assert_eq!(label(Path::new("ü.png")), "ü.png");
    }
}

//! The scan of the sources: labels and digests of their entries, before anything is decoded.
//!
//! A label is an entry's name within its source: the path relative to the source folder, with `/`
//! between parts; an entry of a Parquet file also has a row. The location of the source is not part
//! of it, so a moved folder gives the same table.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::entry::{Entry, Origin, Scan, ScanOptions};
use super::fingerprints::{Fingerprint, Fingerprints};
use super::parquet;
use super::walk::{WalkedEntry, error_text, is_within, reject_unreadable, single_file, walk};
use crate::ids::Digest;
use crate::stages::{Rejection, Runner, StageError};
use crate::store::{now_ms, to_ms};

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
    let failed = |e: io::Error| StageError::Source { path: source.to_owned(), problem: error_text(&e) };
    let root = source.canonicalize().map_err(failed)?;
    let store = runner.store.root().canonicalize().ok();
    if is_within(&root, store.as_deref()) {
        let problem = "it is inside the store".to_owned();
        return Err(StageError::Source { path: source.to_owned(), problem });
    }
    let is_folder = root.metadata().map_err(failed)?.is_dir();
    if is_folder {
        // An unreadable folder is an error, not an empty source.
        root.read_dir().map_err(failed)?;
    }
    // The clocks of this machine and of the file system may differ: the earlier one is cautious.
    let file_system_ms = runner.store.file_system_time().map_or(0, to_ms);
    let began_ms = now_ms().min(file_system_ms);
    let cached = Fingerprints::load(runner.store, &root)?;
    let entries = if is_folder { walk(&root, store.as_deref()) } else { vec![single_file(source, &root)] };
    runner.interrupt.check()?;
    let files = digest_all(entries, &cached, options, runner)?;
    cache_digests(&files, &cached, &root, began_ms, runner)?;
    for file in files {
        add_file(file, options, !is_folder, runner, scan)?;
    }
    Ok(())
}

/// Returns the digests of all files; those of unchanged files are taken from the cache.
fn digest_all(
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
                Ok((fingerprint, bytes)) => digest_one(&entry, *fingerprint, *bytes, cached, options),
            };
            runner.progress.advance(1);
            Ok(DigestedFile { entry, content })
        })
        .collect();
    runner.progress.end();
    files
}

fn digest_one(
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
        Err(Rejection::new("too_large", format!("{bytes} bytes, the limit is {}", options.max_bytes)))
    };
    if let Some((digest, is_parquet)) = cached.get(&entry.relative, fingerprint) {
        is_allowed(is_parquet)?;
        return Ok(FileContent { digest, is_parquet, was_read: false });
    }
    let mut file = File::open(&entry.path).map_err(|e| reject_unreadable(&e))?;
    let mut buffer = [0; 1 << 16];
    let start = read_some(&mut file, &mut buffer).map_err(|e| reject_unreadable(&e))?;
    // The content decides the file type, not the name.
    let is_parquet = buffer[..start].starts_with(b"PAR1");
    is_allowed(is_parquet)?;
    let digest = digest_file(file, &mut buffer, start, fingerprint).map_err(|e| reject_unreadable(&e))?;
    Ok(FileContent { digest, is_parquet, was_read: true })
}

/// Returns the digest of a file, or an error if the file changes while it is read. The first
/// `start` bytes are in the buffer already.
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

/// Reads the next bytes of a file; returns 0 at its end.
fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Caches the digests of the files, unless all of them are in the cache already.
fn cache_digests(
    files: &[DigestedFile],
    cached: &Fingerprints,
    root: &Path,
    began_ms: u64,
    runner: &Runner<'_>,
) -> Result<(), StageError> {
    let all_cached = files.iter().all(|f| f.content.as_ref().is_ok_and(|c| !c.was_read));
    if all_cached && files.len() == cached.len() {
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
    named_by_user: bool,
    runner: &Runner<'_>,
    scan: &mut Scan,
) -> Result<(), StageError> {
    let label = file.entry.label();
    let bytes = file.entry.state.as_ref().map_or(0, |(_, bytes)| *bytes);
    match file.content {
        Err(rejection) => scan.push(Entry { label, row: None, blob: None, bytes, rejection: Some(rejection) }, None),
        Ok(content) => {
            scan.read += usize::from(content.was_read);
            if content.is_parquet {
                let state = file.entry.state.as_ref().ok().map(|(fingerprint, _)| *fingerprint);
                let parquet_file =
                    parquet::ParquetFile { path: &file.entry.path, label: &label, digest: content.digest, state };
                return parquet::scan_rows(parquet_file, options, named_by_user, runner, scan);
            }
            let entry = Entry { label, row: None, blob: Some(content.digest), bytes, rejection: None };
            scan.push(entry, Some(Origin::File(file.entry.path)));
        }
    }
    Ok(())
}

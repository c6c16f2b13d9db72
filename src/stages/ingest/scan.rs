//! The scan of the sources: labels and digests of their entries, before anything is decoded.
//!
//! A label is an entry's name within its source: the path relative to the source folder, with `/`
//! between parts; an entry of a Parquet file also has a row, and a member of an archive has its
//! name there after that of the archive. The location of the source is not part of it, so a moved
//! folder gives the same table.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rayon::prelude::*;

use super::IngestRequest;
use super::container::ContainerFile;
use super::entry::{Entry, Origin, Scan, Scanner};
use super::file_kind::FileKind;
use super::fingerprints::{Fingerprint, Fingerprints};
use super::walk::{WalkedEntry, is_within, reject_unreadable, single_file, walk};
use crate::ids::Digest;
use crate::input_kind::describe_instead_of_images;
use crate::stages::rejection::error_text;
use crate::stages::{Rejection, Result, Runner, StageError};
use crate::store::{now_ms, to_ms};

/// A file whose digest is known.
pub(super) struct DigestedFile {
    pub(super) entry: WalkedEntry,
    pub(super) content: Result<FileContent, Rejection>,
}

/// The digest and the kind of a file.
pub(super) struct FileContent {
    pub(super) digest: Digest,
    kind: FileKind,
    /// Whether the bytes had to be read.
    pub(super) was_read: bool,
}

/// Scans the sources of a request: folders, image files, Parquet files, archives.
///
/// # Errors
/// A source does not exist or cannot be opened; files below a folder are rejected instead, and a
/// source that holds something else than images is reported in the scan.
pub(super) fn scan(request: &IngestRequest<'_>, runner: &Runner<'_>) -> Result<Scan> {
    let mut scanner = Scanner { request, runner, scan: Scan::default() };
    let mut source_of = Vec::new();
    for (number, source) in request.sources.iter().enumerate() {
        scanner.scan_source(number, source)?;
        source_of.resize(scanner.scan.entries.len(), number);
    }
    let mut scan = scanner.scan;
    // All later steps keep this order.
    let mut entries: Vec<(Entry, usize)> = scan.entries.into_iter().zip(source_of).collect();
    entries.par_sort();
    (scan.entries, scan.source_of) = entries.into_iter().unzip();
    Ok(scan)
}

impl Scanner<'_> {
    fn scan_source(&mut self, number: usize, source: &Path) -> Result<()> {
        let store = self.runner.store;
        let failed = |e: io::Error| StageError::source(source, error_text(&e));
        if let Some(problem) = describe_instead_of_images(source) {
            if !source.exists() {
                return Err(StageError::source(source, problem));
            }
            self.scan.mistaken.insert(number, problem);
            return Ok(());
        }
        let root = source.canonicalize().map_err(failed)?;
        let store_root = store.root().canonicalize().ok();
        if is_within(&root, store_root.as_deref()) {
            return Err(StageError::source(source, "it is inside the store"));
        }
        let is_folder = root.metadata().map_err(failed)?.is_dir();
        if is_folder {
            // An unreadable folder is an error, not an empty source.
            root.read_dir().map_err(failed)?;
        }
        let began_ms = self.cautious_now_ms();
        let cached = Fingerprints::load(store, &root)?;
        let entries = if is_folder { walk(&root, store_root.as_deref()) } else { vec![single_file(source, &root)] };
        self.runner.interrupt.check()?;
        let files = self.digest_all(entries, &cached)?;
        self.cache_digests(&files, &cached, &root, began_ms);
        files.into_iter().try_for_each(|file| self.add_file(file, (!is_folder).then_some(source)))
    }

    /// Returns the time of now, by which a fingerprint counts as recent. This machine and the file
    /// system may have different clocks: the earlier one is cautious.
    pub(super) fn cautious_now_ms(&self) -> u64 {
        now_ms().min(self.runner.store.file_system_time().map_or(0, to_ms))
    }

    /// Returns the digests of all files; those of unchanged files are taken from the cache.
    pub(super) fn digest_all(&self, entries: Vec<WalkedEntry>, cached: &Fingerprints) -> Result<Vec<DigestedFile>> {
        self.runner.progress.begin("reading sources", entries.len() as u64);
        let digest = |entry: WalkedEntry| {
            self.runner.interrupt.check()?;
            let content = match &entry.state {
                Err(rejection) => Err(rejection.clone()),
                Ok((fingerprint, bytes)) => self.digest_one(&entry, *fingerprint, *bytes, cached),
            };
            self.runner.progress.advance(1);
            Ok(DigestedFile { entry, content })
        };
        let files = entries.into_par_iter().map(digest).collect();
        self.runner.progress.end();
        files
    }

    fn digest_one(
        &self,
        entry: &WalkedEntry,
        fingerprint: Fingerprint,
        bytes: u64,
        cached: &Fingerprints,
    ) -> Result<FileContent, Rejection> {
        let limit = self.max_bytes();
        // The size limit applies to cached files too, so that a cache does not change the result.
        let check_size = |kind| match bytes <= limit || kind != FileKind::Single {
            true => Ok(()),
            false => Err(Rejection::new("too_large", format!("{bytes} bytes, the limit is {limit}"))),
        };
        if let Some((digest, kind)) = cached.get(&entry.relative, fingerprint) {
            check_size(kind)?;
            return Ok(FileContent { digest, kind, was_read: false });
        }
        let mut file = File::open(&entry.path).map_err(|e| reject_unreadable(&e))?;
        let mut buffer = [0; 1 << 16];
        let start = read_some(&mut file, &mut buffer).map_err(|e| reject_unreadable(&e))?;
        // The content decides the file type, not the name.
        let kind = FileKind::of(&buffer[..start]);
        check_size(kind)?;
        let digest = digest_file(file, &mut buffer, start, fingerprint).map_err(|e| reject_unreadable(&e))?;
        Ok(FileContent { digest, kind, was_read: true })
    }

    /// Caches the digests of the files, unless all of them are in the cache already.
    pub(super) fn cache_digests(&self, files: &[DigestedFile], cached: &Fingerprints, root: &Path, began_ms: u64) {
        let all_cached = files.iter().all(|f| f.content.as_ref().is_ok_and(|c| !c.was_read));
        if all_cached && files.len() == cached.len() {
            return;
        }
        let lines = files.iter().filter_map(|file| {
            let (fingerprint, _) = file.entry.state.as_ref().ok()?;
            let content = file.content.as_ref().ok()?;
            Some((file.entry.relative.clone(), *fingerprint, content.digest, content.kind))
        });
        if let Err(e) = Fingerprints::save(self.runner.store, root, began_ms, lines) {
            let problem = "cannot cache the digests of the source files, so they will be read again next time";
            self.runner.progress.say(&format!("{problem}: {e}"));
        }
    }

    /// Adds the entries of a file. `named`: its path as the user gave it, where the user named the
    /// file itself and not only a folder that contains it.
    fn add_file(&mut self, file: DigestedFile, named: Option<&Path>) -> Result<()> {
        let label = file.entry.label();
        let (state, bytes) = file.entry.state.ok().unzip();
        let bytes = bytes.unwrap_or(0);
        match file.content {
            Err(rejection) => self.scan.push(Entry::rejected(label, bytes, rejection), None),
            Ok(FileContent { digest, kind, was_read }) => {
                self.scan.read += usize::from(was_read);
                let path = file.entry.path.as_path();
                // A linked table's paths are relative to the link, where the user sees it.
                let folder = named.unwrap_or(path).parent().unwrap_or(Path::new(""));
                let container = ContainerFile { path, folder, label: &label, digest, state };
                match kind {
                    FileKind::Parquet => return self.scan_rows(container, named.is_some()),
                    FileKind::Zip | FileKind::Tar | FileKind::TarGz => return self.scan_members(container, kind),
                    FileKind::Single => {}
                }
                let entry = Entry { label, row: None, blob: Some(digest), bytes, rejection: None };
                self.scan.push(entry, Some(Origin::File(file.entry.path)));
            }
        }
        Ok(())
    }
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

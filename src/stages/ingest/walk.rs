//! The walk over a source: its files and their fingerprints, before any content is read.

use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::fingerprints::Fingerprint;
use crate::stages::Rejection;
use crate::stages::rejection::error_text;

/// A file that the walk over a source visited.
pub(super) struct WalkedEntry {
    /// Path relative to the source.
    pub(super) relative: PathBuf,
    /// Path on this machine.
    pub(super) path: PathBuf,
    /// Fingerprint and number of bytes, or why the file cannot be read.
    pub(super) state: Result<(Fingerprint, u64), Rejection>,
}

impl WalkedEntry {
    /// Returns the path relative to the source as a label. Bytes that are not UTF-8 become `%XX`.
    pub(super) fn label(&self) -> String {
        label(&self.relative)
    }
}

/// Returns every file below a folder, without the store itself.
pub(super) fn walk(root: &Path, store: Option<&Path>) -> Vec<WalkedEntry> {
    let walk = WalkDir::new(root).follow_links(true).into_iter();
    let outside_store = walk.filter_entry(|e| !(e.file_type().is_dir() && is_within(e.path(), store)));
    outside_store
        .filter_map(|item| match item {
            Ok(item) if item.file_type().is_dir() => None,
            Ok(item) => Some(stat_entry(root, item.into_path())),
            Err(e) => Some(entry_of_walk_error(root, &e)),
        })
        .collect()
}

/// Whether a folder is inside the open store, also through symbolic links.
pub(super) fn is_within(folder: &Path, store: Option<&Path>) -> bool {
    store.is_some_and(|store| folder.canonicalize().is_ok_and(|folder| folder.starts_with(store)))
}

/// Returns the entry at a path, or why it cannot be read.
fn stat_entry(root: &Path, path: PathBuf) -> WalkedEntry {
    let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
    WalkedEntry { relative, state: stat_file(&path), path }
}

/// Returns the fingerprint and the number of bytes of a file, or why it cannot be read.
pub(super) fn stat_file(path: &Path) -> Result<(Fingerprint, u64), Rejection> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(Rejection::new("not_a_file", "it is a folder")),
        // Opening a pipe would block forever, and a device has no end.
        Ok(meta) if !meta.is_file() => Err(Rejection::new("not_a_file", "it is a pipe, socket or device")),
        Ok(meta) => Ok((Fingerprint::of(&meta), meta.len())),
        Err(e) => Err(reject_unreadable(&e)),
    }
}

/// Returns an entry for the path at which the walk failed.
fn entry_of_walk_error(root: &Path, e: &walkdir::Error) -> WalkedEntry {
    let path = e.path().unwrap_or(root).to_owned();
    let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
    let rejection = match (e.loop_ancestor(), e.io_error()) {
        (Some(_), _) => Rejection::new("symlink_loop", "the link leads to a folder that contains it"),
        (None, Some(io)) if io.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            Rejection::new("unreadable", "the symbolic link leads nowhere")
        }
        (None, Some(io)) => reject_unreadable(io),
        (None, None) => Rejection::new("unreadable", "it cannot be listed"),
    };
    WalkedEntry { relative, path, state: Err(rejection) }
}

/// Returns the entry of a file that the user named directly.
pub(super) fn single_file(source: &Path, root: &Path) -> WalkedEntry {
    let name = source.file_name().map_or_else(|| PathBuf::from("file"), PathBuf::from);
    WalkedEntry { relative: name, ..stat_entry(Path::new("/"), root.to_owned()) }
}

/// Returns a path as text. Bytes that are not UTF-8 become `%XX`.
pub(super) fn label(relative: &Path) -> String {
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

/// Returns the rejection of a file that cannot be read.
pub(super) fn reject_unreadable(e: &io::Error) -> Rejection {
    Rejection::new("unreadable", error_text(e))
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

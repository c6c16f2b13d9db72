//! Archives of images: zip, tar, and tar compressed with gzip. Nothing is unpacked to disk.
//!
//! A member is an entry like a file: its label is the archive's, a `/` and the member's name, which
//! is only a name, even if it begins with `/` or `../`. Members are read up to the limit of files;
//! archives within archives are not read.

mod stream;
pub(super) mod tar;
mod zip;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::stream::GzInput;
pub(super) use self::stream::read_streamed;
use self::tar::{Input, MemberKind, TarError, TarReader};
use super::container::ContainerFile;
use super::entry::{Encoding, Entry, MemberPosition, Origin, Scanner};
use super::file_kind::FileKind;
use super::walk::{label, reject_unreadable};
use crate::ids::Digest;
use crate::stages::{Interrupt, Rejection, Result};

/// Version of the cache entry of an archive; raise it when the reader may return other members.
const CACHE_VERSION: u32 = 2;

/// A member of an archive.
#[derive(Debug, Serialize, Deserialize)]
struct Member {
    name: String,
    bytes: u64,
    content: Result<(Digest, MemberPosition), Rejection>,
}

/// The members of an archive, and the reason why the rest could not be read.
#[derive(Debug, Serialize, Deserialize)]
struct ArchiveContents {
    members: Vec<Member>,
    failure: Option<Rejection>,
}

impl Scanner<'_> {
    /// Adds the members of an archive.
    pub(super) fn scan_members(&mut self, file: ContainerFile<'_>, kind: FileKind) -> Result<()> {
        let ContainerFile { path, label, .. } = file;
        let key = self.members_key(file.digest);
        let contents = match self.read_contents(key)? {
            Some(contents) => contents,
            None => {
                let contents = self.read_archive(path, kind)?;
                file.check_unchanged()?;
                // An archive that could not be opened may be readable next time.
                if contents.failure.as_ref().is_none_or(|failure| failure.reason != "unreadable") {
                    self.cache_contents(key, &contents);
                }
                contents
            }
        };
        for Member { name, bytes, content } in contents.members {
            let label = format!("{label}/{name}");
            match content {
                Ok((digest, position)) => {
                    let entry = Entry { label, row: None, blob: Some(digest), bytes, rejection: None };
                    self.scan.push(entry, Some(Origin::Member { file: path.to_owned(), position }));
                }
                Err(rejection) => self.scan.push(Entry::rejected(label, bytes, rejection), None),
            }
        }
        if let Some(failure) = contents.failure {
            let bytes = file.state.map_or(0, |state| state.size());
            self.scan.push(Entry::rejected(label.to_owned(), bytes, failure), None);
        }
        Ok(())
    }

    /// Returns the cache key of an archive's members, from its bytes and the limit.
    fn members_key(&self, archive: Digest) -> Digest {
        let (limit, version) = (self.max_bytes().to_le_bytes(), CACHE_VERSION.to_le_bytes());
        Digest::derive("visplay 2026-11 members of an archive", &[archive.as_bytes(), &limit, &version])
    }

    fn read_archive(&self, path: &Path, kind: FileKind) -> Result<ArchiveContents> {
        let mut sink = MemberSink { members: Vec::new(), limit: self.max_bytes(), interrupt: self.runner.interrupt };
        self.runner.progress.begin("reading an archive", 1);
        let failure = match File::open(path) {
            Err(e) => Some(reject_unreadable(&e)),
            Ok(file) => match kind {
                FileKind::Zip => zip::read_members(path, file, &mut sink)?,
                FileKind::TarGz => {
                    let length = file.metadata().map_or(0, |meta| meta.len());
                    let input = GzInput::new(file, length, self.max_bytes());
                    read_tar(input, Encoding::Gzip, &mut sink)?
                }
                _ => read_tar(BufReader::new(file), Encoding::Stored, &mut sink)?,
            },
        };
        self.runner.progress.advance(1);
        self.runner.progress.end();
        let empty = || Rejection::new("empty", "the archive has no files");
        let failure = failure.or_else(|| sink.members.is_empty().then(empty));
        Ok(ArchiveContents { members: sink.members, failure })
    }
}

/// Passes the members of a tar archive to `sink` and returns the reason why the rest could not be
/// read, if any.
fn read_tar(input: impl Input, encoding: Encoding, sink: &mut MemberSink<'_>) -> Result<Option<Rejection>> {
    let mut reader = TarReader::new(input);
    loop {
        sink.check_interrupt()?;
        let member = match reader.next_member() {
            Ok(Some(member)) => member,
            Ok(None) => return Ok(None),
            Err(e) => return Ok(Some(tar_rejection(&e))),
        };
        let (name, size) = (member.name.as_slice(), member.size);
        let unread = match member.kind {
            MemberKind::Folder => continue,
            MemberKind::Link => Err(Rejection::new("not_a_file", "it is a link in an archive")),
            MemberKind::Special => Err(Rejection::new("not_a_file", "it is a device, a pipe or of an unknown kind")),
            MemberKind::Sparse => {
                Err(Rejection::new("unsupported", "sparse members are not supported; extract the archive"))
            }
            MemberKind::File => sink.check_size(size),
        };
        match unread {
            Err(rejection) => sink.reject(name, size, rejection),
            Ok(()) => match reader.read_content(&member) {
                Ok(bytes) => {
                    sink.accept(name, MemberPosition { offset: member.offset, stored: size, encoding }, &bytes)
                }
                Err(e) => {
                    sink.reject(name, size, tar_rejection(&e));
                    return Ok(None);
                }
            },
        }
    }
}

fn tar_rejection(e: &TarError) -> Rejection {
    match e {
        TarError::Truncated => Rejection::new("truncated", "the archive ends too early"),
        TarError::Corrupt(problem) => Rejection::new("corrupt", format!("the archive is damaged: {problem}")),
        TarError::Io(e) if e.kind() == io::ErrorKind::FileTooLarge => Rejection::new("bomb", e.to_string()),
        TarError::Io(e) => Rejection::new("corrupt", format!("the archive cannot be read: {e}")),
    }
}

/// Collects the members of an archive.
struct MemberSink<'a> {
    members: Vec<Member>,
    /// Maximum size of a member.
    limit: u64,
    interrupt: &'a Interrupt,
}

impl MemberSink<'_> {
    fn check_interrupt(&self) -> Result<()> {
        self.interrupt.check()
    }

    /// Returns the rejection of a member that is larger than a file may be.
    fn check_size(&self, bytes: u64) -> Result<(), Rejection> {
        match bytes <= self.limit {
            true => Ok(()),
            false => Err(Rejection::new("too_large", format!("{bytes} bytes, the limit is {}", self.limit))),
        }
    }

    fn accept(&mut self, name: &[u8], position: MemberPosition, bytes: &[u8]) {
        let content = match FileKind::of(bytes) {
            FileKind::Single => Ok((Digest::of(bytes), position)),
            _ => Err(Rejection::new("nested_archive", "it is an archive or a Parquet file in an archive; extract it")),
        };
        self.members.push(Member { name: member_name(name), bytes: bytes.len() as u64, content });
    }

    fn reject(&mut self, name: &[u8], bytes: u64, rejection: Rejection) {
        self.members.push(Member { name: member_name(name), bytes, content: Err(rejection) });
    }
}

/// Returns a member's name as text, without `./` at its start, which tar writes for a folder.
fn member_name(name: &[u8]) -> String {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    label(Path::new(OsStr::from_bytes(name)))
}

/// Reads a member that is not part of a stream; `None` if it is larger than `limit` or unreadable.
pub(super) fn read_member(path: &Path, position: MemberPosition, limit: u64) -> Option<Vec<u8>> {
    zip::read_content(path, position, limit).ok().filter(|bytes| bytes.len() as u64 <= limit)
}

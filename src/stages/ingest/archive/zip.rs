//! Reader of the members of zip archives.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::Crc;
use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use super::super::entry::{Encoding, MemberPosition};
use super::MemberSink;
use crate::panics;
use crate::stages::{Rejection, Result};

/// Passes the members of an archive to `sink` and returns the reason why the rest could not be
/// read, if any.
pub(super) fn read_members(path: &Path, file: File, sink: &mut MemberSink<'_>) -> Result<Option<Rejection>> {
    let length = file.metadata().map_or(0, |meta| meta.len());
    let opened = panics::guarded(|| ZipArchive::new(BufReader::new(file)).map_err(|e| e.to_string()));
    let mut archive = match opened.and_then(|archive| archive) {
        Ok(archive) => archive,
        Err(problem) => return Ok(Some(Rejection::new("corrupt", format!("damaged or not a zip archive: {problem}")))),
    };
    let stored: u64 = (0..archive.len())
        .filter_map(|i| archive.by_index_data(i).ok())
        .fold(0, |sum, member| sum.saturating_add(member.compressed_size()));
    if stored > length {
        let problem = format!("its members take {stored} bytes of an archive of {length}: they overlap");
        return Ok(Some(Rejection::new("bomb", problem)));
    }
    for i in 0..archive.len() {
        sink.check_interrupt()?;
        let opened = panics::guarded(|| ZipMember::open(&mut archive, i));
        let member = match opened.and_then(|member| member) {
            Ok(member) => member,
            Err(problem) => {
                let name = archive.name_for_index(i).and_then(Result::ok).map(|name| name.as_bytes().to_vec());
                let name = name.unwrap_or_else(|| format!("member {i}").into_bytes());
                sink.reject(&name, 0, Rejection::new("corrupt", problem));
                continue;
            }
        };
        let (name, size) = (member.name.as_slice(), member.size);
        match member.encoding() {
            None => {}
            Some(Err(rejection)) => sink.reject(name, size, rejection),
            Some(Ok(encoding)) => {
                let position = MemberPosition { offset: member.offset, stored: member.stored, encoding };
                match sink.check_size(size) {
                    Err(rejection) => sink.reject(name, size, rejection),
                    Ok(()) => match member.read(path, position) {
                        Ok(bytes) => sink.accept(name, position, &bytes),
                        Err(rejection) => sink.reject(name, size, rejection),
                    },
                }
            }
        }
    }
    let has_repeated_names = archive.has_duplicate_names();
    let problem = "several members have the same name, and only the last of them was read";
    Ok(has_repeated_names.then(|| Rejection::new("repeated_names", problem)))
}

/// A member of an archive.
struct ZipMember {
    name: Vec<u8>,
    size: u64,
    offset: u64,
    stored: u64,
    crc: u32,
    method: CompressionMethod,
    is_encrypted: bool,
    is_folder: bool,
    is_link: bool,
}

impl ZipMember {
    fn open(archive: &mut ZipArchive<BufReader<File>>, i: usize) -> Result<Self, String> {
        let member = archive.by_index_raw(i).map_err(|e| e.to_string())?;
        Ok(Self {
            name: member.name_raw().to_vec(),
            size: member.size(),
            offset: member.data_start().ok_or("its content has no offset")?,
            stored: member.compressed_size(),
            crc: member.crc32(),
            method: member.compression(),
            is_encrypted: member.encrypted(),
            is_folder: member.is_dir(),
            is_link: member.is_symlink(),
        })
    }

    /// Returns the encoding, or why the member is not read; `None` for a folder.
    fn encoding(&self) -> Option<Result<Encoding, Rejection>> {
        if self.is_folder {
            return None;
        }
        if self.is_link {
            return Some(Err(Rejection::new("not_a_file", "it is a symbolic link in an archive")));
        }
        if self.is_encrypted {
            return Some(Err(Rejection::new("unreadable", "it is encrypted; extract the archive with its password")));
        }
        Some(match self.method {
            CompressionMethod::STORE => Ok(Encoding::Stored),
            CompressionMethod::DEFLATE => Ok(Encoding::Deflated),
            other => {
                let problem = format!("its compression method {other} is not supported; extract the archive");
                Err(Rejection::new("unsupported", problem))
            }
        })
    }

    /// Reads the content, whose size and checksum must be those of the directory.
    fn read(&self, path: &Path, position: MemberPosition) -> Result<Vec<u8>, Rejection> {
        let corrupt = |problem: String| Rejection::new("corrupt", problem);
        let bytes = read_content(path, position, self.size).map_err(|e| corrupt(e.to_string()))?;
        if bytes.len() as u64 != self.size {
            return Err(corrupt(format!("its content is not of the {} bytes that the archive declares", self.size)));
        }
        let mut crc = Crc::new();
        crc.update(&bytes);
        if crc.sum() == self.crc { Ok(bytes) } else { Err(corrupt("its checksum is wrong".to_owned())) }
    }
}

/// Reads at most one byte more than `limit` of a content.
pub(super) fn read_content(path: &Path, position: MemberPosition, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(position.offset))?;
    let stored = file.take(position.stored);
    let mut bytes = Vec::new();
    match position.encoding {
        Encoding::Deflated => DeflateDecoder::new(stored).take(limit.saturating_add(1)).read_to_end(&mut bytes)?,
        _ => stored.take(limit.saturating_add(1)).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

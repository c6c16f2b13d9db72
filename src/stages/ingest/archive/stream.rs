//! Archives that are compressed as a whole, which can be read only from their start.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::super::entry::MemberPosition;
use super::tar::Input;
use crate::ids::Digest;

/// Maximum ratio of decompressed to compressed bytes; images hardly compress at all.
const MAX_RATIO: u64 = 200;

/// A decompressed gzip file, of bounded size.
pub(super) struct GzInput {
    decoder: MultiGzDecoder<BufReader<File>>,
    bytes_left: u64,
}

impl GzInput {
    /// Reads `file` of `length` bytes. It may always decompress to one member of the maximum size.
    pub(super) fn new(file: File, length: u64, max_bytes: u64) -> Self {
        let bytes_left = length.saturating_mul(MAX_RATIO).saturating_add(max_bytes);
        Self { decoder: MultiGzDecoder::new(BufReader::new(file)), bytes_left }
    }
}

impl Read for GzInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.decoder.read(buffer)?;
        self.bytes_left = self.bytes_left.checked_sub(n as u64).ok_or_else(|| {
            let problem = format!("the archive decompresses to more than {MAX_RATIO} times its size");
            io::Error::new(io::ErrorKind::FileTooLarge, problem)
        })?;
        Ok(n)
    }
}

impl Input for GzInput {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        match io::copy(&mut self.take(n), &mut io::sink())? == n {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Reads members of a compressed archive in one pass. Members that the archive no longer has are
/// left out.
pub(in crate::stages::ingest) fn read_streamed(
    path: &Path,
    mut members: Vec<(Digest, MemberPosition)>,
    max_bytes: u64,
) -> HashMap<Digest, Vec<u8>> {
    members.sort_by_key(|(_, position)| position.offset);
    let mut contents = HashMap::new();
    let Ok(file) = File::open(path) else { return contents };
    let length = file.metadata().map_or(0, |meta| meta.len());
    let mut input = GzInput::new(file, length, max_bytes);
    let mut at = 0;
    for (blob, MemberPosition { offset, stored, .. }) in members {
        let mut bytes = Vec::new();
        let read = input
            .skip(offset.saturating_sub(at))
            .and_then(|()| (&mut input).take(stored.min(max_bytes)).read_to_end(&mut bytes));
        if read.is_err() {
            break;
        }
        at = offset + bytes.len() as u64;
        contents.insert(blob, bytes);
    }
    contents
}

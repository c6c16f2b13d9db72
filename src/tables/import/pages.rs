//! Check of the page headers of the image column before the `parquet` crate reads the pages.
//!
//! A page is held in memory as a whole, so its decompressed size bounds memory. Version 60 of the
//! crate allocates the size that a page header declares, up to 2 GiB, and decompresses gzip, brotli
//! and LZ4 pages to their end, however large, before comparing with that size.

use std::io::{self, Read};

use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;

use crate::tables::thrift::{CompactReader, kind};

/// Field ids of Parquet's `PageHeader`.
const UNCOMPRESSED_SIZE: i64 = 2;
const COMPRESSED_SIZE: i64 = 3;
const DATA_HEADER_V2: i64 = 8;
/// Field ids of Parquet's `DataPageHeaderV2`.
const DEFINITION_LEVELS: i64 = 5;
const REPETITION_LEVELS: i64 = 6;

/// Sizes of a page according to its header, in bytes.
#[derive(Default)]
struct PageHeader {
    /// Offset of the content in the file.
    content: u64,
    compressed: u64,
    uncompressed: u64,
    /// Size of the levels, which precede the values uncompressed in pages of version 2.
    levels: u64,
}

/// The reason why the pages of a column are not read.
pub(super) enum PageProblem {
    /// The pages contradict the format.
    Damaged(String),
    /// A page decompresses to more than the limit.
    TooLarge,
}

impl From<String> for PageProblem {
    fn from(problem: String) -> Self {
        Self::Damaged(problem)
    }
}

/// Checks the pages of some column chunks: none may decompress to more than `limit` bytes.
pub(super) fn check<'a>(
    source: &impl ChunkReader,
    chunks: impl Iterator<Item = &'a ColumnChunkMetaData>,
    limit: usize,
) -> Result<(), PageProblem> {
    for chunk in chunks {
        let dictionary = chunk.dictionary_page_offset().filter(|offset| *offset > 0);
        let start = dictionary.map_or(chunk.data_page_offset(), |offset| offset.min(chunk.data_page_offset()));
        let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(chunk.compressed_size())) else {
            return Err("a column with a negative place or length".to_owned().into());
        };
        let end = start.saturating_add(length);
        if end > source.len() {
            return Err("a column that goes on beyond the end of the file".to_owned().into());
        }
        let mut position = start;
        while position < end {
            let damaged = |e: String| PageProblem::Damaged(format!("the page at byte {position}: {e}"));
            let page = page_at(source, position, end).map_err(damaged)?;
            if page.uncompressed > limit as u64
                || exceeds(source, &page, chunk.compression(), limit as u64).map_err(damaged)?
            {
                return Err(PageProblem::TooLarge);
            }
            position = page.content + page.compressed;
        }
    }
    Ok(())
}

/// Reads the header of the page at `position`; the page must end before `end`.
fn page_at(source: &impl ChunkReader, position: u64, end: u64) -> Result<PageHeader, String> {
    let input = source.get_read(position).map_err(|e| e.to_string())?;
    let mut header = CompactReader::new(input, end - position);
    let page = read_header(&mut header).map_err(|e| e.to_string())?;
    let page = PageHeader { content: position + header.bytes_read, ..page };
    if page.content.saturating_add(page.compressed) > end || page.levels > page.compressed {
        return Err("it goes on beyond its end".to_owned());
    }
    Ok(page)
}

fn read_header<R: Read>(header: &mut CompactReader<R>) -> io::Result<PageHeader> {
    let mut page = PageHeader::default();
    let (mut sizes, mut last) = (0, 0);
    while let Some(field) = header.field(&mut last)? {
        match (field.id, field.kind) {
            (UNCOMPRESSED_SIZE, kind::I32) => (page.uncompressed, sizes) = (size(header)?, sizes | 1),
            (COMPRESSED_SIZE, kind::I32) => (page.compressed, sizes) = (size(header)?, sizes | 2),
            (DATA_HEADER_V2, kind::STRUCT) => page.levels = read_levels(header)?,
            _ => header.skip(field.kind)?,
        }
    }
    if sizes == 3 { Ok(page) } else { Err(invalid("its header has no sizes")) }
}

fn read_levels<R: Read>(header: &mut CompactReader<R>) -> io::Result<u64> {
    let (mut levels, mut last) = (0, 0);
    while let Some(field) = header.field(&mut last)? {
        match (field.id, field.kind) {
            (DEFINITION_LEVELS | REPETITION_LEVELS, kind::I32) => levels += size(header)?,
            _ => header.skip(field.kind)?,
        }
    }
    Ok(levels)
}

fn size<R: Read>(header: &mut CompactReader<R>) -> io::Result<u64> {
    u32::try_from(header.integer()?).map(u64::from).map_err(|_| invalid("its header has an impossible size"))
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// Whether a page decompresses to more than `limit` bytes, regardless of its header. Most codecs
/// stop at the size in the header; gzip, brotli and framed LZ4 decompress to the end of their
/// input, so they are decompressed once here to count.
fn exceeds(source: &impl ChunkReader, page: &PageHeader, codec: Compression, limit: u64) -> Result<bool, String> {
    // Largest compression ratios of gzip and LZ4; that of brotli has no useful bound.
    let growth = match codec {
        Compression::GZIP(_) => 1032,
        Compression::LZ4 => 255,
        Compression::BROTLI(_) => u64::MAX,
        _ => return Ok(false),
    };
    let compressed = page.compressed - page.levels;
    if compressed.saturating_mul(growth) <= limit {
        return Ok(false);
    }
    let content = source.get_read(page.content + page.levels).map_err(|e| e.to_string())?.take(compressed);
    let mut values: Box<dyn Read> = match codec {
        Compression::GZIP(_) => Box::new(flate2::read::MultiGzDecoder::new(content)),
        Compression::BROTLI(_) => Box::new(brotli::Decompressor::new(content, 1 << 16)),
        _ => Box::new(lz4_flex::frame::FrameDecoder::new(content)),
    };
    let (mut total, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match values.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(bytes) => total += bytes as u64,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // The page is damaged or has another format (LZ4 has two framings): the Parquet reader
            // reports it.
            Err(_) => return Ok(false),
        }
        if total > limit {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::Bytes;
    use parquet::basic::{BrotliLevel, GzipLevel};

    use super::*;

    const SIZE: usize = 4 << 20;

    /// Returns a page whose header understates its size.
    fn understated_page(content: &Bytes, levels: u64) -> PageHeader {
        PageHeader { content: 0, compressed: content.len() as u64, uncompressed: 10, levels }
    }

    /// Writes zeros to a compressor and returns the compressed bytes.
    fn compress<W: Write>(mut writer: W, finish: impl FnOnce(W) -> Vec<u8>) -> Vec<u8> {
        writer.write_all(&vec![0; SIZE]).unwrap();
        finish(writer)
    }

    #[test]
    fn pages_larger_than_declared_are_detected() {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
        let lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        let codecs = [
            (Compression::GZIP(GzipLevel::default()), compress(gzip, |writer| writer.finish().unwrap())),
            (Compression::BROTLI(BrotliLevel::default()), compress(brotli, |writer| writer.into_inner())),
            (Compression::LZ4, compress(lz4, |writer| writer.finish().unwrap())),
        ];
        for (codec, content) in codecs {
            assert!(content.len() < SIZE / 100);
            let with_levels = Bytes::from([b"levels".as_slice(), &content].concat());
            let content = Bytes::from(content);
            for (content, levels) in [(content, 0), (with_levels, 6)] {
                let page = understated_page(&content, levels);
                let limit = SIZE as u64;
                assert_eq!(exceeds(&content, &page, codec, limit), Ok(false), "{codec:?}");
                assert_eq!(exceeds(&content, &page, codec, limit - 1), Ok(true), "{codec:?}");
                assert_eq!(exceeds(&content, &page, Compression::SNAPPY, 1), Ok(false));
            }
        }
    }

    #[test]
    fn invalid_page_headers_are_errors() {
        let page =
            |bytes: &[u8]| page_at(&Bytes::copy_from_slice(bytes), 0, bytes.len() as u64).map(|page| page.content);
        // Page type 0, uncompressed size 3, compressed size 3, and three bytes of content.
        assert_eq!(page(&[0x15, 0, 0x15, 6, 0x15, 6, 0, 1, 2, 3]), Ok(7));
        assert!(page(&[0x15, 0, 0x15, 6, 0x15, 8, 0, 1, 2, 3]).is_err(), "the content ends after the file");
        assert!(page(&[0x15, 0, 0x15, 6, 0x15, 5, 0, 1, 2, 3]).is_err(), "a negative size");
        assert!(page(&[0x15, 0, 0x15, 6, 0]).is_err(), "no compressed size");
        assert!(page(&[0x15, 0, 0x15]).is_err(), "truncated");
        assert!(page(&[0x1c; 400]).is_err(), "endless nesting");
        assert!(
            page(&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0]).is_err(),
            "a text longer than the file"
        );
    }
}

//! Decompression of a strip or tile, and its predictor.

use std::borrow::Cow;
use std::io::{self, Read};

use hayro_ccitt::{DecodeSettings, DecoderContext, EncodingMode};

use super::directory::Directory;
use super::page::{Meaning, Page};
use crate::imaging::error::ImageError;
use crate::imaging::jpeg::{self, ColorSpace};

const T4_OPTIONS: u64 = 292;
const JPEG_TABLES: u64 = 347;

const MODIFIED_HUFFMAN: u64 = 2;
const GROUP_3: u64 = 3;
const GROUP_4: u64 = 4;
const LZW: u64 = 5;
pub(super) const JPEG: u64 = 7;
const DEFLATE: u64 = 8;
const OLD_DEFLATE: u64 = 32_946;
const PACK_BITS: u64 = 32_773;
const LZMA: u64 = 34_925;
const ZSTD: u64 = 50_000;

/// Memory limit of the LZMA decoder in KiB; the largest preset needs 65 MiB.
const LZMA_MEMORY_KIB: u32 = 80 << 10;

/// Largest window of the Zstandard decoder, as a power of two: the largest that zstd reads by
/// default, and so libtiff. The decoder touches only what a strip or tile needs of it.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Returns the bytes of the file as the strips and tiles of a page are read from them: with the
/// highest bit of each byte first. The whole file is reversed at once, because strips may overlap,
/// and their ends are not always stored.
pub(super) fn ordered_bytes<'a>(directory: &Directory<'a>, page: &Page) -> Cow<'a, [u8]> {
    let file = directory.tiff.bytes;
    if page.is_bit_reversed && page.compression != JPEG {
        file.iter().map(|byte| byte.reverse_bits()).collect()
    } else {
        Cow::Borrowed(file)
    }
}

/// Returns the samples of strip or tile `index`, of `rows` used rows, in the file's byte order.
/// `file` is that of [`ordered_bytes`]. Rows begin at whole bytes; JPEGs and reduced chroma give a
/// byte for each sample.
pub(super) fn read_chunk(
    directory: &Directory<'_>,
    page: &Page,
    file: &[u8],
    index: usize,
    rows: usize,
    budget: usize,
) -> Result<Vec<u8>, ImageError> {
    let offset = *page.offsets.get(index).ok_or_else(|| ImageError::corrupt("too few strips or tiles"))?;
    let cut_off = || ImageError::Truncated("a strip or tile is beyond the end of the file".to_owned());
    let stored = usize::try_from(offset).ok().and_then(|offset| file.get(offset..)).ok_or_else(cut_off)?;
    // All rows of a tile are compressed, but only the rows of a strip that the image has.
    let stored_rows = if page.is_tiled { page.down } else { rows };
    let (h, v) = page.subsampling;
    let is_reduced = (h, v) != (1, 1) && page.compression != JPEG;
    let (row_bytes, lines) = if is_reduced {
        (page.across.div_ceil(h).saturating_mul(h * v + 2), stored_rows.div_ceil(v))
    } else {
        (page.across.saturating_mul(page.chunk_samples * page.bits).div_ceil(8), stored_rows)
    };
    let length = row_bytes.checked_mul(lines).filter(|length| *length <= budget);
    let length = length.ok_or_else(|| ImageError::corrupt("it needs more memory than its size"))?;
    let stored = match page.lengths.as_ref().and_then(|lengths| lengths.get(index)) {
        Some(length) if !page.is_uncompressed() => {
            usize::try_from(*length).ok().and_then(|length| stored.get(..length)).ok_or_else(cut_off)?
        }
        _ => stored,
    };
    if page.compression == JPEG {
        return read_jpeg(directory, page, stored, rows);
    }
    let mut samples = decompress(directory, page, stored, length, stored_rows)?;
    // The padding of an uncompressed tile is not needed.
    let used_bytes = (rows - 1) * row_bytes + row_bytes.min(page.width * page.chunk_samples * page.bits / 8);
    let needed = if page.is_uncompressed() && page.is_tiled { used_bytes.min(length) } else { length };
    if samples.len() < needed {
        return Err(ImageError::Truncated("the pixel data is cut off".to_owned()));
    }
    samples.resize(length, 0);
    let is_predicted = matches!(page.compression, LZW | DEFLATE | OLD_DEFLATE | ZSTD | LZMA);
    if is_predicted && page.predictor != 1 {
        undo_predictor(page, &mut samples, row_bytes, directory.tiff.big_endian)?;
    }
    Ok(if is_reduced { expand_chroma(page, &samples, row_bytes, stored_rows) } else { samples })
}

/// Decompresses up to `length` bytes.
fn decompress(
    directory: &Directory<'_>,
    page: &Page,
    stored: &[u8],
    length: usize,
    rows: usize,
) -> Result<Vec<u8>, ImageError> {
    match page.compression {
        _ if page.is_uncompressed() => Ok(stored[..length.min(stored.len())].to_vec()),
        MODIFIED_HUFFMAN | GROUP_3 | GROUP_4 => {
            let is_two_dimensional = directory.value(T4_OPTIONS).unwrap_or(0) & 1 == 1;
            decode_fax(page, stored, rows, is_two_dimensional)
        }
        LZW => Ok(decode_lzw(stored, length)),
        DEFLATE | OLD_DEFLATE => Ok(read_up_to(flate2::read::ZlibDecoder::new(stored), length)),
        PACK_BITS => Ok(unpack_bits(stored, length)),
        LZMA => Ok(read_up_to(lzma_rust2::XzReader::new_mem_limit(stored, false, LZMA_MEMORY_KIB), length)),
        ZSTD => decode_zstd(stored, length).map_err(|error| ImageError::Corrupt(format!("zstd: {error}"))),
        other => Err(ImageError::unsupported(&format!("TIFF with compression {other}"), "'FILE.tif[0]'")),
    }
}

/// Reads up to `length` bytes. What comes before an error counts: fewer bytes are noticed later.
fn read_up_to(reader: impl Read, length: usize) -> Vec<u8> {
    let mut data = Vec::new();
    let _ = reader.take(length as u64).read_to_end(&mut data);
    data
}

/// Decodes Zstandard frames to up to `length` bytes: the last strip may have more rows than the
/// image, which are ignored, as in libtiff.
fn decode_zstd(stored: &[u8], length: usize) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(stored)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    let mut data = Vec::new();
    decoder.take(length as u64).read_to_end(&mut data)?;
    Ok(data)
}

/// Decodes LZW, of either bit order: files of before TIFF 6 have the lowest bit first.
fn decode_lzw(stored: &[u8], length: usize) -> Vec<u8> {
    use weezl::{BitOrder, decode::Decoder};
    let mut decoder = match stored {
        [0, second, ..] if second & 1 == 1 => Decoder::new(BitOrder::Lsb, 8),
        _ => Decoder::with_tiff_size_switch(BitOrder::Msb, 8),
    };
    let mut data = vec![0; length];
    let (mut read, mut written) = (0, 0);
    while written < length {
        let step = decoder.decode_bytes(&stored[read..], &mut data[written..]);
        (read, written) = (read + step.consumed_in, written + step.consumed_out);
        if !matches!(step.status, Ok(weezl::LzwStatus::Ok)) || step.consumed_in + step.consumed_out == 0 {
            break;
        }
    }
    data.truncate(written);
    data
}

fn unpack_bits(mut stored: &[u8], length: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(length);
    while data.len() < length {
        match stored {
            [128, rest @ ..] => stored = rest,
            [count @ 129..=255, byte, rest @ ..] => {
                data.resize((data.len() + 257 - usize::from(*count)).min(length), *byte);
                stored = rest;
            }
            [count, rest @ ..] => {
                let run = (usize::from(*count) + 1).min(length - data.len()).min(rest.len());
                data.extend_from_slice(&rest[..run]);
                stored = &rest[run..];
                if rest.len() < usize::from(*count) + 1 {
                    break;
                }
            }
            [] => break,
        }
    }
    data
}

/// Rows of a fax, packed into bits; black is 1.
struct FaxRows {
    data: Vec<u8>,
    width: usize,
}

impl hayro_ccitt::Decoder for FaxRows {
    fn push_row(&mut self, changes: &[u32]) {
        let start = self.data.len() * 8;
        self.data.resize(self.data.len() + self.width.div_ceil(8), 0);
        for run in changes.chunks(2) {
            let end = run.get(1).map_or(self.width, |end| *end as usize);
            for x in start + run[0] as usize..start + end {
                self.data[x / 8] |= 0x80 >> (x % 8);
            }
        }
    }
}

fn decode_fax(page: &Page, stored: &[u8], rows: usize, is_two_dimensional: bool) -> Result<Vec<u8>, ImageError> {
    if page.bits != 1 || page.chunk_samples != 1 {
        return Err(ImageError::corrupt("a fax of more than one bit"));
    }
    let encoding = match page.compression {
        GROUP_4 => EncodingMode::Group4,
        GROUP_3 if is_two_dimensional => EncodingMode::Group3_2D,
        _ => EncodingMode::Group3_1D,
    };
    let settings = DecodeSettings {
        columns: page.across as u32,
        rows: rows as u32,
        end_of_block: page.compression != MODIFIED_HUFFMAN,
        end_of_line: false,
        rows_are_byte_aligned: page.compression == MODIFIED_HUFFMAN,
        encoding,
        strict: false,
    };
    let mut fax = FaxRows { data: Vec::new(), width: page.across };
    // The rows before an error count.
    let _ = hayro_ccitt::decode(stored, &mut fax, &mut DecoderContext::new(settings));
    Ok(fax.data)
}

/// Undoes the differences of neighbours (2) or the order and differences of float bytes (3).
fn undo_predictor(page: &Page, data: &mut [u8], row_bytes: usize, is_big: bool) -> Result<(), ImageError> {
    let (samples, bytes) = (page.chunk_samples, page.bits / 8);
    let unsupported = || ImageError::unsupported("TIFF with this predictor", "'FILE.tif[0]'");
    for row in data.chunks_exact_mut(row_bytes) {
        match (page.predictor, page.bits) {
            (2, 8 | 16 | 32) => {
                for at in (samples * bytes..row.len()).step_by(bytes) {
                    let before = at - samples * bytes;
                    let mut carry = 0;
                    for place in 0..bytes {
                        let place = if is_big { bytes - 1 - place } else { place };
                        let sum = u16::from(row[at + place]) + u16::from(row[before + place]) + carry;
                        row[at + place] = sum as u8;
                        carry = sum >> 8;
                    }
                }
            }
            (3, 32) if page.meaning == Meaning::Float => {
                for at in samples..row.len() {
                    row[at] = row[at].wrapping_add(row[at - samples]);
                }
                let planes = row.to_vec();
                let count = row.len() / bytes;
                for (index, sample) in row.chunks_exact_mut(bytes).enumerate() {
                    for place in 0..bytes {
                        sample[if is_big { place } else { bytes - 1 - place }] = planes[place * count + index];
                    }
                }
            }
            _ => return Err(unsupported()),
        }
    }
    Ok(())
}

/// Repeats chroma samples, which are stored after the luma samples that share them.
fn expand_chroma(page: &Page, data: &[u8], row_bytes: usize, rows: usize) -> Vec<u8> {
    let (h, v) = page.subsampling;
    let mut expanded = Vec::with_capacity(page.across * rows * 3);
    for y in 0..rows {
        for x in 0..page.across {
            let unit = &data[y / v * row_bytes + x / h * (h * v + 2)..][..h * v + 2];
            expanded.extend_from_slice(&[unit[y % v * h + x % h], unit[h * v], unit[h * v + 1]]);
        }
    }
    expanded
}

/// Decodes a JPEG, with libjpeg's pixels as in Pillow, to one sample or RGB.
fn read_jpeg(directory: &Directory<'_>, page: &Page, stored: &[u8], rows: usize) -> Result<Vec<u8>, ImageError> {
    let color = match (page.chunk_samples, page.meaning) {
        (1, _) => ColorSpace::Grey,
        (3, Meaning::YCbCr) => ColorSpace::YCbCr,
        (3, Meaning::Rgb) => ColorSpace::Rgb,
        (4, Meaning::Cmyk) => ColorSpace::PlainCmyk,
        _ => return Err(ImageError::unsupported("TIFF of JPEGs with alpha or of CIE Lab", "'FILE.tif[0]'")),
    };
    let tables = directory.find(JPEG_TABLES).and_then(|entry| directory.tiff.slice(entry.at, entry.count));
    // The tables are a JPEG without pixels, whose end marker is dropped.
    let tables = tables.map_or(b"\xff\xd8".as_slice(), |tables| &tables[..tables.len().saturating_sub(2)]);
    let stream = [tables, stored.get(2..).unwrap_or_default(), b"\xff\xd9"].concat();
    let header = jpeg::read_header(&stream)?;
    let (width, height) = (header.stored_width as usize, header.stored_height as usize);
    if width != page.across || !(rows..=page.down).contains(&height) {
        return Err(ImageError::corrupt("a strip or tile of another size"));
    }
    let pixels = jpeg::decode_embedded(&stream, &header, color)?.into_data();
    Ok(if page.chunk_samples == 1 { pixels.into_iter().step_by(3).collect() } else { pixels })
}

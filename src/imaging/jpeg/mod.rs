//! JPEG, decoded to the very pixels of libjpeg-turbo, which is what Pillow shows.
//!
//! T.81 leaves a decoder some freedom, and decoders differ by small steps: enough to turn a bit of a perceptual hash or to move a
//! model's input. So the arithmetic here is libjpeg's in its default settings: the accurate integer inverse cosine
//! transform, triangle-filter upsampling, 16-bit fixed-point colour. Damaged pixel data is treated as libjpeg
//! treats it too: a bad code counts as zero, missing data leaves grey.
//!
//! Read are sequential and progressive Huffman JPEGs of 8 bits with 1, 3 or 4 components; not arithmetic coding, 12 bits,
//! lossless or hierarchical ones.

mod bits;
mod color;
mod frame;
mod idct;
mod markers;
mod scan;
mod standard;
mod upsample;

use super::error::ImageError;
use super::header::Header;
use super::rgb::RgbImage;
use color::{ColorSpace, to_rgb};
use frame::{Frame, SIDE};
use markers::{END_OF_IMAGE, START_OF_SCAN, check_end, next_segment};
use scan::{Block, DecoderTables, EntropyDecoder, Scan};
use upsample::Plane;

pub(super) use markers::read_header;

/// Real files have a dozen scans; without a bound a small file could ask for endless passes over a large image.
const MAX_SCANS: usize = 256;

pub(super) fn decode_pixels(bytes: &[u8], header: &Header) -> Result<RgbImage, ImageError> {
    check_end(bytes)?;
    let mut tables = DecoderTables::default();
    let mut decoding: Option<FrameDecoder> = None;
    let (mut at, mut scans, mut complete) = (2, 0, false);
    loop {
        let segment = next_segment(bytes, at)?;
        at = segment.next;
        match segment.marker {
            START_OF_SCAN => {
                let decoding = decoding.as_mut().ok_or_else(|| ImageError::corrupt("a scan without a frame"))?;
                let scan = Scan::read(segment.body, &decoding.frame)?;
                if !decoding.frame.progressive {
                    tables.complete();
                }
                scans += 1;
                if complete {
                    return Err(ImageError::corrupt("a scan after the last"));
                }
                if scans > MAX_SCANS {
                    return Err(ImageError::Unsupported(format!("JPEG of more than {MAX_SCANS} scans")));
                }
                decoding.begin(&scan, &tables, scans == 1)?;
                complete = scans == 1 && decoding.is_whole(&scan);
                at = if complete {
                    decoding.decode_whole(&scan, &tables, bytes, at)?
                } else {
                    decoding.decode_scan(&scan, &tables, bytes, at)?
                };
            }
            END_OF_IMAGE => break,
            _ if segment.is_frame() => {
                let frame = Frame::read(&segment)?;
                header.check_same_size(frame.width as u32, frame.height as u32)?;
                if decoding.is_some() {
                    return Err(ImageError::corrupt("two frames"));
                }
                decoding = Some(FrameDecoder::new(frame));
            }
            _ => tables.read(&segment)?,
        }
    }
    let decoding = decoding.filter(|_| scans > 0).ok_or_else(|| ImageError::corrupt("no pixels"))?;
    let data = decoding.finish();
    RgbImage::from_decoder(header.stored_width, header.stored_height, data)
}

/// A frame and what its scans have given so far.
struct FrameDecoder {
    frame: Frame,
    color: ColorSpace,
    /// By component, as it was when its first scan began.
    quantisation: Vec<Option<[u16; 64]>>,
    /// By component, of an image of several scans: every block.
    coefficients: Vec<Vec<Block>>,
    planes: Vec<Plane>,
}

impl FrameDecoder {
    fn new(frame: Frame) -> Self {
        let plane = |component: &frame::Component| Plane { stride: component.padded_wide * SIDE, samples: Vec::new() };
        let planes = frame.components.iter().map(plane).collect();
        let quantisation = vec![None; frame.components.len()];
        Self { frame, color: ColorSpace::Grey, quantisation, coefficients: Vec::new(), planes }
    }

    /// Notes what headers and tables say at the beginning of a scan.
    fn begin(&mut self, scan: &Scan, tables: &DecoderTables, first: bool) -> Result<(), ImageError> {
        if first {
            self.color = ColorSpace::of(&self.frame, tables);
        }
        for part in &scan.parts {
            let table = &mut self.quantisation[part.component];
            if table.is_none() {
                *table = Some(tables.quantisation(self.frame.components[part.component].quantisation)?);
            }
        }
        Ok(())
    }

    /// Whether a first scan is all of the image, as most are.
    fn is_whole(&self, scan: &Scan) -> bool {
        !self.frame.progressive && scan.parts.len() == self.frame.components.len()
    }

    /// Decodes an image of one scan, a row of units at a time: its coefficients never exist all at once. Answers where the
    /// next marker may be.
    fn decode_whole(
        &mut self,
        scan: &Scan,
        tables: &DecoderTables,
        bytes: &[u8],
        at: usize,
    ) -> Result<usize, ImageError> {
        let mut entropy = EntropyDecoder::new(scan, tables, false, bytes, at)?;
        let interleaved = scan.parts.len() > 1;
        let components = &self.frame.components;
        let (across, down) = match components.as_slice() {
            [only] => (only.blocks_wide, only.blocks_high),
            _ => (self.frame.units_wide, self.frame.units_high),
        };
        let unit = |component: &frame::Component| if interleaved { (component.h, component.v) } else { (1, 1) };
        let mut rows: Vec<Vec<Block>> =
            components.iter().map(|component| vec![[0; 64]; component.padded_wide * unit(component).1]).collect();
        for (plane, component) in self.planes.iter_mut().zip(components) {
            plane.samples = vec![0; plane.stride * unit(component).1 * SIDE * down];
        }
        for row in 0..down {
            rows.iter_mut().for_each(|blocks| blocks.fill([0; 64]));
            for column in 0..across {
                if !entropy.begin_unit() {
                    continue;
                }
                for (number, part) in scan.parts.iter().enumerate() {
                    let component = &components[part.component];
                    let (h, v) = unit(component);
                    for place in 0..h * v {
                        let block = place / h * component.padded_wide + column * h + place % h;
                        entropy.decode(number, &mut rows[part.component][block]);
                    }
                }
            }
            for (index, blocks) in rows.iter().enumerate() {
                let component = &components[index];
                let quantisation = self.quantisation[index].unwrap_or([0; 64]);
                let first = row * unit(component).1;
                transform(blocks, component.padded_wide, &quantisation, &mut self.planes[index], first);
            }
        }
        Ok(entropy.position())
    }

    /// Adds one scan of several to the coefficients; answers where the next marker may be.
    fn decode_scan(
        &mut self,
        scan: &Scan,
        tables: &DecoderTables,
        bytes: &[u8],
        at: usize,
    ) -> Result<usize, ImageError> {
        let components = &self.frame.components;
        if self.coefficients.is_empty() {
            let blocks = |component: &frame::Component| vec![[0; 64]; component.padded_wide * component.padded_high];
            self.coefficients = components.iter().map(blocks).collect();
        }
        let mut entropy = EntropyDecoder::new(scan, tables, self.frame.progressive, bytes, at)?;
        let alone = matches!(scan.parts.as_slice(), [_]).then(|| &components[scan.parts[0].component]);
        let (across, down) = match alone {
            Some(component) => (component.blocks_wide, component.blocks_high),
            None => (self.frame.units_wide, self.frame.units_high),
        };
        for row in 0..down {
            for column in 0..across {
                if !entropy.begin_unit() {
                    continue;
                }
                for (number, part) in scan.parts.iter().enumerate() {
                    let component = &components[part.component];
                    let (h, v) = if alone.is_some() { (1, 1) } else { (component.h, component.v) };
                    for place in 0..h * v {
                        let block = (row * v + place / h) * component.padded_wide + column * h + place % h;
                        entropy.decode(number, &mut self.coefficients[part.component][block]);
                    }
                }
            }
            if entropy.is_over() {
                break;
            }
        }
        Ok(entropy.position())
    }

    /// The pixels, `[height, width, 3]`.
    fn finish(mut self) -> Vec<u8> {
        for (component, blocks) in std::mem::take(&mut self.coefficients).into_iter().enumerate() {
            let wide = self.frame.components[component].padded_wide;
            let quantisation = self.quantisation[component].unwrap_or([0; 64]);
            let plane = &mut self.planes[component];
            plane.samples = vec![0; blocks.len() * SIDE * SIDE];
            transform(&blocks, wide, &quantisation, plane, 0);
        }
        to_rgb(&self.frame, &self.planes, self.color)
    }
}

/// Transforms rows of `wide` blocks of a component into its plane, from row `first` of blocks on.
fn transform(blocks: &[Block], wide: usize, quantisation: &[u16; 64], plane: &mut Plane, first: usize) {
    let lines = plane.stride * SIDE;
    for (row, blocks) in blocks.chunks_exact(wide).enumerate() {
        let start = (first + row) * lines;
        idct::inverse(blocks, quantisation, &mut plane.samples[start..start + lines]);
    }
}

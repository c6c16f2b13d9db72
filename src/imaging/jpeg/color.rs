//! Conversion of components to RGB, in the fixed-point arithmetic of libjpeg.

use pulp::{Arch, Simd, WithSimd};

use super::frame::Frame;
use super::scan::DecoderTables;
use super::upsample::{Plane, Upsampler};
use crate::imaging::error::ImageError;
use crate::imaging::rgb::{cmyk_to_rgb, ycbcr_to_rgb};

/// Meaning of the components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::imaging) enum ColorSpace {
    Grey,
    Rgb,
    YCbCr,
    /// Inks stored as their complement, as Adobe does and Pillow always assumes.
    Cmyk,
    /// Inks, as in a TIFF.
    PlainCmyk,
    /// CMYK whose first three channels are stored as luma and chroma.
    Ycck,
}

impl ColorSpace {
    /// Returns the colour space that is given, or else that of the JFIF and Adobe headers or the
    /// names of the components.
    pub(super) fn detect(frame: &Frame, tables: &DecoderTables, given: Option<Self>) -> Result<Self, ImageError> {
        let names: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        Ok(match (names.as_slice(), given, tables.jfif, tables.adobe) {
            ([_], None | Some(Self::Grey), ..) => Self::Grey,
            ([_, _, _], Some(given @ (Self::Rgb | Self::YCbCr)), ..) => given,
            ([_, _, _, _], Some(Self::PlainCmyk), ..) => Self::PlainCmyk,
            (_, Some(_), ..) => return Err(ImageError::corrupt("components of another colour space")),
            ([_, _, _], _, false, Some(0)) | (b"RGB", _, false, None) => Self::Rgb,
            ([_, _, _], ..) => Self::YCbCr,
            (_, _, _, None | Some(0)) => Self::Cmyk,
            _ => Self::Ycck,
        })
    }
}

/// Upsamples the planes and converts them to RGB of shape `[height, width, 3]`.
pub(super) fn to_rgb(frame: &Frame, planes: &[Plane], color: ColorSpace) -> Vec<u8> {
    Arch::new().dispatch(PlanesToRgb { frame, planes, color })
}

struct PlanesToRgb<'a> {
    frame: &'a Frame,
    planes: &'a [Plane],
    color: ColorSpace,
}

impl WithSimd for PlanesToRgb<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<u8> {
        let Self { frame, planes, color } = self;
        let pairs = planes.iter().zip(&frame.components);
        let mut channels: Vec<Upsampler<'_>> =
            pairs.map(|(plane, component)| Upsampler::new(plane, component, frame)).collect();
        let mut data = vec![0; frame.width * frame.height * 3];
        for (y, row) in data.chunks_exact_mut(frame.width * 3).enumerate() {
            match (color, channels.as_mut_slice()) {
                (ColorSpace::Grey, [grey]) => {
                    for (pixel, value) in row.chunks_exact_mut(3).zip(grey.line(y)) {
                        pixel.fill(*value);
                    }
                }
                (ColorSpace::Rgb, [red, green, blue]) => interleave(row, [red.line(y), green.line(y), blue.line(y)]),
                (ColorSpace::YCbCr, [luma, blue, red]) => convert_ycbcr(row, luma.line(y), blue.line(y), red.line(y)),
                (ColorSpace::Cmyk | ColorSpace::PlainCmyk, [cyan, magenta, yellow, black]) => {
                    let mut stored = vec![0; row.len()];
                    interleave(&mut stored, [cyan.line(y), magenta.line(y), yellow.line(y)]);
                    let masks = if color == ColorSpace::Cmyk { [0xff, 0xff] } else { [0, 0] };
                    row.copy_from_slice(&from_inks(&stored, black.line(y), masks));
                }
                (ColorSpace::Ycck, [luma, blue, red, black]) => {
                    // The inks are stored as their complement, which the conversion reverses.
                    let mut inks = vec![0; row.len()];
                    convert_ycbcr(&mut inks, luma.line(y), blue.line(y), red.line(y));
                    row.copy_from_slice(&from_inks(&inks, black.line(y), [0, 0xff]));
                }
                _ => {}
            }
        }
        data
    }
}

#[inline(always)]
fn interleave(row: &mut [u8], [red, green, blue]: [&[u8]; 3]) {
    for (((pixel, red), green), blue) in row.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
        pixel.copy_from_slice(&[*red, *green, *blue]);
    }
}

/// Converts a row of YCbCr.
#[inline(always)]
fn convert_ycbcr(row: &mut [u8], luma: &[u8], blue: &[u8], red: &[u8]) {
    for (((pixel, luma), blue), red) in row.chunks_exact_mut(3).zip(luma).zip(blue).zip(red) {
        let converted = ycbcr_to_rgb(*luma, *blue, *red);
        pixel[0] = converted[0];
        pixel[1] = converted[1];
        pixel[2] = converted[2];
    }
}

/// Converts inks to RGB. `masks`: 0xff where the coloured inks and black are stored as their
/// complement.
fn from_inks(inks: &[u8], black: &[u8], masks: [u8; 2]) -> Vec<u8> {
    let [mask, black_mask] = masks;
    let pixels = inks.chunks_exact(3).zip(black);
    let inked: Vec<u8> =
        pixels.flat_map(|(inks, black)| [inks[0] ^ mask, inks[1] ^ mask, inks[2] ^ mask, black ^ black_mask]).collect();
    cmyk_to_rgb(&inked, 4)
}

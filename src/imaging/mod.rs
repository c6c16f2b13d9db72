//! Image decoding, resizing and perceptual hashing, with the pixels that Pillow gives.
//!
//! Everything here is a pure function of bytes and plain data. Ingest and the model's image
//! processor use it. The reference is Pillow 13: [`decode`] returns the pixels of
//! `ImageOps.exif_transpose(image).convert("RGB")` for the formats of [`Format`], apart from the
//! differences below, and [`resize`] equals `Image.resize` bit for bit.
//!
//! | step | function | cost |
//! |---|---|---|
//! | format, size and limits of a file | [`probe`] | reads the header only |
//! | upright RGB pixels | [`decode`] | one decode |
//! | hash that survives re-encoding | [`dhash`] | one pass over the pixels |
//! | near-duplicate search | [`NearDuplicates`] | exact, sublinear in practice |
//!
//! Intended differences from Pillow:
//! - Grey samples of more than 8 bits that do not fit into 8 bits are reduced to their high byte.
//!   Pillow saturates them to white. See [`decode`].
//! - A PNG with a wrong checksum is corrupt. Pillow ignores the checksums of pixel data.
//! - A PNG without its end chunk and a JPEG without its end marker are truncated, even if all
//!   pixels are present.
//! - Rare kinds of TIFF are rejected or read better than by Pillow; see `tiff/mod.rs`.
//! - HEIC and AVIF are read if the cargo features `heic` and `avif` are on; see `heif/mod.rs`.
//! - Other formats that Pillow reads, such as JPEG 2000 and ICO, are rejected as `unsupported`,
//!   with a command that converts them.

mod bmp;
mod decode;
mod error;
mod filter;
mod format;
mod gif;
mod header;
#[cfg(any(feature = "avif", feature = "heic"))]
mod heif;
mod jpeg;
mod near;
mod orientation;
mod perceptual;
mod png;
mod probe;
mod resize;
mod rgb;
mod smart_resize;
mod tiff;
mod webp;

pub use decode::{DecodedImage, decode};
pub use error::ImageError;
pub use filter::Filter;
pub use format::{Format, OPTIONAL_FORMATS};
pub use header::{Header, Limits};
pub use near::{DuplicateDecision, NearDuplicates, ThresholdError, Twin};
pub use orientation::Orientation;
pub use perceptual::{DHash, dhash};
pub use probe::probe;
pub use resize::resize;
pub use rgb::RgbImage;
pub use smart_resize::{MAX_RESIZED_PIXELS, PixelBudget, SmartResizeError, smart_resize};

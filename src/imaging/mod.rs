//! Images from bytes: what a file holds, its pixels, their resizing, and the hash that finds near duplicates.
//!
//! Everything here is a pure function of bytes and plain data, on the lowest floor: ingest and the model's image
//! processor both stand on it. The reference for pixels is Pillow: what `ImageOps.exif_transpose(image)` followed by
//! `convert("RGB")` gives, [`decode`] gives, and [`resize`] equals `Image.resize` bit for bit.
//!
//! | step | function | cost |
//! |---|---|---|
//! | what is it, is it within the limits | [`probe`] | reads the header only |
//! | the pixels, upright, as RGB | [`decode`] | one decode |
//! | a hash that survives re-encoding | [`dhash`] | one pass over the pixels |
//! | which images are near twins | [`NearDuplicates`] | exact, sublinear in practice |
//!
//! A few places differ from Pillow on purpose:
//! - a grey image of more than 8 bits whose samples do not fit 8 bits is brought to 8 bits by its high byte (Pillow
//!   saturates it to white), see [`decode`];
//! - a PNG whose checksums are wrong is corrupt (Pillow does not look at those of pixel data);
//! - a PNG without its end, a JPEG without its end marker and a bitmap without the padding of its last row are truncated,
//!   even where all pixels are there;
//! - a TIFF in YCbCr may differ by 1 in a sample, and kinds that [`decode`] names as unsupported are more.

mod bmp;
mod decode;
mod error;
mod filter;
mod format;
mod gif;
mod header;
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
pub use format::Format;
pub use header::{Header, Limits};
pub use near::{DuplicateDecision, NearDuplicates, ThresholdError, Twin};
pub use orientation::Orientation;
pub use perceptual::{DHash, dhash};
pub use probe::probe;
pub use resize::{resize, resize_grey};
pub use rgb::RgbImage;
pub use smart_resize::{MAX_RESIZED_PIXELS, PixelBudget, SmartResizeError, smart_resize};

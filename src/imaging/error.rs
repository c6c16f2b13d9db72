//! The reasons for rejecting an image file, each with a stable code for the `rejects` table.

use thiserror::Error;

/// A reason for rejecting an image. The `rejects` table stores [`ImageError::reason`] as the reason
/// and the message as its detail.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImageError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The content is not of a known image format.
    #[error("not an image: {0}")]
    NotAnImage(String),
    /// The file ends before its image is complete.
    #[error("the file ends too early: {0}")]
    Truncated(String),
    /// The file contradicts its format.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// The file is larger than the limit.
    #[error("{bytes} bytes, and the limit is {limit}")]
    TooLarge {
        /// Size of the file in bytes.
        bytes: u64,
        /// Largest size allowed.
        limit: u64,
    },
    /// The image has more pixels than the limit: decoding would need far more memory than the
    /// file's size suggests.
    #[error("{width}x{height} pixels, and the limit is {limit} pixels")]
    Bomb {
        /// Stored width.
        width: u32,
        /// Stored height.
        height: u32,
        /// Largest number of pixels allowed.
        limit: u64,
    },
    /// A side is zero.
    #[error("{width}x{height} pixels: a side is zero")]
    ZeroSized {
        /// Stored width.
        width: u32,
        /// Stored height.
        height: u32,
    },
    /// The ratio of the sides is above the limit.
    #[error("{width}x{height} pixels: one side is more than {limit} times the other")]
    AspectRatio {
        /// Stored width.
        width: u32,
        /// Stored height.
        height: u32,
        /// Largest ratio allowed.
        limit: u32,
    },
    /// The file is an image of a format or a kind that is not supported.
    #[error("not supported: {0}")]
    Unsupported(String),
}

impl ImageError {
    /// Returns the stable code of this reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotAnImage(_) => "not_an_image",
            Self::Truncated(_) => "truncated",
            Self::Corrupt(_) => "corrupt",
            Self::TooLarge { .. } => "too_large",
            Self::Bomb { .. } => "bomb",
            Self::ZeroSized { .. } => "zero_sized",
            Self::AspectRatio { .. } => "aspect_ratio",
            Self::Unsupported(_) => "unsupported",
        }
    }

    /// Returns the error of a file that contradicts its format.
    pub(super) fn corrupt(problem: &str) -> Self {
        Self::Corrupt(problem.to_owned())
    }

    /// Returns the error of an image that is not read, with a command that converts it.
    pub(super) fn unsupported(kind: &str, file: &str) -> Self {
        let command = match file.rsplit_once('.').map_or(file, |(_, suffix)| suffix) {
            "heic" | "heif" => format!("heif-convert {file} FILE.png"),
            "avif" => format!("avifdec {file} FILE.png"),
            "jxl" => format!("djxl {file} FILE.png"),
            "pdf" => format!("pdftoppm -png {file} PAGE"),
            _ => format!("magick {file} -auto-orient FILE.png"),
        };
        Self::Unsupported(format!("{kind}; convert it first, for example: {command}"))
    }

    /// Returns the error of a format that is not read, with a command that converts it and, if
    /// there is one, the cargo feature that reads it.
    pub(super) fn unsupported_format(name: &str, suffix: &str) -> Self {
        let error = Self::unsupported(&format!("{name} (an image format)"), &format!("FILE.{suffix}"));
        match error {
            Self::Unsupported(text) if matches!(suffix, "avif" | "heic") => {
                Self::Unsupported(format!("{text}; or build visplay with --features {suffix}"))
            }
            other => other,
        }
    }

    /// Converts an I/O error of a decoder that reads from memory, where only a premature end can
    /// happen.
    pub(super) fn from_memory_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Truncated("the pixel data is cut off".to_owned()),
            _ => Self::Corrupt(error.to_string()),
        }
    }
}

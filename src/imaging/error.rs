//! Why bytes are not an image that can be used: one variant a reason, each with a code for the rejects table.

use thiserror::Error;

/// Why an image is left out. [`ImageError::reason`] is the stable code that the rejects table holds; the message is
/// the detail beside it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImageError {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// The content is not that of any image format.
    #[error("not an image: {0}")]
    NotAnImage(String),
    /// The file ends before its image does.
    #[error("the file ends too early: {0}")]
    Truncated(String),
    /// The file contradicts its format.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// More bytes than the limit.
    #[error("{bytes} bytes, and the limit is {limit}")]
    TooLarge {
        /// The file's size.
        bytes: u64,
        /// The limit it passes.
        limit: u64,
    },
    /// More pixels than the limit: decoding would need far more memory than the file suggests.
    #[error("{width}x{height} pixels, and the limit is {limit} pixels")]
    Bomb {
        /// Stored width.
        width: u32,
        /// Stored height.
        height: u32,
        /// The most pixels allowed.
        limit: u64,
    },
    /// No pixels: a side of zero.
    #[error("{width}x{height} pixels: a side is zero")]
    ZeroSized {
        /// Stored width.
        width: u32,
        /// Stored height.
        height: u32,
    },
    /// One side is too many times the other.
    #[error("{width}x{height} pixels: one side is more than {limit} times the other")]
    AspectRatio {
        /// Stored width.
        width: u32,
        /// Stored height.
        height: u32,
        /// The most that one side may be of the other.
        limit: u32,
    },
    /// An image, but of a format or a kind that is not read here.
    #[error("not supported: {0}")]
    Unsupported(String),
}

impl ImageError {
    /// Every reason code there is, in the order of the variants.
    pub const REASONS: [&'static str; 9] = [
        "empty",
        "not_an_image",
        "truncated",
        "corrupt",
        "too_large",
        "bomb",
        "zero_sized",
        "aspect_ratio",
        "unsupported",
    ];

    /// The stable code of this reason.
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

    /// A file that contradicts its format in this way.
    pub(super) fn corrupt(problem: &str) -> Self {
        Self::Corrupt(problem.to_owned())
    }

    /// An input/output error of a decoder that reads from memory: only "no more bytes" can truly happen.
    pub(crate) fn from_memory_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Truncated("the pixel data is cut off".to_owned()),
            _ => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<image::ImageError> for ImageError {
    fn from(error: image::ImageError) -> Self {
        match error {
            image::ImageError::IoError(error) => Self::from_memory_io(&error),
            image::ImageError::Unsupported(error) => Self::Unsupported(error.to_string()),
            image::ImageError::Limits(error) => Self::Corrupt(format!("it needs more memory than its size: {error}")),
            other => {
                let detail = other.to_string();
                if detail.contains("UnexpectedEof") || detail.contains("failed to fill whole buffer") {
                    Self::Truncated("the pixel data is cut off".to_owned())
                } else {
                    Self::Corrupt(detail)
                }
            }
        }
    }
}

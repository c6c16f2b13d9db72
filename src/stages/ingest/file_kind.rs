//! Kinds of source files, recognized by content.

use std::io::Read;

use flate2::read::GzDecoder;

use super::archive::tar;

/// A kind of source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A single image, or no image at all.
    Single,
    /// A Parquet file.
    Parquet,
    /// A zip archive.
    Zip,
    /// A tar archive.
    Tar,
    /// A tar archive that is compressed with gzip.
    TarGz,
}

impl FileKind {
    /// Every kind, in the order of the numbers that stand for them in the cache.
    const ALL: [Self; 5] = [Self::Single, Self::Parquet, Self::Zip, Self::Tar, Self::TarGz];

    /// Recognizes a kind by the first bytes of a file, of which a few thousand are enough.
    pub(super) fn of(start: &[u8]) -> Self {
        match start {
            [b'P', b'A', b'R', b'1', ..] => Self::Parquet,
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Self::Zip,
            [0x1f, 0x8b, 8, ..] => {
                let mut block = [0; tar::BLOCK];
                let is_tar = GzDecoder::new(start).read_exact(&mut block).is_ok() && tar::is_header(&block);
                if is_tar { Self::TarGz } else { Self::Single }
            }
            _ => match start.first_chunk::<{ tar::BLOCK }>() {
                Some(block) if tar::is_header(block) => Self::Tar,
                _ => Self::Single,
            },
        }
    }

    pub(super) fn to_byte(self) -> u8 {
        Self::ALL.iter().position(|kind| *kind == self).unwrap_or(0) as u8
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_numbers_and_images_are_no_archives() {
        for kind in FileKind::ALL {
            assert_eq!(FileKind::from_byte(kind.to_byte()), Some(kind));
        }
        assert_eq!(FileKind::from_byte(5), None);
        for start in [&b"\x89PNG\r\n\x1a\n"[..], b"", b"PK", &[0; 600], b"\x1f\x8b\x08 no gzip", b"{}"] {
            assert_eq!(FileKind::of(start), FileKind::Single, "{start:?}");
        }
    }
}

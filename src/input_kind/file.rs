//! Kinds of files, recognized by their first bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Number of bytes by which a file is recognized.
const HEAD: u64 = 512;

/// A kind of file that is often passed by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecognizedFile {
    /// A pointer of Git Large File Storage, in place of the file itself.
    LfsPointer,
    /// An Arrow file or stream, as `datasets` saves tables.
    Arrow,
    /// A safetensors file.
    Safetensors,
    /// A GGUF file of llama.cpp.
    Gguf,
    /// A Python pickle, or a PyTorch file.
    Pickle,
    /// A zip archive.
    Zip,
    /// A tar archive, or a file compressed with gzip, as tar archives are.
    TarOrGzip,
    /// Another compressed file or archive.
    Archive,
    /// An HDF5 file.
    Hdf5,
    /// A NumPy array.
    Numpy,
    /// A web page, in place of a download.
    WebPage,
    /// A text of JSON values.
    Json,
}

impl RecognizedFile {
    /// Returns the kind of a file; `None` if it is unknown or cannot be read.
    pub fn of(path: &Path) -> Option<Self> {
        let mut head = Vec::new();
        File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
        Self::of_bytes(&head)
    }

    /// Returns the kind of a file that begins with these bytes.
    pub fn of_bytes(head: &[u8]) -> Option<Self> {
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        let is_page = |start: &[u8]| text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start));
        Some(match head {
            _ if head.starts_with(b"version https://git-lfs") => Self::LfsPointer,
            _ if head.starts_with(b"version https://hawser") => Self::LfsPointer,
            _ if head.starts_with(b"ARROW1") => Self::Arrow,
            // A stream begins with the length of its schema.
            [0xff, 0xff, 0xff, 0xff, _, _, _, 0, ..] => Self::Arrow,
            [_, _, _, _, _, _, 0, 0, b'{', b'"' | b' ' | b'}', ..] => Self::Safetensors,
            _ if head.starts_with(b"GGUF") || head.starts_with(b"FUGG") => Self::Gguf,
            [0x80, 2..=5, ..] => Self::Pickle,
            [b'P', b'K', 3 | 5, 4 | 6, ..] if contains(head, b"data.pkl") => Self::Pickle,
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Self::Zip,
            [0x1f, 0x8b, ..] => Self::TarOrGzip,
            [0xfd, b'7', b'z', b'X', b'Z', ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Archive,
            [b'7', b'z', 0xbc, 0xaf, ..] | [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Archive,
            _ if head.get(257..262) == Some(b"ustar") => Self::TarOrGzip,
            _ if head.starts_with(b"\x89HDF\r\n") => Self::Hdf5,
            _ if head.starts_with(b"\x93NUMPY") => Self::Numpy,
            _ if is_page(b"<!doctype html") || is_page(b"<html") => Self::WebPage,
            _ if matches!(
                text,
                [b'{', b'"' | b'\n' | b'\r' | b' ' | b'}', ..] | [b'[', b'{' | b'\n' | b'\r' | b' ', ..]
            ) =>
            {
                Self::Json
            }
            _ => return None,
        })
    }

    /// Returns the name of the kind with its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::LfsPointer => "a Git LFS pointer, not the file itself",
            Self::Arrow => "an Arrow file",
            Self::Safetensors => "a safetensors file of tensors",
            Self::Gguf => "a GGUF file of llama.cpp",
            Self::Pickle => "a Python pickle, such as PyTorch writes",
            Self::Zip => "a zip archive",
            Self::TarOrGzip | Self::Archive => "a compressed file or an archive",
            Self::Hdf5 => "an HDF5 file",
            Self::Numpy => "a NumPy array",
            Self::WebPage => "a web page, not the file itself",
            Self::Json => "a JSON file",
        }
    }

    /// Returns what to do with a file of this kind that is passed as a checkpoint.
    pub(super) fn instead_of_model(self) -> &'static str {
        match self {
            Self::LfsPointer => "run `git lfs pull` in its repository, then pass its folder",
            Self::Gguf => "pass the folder of the original checkpoint, with config.json and safetensors files",
            Self::Pickle => "convert the checkpoint with `save_pretrained` of transformers, then pass its folder",
            Self::Zip | Self::TarOrGzip | Self::Archive => {
                "unpack it, then pass the folder that holds config.json and the weights"
            }
            Self::WebPage => "download the checkpoint with `hf download NAME --local-dir DIR`, then pass DIR",
            _ => "pass the folder that holds config.json and the weights",
        }
    }

    /// Returns what to do with a file of this kind that is passed as a table or as images.
    pub(super) fn instead_of_table(self, path: &Path) -> Option<String> {
        let path = path.display();
        Some(match self {
            Self::LfsPointer => format!("{LFS_PULL}, then pass it again"),
            Self::Arrow => format!("write it as Parquet: `{}`", to_parquet("Dataset", "Dataset.from_file", &path)),
            Self::Safetensors | Self::Gguf => "weights hold neither images nor rows".to_owned(),
            Self::Zip | Self::TarOrGzip | Self::Archive => "unpack it, then pass what it holds".to_owned(),
            Self::WebPage => "the download failed; download the file again".to_owned(),
            Self::Json => format!("write it as Parquet: `{}`", to_parquet("Dataset", "Dataset.from_json", &path)),
            Self::Pickle | Self::Hdf5 | Self::Numpy => "write it as Parquet first".to_owned(),
        })
    }
}

/// The command that replaces pointers of Git LFS by their files.
pub(super) const LFS_PULL: &str = "run `git lfs pull` in its repository";

/// Returns the command that writes a dataset as Parquet; `load` is the function that reads it.
pub(super) fn to_parquet(import: &str, load: &str, path: &impl std::fmt::Display) -> String {
    format!("python -c \"from datasets import {import}; {load}('{path}').to_parquet('data.parquet')\"")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

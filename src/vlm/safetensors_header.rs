//! A reader of safetensors headers that reports everything that is wrong with a damaged file.
//!
//! A file consists of eight bytes with the header's length (little endian), the header (a JSON
//! object from tensor names to `dtype`, `shape` and `data_offsets`), and the data, which the
//! tensors must cover without gap or overlap.
//!
//! The `safetensors` crate reads headers too, but it stops at the first problem, which it does not
//! always locate, and lets a tensor be described twice. This reader names each tensor that is
//! wrong, checks everything against the file's real length, and allocates no more than in
//! proportion to the header's real size.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Length of the longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// Most axes of a tensor; no tensor of a model has more.
const MAX_RANK: usize = 8;

/// A dtype that weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StoredType {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point (IEEE).
    F16,
    /// The upper half of a 32-bit floating-point number.
    BF16,
}

impl StoredType {
    /// Returns the name in a safetensors header.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// This dtype as a type of the `safetensors` crate.
    pub(super) fn in_header(self) -> safetensors::Dtype {
        match self {
            Self::F32 => safetensors::Dtype::F32,
            Self::F16 => safetensors::Dtype::F16,
            Self::BF16 => safetensors::Dtype::BF16,
        }
    }

    /// Returns the name in a `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// Returns the size of an element in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::BF16].into_iter().find(|t| t.name() == name)
    }
}

/// A tensor as the header describes it; its description fits the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Name in the file.
    pub name: String,
    /// Dtype.
    pub dtype: StoredType,
    /// Shape.
    pub shape: Vec<usize>,
    /// Range of its bytes in the file.
    pub bytes: Range<usize>,
}

/// Returns the tensors of a file in the order of their bytes, or everything that is wrong with it.
pub fn read_header(file: &[u8]) -> Result<Vec<StoredTensor>, Vec<String>> {
    let (entries, data_start) = parse(file).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let mut seen = HashSet::with_capacity(entries.len());
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, description) in &entries {
        if !seen.insert(name.as_str()) {
            problems.push(format!("tensor {} is described twice", quoted(name)));
            continue;
        }
        match description.check(name, data_start, file.len()) {
            Ok(tensor) => tensors.push(tensor),
            Err(problem) => problems.push(format!("tensor {} {problem}", quoted(name))),
        }
    }
    if problems.is_empty() {
        tensors.sort_by(|a, b| (a.bytes.start, a.bytes.end, &a.name).cmp(&(b.bytes.start, b.bytes.end, &b.name)));
        problems = check_cover(&tensors, data_start, file.len());
    }
    if problems.is_empty() { Ok(tensors) } else { Err(problems) }
}

/// Splits the file into header and data and parses the header.
fn parse(file: &[u8]) -> Result<(Vec<(String, Description)>, usize), String> {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(format!("is truncated: {} bytes cannot hold the header's length", file.len()));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or_else(|| {
        // Checked only for an impossible length: a valid length can begin with any bytes.
        match foreign_format(file) {
            Some(format) => format!("is {format}, not a safetensors file"),
            None => format!(
                "is truncated or no safetensors file: its header should have {length} bytes, only {} follow",
                rest.len()
            ),
        }
    })?;
    if length > MAX_HEADER {
        return Err(format!("has a header of {length} bytes, the format allows {MAX_HEADER}"));
    }
    let text = std::str::from_utf8(header).map_err(|e| format!("has a header that is not UTF-8: {e}"))?;
    let Header(entries) =
        serde_json::from_str(text).map_err(|e| format!("has a header that is not a list of tensors: {e}"))?;
    Ok((entries, 8 + header.len()))
}

/// Names the format of a file that is often mistaken for safetensors.
fn foreign_format(file: &[u8]) -> Option<&'static str> {
    match file {
        [b'P', b'K', 3, 4, ..] => Some("a zip archive (a PyTorch pickle: convert it with save_file of safetensors)"),
        [0x80, 2..=5, ..] => Some("a Python pickle (convert it with save_file of safetensors)"),
        [b'G', b'G', b'U', b'F', ..] => Some("a GGUF file"),
        _ if file.starts_with(b"version https://git-lfs") => Some("a Git LFS pointer (run: git lfs pull)"),
        _ => None,
    }
}

/// Checks that the tensors, sorted by position, cover the data exactly.
fn check_cover(tensors: &[StoredTensor], data_start: usize, file_len: usize) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut covered, mut last) = (data_start, None::<&StoredTensor>);
    for tensor in tensors {
        let start = tensor.bytes.start;
        if let (true, Some(last)) = (start < covered, last) {
            problems.push(format!("tensors {} and {} overlap", quoted(&last.name), quoted(&tensor.name)));
        } else if start > covered {
            problems
                .push(format!("bytes {covered}..{start}, before tensor {}, belong to no tensor", quoted(&tensor.name)));
        }
        if tensor.bytes.end >= covered {
            (covered, last) = (tensor.bytes.end, Some(tensor));
        }
    }
    if covered < file_len {
        problems.push(format!("bytes {covered}..{file_len}, at the end, belong to no tensor"));
    }
    problems
}

/// Returns a tensor's name for a message: short and without control characters.
pub(crate) fn quoted(name: &str) -> String {
    const SHOWN: usize = 120;
    match name.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{:?}..", &name[..cut]),
        None => format!("{name:?}"),
    }
}

/// The parsed header before any check.
struct Header(Vec<(String, Description)>);

#[derive(serde::Deserialize)]
struct Description {
    dtype: String,
    shape: Shape,
    data_offsets: [u64; 2],
}

impl Description {
    fn check(&self, name: &str, data_start: usize, file_len: usize) -> Result<StoredTensor, String> {
        let dtype = StoredType::from_name(&self.dtype)
            .ok_or_else(|| format!("has dtype {}: only F32, F16 and BF16 are weights", quoted(&self.dtype)))?;
        let [start, end] = self.data_offsets;
        let data_len = (file_len - data_start) as u64;
        if start > end {
            return Err(format!("has data_offsets [{start}, {end}], which run backwards"));
        }
        if end > data_len {
            return Err(format!(
                "has data_offsets [{start}, {end}], but the file holds {data_len} bytes of data: it is truncated, or \
                 the header is wrong"
            ));
        }
        let size = self.shape.0.iter().try_fold(dtype.size() as u64, |size, &side| size.checked_mul(side));
        if size != Some(end - start) {
            return Err(format!(
                "has shape {:?} of {}, which does not fill the {} bytes of its data_offsets [{start}, {end}]",
                self.shape.0,
                dtype.name(),
                end - start
            ));
        }
        Ok(StoredTensor {
            name: name.to_owned(),
            dtype,
            // An empty tensor may have sides of any size. It fails the comparison of shapes: no
            // tensor of a model is empty.
            shape: self.shape.0.iter().map(|&side| usize::try_from(side).unwrap_or(usize::MAX)).collect(),
            bytes: data_start + start as usize..data_start + end as usize,
        })
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Collects the entries in a list: a map would hide a name that occurs twice.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that describes tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            entries.push((name, map.next_value()?));
        }
        Ok(Header(entries))
    }
}

/// A shape of at most `MAX_RANK` sides: a million numbers would take more memory than their text.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sides;
        impl<'de> Visitor<'de> for Sides {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_RANK} whole numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(side) = sides.next_element()? {
                    if shape.len() == MAX_RANK {
                        return Err(serde::de::Error::invalid_length(MAX_RANK + 1, &self));
                    }
                    shape.push(side);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Sides)
    }
}

//! A streaming writer of safetensors files. Equal tensors give equal bytes.
//!
//! The header comes from the `safetensors` crate. The data does not: the crate's writers take every
//! tensor as a byte slice, and a model's tensors are converted a piece at a time so that no more
//! than a piece is in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};

use super::safetensors_header::StoredType;

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Name.
    pub name: String,
    /// Dtype.
    pub dtype: StoredType,
    /// Shape.
    pub shape: Vec<usize>,
}

impl PlannedTensor {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.shape.iter().map(|&side| side as u64).product::<u64>() * self.dtype.size() as u64
    }
}

/// Writes a new file, synced to disk; see [`write_tensors`].
pub fn write_safetensors<E: From<io::Error>>(
    path: &Path,
    tensors: &[PlannedTensor],
    fill: impl FnMut(&PlannedTensor, &mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
    write_tensors(&mut out, tensors, fill)?;
    let file = out.into_inner().map_err(|e| e.into_error())?;
    file.sync_all()?;
    Ok(())
}

/// Writes the contents of a safetensors file: the header, then every tensor as `fill` writes it,
/// exactly its bytes.
pub fn write_tensors<W: Write, E: From<io::Error>>(
    out: &mut W,
    tensors: &[PlannedTensor],
    mut fill: impl FnMut(&PlannedTensor, &mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    // Wider dtypes first, so each tensor is aligned, as in files that the reference library writes.
    let mut ordered: Vec<&PlannedTensor> = tensors.iter().collect();
    ordered.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.size()));
    let header = encode_header(&ordered)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for tensor in ordered {
        let mut counted = CountingWriter { out: &mut *out, written: 0 };
        fill(tensor, &mut counted)?;
        if counted.written != tensor.bytes() {
            let message = format!(
                "{} bytes were written for tensor {} instead of {}",
                counted.written,
                tensor.name,
                tensor.bytes()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message).into());
        }
    }
    Ok(())
}

/// Returns the header, padded with spaces so that the data begins at a multiple of eight.
fn encode_header(tensors: &[&PlannedTensor]) -> io::Result<String> {
    let mut start = 0;
    let mut info = |tensor: &&PlannedTensor| {
        let data_offsets = (start, start + tensor.bytes() as usize);
        start = data_offsets.1;
        let info = TensorInfo { dtype: tensor.dtype.in_header(), shape: tensor.shape.clone(), data_offsets };
        (tensor.name.clone(), info)
    };
    // transformers refuses a file whose metadata does not name the framework of the layout.
    let framework = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(framework), tensors.iter().map(&mut info).collect());
    let mut header = serde_json::to_string(&metadata.map_err(io::Error::other)?)?;
    let padding = header.len().next_multiple_of(8) - header.len();
    header.extend(std::iter::repeat_n(' ', padding));
    Ok(header)
}

/// Counts the bytes that pass through it.
struct CountingWriter<'a, W: Write> {
    out: &'a mut W,
    written: u64,
}

impl<W: Write> Write for CountingWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

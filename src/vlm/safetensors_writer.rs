//! Writes a safetensors file tensor by tensor, so that no more than a piece of one is in memory. Same tensors, same bytes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::safetensors_header::StoredType;

/// A tensor that a file will hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// Its number format.
    pub dtype: StoredType,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl PlannedTensor {
    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.shape.iter().map(|&side| side as u64).product::<u64>() * self.dtype.size() as u64
    }
}

/// Writes the file: the header, then every tensor as `fill` writes it, which must be exactly its bytes. Synced to disk.
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

/// Writes what such a file holds.
pub fn write_tensors<W: Write, E: From<io::Error>>(
    out: &mut W,
    tensors: &[PlannedTensor],
    mut fill: impl FnMut(&PlannedTensor, &mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    // Wider numbers first keeps every tensor aligned to its type, as the reference writer does.
    let mut ordered: Vec<&PlannedTensor> = tensors.iter().collect();
    ordered.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.size()));
    let header = header(&ordered);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for tensor in ordered {
        let mut counted = Counted { out: &mut *out, written: 0 };
        fill(tensor, &mut counted)?;
        if counted.written != tensor.bytes() {
            let message = format!("tensor {} came with {} bytes, not {}", tensor.name, counted.written, tensor.bytes());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message).into());
        }
    }
    Ok(())
}

/// The header, padded with spaces so that the data begins at a multiple of eight.
fn header(tensors: &[&PlannedTensor]) -> String {
    // transformers asks for the metadata: it says which framework's layout the tensors have.
    let mut header = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut start = 0u64;
    for tensor in tensors {
        let end = start + tensor.bytes();
        let name = serde_json::Value::from(tensor.name.as_str());
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        header.push_str(&format!(
            r#",{name}:{{"dtype":"{}","shape":[{}],"data_offsets":[{start},{end}]}}"#,
            tensor.dtype.name(),
            shape.join(",")
        ));
        start = end;
    }
    header.push('}');
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    header
}

struct Counted<'a, W: Write> {
    out: &'a mut W,
    written: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

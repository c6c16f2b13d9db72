//! A reader of Thrift's compact protocol for Parquet footers and page headers, in bounded memory.
//!
//! See <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

use std::io::{self, Read};

/// Largest nesting depth of structs and lists.
const MAX_DEPTH: u32 = 32;

/// Type codes of values, as in the header of a field.
pub(super) mod kind {
    pub(in crate::tables) const TRUE: u8 = 1;
    pub(in crate::tables) const FALSE: u8 = 2;
    pub(in crate::tables) const BYTE: u8 = 3;
    pub(in crate::tables) const I16: u8 = 4;
    pub(in crate::tables) const I32: u8 = 5;
    pub(in crate::tables) const I64: u8 = 6;
    pub(in crate::tables) const DOUBLE: u8 = 7;
    pub(in crate::tables) const BINARY: u8 = 8;
    pub(in crate::tables) const LIST: u8 = 9;
    pub(in crate::tables) const SET: u8 = 10;
    pub(in crate::tables) const MAP: u8 = 11;
    pub(in crate::tables) const STRUCT: u8 = 12;
}

/// Header of a field of a struct.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) id: i64,
    pub(super) kind: u8,
}

/// Reads values of the compact protocol, and no more bytes than a limit.
pub(super) struct CompactReader<R> {
    input: R,
    /// Number of bytes read so far.
    pub(super) bytes_read: u64,
    limit: u64,
}

impl<R: Read> CompactReader<R> {
    /// Reads from `input` at most `limit` bytes.
    pub(super) fn new(input: R, limit: u64) -> Self {
        Self { input, bytes_read: 0, limit }
    }

    /// Reads the header of a struct's next field; `None` at the end. `last` is the id of the
    /// previous field, or 0, and becomes that of this one.
    pub(super) fn field(&mut self, last: &mut i64) -> io::Result<Option<Field>> {
        let header = self.byte()?;
        if header == 0 {
            return Ok(None);
        }
        let (delta, kind) = (i64::from(header >> 4), header & 15);
        *last = if delta == 0 { self.integer()? } else { *last + delta };
        Ok(Some(Field { id: *last, kind }))
    }

    /// Reads a zigzag-encoded integer of any width.
    pub(super) fn integer(&mut self) -> io::Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads the type code and number of a list's items.
    pub(super) fn list(&mut self) -> io::Result<(u8, u64)> {
        let header = self.byte()?;
        let items = if header >> 4 == 15 { self.varint()? } else { u64::from(header >> 4) };
        Ok((header & 15, items))
    }

    /// Skips the value of a struct's field.
    pub(super) fn skip(&mut self, kind: u8) -> io::Result<()> {
        self.skip_value(kind, false, 0)
    }

    fn skip_value(&mut self, kind: u8, in_list: bool, depth: u32) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(damaged("nested too deep"));
        }
        match kind {
            // A boolean field is stored in its type code, a boolean list item in a byte.
            kind::TRUE | kind::FALSE if !in_list => Ok(()),
            kind::TRUE | kind::FALSE | kind::BYTE => self.byte().map(|_| ()),
            kind::I16 | kind::I32 | kind::I64 => self.varint().map(|_| ()),
            kind::DOUBLE => self.skip_bytes(8),
            kind::BINARY => {
                let length = self.varint()?;
                self.skip_bytes(length)
            }
            kind::LIST | kind::SET => {
                let (kind, items) = self.list()?;
                (0..items).try_for_each(|_| self.skip_value(kind, true, depth + 1))
            }
            kind::MAP => {
                let items = self.varint()?;
                let kinds = if items == 0 { 0 } else { self.byte()? };
                (0..items).try_for_each(|_| {
                    self.skip_value(kinds >> 4, true, depth + 1)?;
                    self.skip_value(kinds & 15, true, depth + 1)
                })
            }
            kind::STRUCT => {
                let mut last = 0;
                while let Some(field) = self.field(&mut last)? {
                    self.skip_value(field.kind, false, depth + 1)?;
                }
                Ok(())
            }
            other => Err(damaged(&format!("a value of kind {other}"))),
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.count(1)?;
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(damaged("an integer that does not end"))
    }

    fn skip_bytes(&mut self, bytes: u64) -> io::Result<()> {
        self.count(bytes)?;
        match io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink())? {
            passed if passed == bytes => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn count(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes_read = self.bytes_read.saturating_add(bytes);
        if self.bytes_read > self.limit { Err(damaged("it goes on beyond its end")) } else { Ok(()) }
    }
}

fn damaged(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

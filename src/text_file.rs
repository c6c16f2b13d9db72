//! Text files that people write: UTF-8, with any line ends, with or without a byte order mark.

use thiserror::Error;

/// A reason why bytes are not a usable text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// The text has the byte order mark of an encoding of 16 or 32 bits.
    #[error("it is UTF-16 or UTF-32, not UTF-8; save it as UTF-8")]
    Utf16,
    /// The bytes contain zero bytes, which no text in UTF-8 has.
    #[error("it is a binary file, or a text in UTF-16 or UTF-32; pass a text file, or save it as UTF-8")]
    Binary,
    /// The bytes are not UTF-8.
    #[error("line {line} is not UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// The line, from 1.
        line: usize,
    },
}

/// Decodes a text. The line ends CRLF and CR become LF, and byte order marks are dropped, so that
/// two files that look the same in an editor are the same text.
///
/// # Errors
/// The bytes are not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<String, TextError> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(TextError::Utf16);
    }
    // Most characters of UTF-16 have a zero byte.
    if bytes.contains(&0) {
        return Err(TextError::Binary);
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = 1 + line_ends_to_lf(&String::from_utf8_lossy(&bytes[..e.valid_up_to()])).matches('\n').count();
        TextError::NotUtf8 { line }
    })?;
    // Editors put the mark at the start; concatenated files have it in the middle too.
    Ok(line_ends_to_lf(&text.replace('\u{feff}', "")))
}

fn line_ends_to_lf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_end_is_lf_and_marks_are_dropped() {
        for text in ["a\nb\n", "a\r\nb\r\n", "a\rb\r", "\u{feff}a\nb\n", "\u{feff}a\r\n\u{feff}b\r\n", "a\nb\r\n"] {
            assert_eq!(decode(text.as_bytes()), Ok("a\nb\n".to_owned()), "{text:?}");
        }
        assert_eq!(decode(b""), Ok(String::new()));
    }

    #[test]
    fn other_encodings_are_errors() {
        let utf16: Vec<u8> = "a\nb".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = [b"\xff\xfe".as_slice(), &utf16].concat();
        assert_eq!((decode(&utf16), decode(&marked)), (Err(TextError::Binary), Err(TextError::Utf16)));
        assert_eq!(decode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), Err(TextError::Binary));
        assert_eq!(decode(b"a\r\nb\r\ncaf\xe9"), Err(TextError::NotUtf8 { line: 3 }));
    }
}

//! Format number of a store, as written in its `FORMAT` file.

use super::error::StoreError;

/// A store format. The number is raised when an older program would misread or damage newer files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreFormat(u32);

impl StoreFormat {
    /// The format that this program writes.
    pub const CURRENT: Self = Self(1);

    /// Returns the content of the `FORMAT` file.
    pub fn file_text(self) -> String {
        format!("visplay store {}\n", self.0)
    }

    /// Parses the content of a `FORMAT` file; `None` if it is malformed.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let number: u32 = text.strip_prefix("visplay store ")?.strip_suffix('\n')?.parse().ok()?;
        (Self(number).file_text() == text && number > 0).then_some(Self(number))
    }

    /// Rejects formats newer than this program supports.
    pub fn check_readable(self, store: &std::path::Path) -> Result<(), StoreError> {
        if self > Self::CURRENT {
            return Err(StoreError::NewerFormat { path: store.to_owned(), found: self.0, known: Self::CURRENT.0 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_text_parses() {
        assert_eq!(StoreFormat::parse(b"visplay store 1\n"), Some(StoreFormat::CURRENT));
        for bad in ["", "visplay store 1", "visplay store 01\n", "visplay store 0\n", "visplay store x\n", "1\n"] {
            assert_eq!(StoreFormat::parse(bad.as_bytes()), None, "{bad:?}");
        }
        let newer = StoreFormat::parse(b"visplay store 2\n").expect("a number");
        assert!(newer.check_readable(std::path::Path::new("s")).is_err());
    }
}

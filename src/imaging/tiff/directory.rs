//! The first directory of a TIFF, and its tags.

use crate::imaging::orientation::TiffBytes;

/// First directory of a TIFF or BigTIFF.
pub(super) struct Directory<'a> {
    pub(super) tiff: TiffBytes<'a>,
    is_big: bool,
    /// Offset of the first entry.
    first_entry: u64,
    /// Number of entries.
    entries: u64,
}

/// Location and type of a tag's values.
pub(super) struct TagEntry {
    /// Offset of the first value in the file.
    pub(super) at: u64,
    /// Bytes of a value.
    pub(super) width: u64,
    /// Number of values.
    pub(super) count: u64,
}

impl<'a> Directory<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let tiff = TiffBytes { bytes, big_endian: bytes.starts_with(b"MM") };
        let is_big = tiff.uint(2, 2)? == 43;
        let start = if is_big { tiff.uint(8, 8)? } else { tiff.uint(4, 4)? };
        let count_width = if is_big { 8 } else { 2 };
        let entries = tiff.uint(start, count_width)?;
        let first_entry = start.checked_add(count_width)?;
        let directory = Self { tiff, is_big, first_entry, entries };
        tiff.slice(first_entry, entries.checked_mul(directory.entry_width())?)?;
        Some(directory)
    }

    /// Returns the size of an entry in bytes.
    fn entry_width(&self) -> u64 {
        if self.is_big { 20 } else { 12 }
    }

    /// Finds a tag of integers or bytes.
    pub(super) fn find(&self, tag: u64) -> Option<TagEntry> {
        let at = (0..self.entries)
            .map(|index| self.first_entry + index * self.entry_width())
            .find(|at| self.tiff.uint(*at, 2) == Some(tag))?;
        let width: u64 = match self.tiff.uint(at + 2, 2)? {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 13 => 4,
            16..=18 => 8,
            _ => return None,
        };
        let (inline, count) =
            if self.is_big { (8, self.tiff.uint(at + 4, 8)?) } else { (4, self.tiff.uint(at + 4, 4)?) };
        let value_at = at + 4 + inline;
        let at = if width.checked_mul(count)? <= inline { value_at } else { self.tiff.uint(value_at, inline)? };
        Some(TagEntry { at, width, count })
    }

    /// Returns the values of a tag.
    pub(super) fn values(&self, tag: u64) -> Option<Vec<u64>> {
        let TagEntry { at, width, count } = self.find(tag)?;
        self.tiff.slice(at, width.checked_mul(count)?)?;
        (0..count).map(|index| self.tiff.uint(at + index * width, width)).collect()
    }

    /// Returns the value of a tag that has exactly one.
    pub(super) fn value(&self, tag: u64) -> Option<u64> {
        let entry = self.find(tag)?;
        (entry.count == 1).then(|| self.tiff.uint(entry.at, entry.width))?
    }
}

//! Check of a Parquet file's footer before the `parquet` crate reads it.
//!
//! Version 60 of the crate reserves memory for the number of children that a group of the schema
//! declares (16 GiB for the largest number), and recurses as deep as the schema is nested (50,000
//! levels overflow the stack). Both can abort the process, which no panic guard can prevent.

use std::io::{self, Read};

use parquet::file::reader::ChunkReader;

use super::thrift::{CompactReader, kind};

/// Largest nesting depth of groups.
const MAX_NESTING: usize = 64;
/// Largest footer in bytes. The reader holds a footer in memory several times.
const MAX_FOOTER_BYTES: u64 = 256 << 20;
/// `FileMetaData.schema`
const SCHEMA_FIELD: i64 = 2;
/// `SchemaElement.num_children`
const CHILDREN_FIELD: i64 = 5;

/// Checks the schema in the footer of `source`. A file that is not Parquet passes, since the reader
/// reports it better.
pub(super) fn check(source: &impl ChunkReader) -> Result<(), String> {
    let length = source.len();
    if length < 12 {
        return Ok(());
    }
    let tail = source.get_bytes(length - 8, 8).map_err(|e| e.to_string())?;
    let (size, magic) = tail.split_at(4);
    let footer_bytes = u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    if magic != b"PAR1" || footer_bytes > length - 8 {
        return Ok(());
    }
    if footer_bytes > MAX_FOOTER_BYTES {
        return Err(format!("its footer is {footer_bytes} bytes; at most {MAX_FOOTER_BYTES} are read"));
    }
    let input = source.get_read(length - 8 - footer_bytes).map_err(|e| e.to_string())?;
    let children =
        schema_children(&mut CompactReader::new(input, footer_bytes)).map_err(|e| format!("its footer: {e}"))?;
    check_tree(&children)
}

/// Reads the number of children of each schema element, in order.
fn schema_children<R: Read>(footer: &mut CompactReader<R>) -> io::Result<Vec<u64>> {
    let mut last = 0;
    while let Some(field) = footer.field(&mut last)? {
        if field.id == SCHEMA_FIELD && field.kind == kind::LIST {
            let (_, elements) = footer.list()?;
            return (0..elements).map(|_| element_children(footer)).collect();
        }
        footer.skip(field.kind)?;
    }
    Ok(Vec::new())
}

fn element_children<R: Read>(footer: &mut CompactReader<R>) -> io::Result<u64> {
    let (mut last, mut children) = (0, 0);
    while let Some(field) = footer.field(&mut last)? {
        if field.id == CHILDREN_FIELD && field.kind == kind::I32 {
            children = u64::try_from(footer.integer()?).unwrap_or(u64::MAX);
        } else {
            footer.skip(field.kind)?;
        }
    }
    Ok(children)
}

/// Checks that no group has more children than elements follow, and that groups are not too deep.
fn check_tree(children: &[u64]) -> Result<(), String> {
    let mut open_groups: Vec<u64> = Vec::new();
    for (index, &count) in children.iter().enumerate() {
        if count > (children.len() - index - 1) as u64 {
            return Err(format!("element {index} of its schema claims {count} children, more than there are"));
        }
        while open_groups.last() == Some(&0) {
            open_groups.pop();
        }
        if let Some(remaining) = open_groups.last_mut() {
            *remaining -= 1;
        }
        if count > 0 {
            open_groups.push(count);
        }
        if open_groups.len() > MAX_NESTING {
            return Err(format!("its schema is nested more than {MAX_NESTING} deep"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Builds a file of only a footer, with a schema whose elements have these numbers of children.
    fn file(children: &[u8]) -> Bytes {
        let mut footer = vec![0x15, 2, 0x19, 0xfc]; // version 1; a list of structs with a separate length
        footer.extend(varint(children.len()));
        for &count in children {
            // Field 4 is the name, "x"; field 5 is the number of children, zigzag-encoded.
            footer.extend([0x48, 1, b'x', 0x15]);
            footer.extend(varint(usize::from(count) * 2));
            footer.push(0);
        }
        footer.push(0);
        let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
        [b"PAR1".as_slice(), &footer, &length, b"PAR1"].concat().into()
    }

    fn varint(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 127 {
            bytes.push(value as u8 | 128);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    #[test]
    fn a_valid_schema_passes() {
        assert_eq!(check(&file(&[3, 0, 2, 0, 0, 0])), Ok(()));
        assert_eq!(check(&file(&[0])), Ok(()));
        assert_eq!(check(&file(&[])), Ok(()));
    }

    #[test]
    fn missing_children_are_an_error() {
        let error = check(&file(&[2, 100, 0])).unwrap_err();
        assert_eq!(error, "element 1 of its schema claims 100 children, more than there are");
    }

    #[test]
    fn a_schema_nested_too_deep_is_an_error() {
        let mut chain = vec![1; 63];
        chain.push(0);
        assert_eq!(check(&file(&chain)), Ok(()));
        let mut chain = vec![1; 50_000];
        chain.push(0);
        assert!(check(&file(&chain)).unwrap_err().contains("nested more than 64 deep"));
    }

    #[test]
    fn a_truncated_footer_is_an_error() {
        let whole = file(&[3, 0, 0, 0]);
        let mut cut = whole.to_vec();
        let length = cut.len();
        cut[length - 8] -= 3;
        assert!(check(&Bytes::from(cut)).is_err());
    }

    #[test]
    fn a_file_that_is_not_parquet_passes() {
        assert_eq!(check(&Bytes::from_static(b"hello, this is no parquet")), Ok(()));
        assert_eq!(check(&Bytes::new()), Ok(()));
    }
}

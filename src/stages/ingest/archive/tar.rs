//! Reader of tar archives: ustar, GNU and pax headers, from a file or from a stream.
//!
//! Names and pax records are bounded, so that a damaged or malicious archive cannot fill the
//! memory: the crate `tar` reads them whole, whatever their declared size.

use std::io::{self, BufReader, Read, Seek};

/// Size of a header, and the unit of all sizes, in bytes.
pub(in crate::stages::ingest) const BLOCK: usize = 512;
/// Minimum number of blocks of zeros at the end of an archive.
const END_MARK_BLOCKS: u64 = 2;
/// Maximum size of a long name or of the pax records of a member, in bytes.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Input of an archive, which can skip bytes.
pub(super) trait Input: Read {
    /// Skips `n` bytes, at least one.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the input has fewer bytes.
    fn skip(&mut self, n: u64) -> io::Result<()>;
}

impl<R: Read + Seek> Input for BufReader<R> {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        let n = i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        // Seeking beyond the end succeeds, so that only a read finds the end.
        self.seek_relative(n - 1)?;
        self.read_exact(&mut [0])
    }
}

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TarMember {
    pub(super) name: Vec<u8>,
    pub(super) kind: MemberKind,
    /// Offset of its content in the archive.
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// A kind of member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Folder,
    /// A hard or symbolic link.
    Link,
    /// A device, a pipe or something unknown.
    Special,
    /// A file whose holes are not stored.
    Sparse,
}

/// The reason why the rest of an archive cannot be read.
#[derive(Debug)]
pub(super) enum TarError {
    /// It ends too early.
    Truncated,
    /// It contradicts the format.
    Corrupt(String),
    /// Reading failed.
    Io(io::Error),
}

impl From<io::Error> for TarError {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Io(e) }
    }
}

/// A reader of the members of an archive, in order.
pub(super) struct TarReader<I> {
    input: I,
    position: u64,
    /// Offset at which the next header begins.
    next_header: u64,
}

impl<I: Input> TarReader<I> {
    pub(super) fn new(input: I) -> Self {
        Self { input, position: 0, next_header: 0 }
    }

    /// Returns the next member; `None` at the end. Several archives in one file are read as one.
    pub(super) fn next_member(&mut self) -> Result<Option<TarMember>, TarError> {
        let (mut long_name, mut pax, mut zero_blocks) = (None, Pax::default(), 0_u64);
        loop {
            self.skip_to(self.next_header)?;
            let mut block = [0; BLOCK];
            match self.read_block(&mut block) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                // Whatever follows the end mark is padding.
                Err(_) if zero_blocks > 0 => return Ok(None),
                Err(e) => return Err(e),
            }
            self.next_header = self.position;
            if block.iter().all(|&byte| byte == 0) {
                zero_blocks += 1;
                continue;
            }
            let header = match Header::parse(&block) {
                Ok(header) => header,
                Err(_) if zero_blocks >= END_MARK_BLOCKS => return Ok(None),
                Err(problem) => return Err(TarError::Corrupt(problem)),
            };
            match header.type_flag {
                b'L' => long_name = Some(self.read_extension(header.size)?),
                // Solaris has its own type for the same records.
                b'x' | b'X' => pax = Pax::parse(&self.read_extension(header.size)?).map_err(TarError::Corrupt)?,
                // Long link targets, records for all members, and the label of a volume.
                b'K' | b'g' | b'V' => self.next_header = end_of_content(self.position, header.size)?,
                type_flag => {
                    let mut name = pax.path.or(long_name).unwrap_or(header.name);
                    name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
                    let kind = match type_flag {
                        b'0' | 0 | b'7' if name.ends_with(b"/") => MemberKind::Folder,
                        b'0' | 0 | b'7' if pax.is_sparse => MemberKind::Sparse,
                        b'0' | 0 | b'7' => MemberKind::File,
                        // `D` is a folder of GNU's incremental archives, with a list of its files.
                        b'5' | b'D' => MemberKind::Folder,
                        b'1' | b'2' => MemberKind::Link,
                        b'S' => MemberKind::Sparse,
                        _ => MemberKind::Special,
                    };
                    let size = pax.size.unwrap_or(header.size);
                    let offset = self.position;
                    // The content of a sparse GNU member begins after further headers, which end
                    // at no known offset; as the size is that of the rest, they are skipped too.
                    self.next_header = if has_content(type_flag) { end_of_content(offset, size)? } else { offset };
                    if type_flag == b'S' {
                        self.skip_sparse_headers(&block, size)?;
                    }
                    return Ok(Some(TarMember { name, kind, offset, size }));
                }
            }
        }
    }

    /// Reads the content of the member that was returned last.
    pub(super) fn read_content(&mut self, member: &TarMember) -> Result<Vec<u8>, TarError> {
        self.skip_to(member.offset)?;
        let mut content = Vec::new();
        self.position += (&mut self.input).take(member.size).read_to_end(&mut content)? as u64;
        if (content.len() as u64) < member.size { Err(TarError::Truncated) } else { Ok(content) }
    }

    fn skip_to(&mut self, offset: u64) -> Result<(), TarError> {
        if let Some(n) = offset.checked_sub(self.position).filter(|n| *n > 0) {
            self.input.skip(n)?;
            self.position = offset;
        }
        Ok(())
    }

    /// Reads a block; `false` at the end of the input.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::Truncated),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.position += BLOCK as u64;
        Ok(true)
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION_BYTES {
            return Err(TarError::Corrupt(format!("a name or an extended header of {size} bytes")));
        }
        self.next_header = end_of_content(self.position, size)?;
        let member = TarMember { name: Vec::new(), kind: MemberKind::File, offset: self.position, size };
        self.read_content(&member)
    }

    /// Skips the further headers of a sparse GNU member, which precede its content.
    fn skip_sparse_headers(&mut self, header: &[u8; BLOCK], size: u64) -> Result<(), TarError> {
        let mut is_extended = header[482] != 0;
        while is_extended {
            let mut block = [0; BLOCK];
            if !self.read_block(&mut block)? {
                return Err(TarError::Truncated);
            }
            is_extended = block[504] != 0;
        }
        self.next_header = end_of_content(self.position, size)?;
        Ok(())
    }
}

/// Whether content follows the header of a member. Unknown types have content, as POSIX demands.
fn has_content(type_flag: u8) -> bool {
    !matches!(type_flag, b'1'..=b'6')
}

/// Returns the offset of the block after a content.
fn end_of_content(offset: u64, size: u64) -> Result<u64, TarError> {
    let blocks = size.checked_next_multiple_of(BLOCK as u64);
    let end = blocks.and_then(|size| offset.checked_add(size)).filter(|end| i64::try_from(*end).is_ok());
    end.ok_or_else(|| TarError::Corrupt(format!("a member of {size} bytes")))
}

/// A header.
struct Header {
    name: Vec<u8>,
    size: u64,
    type_flag: u8,
}

impl Header {
    fn parse(block: &[u8; BLOCK]) -> Result<Self, String> {
        if !is_header(block) {
            return Err("a header has a wrong checksum".to_owned());
        }
        let mut name = text(&block[..100]).to_vec();
        let prefix = text(&block[345..500]);
        if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let size = number(&block[124..136]).ok_or("a header has no readable size")?;
        Ok(Self { name, size, type_flag: block[156] })
    }
}

/// Whether a block is a header: its checksum is that of its bytes.
pub(in crate::stages::ingest) fn is_header(block: &[u8; BLOCK]) -> bool {
    let mut unmarked = *block;
    unmarked[148..156].fill(b' ');
    let unsigned: i64 = unmarked.iter().map(|&byte| i64::from(byte)).sum();
    // Some old programs add signed bytes.
    let signed: i64 = unmarked.iter().map(|&byte| i64::from(byte as i8)).sum();
    let stored = number(&block[148..156]).and_then(|sum| i64::try_from(sum).ok());
    block[0] != 0 && stored.is_some_and(|sum| sum == unsigned || sum == signed)
}

/// Returns the bytes before the first zero.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&byte| byte == 0).unwrap_or(field.len())]
}

/// Parses a number, which is octal or, if its first bit is set, big-endian binary.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let is_small = field[0] == 0x80 && high.get(1..).is_some_and(|rest| rest.iter().all(|&byte| byte == 0));
        return is_small.then(|| low.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)));
    }
    let digits = std::str::from_utf8(text(field)).ok()?.trim_matches(' ');
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// The pax records of a member that matter here.
#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

impl Pax {
    /// Parses records of the form `LENGTH KEY=VALUE\n`, where the length is that of the record.
    fn parse(mut rest: &[u8]) -> Result<Self, String> {
        let mut pax = Self::default();
        while !rest.is_empty() && rest[0] != 0 {
            let invalid = || "an extended header is not valid".to_owned();
            let space = rest.iter().position(|&byte| byte == b' ').ok_or_else(invalid)?;
            let length = std::str::from_utf8(&rest[..space]).ok().and_then(|length| length.parse::<usize>().ok());
            let length = length.filter(|length| (space + 2..=rest.len()).contains(length)).ok_or_else(invalid)?;
            let (record, after) = rest.split_at(length);
            let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(invalid)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(invalid)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => pax.path = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok());
                    pax.size = Some(size.ok_or_else(invalid)?);
                }
                key if key.starts_with(b"GNU.sparse.") => pax.is_sparse = true,
                _ => {}
            }
            rest = after;
        }
        Ok(pax)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Returns a member: its header, its content and the padding.
    fn member(name: &str, type_flag: u8, content: &[u8]) -> Vec<u8> {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        block[156] = type_flag;
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        let padding = vec![0; content.len().next_multiple_of(BLOCK) - content.len()];
        [&block[..], content, &padding].concat()
    }

    /// A member's name, kind and content.
    type NamedContent = (String, MemberKind, Vec<u8>);

    /// Returns the members of an archive, and the error after them.
    fn members(archive: &[u8]) -> (Vec<NamedContent>, Option<TarError>) {
        let mut reader = TarReader::new(BufReader::new(Cursor::new(archive)));
        let mut found = Vec::new();
        loop {
            let member = match reader.next_member() {
                Ok(Some(member)) => member,
                Ok(None) => return (found, None),
                Err(e) => return (found, Some(e)),
            };
            let content = match member.kind {
                MemberKind::File => reader.read_content(&member).expect("content"),
                _ => Vec::new(),
            };
            found.push((String::from_utf8_lossy(&member.name).into_owned(), member.kind, content));
        }
    }

    fn file(name: &str, content: &[u8]) -> NamedContent {
        (name.to_owned(), MemberKind::File, content.to_vec())
    }

    #[test]
    fn members_of_all_types_are_skipped_with_their_content() {
        let archive = [
            member("folder/", b'D', &[b'Y'; 700]),
            member("0.png", b'0', b"zero"),
            member("rest.png", b'M', &[1; 1500]),
            member("strange", b'Q', &[0xff; 512]),
            member("records", b'X', b"16 path=sun.png\n"),
            member("short", b'0', b"one"),
            vec![0; 2 * BLOCK],
        ];
        let other = |name: &str, kind| (name.to_owned(), kind, Vec::new());
        let expected = [
            other("folder/", MemberKind::Folder),
            file("0.png", b"zero"),
            other("rest.png", MemberKind::Special),
            other("strange", MemberKind::Special),
            file("sun.png", b"one"),
        ];
        let (found, error) = members(&archive.concat());
        assert!(error.is_none(), "{error:?}");
        assert_eq!(found, expected);
        // A link has no content, whatever its size.
        let mut link = member("link", b'2', &[0; 100]);
        link.truncate(BLOCK);
        let (found, error) = members(&[link, member("0.png", b'0', b"zero")].concat());
        assert!(error.is_none(), "{error:?}");
        assert_eq!(found, [other("link", MemberKind::Link), file("0.png", b"zero")]);
    }

    #[test]
    fn an_archive_that_is_cut_in_a_skipped_member_is_truncated() {
        let whole = [member("0.png", b'0', b"zero"), member("list", b'Q', &[1; 3 * BLOCK])].concat();
        assert!(members(&whole).1.is_none());
        for cut in [1, BLOCK, 2 * BLOCK, 3 * BLOCK] {
            let (found, error) = members(&whole[..whole.len() - cut]);
            assert_eq!(found.len(), 2, "{cut}");
            assert!(matches!(error, Some(TarError::Truncated)), "{cut}: {error:?}");
        }
    }

    #[test]
    fn whatever_follows_the_end_mark_is_ignored_unless_it_is_an_archive() {
        let first = [member("0.png", b'0', b"zero"), vec![0; 2 * BLOCK]].concat();
        for rest in [vec![7; BLOCK], vec![7; 3 * BLOCK + 5], vec![7; 5], vec![0; 100]] {
            let (found, error) = members(&[&first[..], &rest].concat());
            assert!(error.is_none(), "{error:?}");
            assert_eq!(found, [file("0.png", b"zero")]);
        }
        let (found, _) = members(&[first, member("1.png", b'0', b"one")].concat());
        assert_eq!(found, [file("0.png", b"zero"), file("1.png", b"one")]);
        // One block of zeros is no end mark, but damage.
        let lone = [member("0.png", b'0', b"zero"), vec![0; BLOCK], vec![7; BLOCK]].concat();
        assert!(matches!(members(&lone).1, Some(TarError::Corrupt(_))));
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000017\0"), Some(15));
        assert_eq!(number(b"   17 \0\0"), Some(15));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\0\0\x01\x02"), Some(258));
        assert_eq!(number(b"\x80\0\0\x01\0\0\0\0\0\0\x01\x02"), None);
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b"0000019\0"), None);
    }

    #[test]
    fn invalid_records_are_errors() {
        let records = b"11 path=ab\n28 comment=something else..\n";
        let pax = Pax::parse(records).expect("valid");
        assert_eq!((pax.path.as_deref(), pax.size), (Some(&b"ab"[..]), None));
        for bad in [&b"x"[..], b"99 path=a\n", b"2 ", b"10 path=abc", b"9 size=x\n", b"3 \n"] {
            assert!(Pax::parse(bad).is_err(), "{bad:?}");
        }
    }
}

//! Damaged Parquet files: mutations of the inputs of both readers. All rows are read or the file is
//! an error; nothing panics.

use std::fs;

use bytes::Bytes;
use visplay::tables::import::{ImportFile, ImportLimits, ImportedBytes};
use visplay::tables::{AnswerRow, ImageRow, TableReader, TableRow, VoteRow, to_bytes};

use crate::imported_parquet::folder;
use crate::random::Random;
use crate::tables::samples::rows;

/// Applies one to three changes: flipped bits, replaced bytes and runs, truncation, swaps, extreme
/// numbers.
fn mutate(random: &mut Random, file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..=random.below(3) {
        if file.is_empty() {
            break;
        }
        let length = file.len() as u64;
        // Half of the changes are in the footer, where they have the most effect.
        let near_end = length - random.below(length.min(1200)) - 1;
        let at = if random.below(2) == 0 { near_end } else { random.below(length) } as usize;
        let run = (random.below(24) as usize + 1).min(file.len() - at);
        match random.below(8) {
            0 => file[at] ^= 1 << random.below(8),
            1 => file[at] = random.draw() as u8,
            2 => file[at..at + run].fill([0, 0xff, 0x7f, 0x80][random.below(4) as usize]),
            3 => file[at..at + run].iter_mut().for_each(|byte| *byte = random.draw() as u8),
            4 => file.truncate(at),
            5 => drop(file.drain(at..at + run)),
            6 => {
                let other = random.below(length) as usize;
                file.swap(at, other);
            }
            // A varint with all bits set: the largest number in place of a small one.
            _ => file[at..at + run.min(5)].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f][..run.min(5)]),
        }
    }
    file
}

#[test]
fn mutated_imports_are_read_or_are_errors() {
    let mut names: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    names.sort();
    let scratch = tempfile::NamedTempFile::new().unwrap();
    let limits = ImportLimits { image_bytes: 1 << 20, page_bytes: 16 << 20 };
    let (mut rejected, mut whole) = (0, 0);
    for number in 0..cases() {
        let mut random = Random::new(number);
        let original = fs::read(&names[number as usize % names.len()]).unwrap();
        fs::write(scratch.path(), mutate(&mut random, &original)).unwrap();
        let Ok(images) = ImportFile::open(scratch.path(), None, limits) else {
            rejected += 1;
            continue;
        };
        let (mut rows, mut failed) = (0, false);
        for image in images.rows() {
            match image {
                Ok(image) => {
                    assert!(rows <= images.row_count() && image.row < images.row_count());
                    rows = image.row + 1;
                    if let ImportedBytes::Bytes(bytes) = image.bytes {
                        assert!(bytes.len() <= limits.image_bytes);
                    }
                }
                Err(_) => failed = true,
            }
        }
        assert!(failed || rows == images.row_count(), "mutation {number}: rows are missing without an error");
        if failed { rejected += 1 } else { whole += 1 }
    }
    assert!(rejected > cases() / 10 && whole > cases() / 10, "{rejected} rejected, {whole} read");
}

fn mutations_of<R: TableRow>(file: &[u8], first: u64, count: u64) -> u64 {
    let mut rejected = 0;
    for number in first..first + count {
        let file = mutate(&mut Random::new(number), file);
        let Ok(reader) = TableReader::<R>::new("mutated", Bytes::from(file)) else {
            rejected += 1;
            continue;
        };
        let (declared, mut rows, mut failed) = (reader.row_count(), 0, false);
        for row in reader {
            if row.is_ok() { rows += 1 } else { failed = true }
        }
        assert!(failed || rows == declared, "mutation {number}: rows are missing without an error");
        rejected += u64::from(failed);
    }
    rejected
}

#[test]
fn mutated_tables_are_read_or_are_errors() {
    let count = cases() / 3 + 1;
    let rejected = mutations_of::<ImageRow>(&to_bytes(rows::<ImageRow>(1, 60)).unwrap(), 0, count)
        + mutations_of::<AnswerRow>(&to_bytes(rows::<AnswerRow>(1, 60)).unwrap(), count, count)
        + mutations_of::<VoteRow>(&to_bytes(rows::<VoteRow>(1, 60)).unwrap(), 2 * count, count);
    assert!(rejected > cases() / 10);
}

/// Returns the number of mutations: 500, or the value of `VISPLAY_MUTATIONS`.
fn cases() -> u64 {
    std::env::var("VISPLAY_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

//! Damaged weight files: wrong headers, and a thousand seeded mutations of a checkpoint.

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use candle_core::{DType, Device};
use visplay::random::{Seed, Stream};
use visplay::vlm::config::Config;
use visplay::vlm::parameters::parameters;
use visplay::vlm::safetensors_header::{StoredType, read_header};
use visplay::vlm::tokenizer::Tokenizer;
use visplay::vlm::weights::Weights;

use super::allocation::largest_of;
use super::weights::{checkpoint, file, tiny};

#[test]
fn wrong_headers_are_reported() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = |dtype: &str, shape: &str, offsets: &str| format!(r#"{{"a":{}}}"#, entry(dtype, shape, offsets));
    let two = |a: &str, b: &str| format!(r#"{{"a":{},"b":{}}}"#, entry("F32", "[2]", a), entry("F32", "[2]", b));
    let ok = one("F32", "[2]", "[0,8]");
    let twice = format!(r#"{{"a":{0},"a":{0}}}"#, entry("F32", "[2]", "[0,8]"));
    assert!(read_header(&file(&ok, &[0; 8])).is_ok());
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (vec![], &["truncated: 0 bytes"]),
        (vec![1, 2, 3], &["truncated: 3 bytes"]),
        (u64::MAX.to_le_bytes().to_vec(), &["header should have 18446744073709551615 bytes", "only 0 follow"]),
        (file(&ok, &[0; 8])[..20].to_vec(), &["truncated", "only 12 follow"]),
        (b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaa".to_vec(), &["zip archive", "PyTorch"]),
        (b"\x80\x02}q\x00(aaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_vec(), &["Python pickle"]),
        (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), &["Git LFS pointer"]),
        (b"GGUF\x03\0\0\x01\0\0\0\0".to_vec(), &["GGUF"]),
        (file("not json", &[]), &["not a list of tensors", "line 1"]),
        (file("[]", &[]), &["not a list of tensors"]),
        (file("\u{7f}", &[]), &["not a list of tensors"]),
        ([&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(), &["not UTF-8"]),
        (file(&ok, &[0; 7]), &["tensor \"a\"", "[0, 8]", "holds 7 bytes", "truncated"]),
        (file(&ok, &[0; 9]), &["bytes 70..71", "at the end", "no tensor"]),
        (file(&one("F32", "[2]", "[8,0]"), &[0; 8]), &["tensor \"a\"", "run backwards"]),
        (file(&one("F32", "[3]", "[0,8]"), &[0; 8]), &["tensor \"a\"", "shape [3] of F32", "8 bytes"]),
        (file(&one("F32", "[4294967296,4294967296]", "[0,8]"), &[0; 8]), &["tensor \"a\"", "does not fill"]),
        (file(&one("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), &[0; 8]), &["at most 8"]),
        (file(&one("I64", "[1]", "[0,8]"), &[0; 8]), &["tensor \"a\" has dtype \"I64\"", "BF16"]),
        (file(&one("F32", "[-2]", "[0,8]"), &[0; 8]), &["not a list of tensors", "-2"]),
        (file(&one("F32", "[2]", "[0,18446744073709551616]"), &[0; 8]), &["not a list of tensors"]),
        (file(&two("[0,8]", "[4,12]"), &[0; 12]), &["tensors \"a\" and \"b\" overlap"]),
        (file(&two("[0,8]", "[0,8]"), &[0; 8]), &["tensors \"a\" and \"b\" overlap"]),
        (file(&two("[0,8]", "[12,20]"), &[0; 20]), &["before tensor \"b\"", "belong to no tensor"]),
        (file(&twice, &[0; 8]), &["tensor \"a\" is described twice"]),
    ];
    for (bytes, parts) in cases {
        let text = read_header(&bytes).unwrap_err().join("\n");
        for part in parts {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
}

/// Applies one seeded mutation to a file: flipped bits, truncation, insertion, deletion, swapped
/// bytes, another digit.
fn mutate(bytes: &mut Vec<u8>, chance: &Stream) {
    let below = |position, bound: usize| {
        NonZeroU64::new(bound as u64).map_or(0, |bound| chance.below(position, bound)) as usize
    };
    // Most mutations hit the first kilobytes, where headers and JSON are.
    let reach = if below(0, 4) == 0 { bytes.len() } else { bytes.len().min(3000) };
    let at = below(1, reach.max(1)).min(bytes.len());
    match below(2, 7) {
        0 => bytes.truncate(at),
        1 => (0..=below(3, 8)).for_each(|i| {
            if let Some(byte) = bytes.get_mut(at + i * 3) {
                *byte ^= 1 << below(4 + i as u64, 8);
            }
        }),
        2 => drop(bytes.splice(at..at, (0..below(3, 40)).map(|i| chance.bits(20 + i as u64) as u8))),
        3 => drop(bytes.drain(at..(at + below(3, 50)).min(bytes.len()))),
        4 => (at..bytes.len()).find(|&i| bytes[i].is_ascii_digit()).into_iter().for_each(|i| {
            bytes[i] = b'0' + below(3, 10) as u8;
        }),
        5 => (at..bytes.len()).find(|&i| bytes[i].is_ascii_digit()).into_iter().for_each(|i| {
            drop(bytes.splice(i..i, std::iter::repeat_n(b'9', 1 + below(3, 22))));
        }),
        _ => {
            let (a, b) = (at, below(3, reach.max(1)));
            if a.max(b) < bytes.len() {
                bytes.swap(a, b);
            }
        }
    }
}

#[test]
fn a_thousand_mutations_neither_panic_nor_allocate_much_memory() {
    let config = tiny(false);
    let original = checkpoint(&config, StoredType::BF16, 8192);
    let original = original.path().join("model");
    let mut names: Vec<_> = fs::read_dir(&original).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    names.retain(|name| {
        let name = name.to_str().unwrap();
        name.ends_with(".safetensors")
            || name.ends_with(".index.json")
            || ["config.json", "tokenizer.json"].contains(&name)
    });
    let folder = tempfile::tempdir().unwrap();
    for name in &names {
        fs::copy(original.join(name), folder.path().join(name)).unwrap();
    }
    let total: u64 = names.iter().map(|name| fs::metadata(original.join(name)).unwrap().len()).sum();
    let (mut rejected, mut accepted) = (0, 0);
    for case in 0..1000 {
        let chance = Seed(9).stream("mutation", "", case);
        let name = &names[chance.below(100, NonZeroU64::new(names.len() as u64).unwrap()) as usize];
        let intact = fs::read(original.join(name)).unwrap();
        let mut bytes = intact.clone();
        mutate(&mut bytes, &chance);
        fs::write(folder.path().join(name), &bytes).unwrap();
        let (largest, outcome) = largest_of(|| load_everything(folder.path()));
        // The tokenizer library and the JSON parser allocate a constant amount in addition.
        assert!(largest as u64 <= total + (1 << 20), "case {case}, {name:?}: {largest} bytes in one allocation");
        match outcome {
            Ok(()) => accepted += 1,
            Err(text) => {
                assert!(!text.is_empty() && text.len() < 8000, "case {case}: {text}");
                rejected += 1;
            }
        }
        fs::write(folder.path().join(name), &intact).unwrap();
    }
    // Mutations of tensor data and of free text cannot be detected by a reader; all others must be.
    assert!(rejected > 450 && accepted > 50, "{rejected} refused, {accepted} fine");
}

/// Loads the configuration, the tokenizer and every tensor of a checkpoint, or returns the message.
fn load_everything(folder: &Path) -> Result<(), String> {
    let config = Config::load(folder).map_err(|e| e.to_string())?;
    let weights = Weights::open(folder, &config).map_err(|e| e.to_string())?;
    for parameter in parameters(&config) {
        weights.tensor(&parameter.name, DType::F32, &Device::Cpu).map_err(|e| e.to_string())?;
    }
    Tokenizer::load_unchecked(folder).map_err(|e| e.to_string())?;
    Ok(())
}

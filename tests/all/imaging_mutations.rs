//! Damaged images are decoded or rejected with a reason, without a panic and in bounded memory.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, panic};

use visplay::imaging::{Limits, decode, dhash};

use crate::image_mutator::Mutator;
use crate::support::Workspace;

const MUTANTS: usize = 2000;
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_pixels: 4 << 20, max_aspect_ratio: 200 };
/// 32 bytes per pixel, and a margin for the test itself.
const MAX_MEMORY_KB: usize = 220 << 10;
const IN_CHILD: &str = "VISPLAY_TEST_MUTANTS";

/// Runs in a separate process, to measure its memory alone and to detect an abort.
#[test]
fn mutated_images_are_decoded_in_bounded_memory() {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["imaging_mutations::decode_mutants", "--exact", "--nocapture", "--test-threads=1"]).env(IN_CHILD, "1");
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let peak = text.lines().find_map(|line| line.split_once("peak ")?.1.split(' ').next()?.parse::<usize>().ok());
    assert!(peak.unwrap() < MAX_MEMORY_KB, "{text}");
}

/// Through the command: every mutated file becomes an image or a reject, and the store is intact.
#[test]
fn mutated_images_are_ingested_or_rejected() {
    let place = Workspace::new();
    Mutator::new(7).write_files(&place.source(), 300);
    let done = place.ingest();
    let count = |key: &str| done[key].as_u64().unwrap();
    assert_eq!(count("images") + count("rejects"), 300, "{done}");
    assert!(count("images") > 50 && count("rejects") > 50, "{done}");
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn decode_mutants() {
    if env::var_os(IN_CHILD).is_none() {
        return;
    }
    let panics = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&panics);
    panic::set_hook(Box::new(move |info| {
        println!("{info}");
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut mutator = Mutator::new(20_251_123);
    for _ in 0..MUTANTS {
        let (name, bytes) = mutator.mutant();
        let before = panics.load(Ordering::Relaxed);
        let outcome = match decode(&bytes, &LIMITS) {
            Ok(decoded) => {
                let (width, height) = (decoded.pixels.width(), decoded.pixels.height());
                assert_eq!((width, height), (decoded.header.width(), decoded.header.height()), "{name}");
                assert!(u64::from(width) * u64::from(height) <= LIMITS.max_pixels, "{name}");
                dhash(&decoded.pixels);
                "accepted"
            }
            Err(error) => error.reason(),
        };
        assert_eq!(panics.load(Ordering::Relaxed), before, "{name}: a decoder panicked");
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("{outcomes:?}");
    for reason in ["accepted", "truncated", "corrupt", "bomb", "not_an_image", "zero_sized", "aspect_ratio"] {
        assert!(outcomes.contains_key(reason), "no mutant is {reason}: {outcomes:?}");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB").trim().to_owned();
    println!("peak {peak}");
}

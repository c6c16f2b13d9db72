//! Byte-pair encoding learnt from a few words, in which each word becomes one token.

use std::collections::{BTreeMap, BTreeSet};

/// Characters that represent bytes in a byte-level vocabulary (GPT-2's table): printable bytes
/// represent themselves, the others are U+0100 and up.
pub(super) fn byte_characters() -> [char; 256] {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        if printable(byte) {
            return char::from(byte);
        }
        next += 1;
        char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
}

/// Returns the merges, in order, that turn each of `words` into one token.
///
/// Each step merges the most frequent pair; among equals, the first in lexicographic order. So the
/// merges depend on the set of words alone.
pub(super) fn learn_merges(words: &BTreeSet<String>) -> Vec<(String, String)> {
    let mut split: Vec<Vec<String>> = words.iter().map(|word| word.chars().map(String::from).collect()).collect();
    let mut merges = Vec::new();
    loop {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for word in &split {
            for pair in word.windows(2) {
                *counts.entry((&pair[0], &pair[1])).or_default() += 1;
            }
        }
        // In reverse order, the last of equal maxima is the lexicographically first.
        let Some((pair, _)) = counts.iter().rev().max_by_key(|(_, count)| **count) else { return merges };
        let (left, right) = (pair.0.to_owned(), pair.1.to_owned());
        for word in &mut split {
            join(word, &left, &right);
        }
        merges.push((left, right));
    }
}

fn join(word: &mut Vec<String>, left: &str, right: &str) {
    let mut at = 0;
    while at + 1 < word.len() {
        if word[at] == left && word[at + 1] == right {
            word[at].push_str(right);
            word.remove(at + 1);
        }
        at += 1;
    }
}

//! Tokenizer of the nano model: byte-level BPE in which each word of the templates is one token.
//!
//! The file has Qwen's format, pre-tokenizer and special tokens, so transformers and this program
//! can both read it. Every byte is a token, so any text can be encoded.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

use super::bpe::{byte_characters, learn_merges};
use super::demonstration::{DemonstrationOptions, SYSTEM, demonstrations};
use super::scene::{Scene, ScenePurpose};
use crate::random::Seed;

/// Qwen's pre-tokenizer pattern; tokens never cross its pieces.
const PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Qwen's special tokens, in order.
const SPECIAL: &str = concat!(
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> ",
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>",
);
/// Number of scenes whose demonstrations are collected; each word of the templates occurs often.
const SCENES: u64 = 500;

/// Returns the text of `tokenizer.json`, which is always the same.
///
/// # Errors
/// The tokenizers library fails, which would be a defect of this program.
pub fn tokenizer_json() -> Result<String, tokenizers::Error> {
    let bare = Tokenizer::from_bytes(tokenizer_document(&[]).to_string())?;
    let mut words = BTreeSet::new();
    for text in template_texts() {
        words.extend(words_of(&bare, &text)?);
    }
    Ok(serde_json::to_string_pretty(&tokenizer_document(&learn_merges(&words)))? + "\n")
}

/// Returns every text of the warm start, in pieces between special tokens.
fn template_texts() -> Vec<String> {
    let mut texts: Vec<String> = ["system\n", "user\n", "assistant\n", "\n"].map(str::to_owned).to_vec();
    texts.push(format!("system\n{SYSTEM}"));
    for index in 0..SCENES {
        let scene = Scene::draw(ScenePurpose::WarmStart, Seed(0), index);
        for row in demonstrations(&scene, "", &DemonstrationOptions::default()) {
            texts.extend([row.prompt, row.response]);
        }
    }
    texts
}

/// Returns the pieces that the pre-tokenizer makes of a text, in byte characters.
fn words_of(bare: &Tokenizer, text: &str) -> Result<Vec<String>, tokenizers::Error> {
    let mut pieces = PreTokenizedString::from(text);
    if let Some(pre_tokenizer) = bare.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut pieces)?;
    }
    let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(splits.into_iter().map(|(piece, ..)| piece.to_owned()).collect())
}

/// Returns a tokenizer file with these merges.
fn tokenizer_document(merges: &[(String, String)]) -> Value {
    let mut characters = byte_characters();
    characters.sort_unstable();
    let mut tokens: Vec<String> = characters.iter().map(char::to_string).collect();
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let special: Vec<Value> = SPECIAL
        .split(' ')
        .enumerate()
        .map(|(number, token)| {
            json!({
                "id": tokens.len() + number, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let merges: Vec<Value> = merges.iter().map(|(left, right)| json!([left, right])).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        },
    })
}

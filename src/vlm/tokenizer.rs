//! The tokenizer of a checkpoint, `tokenizer.json` (byte-level BPE): from text to tokens and back.
//!
//! Text is encoded in one of two ways. [`Tokenizer::encode_plain`] is for text from users and
//! models: special tokens are not recognized in it, so a question that contains the characters
//! `<|im_end|>` or `<|image_pad|>` cannot end its turn or claim an image. [`Tokenizer::encode`]
//! recognizes special tokens: it is for templates and for the response given to `score`.

use std::path::{Path, PathBuf};

use tokenizers::{DecoderWrapper, Tokenizer as Bpe};

use super::config::{Config, VisionTokens};
pub use super::conversation::{IM_END, IM_START};
use super::json_section::indented_list;
use super::prompt::{Piece, Prompt};
use super::token_text::TokenBytes;
use crate::input_kind::describe_pointer;

/// File name in a checkpoint.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The token before the tokens of an image.
pub const VISION_START: &str = "<|vision_start|>";
/// The token after the tokens of an image.
pub const VISION_END: &str = "<|vision_end|>";
/// The image token of a prompt; the vision tower's output replaces its embedding.
pub const IMAGE_PAD: &str = "<|image_pad|>";
/// The video token of a prompt; videos are not supported.
pub const VIDEO_PAD: &str = "<|video_pad|>";

/// Size limit of the file in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Largest id: that of a configuration's largest vocabulary. Every id up to it takes memory.
const MAX_ID: u32 = (1 << 24) - 1;

/// The tokenizer of a checkpoint.
#[derive(Debug)]
pub struct Tokenizer {
    /// Set to ignore special tokens: [`Tokenizer::encode`] splits the text at them first.
    bpe: Bpe,
    bytes: TokenBytes,
    /// Every special token and its id, longest first.
    specials: Vec<(String, u32)>,
    special: SpecialTokens,
}

/// The ids of the special tokens that the chat format uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialTokens {
    /// [`IM_START`].
    pub im_start: u32,
    /// [`IM_END`].
    pub im_end: u32,
    /// [`VISION_START`].
    pub vision_start: u32,
    /// [`VISION_END`].
    pub vision_end: u32,
    /// [`IMAGE_PAD`].
    pub image_pad: u32,
    /// [`VIDEO_PAD`], where the tokenizer has it.
    pub video_pad: Option<u32>,
}

/// A reason why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("cannot read {}: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// The file is not a `tokenizer.json`.
    #[error("{} is not a usable tokenizer: {reason}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// The problem.
        reason: String,
    },
    /// The tokenizer does not fit the model or the chat format; lists all problems.
    #[error("{} cannot be used:{}", file.display(), indented_list(problems))]
    Unfit {
        /// The file.
        file: PathBuf,
        /// The problem.
        problems: Vec<String>,
    },
    /// Text cannot be encoded.
    #[error("cannot tokenise text: {0}")]
    Encode(String),
}

impl Tokenizer {
    /// Loads the tokenizer of a checkpoint and checks that it fits `config`.
    pub fn load(folder: &Path, config: &Config) -> Result<Self, TokenizerError> {
        let tokenizer = Self::load_unchecked(folder)?;
        let problems = tokenizer.mismatches(config);
        if problems.is_empty() {
            return Ok(tokenizer);
        }
        Err(TokenizerError::Unfit { file: folder.join(TOKENIZER_FILE), problems })
    }

    /// Loads a tokenizer without comparing it with a configuration.
    pub fn load_unchecked(folder: &Path) -> Result<Self, TokenizerError> {
        let file = folder.join(TOKENIZER_FILE);
        Self::from_bytes(&file, &read(&file)?)
    }

    /// Loads a tokenizer from the text of its file; errors name `file`.
    pub fn from_bytes(file: &Path, json: &[u8]) -> Result<Self, TokenizerError> {
        let format = |reason: String| TokenizerError::Format { file: file.to_owned(), reason };
        if let Some(reason) = describe_pointer(json) {
            return Err(format(reason));
        }
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        // Parsed here first because the library's message for broken JSON has no line number.
        serde_json::from_slice::<serde::de::IgnoredAny>(json).map_err(|e| format(e.to_string()))?;
        let mut bpe = Bpe::from_bytes(json).map_err(|e| format(e.to_string()))?;
        if !matches!(bpe.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            return Err(format("its decoder is not ByteLevel, which the models of this family have".to_owned()));
        }
        if let Some((token, id)) = bpe.get_vocab(true).into_iter().filter(|(_, id)| *id > MAX_ID).min() {
            return Err(format(format!("its token {token:?} has id {id}, at most {MAX_ID} is supported")));
        }
        let mut specials = Vec::new();
        let mut problems = Vec::new();
        for (id, token) in bpe.get_added_tokens_decoder() {
            if token.special && (token.lstrip || token.rstrip || token.single_word) {
                problems
                    .push(format!("special token {:?} strips its surroundings, which is not supported", token.content));
            }
            if token.special && !token.content.is_empty() {
                specials.push((token.content, id));
            }
        }
        // Longest first, in an order that does not depend on a hash map.
        specials.sort_by(|a, b| (b.0.len(), &a.0).cmp(&(a.0.len(), &b.0)));
        let special = special_tokens(&specials, &mut problems);
        if !problems.is_empty() {
            problems.sort();
            return Err(TokenizerError::Unfit { file: file.to_owned(), problems });
        }
        bpe.set_encode_special_tokens(true);
        let _ = bpe.with_truncation(None);
        bpe.with_padding(None);
        Ok(Self { bytes: TokenBytes::new(&bpe), bpe, specials, special })
    }

    /// Returns the ids of the special tokens of the chat format.
    pub fn special(&self) -> SpecialTokens {
        self.special
    }

    /// Returns the special tokens of images and videos as a configuration has them.
    pub fn vision_tokens(&self) -> VisionTokens {
        let SpecialTokens { vision_start, vision_end, image_pad, video_pad, .. } = self.special;
        VisionTokens { image: image_pad, video: video_pad.unwrap_or(image_pad), vision_start, vision_end }
    }

    /// Returns the largest id plus one.
    pub fn id_count(&self) -> usize {
        self.bytes.len()
    }

    /// Encodes text without recognizing special tokens.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.bpe.encode_fast(text, false).map_err(|e| TokenizerError::Encode(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Encodes text and recognizes special tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        let mut plain = 0;
        let mut at = 0;
        while at < text.len() {
            match self.special_at(&text[at..]) {
                Some((length, id)) => {
                    self.push_plain(&text[plain..at], &mut ids)?;
                    ids.push(id);
                    at += length;
                    plain = at;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        self.push_plain(&text[plain..], &mut ids)?;
        Ok(ids)
    }

    /// Encodes a prompt: special tokens are recognized in its special pieces only.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        for piece in prompt.pieces() {
            match piece {
                Piece::Text(text) => self.push_plain(text, &mut ids)?,
                Piece::Special(token) => {
                    let id = self.special_at(token).filter(|(length, _)| *length == token.len());
                    let unknown = || TokenizerError::Encode(format!("the tokenizer has no special token {token:?}"));
                    ids.push(id.ok_or_else(unknown)?.1);
                }
                Piece::Image(tokens) => {
                    ids.push(self.special.vision_start);
                    ids.extend(std::iter::repeat_n(self.special.image_pad, *tokens));
                    ids.push(self.special.vision_end);
                }
            }
        }
        Ok(ids)
    }

    /// Returns the text of tokens, without special ones (`skip_special`) or with them. Bytes that
    /// are no text become U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        for &id in ids.iter().filter(|&&id| !(skip_special && self.is_special(id))) {
            bytes.extend_from_slice(self.token_bytes(id));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the bytes of a token, for a stop string; none for an id without a token.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id)
    }

    /// Whether a token is special.
    pub fn is_special(&self, id: u32) -> bool {
        self.bytes.is_special(id)
    }

    /// Returns length and id of the longest special token that the text begins with.
    fn special_at(&self, text: &str) -> Option<(usize, u32)> {
        self.specials.iter().find(|(token, _)| text.starts_with(token.as_str())).map(|(token, id)| (token.len(), *id))
    }

    fn push_plain(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        if !text.is_empty() {
            ids.extend(self.encode_plain(text)?);
        }
        Ok(())
    }

    /// Returns the contradictions between the tokenizer and the configuration.
    fn mismatches(&self, config: &Config) -> Vec<String> {
        let mut problems = Vec::new();
        let (special, tokens) = (self.special, config.tokens);
        for (name, id, key, configured) in [
            (IMAGE_PAD, special.image_pad, "image_token_id", tokens.image),
            (VISION_START, special.vision_start, "vision_start_token_id", tokens.vision_start),
            (VISION_END, special.vision_end, "vision_end_token_id", tokens.vision_end),
        ] {
            // An id outside the vocabulary is a default; reading the configuration warns of it.
            if id != configured && (configured as usize) < config.text.vocab_size {
                problems.push(format!("{name} has id {id} here, but config.json says {key} = {configured}"));
            }
        }
        if self.id_count() > config.text.vocab_size {
            problems.push(format!(
                "it has ids up to {}, but config.json says vocab_size = {}",
                self.id_count() - 1,
                config.text.vocab_size
            ));
        }
        problems
    }
}

fn special_tokens(specials: &[(String, u32)], problems: &mut Vec<String>) -> SpecialTokens {
    let find = |name: &str| specials.iter().find(|(token, _)| token == name).map(|(_, id)| *id);
    let mut need = |name: &str| {
        find(name).unwrap_or_else(|| {
            problems.push(format!("it has no special token {name}, which the chat format needs"));
            0
        })
    };
    SpecialTokens {
        im_start: need(IM_START),
        im_end: need(IM_END),
        vision_start: need(VISION_START),
        vision_end: need(VISION_END),
        image_pad: need(IMAGE_PAD),
        video_pad: find(VIDEO_PAD),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TokenizerError> {
    let failed = |reason: String| TokenizerError::Read { file: file.to_owned(), reason };
    let size = std::fs::metadata(file).map_err(|e| failed(e.to_string()))?.len();
    if size > MAX_FILE {
        return Err(failed(format!("it has {size} bytes, far too many for a tokenizer")));
    }
    std::fs::read(file).map_err(|e| failed(e.to_string()))
}

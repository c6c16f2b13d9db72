//! Decoding of tokens: the bytes of every token.

use tokenizers::Tokenizer as Bpe;

/// The bytes of every token of a byte-level vocabulary.
#[derive(Debug)]
pub(crate) struct TokenBytes {
    /// The bytes of all tokens, concatenated.
    bytes: Vec<u8>,
    /// End of each token in `bytes`, where the next one begins.
    ends: Vec<u32>,
    /// Whether each token is special.
    special: Vec<bool>,
}

impl TokenBytes {
    /// Reads the table from a tokenizer. Ids without a token have no bytes, as in transformers.
    pub(crate) fn new(tokenizer: &Bpe) -> Self {
        let of_char = bytes_of_chars();
        let vocabulary = tokenizer.get_vocab(true);
        let count = vocabulary.values().max().map_or(0, |&id| id as usize + 1);
        let mut table = Self { bytes: Vec::new(), ends: Vec::with_capacity(count), special: Vec::with_capacity(count) };
        let added = tokenizer.get_added_tokens_decoder();
        for id in 0..count as u32 {
            let token = tokenizer.id_to_token(id).unwrap_or_default();
            // An added token may have characters outside the byte alphabet: its bytes are its text.
            let decoded: Option<Vec<u8>> = token.chars().map(|c| of_char.get(c as usize).copied().flatten()).collect();
            table.bytes.extend(decoded.unwrap_or_else(|| token.into_bytes()));
            table.ends.push(table.bytes.len() as u32);
            table.special.push(added.get(&id).is_some_and(|token| token.special));
        }
        table
    }

    /// Returns the number of ids from 0 to the largest.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the bytes of a token; none for an id without one.
    pub(crate) fn get(&self, id: u32) -> &[u8] {
        let Some(&end) = self.ends.get(id as usize) else { return &[] };
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        &self.bytes[start as usize..end as usize]
    }

    /// Whether a token is special, such as `<|im_end|>`.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }
}

/// Returns the inverse of GPT-2's byte alphabet: a printable Latin-1 character is its own byte, and
/// the characters from U+0100 on are the other bytes in order.
fn bytes_of_chars() -> Vec<Option<u8>> {
    let mut of_char = vec![None; 0x200];
    let mut next = 0x100;
    for byte in 0..=u8::MAX {
        let printable = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let character = if printable { usize::from(byte) } else { next };
        next += usize::from(!printable);
        of_char[character] = Some(byte);
    }
    of_char
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_has_every_byte_once() {
        let mut bytes: Vec<u8> = bytes_of_chars().into_iter().flatten().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(bytes_of_chars()['Ġ' as usize], Some(b' '));
    }
}

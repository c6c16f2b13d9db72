//! Digests, and the typed ids of images, models, questions and other rows.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A blake3 digest: 32 bytes, always written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Length of the text form in characters.
    pub const HEX_LEN: usize = 64;

    /// Computes the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Computes the digest of several parts under a context (blake3's derive-key mode).
    ///
    /// Each part is preceded by its length, so that `["ab", "c"]` and `["a", "bc"]` differ. A
    /// context is a constant of the program, such as `"visplay 2026 question id"`. Digests of
    /// different contexts never collide.
    pub fn derive(context: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// Wraps the bytes of a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the text form without allocating, for writing many ids.
    pub fn hex(&self) -> impl Deref<Target = str> + use<> {
        blake3::Hash::from_bytes(self.0).to_hex()
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// Error for a text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseDigestError {
    /// The wrong number of characters.
    #[error("a digest has 64 hexadecimal digits, but this text has {0} characters")]
    Length(usize),
    /// A character that is not a lower-case hexadecimal digit.
    #[error("a digest has only the digits 0-9 and a-f, but this text has {character:?} at position {position}")]
    Character {
        /// The offending character.
        character: char,
        /// Its position, counted from 0.
        position: usize,
    },
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let wrong = text.chars().enumerate().find(|(_, c)| !matches!(c, '0'..='9' | 'a'..='f'));
        if let Some((position, character)) = wrong.filter(|_| text.len() == Self::HEX_LEN) {
            return Err(ParseDigestError::Character { character, position });
        }
        let hash = blake3::Hash::from_hex(text);
        hash.map(Self::from).map_err(|_| ParseDigestError::Length(text.chars().count()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Declares id types that cannot be mixed up.
macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, ParseDigestError> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )+};
}

typed_ids! {
    /// An image: the digest of its original bytes.
    ImageId;
    /// A prompt template: the digest of its text.
    PromptId;
    /// A model: the digest of its weights and config.
    ModelId;
    /// A group of samples whose rewards are compared with each other.
    GroupId;
    /// One sample of the Questioner.
    QuestionId;
    /// One sample of the Reasoner.
    AnswerId;
    /// An item of a benchmark.
    ItemId;
}

impl ModelId {
    /// Returns the id of the weights after a training step, derived from the key of the step's
    /// action. Weights between checkpoints are not written, so their bytes cannot be digested.
    pub fn of_step(action: &str) -> Self {
        Self(Digest::derive("visplay 2026 trained model id", &[action.as_bytes()]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_digest_of_nothing_is_that_of_blake3() {
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(format!("{:?}", ImageId(Digest::of(b""))), format!("ImageId({empty})"));
    }

    #[test]
    fn boundaries_between_parts_matter() {
        assert_ne!(Digest::derive("t", &[b"ab", b"c"]), Digest::derive("t", &[b"a", b"bc"]));
        assert_ne!(Digest::derive("t", &[b"ab"]), Digest::derive("u", &[b"ab"]));
        assert_ne!(Digest::derive("t", &[]), Digest::derive("t", &[b""]));
    }

    #[test]
    fn a_digest_has_only_one_text_form() {
        let good = Digest::of(b"x").to_string();
        assert!(good.to_uppercase().parse::<Digest>().unwrap_err().to_string().contains("0-9 and a-f"));
        assert_eq!(good[1..].parse::<Digest>(), Err(ParseDigestError::Length(63)));
        assert_eq!("".parse::<Digest>(), Err(ParseDigestError::Length(0)));
        assert_eq!("é".repeat(32).parse::<Digest>(), Err(ParseDigestError::Character { character: 'é', position: 0 }));
        assert!(serde_json::from_str::<ImageId>("\"12\"").is_err());
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(bytes: [u8; 32]) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            let json = serde_json::to_string(&QuestionId(digest)).unwrap();
            prop_assert_eq!(&json, &format!("\"{digest}\""));
            prop_assert_eq!(serde_json::from_str::<QuestionId>(&json).unwrap(), QuestionId(digest));
        }
    }
}

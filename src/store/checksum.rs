//! Small JSON files that prove their own integrity: canonical bytes, with a digest of everything else in the field `seal`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::StoreError;
use crate::canonical::to_canonical;
use crate::ids::Digest;

const SEAL: &str = "seal";

/// The canonical bytes of a value with its seal. The value must serialize to a JSON object.
pub fn with_checksum<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    let digest = Digest::of(&to_canonical(value)?);
    let mut document: Value = serde_json::from_slice(&to_canonical(value)?).unwrap_or_default();
    let Some(fields) = document.as_object_mut() else {
        return Err(StoreError::damaged("a sealed file", "its value is not a JSON object"));
    };
    fields.insert(SEAL.to_owned(), Value::String(digest.to_string()));
    let mut bytes = to_canonical(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The value of a sealed file. `name` is the file's, for the error.
pub fn verify_checksum<T: DeserializeOwned + Serialize>(name: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |problem: &str| StoreError::damaged(name, problem);
    let mut document: Value = serde_json::from_slice(bytes).map_err(|e| damaged(&format!("it is not JSON: {e}")))?;
    let fields = document.as_object_mut().ok_or_else(|| damaged("it is not a JSON object"))?;
    fields.remove(SEAL);
    let value: T = serde_json::from_value(document).map_err(|e| damaged(&format!("it lacks what it must say: {e}")))?;
    // Sealing again is the whole check: any byte that differs, white space included, shows.
    if with_checksum(&value)? != bytes {
        return Err(damaged("its seal does not match its content"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_breaks_the_seal() {
        let value = std::collections::BTreeMap::from([("a", "text"), ("b", "1")]);
        let bytes = with_checksum(&value).expect("sealable");
        let back: std::collections::BTreeMap<String, String> = verify_checksum("f", &bytes).expect("whole");
        assert_eq!(back["a"], "text");
        for i in 0..bytes.len() {
            for flip in [1u8, 0x20, 0x80] {
                let mut bad = bytes.clone();
                bad[i] ^= flip;
                assert!(verify_checksum::<std::collections::BTreeMap<String, String>>("f", &bad).is_err(), "byte {i}");
            }
        }
        assert!(verify_checksum::<std::collections::BTreeMap<String, String>>("f", &bytes[..bytes.len() - 1]).is_err());
    }
}

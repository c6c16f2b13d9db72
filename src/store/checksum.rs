//! Small JSON files with a checksum: canonical JSON whose `seal` is a digest of the other fields.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::StoreError;
use crate::canonical::to_canonical;
use crate::ids::Digest;

/// Name of the checksum field.
const FIELD: &str = "seal";

/// Serializes a value, which must be a JSON object, and adds the checksum.
pub fn with_checksum<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    let digest = Digest::of(&to_canonical(value)?);
    let mut document: Value = serde_json::from_slice(&to_canonical(value)?).unwrap_or_default();
    let Some(fields) = document.as_object_mut() else {
        return Err(StoreError::damaged("a file with a checksum", "its value is not a JSON object"));
    };
    fields.insert(FIELD.to_owned(), Value::String(digest.to_string()));
    let mut bytes = to_canonical(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Verifies the checksum of a file and deserializes its value. `name` is used in errors.
pub fn verify_checksum<T: DeserializeOwned + Serialize>(name: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |problem: &str| StoreError::damaged(name, problem);
    let mut document: Value = serde_json::from_slice(bytes).map_err(|e| damaged(&format!("it is not JSON: {e}")))?;
    let fields = document.as_object_mut().ok_or_else(|| damaged("it is not a JSON object"))?;
    fields.remove(FIELD);
    let value: T =
        serde_json::from_value(document).map_err(|e| damaged(&format!("its content is not as expected: {e}")))?;
    // Serializing the value again must give the same bytes: this catches every changed byte, white
    // space included.
    if with_checksum(&value)? != bytes {
        return Err(damaged("its checksum does not match its content"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_is_detected() {
        let value = std::collections::BTreeMap::from([("a", "text"), ("b", "1")]);
        let bytes = with_checksum(&value).expect("a JSON object");
        let back: std::collections::BTreeMap<String, String> = verify_checksum("f", &bytes).expect("intact");
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

//! Actions and their keys, which decide whether a shard has to be computed.
//!
//! An action describes one run of a stage on one shard. Its key is a digest of the whole
//! description. If the store has a result under that key, the shard is done; otherwise it runs. So
//! the key must cover everything that the result depends on, and nothing else.
//!
//! | in the key | why |
//! |---|---|
//! | `stage`, `stage_version` | which function ran; the version is raised when the same inputs would give other bytes |
//! | `parameters` | every setting that the stage reads, defaults included, so that a changed default changes the key |
//! | `seed` | all randomness of a stage derives from it |
//! | `inputs` | digests of the input objects, in reading order |
//! | `model` | digest of the weights, if the stage uses a model |
//! | `shard` | which part of the input this is |
//! | `schemas` | schema of each table that is written: another schema is another file |
//! | `writer_profile` | how Parquet files are laid out, down to the byte |
//!
//! | not in the key | why |
//! |---|---|
//! | paths, host, user | the same work elsewhere gives the same result |
//! | time, attempt | a retry gives the same result |
//! | threads, device index | results do not depend on them; tests check it |
//! | batch size, in f32 on the CPU | kernels there are batch-invariant; elsewhere it is one of the parameters |
//! | program version | `stage_version` covers changes that matter; the result records the version |
//! | evolution name | evolutions share the work that they have in common |
//!
//! Keys are computed with blake3 in derive-key mode, so a key never equals the digest of an object.
//! `visplay why` compares two actions and prints the fields that differ ([`Action::differences`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::ActionKey;
use super::layout::ObjectId;
use crate::canonical::{CanonicalError, to_canonical};
use crate::ids::Digest;

/// One run of a stage on one shard. The tables of the module list the facts that belong here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Name of the stage.
    pub stage: String,
    /// Version of the stage's function.
    pub stage_version: u32,
    /// Settings that the stage reads, by name.
    pub parameters: BTreeMap<String, Value>,
    /// Seed of all randomness.
    pub seed: u64,
    /// Input objects, in reading order.
    pub inputs: Vec<Input>,
    /// Digest of the model's weights.
    pub model: Option<Digest>,
    /// The part of the input to process; empty for all of it.
    pub shard: BTreeMap<String, Value>,
    /// Schema ids of the tables to write, by table.
    pub schemas: BTreeMap<String, Digest>,
    /// Number of the Parquet writer's profile.
    pub writer_profile: u32,
}

/// An input object of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its role, such as `images`.
    pub role: String,
    /// The object.
    pub object: ObjectId,
}

impl Action {
    /// Returns the canonical JSON that the key is a digest of, as stored in `actions/`.
    pub fn preimage(&self) -> Result<Vec<u8>, CanonicalError> {
        to_canonical(self)
    }

    /// Computes the action's key.
    pub fn key(&self) -> Result<ActionKey, CanonicalError> {
        Ok(ActionKey::of(&self.preimage()?))
    }

    /// Compares two actions field by field, sorted by path.
    pub fn differences(&self, newer: &Self) -> Vec<ActionDifference> {
        let (before, after) = (self.flatten_fields(), newer.flatten_fields());
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        keys.into_iter()
            .filter(|k| before.get(*k) != after.get(*k))
            .map(|k| ActionDifference { key: k.clone(), before: before.get(k).cloned(), after: after.get(k).cloned() })
            .collect()
    }

    /// Returns all leaf values by path, such as `parameters.max_pixels` or `inputs.images[0]`.
    fn flatten_fields(&self) -> BTreeMap<String, String> {
        let mut leaves = BTreeMap::from([
            ("stage".to_owned(), self.stage.clone()),
            ("stage_version".to_owned(), self.stage_version.to_string()),
            ("seed".to_owned(), self.seed.to_string()),
            ("writer_profile".to_owned(), self.writer_profile.to_string()),
        ]);
        for (name, value) in &self.parameters {
            flatten(&format!("parameters.{name}"), value, &mut leaves);
        }
        leaves.extend(self.shard.iter().map(|(k, v)| (format!("shard.{k}"), v.to_string())));
        leaves.extend(self.schemas.iter().map(|(k, v)| (format!("schemas.{k}"), v.to_string())));
        leaves.extend(self.model.iter().map(|m| ("model".to_owned(), m.to_string())));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for input in &self.inputs {
            let n = counts.entry(&input.role).or_default();
            leaves.insert(format!("inputs.{}[{n}]", input.role), input.object.to_string());
            *n += 1;
        }
        leaves
    }
}

/// Adds the leaf values of a JSON value by path.
fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, value)| flatten(&format!("{path}.{name}"), value, leaves));
        }
        value => {
            leaves.insert(path.to_owned(), value.to_string());
        }
    }
}

/// A field that differs between two actions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActionDifference {
    /// Path of the field within the action.
    pub key: String,
    /// Value in the older action; `None` if it has no such field.
    pub before: Option<String>,
    /// Value in the newer action; `None` if it has no such field.
    pub after: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::ObjectKind;

    fn action() -> Action {
        Action {
            stage: "ingest".into(),
            stage_version: 1,
            parameters: BTreeMap::from([("max_pixels".into(), Value::from(10))]),
            seed: 1,
            inputs: vec![Input {
                role: "listing".into(),
                object: ObjectId { digest: Digest::of(b"a"), kind: ObjectKind::Json },
            }],
            writer_profile: 1,
            ..Action::default()
        }
    }

    #[test]
    fn every_field_enters_the_key() {
        let base = action();
        let mut others = vec![base.clone(); 9];
        others[0].stage = "questions".into();
        others[1].stage_version = 2;
        others[2].parameters.insert("max_pixels".into(), Value::from(11));
        others[3].seed = 2;
        others[4].inputs[0].role = "images".into();
        others[5].inputs[0].object.digest = Digest::of(b"b");
        others[6].model = Some(Digest::of(b"m"));
        others[7].shard.insert("part".into(), Value::from(1));
        others[8].writer_profile = 2;
        let key = base.key().expect("canonical");
        for other in &others {
            assert_ne!(other.key().expect("canonical"), key);
            assert!(!base.differences(other).is_empty());
        }
        assert!(base.differences(&base).is_empty());
    }

    #[test]
    fn a_known_action_keeps_its_key() {
        let preimage = String::from_utf8(action().preimage().expect("canonical")).expect("utf-8");
        let known = concat!(
            r#"{"inputs":[{"object":{"digest":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f","#,
            r#""kind":"json"},"role":"listing"}],"model":null,"parameters":{"max_pixels":10},"schemas":{},"seed":1,"#,
            r#""shard":{},"stage":"ingest","stage_version":1,"writer_profile":1}"#
        );
        assert_eq!(preimage, known);
        let key = "4e85bcf543e54a2df7c843aaa0da7e6edc57e352fc6fc296c0dad76caf36328d";
        assert_eq!(action().key().expect("canonical").to_string(), key);
    }

    #[test]
    fn differences_are_named_by_path() {
        let (a, mut b) = (action(), action());
        b.parameters.insert("max_pixels".into(), Value::from(11));
        let d = a.differences(&b);
        assert_eq!(d.len(), 1);
        assert_eq!((d[0].key.as_str(), d[0].after.as_deref()), ("parameters.max_pixels", Some("11")));
        let mut c = a.clone();
        b.parameters.insert("settings".into(), serde_json::json!({"band": {"low": 1, "high": 2}}));
        c.parameters.insert("settings".into(), serde_json::json!({"band": {"low": 3, "high": 2}}));
        b.parameters.insert("max_pixels".into(), Value::from(10));
        let d = b.differences(&c);
        assert_eq!((d.len(), d[0].key.as_str()), (1, "parameters.settings.band.low"));
    }
}

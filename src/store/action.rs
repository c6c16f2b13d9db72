//! Actions: what was asked of a stage, and the key that stands for it.
//!
//! A result is a function of its action, so the key must hold everything that the result depends on, and nothing else.
//!
//! | in the key | why |
//! |---|---|
//! | `stage`, `stage_version` | which function; the version changes when the same input would give other bytes |
//! | `parameters` | every knob the stage reads, defaults written out, so that a changed default is a changed key |
//! | `seed` | all randomness of a stage derives from it |
//! | `inputs` | digests of the input objects, in the order in which they are read |
//! | `model` | the weights that were used, where a model was |
//! | `shard` | which part of the input |
//! | `schemas` | the schema of each table written; another schema is another file |
//! | `writer_profile` | the layout of Parquet bytes |
//!
//! | not in the key | why |
//! |---|---|
//! | paths, host, user | the same work elsewhere is the same work |
//! | time, attempt | a second try is the same work |
//! | threads, device index | results must not depend on them; that is tested |
//! | batch size, in f32 on the CPU | the same; elsewhere it is among the parameters |
//! | program version | `stage_version` says when a change matters; the version is recorded in the result |
//! | names of evolutions | two evolutions share what they have in common |
//!
//! The key is blake3 in derive-key mode, so that it can never equal the digest of an object.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::StoreError;
use super::layout::ObjectId;
use crate::canonical::to_canonical;
use crate::ids::{Digest, ParseDigestError};

const CONTEXT: &str = "visplay 2026-11 action key v1";

/// The key of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionKey(pub(super) Digest);

impl ActionKey {
    /// The key of a canonical preimage.
    pub(super) fn of(preimage: &[u8]) -> Self {
        Self(Digest::from(blake3::Hash::from(blake3::derive_key(CONTEXT, preimage))))
    }
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ActionKey {
    type Err = ParseDigestError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

/// What a stage was asked to do. See the module's tables for what belongs here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// The stage's name.
    pub stage: String,
    /// The version of the stage's function.
    pub stage_version: u32,
    /// Every knob that the stage reads.
    pub parameters: BTreeMap<String, Value>,
    /// The seed of all its randomness.
    pub seed: u64,
    /// Input objects in reading order, each with the part it plays.
    pub inputs: Vec<Input>,
    /// The digest of the weights used.
    pub model: Option<Digest>,
    /// Which part of the input this is; empty for all of it.
    pub shard: BTreeMap<String, Value>,
    /// Schema ids of the tables written, by table.
    pub schemas: BTreeMap<String, Digest>,
    /// The number of the Parquet writer's profile.
    pub writer_profile: u32,
}

/// An input of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The part it plays, such as `images`.
    pub role: String,
    /// The object.
    pub object: ObjectId,
}

impl Action {
    /// The canonical preimage of the key: what `actions/` stores.
    pub fn preimage(&self) -> Result<Vec<u8>, StoreError> {
        Ok(to_canonical(self)?)
    }

    /// The action's key.
    pub fn key(&self) -> Result<ActionKey, StoreError> {
        Ok(ActionKey::of(&self.preimage()?))
    }

    /// What differs between two actions, field by field: what `visplay why` prints.
    pub fn differences(&self, newer: &Self) -> Vec<ActionDifference> {
        let (before, after) = (self.flat(), newer.flat());
        let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter()
            .filter(|k| before.get(*k) != after.get(*k))
            .map(|k| ActionDifference { key: k.clone(), before: before.get(k).cloned(), after: after.get(k).cloned() })
            .collect()
    }

    /// Every leaf by its path, such as `parameters.max_pixels` or `inputs.images[0]`.
    fn flat(&self) -> BTreeMap<String, String> {
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

/// The leaves of a value by their paths.
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

/// A part of an action that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActionDifference {
    /// The part's path within the action.
    pub key: String,
    /// What it was; `None` when it was not there.
    pub before: Option<String>,
    /// What it is; `None` when it is gone.
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
            model: None,
            shard: BTreeMap::new(),
            schemas: BTreeMap::new(),
            writer_profile: 1,
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

//! What a pipeline file says about a round, as the round's action keeps it: taken from a file, compared, and put back.

use serde_json::{Map, Value, json};

use super::gates::GateResult;
use super::pipeline::{Pipeline, PipelineError};

/// What a round does not depend on: names, places, the memory that may be taken, the truth that only measures; and the gates, whose
/// thresholds a round keeps with their figures.
const LEFT_OUT: [&str; 10] = [
    "/evolution",
    "/ingest",
    "/gates",
    "/prompts",
    "/model/base",
    "/model/device",
    "/model/image_memory",
    "/evaluation/benchmarks",
    "/evaluation/truth",
    "/round/labelled",
];

/// What a round depends on only where [`ComputeIdentity::limits_affect_results`](crate::stages::compute_identity::ComputeIdentity).
const ROOM: [&str; 2] = ["/sampling/cache_bytes", "/sampling/max_sequences"];

/// What a pipeline file says about a round, the room that sampling may take among it if `with_room`.
pub fn settings_of(pipeline: &Pipeline, with_room: bool) -> Value {
    let mut settings = json!(pipeline);
    let room = ROOM.iter().filter(|_| !with_room);
    for path in LEFT_OUT.iter().chain(room) {
        let (parent, key) = path.rsplit_once('/').unwrap_or_default();
        if let Some(Value::Object(section)) = settings.pointer_mut(parent) {
            section.remove(key);
        }
    }
    settings
}

/// The keys in which a round that was made differs from a pipeline file; the room is compared where the round named it.
pub fn changes_since(then: &Value, pipeline: &Pipeline) -> Vec<SettingChange> {
    let with_room = ROOM.iter().any(|path| then.pointer(path).is_some());
    changes(then, &settings_of(pipeline, with_room))
}

/// A pipeline with the settings of a round that was made, and its gates; what a round does not depend on is as in `today`.
///
/// # Errors
/// A setting that this program does not know.
pub fn apply(then: &Value, gates: &[GateResult], today: &Pipeline) -> Result<Pipeline, PipelineError> {
    let failed = |problem: String| PipelineError {
        file: "the settings stored with the round".into(),
        line: None,
        problem,
        nearest: None,
    };
    let preset = then.get("preset").and_then(Value::as_str).unwrap_or("paper");
    // A key that came into being after the round has its default, not what today's file says.
    let mut settings = json!(Pipeline::of_preset(preset)?);
    let now = json!(today);
    for path in LEFT_OUT.iter().chain(&ROOM) {
        let (parent, key) = path.rsplit_once('/').unwrap_or_default();
        if let (Some(Value::Object(section)), Some(value)) = (settings.pointer_mut(parent), now.pointer(path)) {
            section.insert(key.to_owned(), value.clone());
        }
    }
    merge_over(&mut settings, then);
    let mut pipeline: Pipeline = serde_json::from_value(settings).map_err(|e| failed(e.to_string()))?;
    let thresholds: Map<String, Value> =
        gates.iter().map(|gate| (gate.gate.clone(), json!({"warn": gate.warn, "stop": gate.stop}))).collect();
    pipeline.gates = serde_json::from_value(Value::Object(thresholds)).map_err(|e| failed(e.to_string()))?;
    pipeline.source.clone_from(&today.source);
    Ok(pipeline)
}

fn merge_over(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                merge_over(below.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above.clone(),
    }
}

/// A key in which two settings differ.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SettingChange {
    /// The key.
    pub key: String,
    /// Its value in the first; null where it has none.
    pub a: Value,
    /// Its value in the second.
    pub b: Value,
}

/// The keys in which two settings differ.
pub fn changes(a: &Value, b: &Value) -> Vec<SettingChange> {
    let mut found = Vec::new();
    diff(a, b, "", &mut found);
    found
}

fn diff(a: &Value, b: &Value, path: &str, found: &mut Vec<SettingChange>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let dotted = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let of = |side: &Map<String, Value>| side.get(name).cloned().unwrap_or_default();
                diff(&of(a), &of(b), &dotted, found);
            }
        }
        // 1 and 1.0 are one number; canonical JSON writes the second as the first.
        _ if a == b || a.as_f64().is_some_and(|a| Some(a) == b.as_f64()) => {}
        _ => found.push(SettingChange { key: path.to_owned(), a: a.clone(), b: b.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_round_s_settings_come_back_whatever_the_file_says_now() {
        let of = |text: &str| Pipeline::parse(Path::new("p.toml"), text).expect("usable");
        let then = of("evolution = \"a\"\n[curriculum]\nlow = 0.4\n[sampling]\nquestioner = { max_tokens = 7 }\n");
        let now =
            of("evolution = \"b\"\npreset = \"released-code\"\n[model]\nbase = \"elsewhere\"\n[round]\nseed = 9\n");
        let gates = [GateResult {
            gate: "valid_share".into(),
            figure: None,
            side: super::super::gates::ThresholdSide::AtLeast,
            warn: Some(0.5),
            stop: None,
            verdict: super::super::gates::GateVerdict::Passed,
        }];
        let back = apply(&settings_of(&then, true), &gates, &now).expect("apply");
        assert_eq!(settings_of(&back, true), settings_of(&then, true));
        assert_eq!((back.evolution.as_str(), &back.model.base), ("b", &now.model.base));
        assert_eq!(back.gates.valid_share.warn, Some(0.5));
        assert!(apply(&json!({"curriculum": {"lo": 1}}), &[], &now).is_err());
    }

    #[test]
    fn the_room_is_compared_where_it_was_named() {
        let of = |bytes: u32| {
            let text = format!("evolution = \"a\"\n[sampling]\ncache_bytes = {bytes}\n");
            Pipeline::parse(Path::new("p.toml"), &text).expect("usable")
        };
        let (small, large) = (of(8192), of(16384));
        assert_eq!(settings_of(&small, true).pointer("/sampling/cache_bytes"), Some(&json!(8192)));
        assert_eq!(settings_of(&small, false).pointer("/sampling/cache_bytes"), None);
        assert_eq!(changes_since(&settings_of(&small, false), &large), []);
        let changed: Vec<String> =
            changes_since(&settings_of(&small, true), &large).into_iter().map(|change| change.key).collect();
        assert_eq!(changed, ["sampling.cache_bytes"]);
    }

    #[test]
    fn changes_are_named_by_their_keys() {
        let found = changes(&json!({"a": {"b": 1, "c": 2}, "d": 1.0}), &json!({"a": {"b": 3}, "d": 1}));
        let keys: Vec<&str> = found.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["a.b", "a.c"]);
    }
}

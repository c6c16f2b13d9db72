//! The settings of a round as its action stores them: read from a pipeline file, compared, applied.

use serde_json::{Map, Value, json};

use super::gates::GateResult;
use super::pipeline::{Pipeline, PipelineError, current_name};

/// Settings that results do not depend on: names, paths, devices, memory limits, retention, and the
/// truth, which only measures. Also the gates, which a round stores separately, with their values.
const EXCLUDED: [&str; 12] = [
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
    "/round/labelled_columns",
    "/retention",
];

/// Settings that results depend on only where `ComputeIdentity::limits_affect_results`.
const SAMPLING_LIMITS: [&str; 2] = ["/sampling/cache_bytes", "/sampling/max_sequences"];

/// Returns the settings of a round as its action stores them, including the limits of sampling if
/// `with_limits`.
pub fn settings_of(pipeline: &Pipeline, with_limits: bool) -> Value {
    let mut settings = json!(pipeline);
    let limits = SAMPLING_LIMITS.iter().filter(|_| !with_limits);
    for path in EXCLUDED.iter().chain(limits) {
        let (parent, key) = path.rsplit_once('/').unwrap_or_default();
        if let Some(Value::Object(section)) = settings.pointer_mut(parent) {
            section.remove(key);
        }
    }
    settings
}

/// Returns the keys in which stored settings differ from a pipeline file. Limits of sampling are
/// compared only where they were stored.
pub fn changes_since(stored: &Value, pipeline: &Pipeline) -> Vec<SettingChange> {
    let with_limits = SAMPLING_LIMITS.iter().any(|path| stored.pointer(path).is_some());
    changes(stored, &settings_of(pipeline, with_limits))
}

/// Returns a pipeline with the stored settings and gates of a round, and everything else (names,
/// paths, devices) from `current_pipeline`.
///
/// # Errors
/// The stored settings have a key or value that this program does not know.
pub fn apply(stored: &Value, gates: &[GateResult], current_pipeline: &Pipeline) -> Result<Pipeline, PipelineError> {
    let failed = |e: serde_json::Error| PipelineError::of_file("the settings stored with the round", e.to_string());
    let preset = stored.get("preset").and_then(Value::as_str).unwrap_or("paper");
    // A key that was introduced after the round has its default, not the value of today's file.
    let mut settings = json!(Pipeline::of_preset(preset)?);
    let current = json!(current_pipeline);
    for path in EXCLUDED.iter().chain(&SAMPLING_LIMITS) {
        let (parent, key) = path.rsplit_once('/').unwrap_or_default();
        if let (Some(Value::Object(section)), Some(value)) = (settings.pointer_mut(parent), current.pointer(path)) {
            section.insert(key.to_owned(), value.clone());
        }
    }
    merge_over(&mut settings, stored);
    let mut pipeline: Pipeline = serde_json::from_value(settings).map_err(failed)?;
    let thresholds: Map<String, Value> =
        gates.iter().map(|gate| (gate.gate.clone(), json!({"warn": gate.warn, "stop": gate.stop}))).collect();
    pipeline.gates = serde_json::from_value(Value::Object(thresholds)).map_err(failed)?;
    pipeline.source.clone_from(&current_pipeline.source);
    Ok(pipeline)
}

fn merge_over(base: &mut Value, overlay: &Value) {
    match (base, overlay) {
        (Value::Object(base), Value::Object(overlay)) => {
            for (key, value) in overlay {
                merge_over(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, overlay) => *base = overlay.clone(),
    }
}

/// A key whose value differs between two settings.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SettingChange {
    /// The key.
    pub key: String,
    /// Its value in the first; null if absent.
    pub a: Value,
    /// Its value in the second; null if absent.
    pub b: Value,
}

/// Returns the keys whose values differ between two settings, by their names in pipeline files.
pub fn changes(a: &Value, b: &Value) -> Vec<SettingChange> {
    let mut differences = Vec::new();
    diff(a, b, "", &mut differences);
    differences
}

fn diff(a: &Value, b: &Value, path: &str, differences: &mut Vec<SettingChange>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let current = current_name(name);
                let dotted = if path.is_empty() { current.to_owned() } else { format!("{path}.{current}") };
                let value_of = |side: &Map<String, Value>| side.get(name).cloned().unwrap_or_default();
                diff(&value_of(a), &value_of(b), &dotted, differences);
            }
        }
        // 1 and 1.0 are one number; canonical JSON writes the second as the first.
        _ if a == b || a.as_f64().is_some_and(|a| Some(a) == b.as_f64()) => {}
        _ => differences.push(SettingChange { key: path.to_owned(), a: a.clone(), b: b.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gates::label_gate;
    use super::super::pipeline::{Gates, Thresholds};
    use super::*;

    #[test]
    fn stored_settings_replace_those_of_the_file() {
        let pipeline_of = |text: &str| Pipeline::parse_keys(text).expect("usable");
        let stored = pipeline_of("[curriculum]\nlow = 0.4\n[sampling]\nquestioner = { max_tokens = 7 }");
        let mut current = pipeline_of("preset = \"released-code\"\n[model]\nbase = \"elsewhere\"\n[round]\nseed = 9");
        current.evolution = "b".into();
        let warn_at_half = Thresholds { warn: Some(0.5), stop: None };
        let gates = [label_gate(&Gates { label_accuracy: warn_at_half, ..Gates::default() }, 1, 1)];
        let back = apply(&settings_of(&stored, true), &gates, &current).expect("apply");
        assert_eq!(settings_of(&back, true), settings_of(&stored, true));
        assert_eq!((back.evolution.as_str(), &back.model.base), ("b", &current.model.base));
        assert_eq!(back.gates.label_accuracy, warn_at_half);
        assert!(apply(&json!({"curriculum": {"lo": 1}}), &[], &current).is_err());
    }

    #[test]
    fn sampling_limits_are_compared_where_they_were_stored() {
        let pipeline_of =
            |bytes: u32| Pipeline::parse_keys(&format!("[sampling]\ncache_bytes = {bytes}")).expect("usable");
        let (small, large) = (pipeline_of(8192), pipeline_of(16384));
        assert_eq!(settings_of(&small, true).pointer("/sampling/cache_bytes"), Some(&json!(8192)));
        assert_eq!(settings_of(&small, false).pointer("/sampling/cache_bytes"), None);
        assert_eq!(changes_since(&settings_of(&small, false), &large), []);
        let changed: Vec<String> =
            changes_since(&settings_of(&small, true), &large).into_iter().map(|change| change.key).collect();
        assert_eq!(changed, ["sampling.cache_bytes"]);
    }

    #[test]
    fn changes_are_named_by_their_keys() {
        let differences = changes(&json!({"a": {"b": 1, "c": 2}, "d": 1.0}), &json!({"a": {"b": 3}, "d": 1}));
        let keys: Vec<&str> = differences.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["a.b", "a.c"]);
        let stored_name = |n: u32| json!({"layers_at_once": n});
        assert_eq!(changes(&stored_name(1), &stored_name(2))[0].key, "layers_per_checkpoint");
    }
}

//! LoRA, compared with PEFT (frozen by `tests/oracles/lora.py`), and adapter folders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde_json::Value;
use visplay::training::adapter::LoraAdapter;
use visplay::training::supervised::cross_entropy;
use visplay::training::trainable::Snapshot;
use visplay::training::{TrainScope, TrainableModel};
use visplay::vlm::config::Config;
use visplay::vlm::model::Model;
use visplay::vlm::named_tensors::{CheckpointTensors, NamedTensors, Purpose};
use visplay::vlm::weights::Weights;

use super::OPS;
use super::model_parity::{features, folder, full_forward, process};
use super::training_adamw::{Settings, Step, check_entries, train};
use super::training_gradients::{Example, compute_settings, frozen, oracle, oracles, prefix_groups, trainable};

#[derive(Deserialize)]
struct Oracle {
    checkpoint: String,
    rank: usize,
    alpha: f64,
    settings: Settings,
    examples: Vec<Example>,
    logits: Vec<Logits>,
    loss: f64,
    gradient_norms: BTreeMap<String, f64>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Logits {
    at: Vec<usize>,
    values: Vec<f64>,
}

fn peft_folder() -> PathBuf {
    oracles().join("lora")
}

fn config(name: &str) -> Config {
    Config::load(&folder().join(name)).unwrap()
}

/// Returns the tiny checkpoint with the adapter that PEFT saved.
fn adapted() -> (Oracle, LoraAdapter, TrainableModel) {
    let oracle: Oracle = oracle("lora.json");
    let adapter = LoraAdapter::read(&peft_folder(), &config(&oracle.checkpoint)).unwrap();
    assert_eq!((adapter.settings.rank, adapter.settings.alpha), (oracle.rank, oracle.alpha));
    let weights = trainable(&oracle.checkpoint, TrainScope::Lora(adapter.settings.clone()));
    assert!(weights.variables().keys().eq(adapter.tensors.keys()), "the names are those of PEFT");
    adapter.tensors.iter().for_each(|(name, tensor)| weights.set(name, tensor).unwrap());
    (oracle, adapter, weights)
}

fn norm(tensor: &Tensor) -> f64 {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn logits_with_an_adapter_equal_those_of_peft() {
    let (oracle, _, weights) = adapted();
    let sources: [(&dyn NamedTensors, Purpose); 2] =
        [(&Snapshot(&weights), Purpose::Sampling), (&weights, Purpose::Training)];
    for (source, purpose) in sources {
        let model = Model::new(config(&oracle.checkpoint), source, purpose).unwrap();
        for (example, expected) in oracle.examples.iter().zip(&oracle.logits) {
            let images = process(&example.images);
            let features = features(&model, &images);
            let logits = full_forward(&model, &example.prompt_ids, &images, features.as_ref()).pop().unwrap();
            for (at, expected) in expected.at.iter().zip(&expected.values) {
                let actual = f64::from(logits[*at]);
                assert!((actual - expected).abs() <= 1e-3, "{purpose:?} [{at}]: {actual} here, {expected} in peft");
            }
        }
    }
}

#[test]
fn gradients_of_an_adapter_equal_those_of_peft_and_nothing_else_has_one() {
    let (oracle, _, weights) = adapted();
    let frozen = frozen("lora.safetensors");
    for compute in compute_settings() {
        let (loss, _, gradients) = cross_entropy(&weights, &prefix_groups(&oracle.examples), compute).unwrap();
        assert!((loss - oracle.loss).abs() <= 1e-4, "{loss}, {}", oracle.loss);
        let names: Vec<&String> = gradients.iter().map(|(name, _)| name).collect();
        assert!(names.iter().copied().eq(oracle.gradient_norms.keys()), "{names:?}");
        for (name, gradient) in gradients.iter() {
            let expected = &frozen[&format!("gradient/{name}")];
            let size = oracle.gradient_norms[name];
            assert!(size > 0.0 && (norm(gradient) - size).abs() <= 1e-4 * size, "{name}: {}, {size}", norm(gradient));
            let error = norm(&(gradient - expected).unwrap());
            assert!(error <= 1e-4 * size, "{name}: error {error} of {size}");
        }
    }
}

#[test]
fn merged_weights_equal_those_of_peft_and_others_do_not_change() {
    let (oracle, adapter, weights) = adapted();
    let frozen = frozen("lora.safetensors");
    let base = trainable(&oracle.checkpoint, TrainScope::All).merged().unwrap();
    let path = folder().join(&oracle.checkpoint);
    let config = config(&oracle.checkpoint);
    let stored = Weights::open(&path, &config).unwrap();
    let source = CheckpointTensors { weights: &stored, dtype: DType::F32, device: &Device::Cpu, ops: OPS };
    for merged in [weights.merged().unwrap(), adapter.merged(&config, &source).unwrap()] {
        let mut changed = 0;
        for (name, tensor) in &merged {
            match frozen.get(&format!("merged/{name}")) {
                Some(expected) => {
                    changed += 1;
                    check_entries(name, tensor, expected, frozen.get(&format!("merged/places/{name}")));
                }
                None => assert_eq!(norm(&(tensor - &base[name]).unwrap()), 0.0, "{name}"),
            }
        }
        assert_eq!(2 * changed, adapter.tensors.len());
    }
}

#[test]
fn five_steps_on_an_adapter_equal_those_of_peft() {
    let (oracle, _, weights) = adapted();
    let frozen = frozen("lora.safetensors");
    assert_eq!(oracle.steps.len(), 5);
    train(&weights, &oracle.examples, &oracle.settings, &oracle.steps, |_, _| ());
    for (name, variable) in weights.variables() {
        check_entries(name, variable, &frozen[&format!("after/{name}")], frozen.get(&format!("after/places/{name}")));
    }
}

#[test]
fn a_new_adapter_changes_nothing() {
    let (oracle, adapter, _) = adapted();
    let weights = trainable(&oracle.checkpoint, TrainScope::Lora(adapter.settings));
    let base = trainable(&oracle.checkpoint, TrainScope::All).merged().unwrap();
    for (name, tensor) in weights.merged().unwrap() {
        assert_eq!(norm(&(tensor - &base[&name]).unwrap()), 0.0, "{name}");
    }
    for (name, variable) in weights.variables() {
        assert_eq!(norm(variable) == 0.0, name.contains("lora_B"), "{name}");
    }
}

#[test]
fn an_adapter_is_written_in_peft_format() {
    let (oracle, adapter, _) = adapted();
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("adapter");
    std::fs::rename(adapter.prepare(&out, &oracle.checkpoint).unwrap().keep(), &out).unwrap();
    let file = |folder: &Path| candle_core::safetensors::load(folder.join("adapter_model.safetensors"), &Device::Cpu);
    let (ours, theirs) = (file(&out).unwrap(), file(&peft_folder()).unwrap());
    assert_eq!(ours.keys().collect::<BTreeSet<_>>(), theirs.keys().collect());
    for (name, tensor) in &theirs {
        assert_eq!((ours[name].dims(), ours[name].dtype()), (tensor.dims(), tensor.dtype()), "{name}");
        assert_eq!(norm(&(&ours[name] - tensor).unwrap()), 0.0, "{name}");
    }
    let json = |folder: &Path| -> BTreeMap<String, Value> {
        serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
    };
    let (ours, theirs) = (json(&out), json(&peft_folder()));
    let target_set = |value: &Value| -> BTreeSet<String> {
        let text = value.as_str().unwrap();
        let (_, list) = text.strip_suffix(')').unwrap().split_once('(').unwrap();
        list.split('|').map(str::to_owned).collect()
    };
    for (key, value) in &ours {
        match key.as_str() {
            "target_modules" => assert_eq!(target_set(value), target_set(&theirs[key])),
            _ => assert_eq!(value, &theirs[key], "{key}"),
        }
    }
    let back = LoraAdapter::read(&out, &config(&oracle.checkpoint)).unwrap();
    assert_eq!(back.settings, adapter.settings);
    assert!(adapter.prepare(&out, "x").unwrap_err().to_string().contains("already exists"));
}

#[test]
fn adapters_with_unsupported_features_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let untied = config("untied-2");
    let copy = |change: &dyn Fn(&mut BTreeMap<String, Value>)| {
        let text = std::fs::read(peft_folder().join("adapter_config.json")).unwrap();
        let mut config: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap();
        change(&mut config);
        std::fs::write(place.path().join("adapter_config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
        let weights = std::fs::read(peft_folder().join("adapter_model.safetensors")).unwrap();
        std::fs::write(place.path().join("adapter_model.safetensors"), weights).unwrap();
        LoraAdapter::read(place.path(), &untied).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(copy(&|_| ()), Ok(()));
    for (key, value) in [
        ("use_dora", Value::from(true)),
        ("init_lora_weights", Value::from("pissa")),
        ("use_rslora", Value::from(true)),
        ("bias", Value::from("all")),
        ("peft_type", Value::from("LOHA")),
        ("rank_pattern", serde_json::json!({"q_proj": 2})),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("r", Value::from(0)),
    ] {
        let problem = copy(&|config| drop(config.insert(key.to_owned(), value.clone()))).unwrap_err();
        assert!(problem.contains(key), "{key}: {problem}");
    }
    let problem = copy(&|config| drop(config.insert("r".to_owned(), Value::from(8)))).unwrap_err();
    assert!(problem.contains("has the shape [4, "), "{problem}");
    let read = |name: &str| LoraAdapter::read(place.path(), &config(name)).unwrap_err().to_string();
    copy(&|_| ()).unwrap();
    assert!(read("tied-1").contains("does not fit"), "{}", read("tied-1"));
    std::fs::write(place.path().join("adapter_model.safetensors"), b"no").unwrap();
    assert!(read("untied-2").contains("adapter_model.safetensors"));
    std::fs::remove_file(place.path().join("adapter_config.json")).unwrap();
    assert!(read("untied-2").contains("adapter_config.json"));
}

//! Gradients of every tensor, compared with those of PyTorch autograd through transformers, frozen
//! by `tests/oracles/gradients.py`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use visplay::random::Seed;
use visplay::training::gradients::Gradients;
use visplay::training::grpo::{Aggregation, GrpoSettings, token_weights};
use visplay::training::objective::{PolicyObjective, PolicyToken};
use visplay::training::step::{self, ComputeSettings};
use visplay::training::supervised::cross_entropy;
use visplay::training::{Continuation, PrefixGroup, PreparedImage, TokenStats, TrainScope, TrainableModel};
use visplay::vlm::config::Config;
use visplay::vlm::named_tensors::CheckpointTensors;
use visplay::vlm::weights::Weights;

use super::OPS;
use super::model_parity::{folder, process};

#[derive(Deserialize)]
struct Oracle {
    examples: Vec<Example>,
    advantages: Vec<f64>,
    eps_low: f64,
    eps_high: f64,
    dual: f64,
    beta: f64,
    max_tokens: usize,
    checkpoints: BTreeMap<String, BTreeMap<String, Case>>,
}

#[derive(Deserialize)]
pub(crate) struct Example {
    pub(crate) images: Vec<String>,
    pub(crate) prompt_ids: Vec<u32>,
    pub(crate) response_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Case {
    loss: f64,
    aggregation: Option<Aggregation>,
    temperature: Option<f64>,
    policy_loss: Option<f64>,
    kl: Option<f64>,
    logps: Vec<Vec<f64>>,
    entropies: Vec<Vec<f64>>,
    old: Option<Vec<Vec<f32>>>,
    reference: Option<Vec<Vec<f32>>>,
    gradients: BTreeMap<String, (f64, f64, usize)>,
}

pub(crate) fn oracles() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles")
}

/// Reads the weights of a tiny checkpoint for training.
pub(crate) fn trainable(name: &str, trained: TrainScope) -> TrainableModel {
    let folder = folder().join(name);
    let config = Config::load(&folder).unwrap();
    let weights = Weights::open(&folder, &config).unwrap();
    let source = CheckpointTensors { weights: &weights, dtype: DType::F32, device: &Device::Cpu, ops: OPS };
    TrainableModel::new(&config, trained, &source, Seed(1), DType::F32, &Device::Cpu).unwrap()
}

/// Returns the examples as prefix groups; consecutive examples of one prompt share a group.
pub(crate) fn prefix_groups(examples: &[Example]) -> Vec<PrefixGroup> {
    let mut images: BTreeMap<String, Arc<PreparedImage>> = BTreeMap::new();
    let mut prefix_groups: Vec<PrefixGroup> = Vec::new();
    for example in examples {
        for name in &example.images {
            images
                .entry(name.clone())
                .or_insert_with(|| Arc::new(process(std::slice::from_ref(name)).swap_remove(0).into()));
        }
        let continuation = Continuation::response(example.response_ids.clone());
        match prefix_groups.last_mut() {
            Some(prefix_group) if prefix_group.prefix == example.prompt_ids => {
                prefix_group.continuations.push(continuation)
            }
            _ => prefix_groups.push(PrefixGroup {
                prefix: example.prompt_ids.clone(),
                images: example.images.iter().map(|name| images[name].clone()).collect(),
                continuations: vec![continuation],
            }),
        }
    }
    prefix_groups
}

/// Returns compute settings that must all give the same results.
pub(crate) fn compute_settings() -> [ComputeSettings; 4] {
    let compute = |micro_batch_tokens, layers_per_checkpoint, threads| ComputeSettings {
        temperature: 1.0,
        micro_batch_tokens,
        layers_per_checkpoint,
        threads,
    };
    [compute(1, 1, 1), compute(120, 2, 2), compute(10_000, 1, 2), compute(10_000, 100, 1)]
}

fn check_tokens(label: &str, actual: &[TokenStats], case: &Case) {
    let expected = case.logps.iter().flatten().zip(case.entropies.iter().flatten());
    assert_eq!(actual.len(), case.logps.iter().flatten().count());
    for (i, (actual, (logp, entropy))) in actual.iter().zip(expected).enumerate() {
        assert!((f64::from(actual.logprob) - logp).abs() < 1e-4, "{label}, token {i}: {actual:?}, {logp}");
        assert!((f64::from(actual.entropy) - entropy).abs() < 1e-4, "{label}, token {i}: {actual:?}, {entropy}");
    }
}

/// Checks that the relative error of every tensor's gradient norm, and of its entries relative to
/// that norm, is below 1e-4.
fn check_gradients(label: &str, actual: &Gradients, case: &Case, frozen: &BTreeMap<String, Tensor>, key: [&str; 2]) {
    let names: Vec<&String> = actual.iter().map(|(name, _)| name).collect();
    let expected: Vec<&String> = case.gradients.keys().collect();
    assert_eq!(names, expected, "{label}");
    for (name, gradient) in actual.iter() {
        let (norm, _, count) = case.gradients[name];
        let values: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values.len(), count, "{label} {name}");
        let own = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        assert!((own - norm).abs() <= 1e-4 * norm, "{label} {name}: norm {own}, {norm}");
        let expected_values: Vec<f32> = frozen[&format!("{}/{}/{name}", key[0], key[1])].to_vec1().unwrap();
        let indexes: Vec<usize> = match frozen.get(&format!("{}/places/{name}", key[0])) {
            Some(indexes) => indexes.to_vec1::<u32>().unwrap().into_iter().map(|p| p as usize).collect(),
            None => (0..count).collect(),
        };
        assert_eq!(indexes.len(), expected_values.len());
        let error: f64 =
            indexes.iter().zip(&expected_values).map(|(p, k)| (f64::from(values[*p]) - f64::from(*k)).powi(2)).sum();
        let size: f64 = expected_values.iter().map(|k| f64::from(*k).powi(2)).sum::<f64>().sqrt();
        // Entries that are small by cancellation are compared with the gradient's root mean square.
        let floor = norm * (indexes.len() as f64 / count as f64).sqrt();
        assert!(error.sqrt() <= 1e-4 * size.max(floor), "{label} {name}: error {} of {size}", error.sqrt());
    }
}

/// Reads a script's frozen JSON.
pub(crate) fn oracle<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(oracles().join(name)).unwrap()).unwrap()
}

/// Reads a script's frozen tensors.
pub(crate) fn frozen(name: &str) -> BTreeMap<String, Tensor> {
    candle_core::safetensors::load(oracles().join(name), &Device::Cpu).unwrap().into_iter().collect()
}

fn read() -> (Oracle, BTreeMap<String, Tensor>) {
    (oracle("gradients.json"), frozen("gradients.safetensors"))
}

#[test]
fn supervised_gradients_equal_those_of_autograd() {
    let (oracle, frozen) = read();
    let prefix_groups = prefix_groups(&oracle.examples);
    for (name, cases) in &oracle.checkpoints {
        let weights = trainable(name, TrainScope::All);
        let case = &cases["supervised"];
        for compute in compute_settings() {
            let label = format!("{name} {compute:?}");
            let (loss, stats, gradients) = cross_entropy(&weights, &prefix_groups, compute).unwrap();
            assert!((loss - case.loss).abs() < 1e-4, "{label}: {loss}, {}", case.loss);
            check_tokens(&label, &stats, case);
            check_gradients(&label, &gradients, case, &frozen, [name, "supervised"]);
        }
    }
}

#[test]
fn an_image_may_be_cut_into_patches_on_demand() {
    let (oracle, _) = read();
    let in_memory = prefix_groups(&oracle.examples);
    let on_demand = |change: fn(&mut [usize; 3])| -> Vec<PrefixGroup> {
        let mut prefix_groups = in_memory.clone();
        for image in prefix_groups.iter_mut().flat_map(|prefix_group| &mut prefix_group.images) {
            let patches = image.patches().unwrap();
            let cut = move || {
                let mut patches = patches.as_ref().clone();
                change(&mut patches.grid);
                Ok(patches)
            };
            *image = Arc::new(PreparedImage::lazy(image.grid(), cut));
        }
        prefix_groups
    };
    let name = oracle.checkpoints.keys().next().unwrap();
    let (weights, compute) = (trainable(name, TrainScope::All), compute_settings()[0]);
    let loss = |prefix_groups: &[PrefixGroup]| {
        cross_entropy(&weights, prefix_groups, compute).map(|(loss, ..)| loss.to_bits())
    };
    assert_eq!(loss(&on_demand(|_| ())).unwrap(), loss(&in_memory).unwrap());
    assert!(loss(&on_demand(|grid| grid.swap(0, 1))).unwrap_err().to_string().contains("expected"));
}

/// Returns the settings and the tokens of a case of the policy loss.
fn policy(oracle: &Oracle, case: &Case) -> (GrpoSettings, Vec<PolicyToken>) {
    let settings = GrpoSettings {
        eps_low: oracle.eps_low,
        eps_high: oracle.eps_high,
        dual: Some(oracle.dual),
        beta: oracle.beta,
        aggregation: case.aggregation.unwrap(),
        max_tokens: oracle.max_tokens,
        ..GrpoSettings::default()
    };
    let lengths: Vec<usize> = oracle.examples.iter().map(|e| e.response_ids.len()).collect();
    let shares = token_weights(&lengths, settings.aggregation, settings.max_tokens);
    let (old, reference) = (case.old.as_ref().unwrap(), case.reference.as_ref().unwrap());
    let tokens = |i: usize| {
        let (advantage, weight) = (oracle.advantages[i], shares[i]);
        let pairs = old[i].iter().zip(&reference[i]);
        pairs.map(move |(old, reference)| PolicyToken {
            advantage,
            old: Some(*old),
            sampler: *old,
            reference: Some(*reference),
            weight,
        })
    };
    (settings, (0..oracle.examples.len()).flat_map(tokens).collect())
}

#[test]
fn grpo_gradients_equal_those_of_autograd() {
    let (oracle, frozen) = read();
    let prefix_groups = prefix_groups(&oracle.examples);
    for (name, cases) in &oracle.checkpoints {
        let weights = trainable(name, TrainScope::All);
        for (key, case) in cases.iter().filter(|(_, case)| case.aggregation.is_some()) {
            let (settings, tokens) = policy(&oracle, case);
            let objective = PolicyObjective { settings: &settings, tokens };
            for compute in compute_settings() {
                let compute = ComputeSettings { temperature: case.temperature.unwrap(), ..compute };
                let label = format!("{name} {key} {compute:?}");
                let (stats, gradients) = step::gradients(&weights, &prefix_groups, &objective, compute).unwrap();
                check_tokens(&label, &stats, case);
                let (policy, kl) = objective.losses(&stats);
                for (actual, expected) in [
                    (policy, case.policy_loss.unwrap()),
                    (kl, case.kl.unwrap()),
                    (policy + oracle.beta * kl, case.loss),
                ] {
                    assert!((actual - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{label}: {actual}, {expected}");
                }
                check_gradients(&label, &gradients, case, &frozen, [name, key]);
            }
        }
    }
}

/// Moving a tensor along its gradient, or its largest entry alone, changes the loss at the rate of
/// the gradient.
#[test]
fn grpo_gradients_equal_finite_differences() {
    let (oracle, _) = read();
    let prefix_groups = prefix_groups(&oracle.examples);
    let name = "untied-2";
    let weights = trainable(name, TrainScope::All);
    for case in oracle.checkpoints[name].values().filter(|case| case.aggregation.is_some()) {
        let (settings, tokens) = policy(&oracle, case);
        let objective = PolicyObjective { settings: &settings, tokens };
        let compute = ComputeSettings { temperature: case.temperature.unwrap(), ..compute_settings()[3] };
        let loss = || {
            let (policy, kl) = objective.losses(&step::token_stats(&weights, &prefix_groups, compute).unwrap());
            policy + settings.beta * kl
        };
        let (_, gradients) = step::gradients(&weights, &prefix_groups, &objective, compute).unwrap();
        for (number, (name, gradient)) in gradients.iter().enumerate().step_by(5) {
            let values: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
            let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let largest = (0..values.len()).max_by(|a, b| values[*a].abs().total_cmp(&values[*b].abs())).unwrap();
            let alone = (0..values.len()).map(|i| if i == largest { 1.0 } else { 0.0 }).collect();
            let along = values.iter().map(|v| (f64::from(*v) / norm) as f32).collect();
            for (direction, slope) in [(along, norm), (alone, f64::from(values[largest]))] {
                let direction: Vec<f32> = direction;
                let direction = Tensor::from_vec(direction, gradient.shape(), &Device::Cpu).unwrap();
                let start = weights.variables()[name].as_detached_tensor().copy().unwrap();
                // A step that changes the loss by about a thousandth: more than its rounding, less
                // than the distance to most kinks of the clipping.
                let size = (5e-4 / slope.abs()).min(2e-2);
                let moved = |by: f64| {
                    weights.set(name, &(&start + (&direction * by).unwrap()).unwrap()).unwrap();
                    loss()
                };
                let actual = (moved(size) - moved(-size)) / (2.0 * size);
                weights.set(name, &start).unwrap();
                let allowed = 0.02 * slope.abs() + 1e-6 / size;
                assert!((actual - slope).abs() <= allowed, "{number} {name}: slope {actual}, gradient {slope}");
            }
        }
    }
}

#[test]
fn gradients_do_not_depend_on_threads_and_frozen_tensors_have_none() {
    let (oracle, _) = read();
    let prefix_groups = prefix_groups(&oracle.examples);
    for trained in [TrainScope::All, TrainScope::Text] {
        let weights = trainable("nano-like", trained.clone());
        let compute =
            |threads| ComputeSettings { temperature: 1.0, micro_batch_tokens: 130, layers_per_checkpoint: 2, threads };
        let bits = |threads| -> BTreeMap<String, Vec<u32>> {
            let (_, _, gradients) = cross_entropy(&weights, &prefix_groups, compute(threads)).unwrap();
            let bits =
                |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
            gradients.iter().map(|(name, gradient)| (name.clone(), bits(gradient))).collect()
        };
        let one = bits(1);
        assert_eq!(one, bits(2));
        assert_eq!(one, bits(3));
        assert!(one.keys().eq(weights.variables().keys()), "every trained tensor has a gradient, and no other");
        assert_eq!(one.keys().any(|name| name.starts_with("visual.")), trained == TrainScope::All);
    }
}

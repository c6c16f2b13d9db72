//! The model against transformers on tiny random checkpoints, with results recorded by
//! `tests/oracles/model.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use visplay::imaging::{Limits, decode};
use visplay::vlm::config::Config;
use visplay::vlm::grid::Grid;
use visplay::vlm::image_processor::{ImageProcessor, Patches};
use visplay::vlm::model::Model;
use visplay::vlm::named_tensors::{CheckpointTensors, Purpose};
use visplay::vlm::weights::Weights;

use super::OPS;

#[derive(Deserialize)]
pub(crate) struct Oracle {
    response_ids: Vec<u32>,
    images: BTreeMap<String, OracleImage>,
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) checkpoints: BTreeMap<String, Vec<Case>>,
}

#[derive(Deserialize)]
struct OracleImage {
    grid: [usize; 3],
    pixels: Pixels,
}

#[derive(Deserialize)]
struct Pixels {
    at: Vec<usize>,
    values: Vec<f32>,
}

#[derive(Deserialize)]
pub(crate) struct Prompt {
    pub(crate) images: Vec<String>,
    pub(crate) prompt_ids: Vec<u32>,
    positions: [Vec<u32>; 3],
}

#[derive(Deserialize)]
struct RecordedValues {
    at: Vec<usize>,
    values: Vec<f64>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    features: Option<RecordedValues>,
    logits: RecordedValues,
    middle_logits: RecordedValues,
    pub(crate) greedy: Vec<u32>,
    logprobs: Vec<f64>,
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/model")
}

pub(crate) fn oracle() -> Oracle {
    serde_json::from_slice(&std::fs::read(folder().join("parity.json")).unwrap()).unwrap()
}

fn load(name: &str, dtype: DType, purpose: Purpose) -> Model {
    let folder = folder().join(name);
    let config = Config::load(&folder).unwrap();
    let weights = Weights::open(&folder, &config).unwrap();
    let source = CheckpointTensors { weights: &weights, dtype, device: &Device::Cpu, ops: OPS };
    Model::new(config, &source, purpose).unwrap()
}

pub(crate) fn process(names: &[String]) -> Vec<Patches> {
    let processor = ImageProcessor::from_file(&folder().join("tied-1/preprocessor_config.json")).unwrap();
    let read = |name: &String| {
        let bytes = std::fs::read(folder().join("images").join(name)).unwrap();
        processor.process(&decode(&bytes, &Limits::default()).unwrap().pixels).unwrap()
    };
    names.iter().map(read).collect()
}

fn grids(images: &[Patches]) -> Vec<Grid> {
    images.iter().map(|i| Grid { frames: i.grid[0], rows: i.grid[1], columns: i.grid[2] }).collect()
}

pub(crate) fn features(model: &Model, images: &[Patches]) -> Option<Tensor> {
    if images.is_empty() {
        return None;
    }
    let values: Vec<f32> = images.iter().flat_map(|i| i.values.iter().copied()).collect();
    let patches =
        Tensor::from_vec(values, (images.iter().map(Patches::count).sum::<usize>(), 1176), &Device::Cpu).unwrap();
    Some(model.visual.forward(&patches, &grids(images)).unwrap())
}

fn assert_close(label: &str, ours: &[f32], theirs: &RecordedValues, tolerance: f64) {
    for (at, value) in theirs.at.iter().zip(&theirs.values) {
        let difference = (f64::from(ours[*at]) - value).abs();
        assert!(difference <= tolerance, "{label}[{at}]: {} here, {value} in transformers", ours[*at]);
    }
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Computes the logits of all tokens, `[tokens][vocabulary]`, in one forward pass without a cache.
pub(crate) fn full_forward(model: &Model, ids: &[u32], images: &[Patches], features: Option<&Tensor>) -> Vec<Vec<f32>> {
    let mut positions = model.positions(ids, &grids(images)).unwrap();
    positions.tokens.truncate(ids.len());
    let x = model.embed(ids, features).unwrap();
    let x = model.forward(x, &positions.tokens, vec![ids.len()]).unwrap();
    model.logits(&x).unwrap().to_dtype(DType::F32).unwrap().to_vec2().unwrap()
}

fn log_softmax(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - largest).exp()).sum();
    f64::from(logits[token as usize] - largest) - sum.ln()
}

#[test]
fn position_ids_equal_transformers() {
    let oracle = oracle();
    let model = load("tied-1", DType::F32, Purpose::Sampling);
    for prompt in &oracle.prompts {
        let images = process(&prompt.images);
        let positions = model.positions(&prompt.prompt_ids, &grids(&images)).unwrap();
        for (stream, theirs) in prompt.positions.iter().enumerate() {
            let ours: Vec<u32> = positions.tokens.iter().map(|p| p[stream]).collect();
            assert_eq!(&ours, theirs, "stream {stream} of {:?}", prompt.images);
        }
    }
}

#[test]
fn pixels_equal_transformers() {
    for (name, theirs) in &oracle().images {
        let ours = process(std::slice::from_ref(name)).remove(0);
        assert_eq!(ours.grid, theirs.grid, "{name}");
        for (at, value) in theirs.pixels.at.iter().zip(&theirs.pixels.values) {
            let difference = (ours.values[*at] - value).abs();
            assert!(
                difference <= 1.01 / 255.0 / 0.26,
                "{name}[{at}]: {} here, {value} in transformers",
                ours.values[*at]
            );
        }
    }
}

fn check_checkpoint(name: &str, dtype: DType, purpose: Purpose) {
    let oracle = oracle();
    let model = load(name, dtype, purpose);
    for (prompt, case) in oracle.prompts.iter().zip(&oracle.checkpoints[name]) {
        let label = format!("{name} {:?}", prompt.images);
        let images = process(&prompt.images);
        let features = features(&model, &images);
        if let (Some(ours), Some(theirs)) = (&features, &case.features) {
            assert_close(&format!("{label} features"), &flat(ours), theirs, 2e-4);
        }
        let ids = [prompt.prompt_ids.as_slice(), &oracle.response_ids].concat();
        let logits = full_forward(&model, &ids, &images, features.as_ref());
        let last = prompt.prompt_ids.len() - 1;
        assert_close(&format!("{label} logits"), &logits[last], &case.logits, 1e-3);
        assert_close(
            &format!("{label} middle logits"),
            &logits[prompt.prompt_ids.len() / 2],
            &case.middle_logits,
            1e-3,
        );
        for (i, (token, theirs)) in oracle.response_ids.iter().zip(&case.logprobs).enumerate() {
            let ours = log_softmax(&logits[last + i], *token);
            assert!((ours - theirs).abs() <= 1e-4, "{label} logprob {i}: {ours} here, {theirs} in transformers");
        }
        let mut ids = prompt.prompt_ids.clone();
        for (i, theirs) in case.greedy.iter().enumerate() {
            let mut row = full_forward(&model, &ids, &images, features.as_ref()).pop().unwrap();
            for forbidden in [model.config.tokens.image, model.config.tokens.video] {
                row[forbidden as usize] = f32::NEG_INFINITY;
            }
            let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32;
            assert_eq!(best, *theirs, "{label} greedy token {i}");
            ids.push(best);
        }
    }
}

macro_rules! checkpoints {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            check_checkpoint($name, DType::F32, Purpose::Sampling);
        })*

        #[test]
        fn every_checkpoint_is_tested() {
            let tested = [$($name),*];
            for name in oracle().checkpoints.keys() {
                assert!(tested.contains(&name.as_str()), "{name} has no test");
            }
            assert!(tested.len() >= 12);
        }
    };
}

checkpoints! {
    tied_1_layer: "tied-1",
    untied_2_layers: "untied-2",
    gqa_7: "gqa-7",
    gqa_4_deep: "gqa-4-deep",
    gqa_3: "gqa-3",
    odd_sizes: "odd-sizes",
    mimo_like: "mimo-like",
    all_windowed: "all-windowed",
    all_full: "all-full",
    one_section: "one-section",
    wide_head: "wide-head",
    sharded: "sharded",
    gqa_5: "gqa-5",
    nano_like: "nano-like",
}

#[test]
fn layers_built_for_training_compute_the_same() {
    check_checkpoint("gqa-4-deep", DType::F32, Purpose::Training);
    check_checkpoint("mimo-like", DType::F32, Purpose::Training);
}

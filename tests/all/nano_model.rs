//! The bundled nano model answers as in transformers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use serde::Deserialize;
use visplay::imaging::{Limits, decode};
use visplay::random::Seed;
use visplay::sampling::{Engine, EngineOptions, ImageInput, Job, SamplingOptions, score};
use visplay::tables::{BenchmarkItem, read_file};
use visplay::vlm::checkpoint::Checkpoint;
use visplay::vlm::named_tensors::Purpose;
use visplay::vlm::ops::Ops;
use visplay::vlm::prompt::Prompt;

/// A greedy answer of transformers, recorded by `tests/oracles/nano_model.py`.
#[derive(Deserialize)]
struct OracleAnswer {
    question: String,
    prompt_ids: Vec<u32>,
    response_ids: Vec<u32>,
    logprobs: Vec<f64>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    let oracle: Vec<OracleAnswer> =
        serde_json::from_slice(&std::fs::read(root().join("tests/oracles/nano_model.json")).unwrap()).unwrap();
    assert_eq!(oracle.len(), 50);
    let items: Vec<BenchmarkItem> = read_file(&root().join("data/benchmarks/scenes.parquet")).unwrap();
    let nano =
        Checkpoint::load(&root().join("data/nano"), DType::F32, &Device::Cpu, Ops::Kernels, Purpose::Sampling).unwrap();
    let merge = nano.model.config.vision.spatial_merge_size;
    let options = Arc::new(SamplingOptions::greedy(96, nano.stop_tokens.clone()));
    let mut jobs = Vec::new();
    let mut images = Vec::new();
    for (i, (oracle, item)) in oracle.iter().zip(&items).enumerate() {
        assert_eq!(oracle.question, item.question);
        let pixels = decode(&item.image.bytes, &Limits::default()).unwrap().pixels;
        let image = Arc::new(ImageInput::new(nano.processor.process(&pixels).unwrap()));
        let prompt = Prompt::chat("You are a helpful assistant.", Some(image.grid().tokens(merge)), &item.question);
        let ids = nano.tokenizer.encode_prompt(&prompt).unwrap();
        assert_eq!(ids, oracle.prompt_ids, "{}", item.question);
        images.push(image.clone());
        let streams = vec![Seed(0).stream("test", "", 0)];
        jobs.push(Job { id: i as u64, ids, images: vec![image], streams, options: options.clone() });
    }
    let engine_options =
        EngineOptions { cache_bytes: Engine::cache_bytes_for(&nano.model, 64, 200), max_sequences: 64, threads: 2 };
    let mut engine = Engine::new(&nano.model, &nano.tokenizer, engine_options).unwrap();
    let mut answers = vec![Vec::new(); oracle.len()];
    engine
        .run(jobs.into_iter(), Some, |outcome| {
            answers[outcome.id as usize] = outcome.samples.unwrap().swap_remove(0).token_ids;
        })
        .unwrap();
    for ((oracle, answer), image) in oracle.iter().zip(&answers).zip(&images) {
        assert_eq!(answer, &oracle.response_ids, "{}", oracle.question);
        let logprobs = score(&nano.model, &oracle.prompt_ids, &[image], &oracle.response_ids).unwrap();
        for (actual, expected) in logprobs.iter().zip(&oracle.logprobs) {
            assert!((f64::from(*actual) - expected).abs() < 1e-4, "{}: {actual}, {expected}", oracle.question);
        }
    }
}

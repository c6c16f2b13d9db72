//! The sampling engine: a sample does not depend on its batch, and draws follow the distribution.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use visplay::imaging::{Limits, decode};
use visplay::random::Seed;
use visplay::sampling::{
    Engine, EngineOptions, FinishReason, ImageInput, Job, Outcome, Sample, SamplingError, SamplingOptions,
    sample_token, score,
};
use visplay::vlm::checkpoint::Checkpoint;
use visplay::vlm::config::Config;
use visplay::vlm::model::Model;
use visplay::vlm::named_tensors::{CheckpointTensors, NamedTensors, Purpose};
use visplay::vlm::ops::Ops;
use visplay::vlm::prompt::Prompt;
use visplay::vlm::weights::Weights;

use super::OPS;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/model")
}

/// Returns a checkpoint folder with the shared tokenizer in it.
pub(crate) fn checkpoint(name: &str) -> (tempfile::TempDir, Checkpoint) {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder().join(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    std::fs::copy(folder().join("tokenizer.json"), copy.path().join("tokenizer.json")).unwrap();
    let loaded = Checkpoint::load(copy.path(), DType::F32, &Device::Cpu, OPS, Purpose::Sampling).unwrap();
    (copy, loaded)
}

/// The tensors of a checkpoint in f64.
struct InF64<'a>(CheckpointTensors<'a>);

impl NamedTensors for InF64<'_> {
    fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        self.0.tensor(name)?.to_dtype(DType::F64)
    }

    fn ops(&self) -> Ops {
        self.0.ops()
    }
}

/// With the reference ops, whose order of sums depends on the batch, loads the model in f64, so
/// that rounding does not matter.
fn without_rounding(folder: &Path, checkpoint: Checkpoint) -> Checkpoint {
    if OPS == Ops::Kernels {
        return checkpoint;
    }
    let config = Config::load(folder).unwrap();
    let weights = Weights::open(folder, &config).unwrap();
    let tensors = CheckpointTensors { weights: &weights, dtype: DType::F32, device: &Device::Cpu, ops: OPS };
    Checkpoint { model: Model::new(config, &InF64(tensors), Purpose::Sampling).unwrap(), ..checkpoint }
}

fn image(checkpoint: &Checkpoint, name: &str) -> Arc<ImageInput> {
    let bytes = std::fs::read(folder().join("images").join(name)).unwrap();
    let pixels = decode(&bytes, &Limits::default()).unwrap().pixels;
    Arc::new(ImageInput::new(checkpoint.processor.process(&pixels).unwrap()))
}

fn options(temperature: f64, max_tokens: usize) -> SamplingOptions {
    SamplingOptions { temperature, ..SamplingOptions::greedy(max_tokens, vec![258]) }
}

/// Jobs of different lengths, images, options and numbers of samples.
fn jobs(checkpoint: &Checkpoint) -> Vec<Job> {
    let images = ["photo.png", "wide.png", "tiny.png"].map(|name| image(checkpoint, name));
    let options = [
        options(1.0, 40),
        SamplingOptions { top_k: Some(20), ..options(0.8, 9) },
        SamplingOptions { top_p: Some(0.9), ..options(1.3, 70) },
        options(0.0, 33),
    ]
    .map(Arc::new);
    (0..12)
        .map(|i| {
            let image = images.get(i % 4).cloned();
            let question = format!("Question {i}{}?", " and more".repeat(i));
            let prompt = Prompt::chat("You look.", image.as_ref().map(|i| i.grid().tokens(2)), &question);
            Job {
                id: i as u64,
                ids: checkpoint.tokenizer.encode_prompt(&prompt).unwrap(),
                images: image.into_iter().collect(),
                streams: (0..1 + i as u64 % 5).map(|s| Seed(3).stream("test", &i.to_string(), s)).collect(),
                options: options[i % 3 + usize::from(i > 8)].clone(),
            }
        })
        .collect()
}

pub(crate) fn engine_options(checkpoint: &Checkpoint, sequences: usize, threads: usize) -> EngineOptions {
    let cache_bytes = Engine::cache_bytes_for(&checkpoint.model, sequences, 300);
    EngineOptions { cache_bytes, max_sequences: sequences, threads }
}

pub(crate) fn run(checkpoint: &Checkpoint, options: EngineOptions, jobs: Vec<Job>) -> BTreeMap<u64, Vec<Sample>> {
    let mut engine = Engine::new(&checkpoint.model, &checkpoint.tokenizer, options).unwrap();
    let mut outcomes = BTreeMap::new();
    let enter = |o: Outcome| assert!(outcomes.insert(o.id, o.samples.unwrap()).is_none());
    engine.run(jobs.into_iter(), Some, enter).unwrap();
    outcomes
}

/// Returns bit patterns, so that equality is bitwise.
fn bits(samples: &[Sample]) -> Vec<(String, Vec<u32>, Vec<u32>, FinishReason)> {
    let one = |s: &Sample| {
        let logprobs = s.logprobs.iter().map(|x| x.to_bits()).collect();
        (s.text.clone(), s.token_ids.clone(), logprobs, s.finish_reason)
    };
    samples.iter().map(one).collect()
}

/// Checks that samples are equal: to the last bit with our kernels, otherwise up to rounding of the
/// log-probabilities.
fn assert_same(a: &[Sample], b: &[Sample], label: &str) {
    if OPS == Ops::Kernels {
        return assert_eq!(bits(a), bits(b), "{label}");
    }
    assert_eq!(a.len(), b.len(), "{label}");
    for (a, b) in a.iter().zip(b) {
        assert_eq!((&a.text, &a.token_ids, a.finish_reason), (&b.text, &b.token_ids, b.finish_reason), "{label}");
        assert_close(&a.logprobs, &b.logprobs, label);
    }
}

/// Checks that log-probabilities are equal up to rounding.
fn assert_close(a: &[f32], b: &[f32], label: &str) {
    assert_eq!(a.len(), b.len(), "{label}");
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 2e-5, "{label}: {a} and {b}");
    }
}

#[test]
fn batches_do_not_depend_on_how_fast_jobs_are_prepared() {
    let (_folder, checkpoint) = checkpoint("nano-like");
    let draw = |sequences: usize, pause: Duration| {
        // Four threads prepare, one worker draws. With our kernels the batch's composition changes
        // nothing; with the reference ops it does.
        let options = engine_options(&checkpoint, sequences, 4);
        let mut engine = Engine::new(&checkpoint.model, &checkpoint.tokenizer, options).unwrap();
        let mut outcomes = BTreeMap::new();
        let prepare = |job: Job| {
            std::thread::sleep(pause * (3 - job.id as u32 % 4).min(2));
            Some(job)
        };
        let enter = |o: Outcome| assert!(outcomes.insert(o.id, bits(&o.samples.unwrap())).is_none());
        engine.run(jobs(&checkpoint).into_iter(), prepare, enter).unwrap();
        outcomes
    };
    let at_once = draw(16, Duration::ZERO);
    assert_eq!(at_once, draw(16, Duration::from_millis(15)));
    // Without batch-invariant kernels the rest of the batch changes a sample.
    assert_eq!(at_once == draw(1, Duration::ZERO), OPS == Ops::Kernels);
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    for name in ["gqa-4-deep", "odd-sizes", "nano-like"] {
        let (folder, checkpoint) = checkpoint(name);
        let checkpoint = without_rounding(folder.path(), checkpoint);
        let together = run(&checkpoint, engine_options(&checkpoint, 40, 1), jobs(&checkpoint));
        assert_eq!(together.len(), 12);
        let mut reversed = jobs(&checkpoint);
        reversed.reverse();
        for (label, sequences, threads, jobs) in [
            ("few at once", 3, 1, jobs(&checkpoint)),
            ("two workers", 40, 2, jobs(&checkpoint)),
            ("the other way round", 7, 1, reversed),
        ] {
            let again = run(&checkpoint, engine_options(&checkpoint, sequences, threads), jobs);
            for (id, samples) in &together {
                assert_same(samples, &again[id], &format!("{name}, {label}, prompt {id}"));
            }
        }
        for mut job in jobs(&checkpoint) {
            let id = job.id;
            let last = job.streams.len() - 1;
            job.streams.drain(..last);
            let alone = run(&checkpoint, engine_options(&checkpoint, 1, 1), vec![job]);
            assert_same(&alone[&id], &together[&id][last..], &format!("{name}, alone, prompt {id}"));
        }
    }
}

#[test]
fn cached_and_shared_prompts_give_the_logprobs_of_a_plain_forward_pass() {
    for name in ["gqa-7", "sharded", "all-full"] {
        let (_folder, checkpoint) = checkpoint(name);
        let drawn = run(&checkpoint, engine_options(&checkpoint, 16, 1), jobs(&checkpoint));
        for job in jobs(&checkpoint).iter().filter(|job| [0.0, 1.0].contains(&job.options.temperature)) {
            let images: Vec<&ImageInput> = job.images.iter().map(AsRef::as_ref).collect();
            for sample in &drawn[&job.id] {
                let scored = score(&checkpoint.model, &job.ids, &images, &sample.token_ids).unwrap();
                let label = format!("{name}, prompt {}", job.id);
                if OPS == Ops::Kernels {
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&sample.logprobs), bits(&scored), "{label}");
                }
                assert_close(&sample.logprobs, &scored, &label);
            }
        }
    }
}

#[test]
fn samples_are_determined_by_their_streams() {
    let (_folder, checkpoint) = checkpoint("nano-like");
    let drawn = run(&checkpoint, engine_options(&checkpoint, 40, 1), jobs(&checkpoint));
    let samples = &drawn[&4];
    assert_eq!(samples.len(), 5);
    assert!(samples.windows(2).all(|pair| pair[0].token_ids != pair[1].token_ids));
    assert_eq!(bits(samples), bits(&run(&checkpoint, engine_options(&checkpoint, 40, 1), jobs(&checkpoint))[&4]));
}

#[test]
fn samples_end_at_stop_tokens_stop_strings_and_the_limit() {
    let (_folder, checkpoint) = checkpoint("nano-like");
    let base = jobs(&checkpoint).swap_remove(0);
    let with = |options: SamplingOptions| Job {
        id: 0,
        ids: base.ids.clone(),
        images: base.images.clone(),
        streams: vec![Seed(9).stream("end", "", 0)],
        options: Arc::new(options),
    };
    let one = |options| run(&checkpoint, engine_options(&checkpoint, 1, 1), vec![with(options)])[&0][0].clone();
    let whole = one(SamplingOptions { stop_tokens: vec![], ..options(1.0, 50) });
    assert_eq!((whole.token_ids.len(), whole.finish_reason), (50, FinishReason::Length));
    assert!(whole.token_ids.iter().all(|t| ![261, 262].contains(t)));

    let stop = whole.token_ids[20];
    let first = whole.token_ids.iter().position(|t| *t == stop).unwrap();
    let stopped = one(SamplingOptions { stop_tokens: vec![stop], ..options(1.0, 50) });
    assert_eq!((&stopped.token_ids[..], stopped.finish_reason), (&whole.token_ids[..=first], FinishReason::Stop));

    let words: Vec<String> = whole.token_ids.iter().map(|t| checkpoint.tokenizer.decode(&[*t], true)).collect();
    let at = (5..49).find(|i| words[*i].is_ascii() && words[i + 1].is_ascii() && !words[*i].is_empty()).unwrap();
    let string = format!("{}{}", words[at], words[at + 1]);
    let cut = one(SamplingOptions { stop_tokens: vec![], stop_strings: vec![string.clone()], ..options(1.0, 50) });
    assert_eq!(cut.finish_reason, FinishReason::Stop);
    assert!(cut.token_ids.len() <= at + 2 && !cut.text.contains(&string));

    let forbidden = SamplingOptions { stop_tokens: vec![], forbidden: vec![whole.token_ids[0]], ..options(1.0, 50) };
    assert!(!one(forbidden).token_ids.contains(&whole.token_ids[0]));
}

#[test]
fn invalid_jobs_are_reported_and_do_not_stop_the_others() {
    let (_folder, checkpoint) = checkpoint("tied-1");
    let mut jobs = jobs(&checkpoint);
    jobs[1].options = Arc::new(options(1.0, 100_000));
    jobs[2].ids.clear();
    jobs[3].ids.push(261);
    jobs[4].ids[0] = 9999;
    jobs[5].options = Arc::new(SamplingOptions { top_p: Some(1.5), ..options(1.0, 5) });
    jobs[6].streams.clear();
    let mut engine = Engine::new(&checkpoint.model, &checkpoint.tokenizer, engine_options(&checkpoint, 9, 1)).unwrap();
    let mut outcomes = BTreeMap::new();
    engine.run(jobs.into_iter(), Some, |o| drop(outcomes.insert(o.id, o.samples))).unwrap();
    assert_eq!(outcomes.len(), 12);
    assert!(matches!(outcomes[&1], Err(SamplingError::TooLong { .. })));
    assert!(matches!(outcomes[&2], Err(SamplingError::EmptyPrompt)));
    assert!(matches!(outcomes[&3], Err(SamplingError::Placeholders(_))));
    assert!(matches!(outcomes[&4], Err(SamplingError::Vocabulary { .. })));
    assert!(matches!(outcomes[&5], Err(SamplingError::Options(_))));
    assert_eq!(outcomes[&6].as_ref().unwrap().len(), 0);
    assert!([0, 7, 8, 9, 10, 11].iter().all(|id| !outcomes[id].as_ref().unwrap().is_empty()));
}

/// Returns Pearson's chi-square statistic of the counts and its degrees of freedom.
fn chi_square(counts: &[u32], shares: &[f64]) -> (f64, usize) {
    let total: u32 = counts.iter().sum();
    let cells: Vec<_> = counts.iter().zip(shares).filter(|(_, p)| **p > 0.0).collect();
    let cell = |n: u32, p: f64| (f64::from(n) - p * f64::from(total)).powi(2) / (p * f64::from(total));
    let statistic = cells.iter().map(|(n, p)| cell(**n, **p)).sum();
    (statistic, cells.len() - 1)
}

#[test]
fn draws_follow_temperature_top_k_and_top_p() {
    const DRAWS: u64 = 60_000;
    let stream = Seed(12).stream("logits", "", 0);
    let logits: Vec<f32> = (0..40).map(|i| 2.0 * stream.normal(i) as f32).collect();
    for (case, (temperature, top_k, top_p)) in [
        (1.0, None, None),
        (0.6, None, None),
        (1.7, Some(12), None),
        (1.0, None, Some(0.8)),
        (1.2, Some(20), Some(0.7)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut shares: Vec<f64> = logits.iter().map(|x| (f64::from(*x) / temperature).exp()).collect();
        shares[7] = 0.0;
        let mut order: Vec<usize> = (0..40).filter(|i| *i != 7).collect();
        order.sort_by(|a, b| shares[*b].total_cmp(&shares[*a]));
        order.truncate(top_k.unwrap_or(40));
        let target: f64 = top_p.unwrap_or(1.0) * order.iter().map(|i| shares[*i]).sum::<f64>();
        let mut sum = 0.0;
        order.retain(|i| {
            let kept = sum < target;
            sum += shares[*i];
            kept
        });
        let total: f64 = order.iter().map(|i| shares[*i]).sum();
        let shares: Vec<f64> = (0..40).map(|i| if order.contains(&i) { shares[i] / total } else { 0.0 }).collect();

        let options = SamplingOptions { top_k, top_p, ..options(temperature, 1) };
        let (mut counts, mut scratch) = (vec![0u32; 40], Vec::new());
        for i in 0..DRAWS {
            let uniform = Seed(case as u64).stream("draws", "", i).uniform(0);
            counts[sample_token(&logits, &options, &[7], uniform, &mut scratch).unwrap().token as usize] += 1;
        }
        assert!(
            counts.iter().zip(&shares).all(|(n, p)| *n == 0 || *p > 0.0),
            "case {case}: a forbidden token was drawn"
        );
        let (statistic, freedom) = chi_square(&counts, &shares);
        // Four standard deviations above the mean of the distribution.
        let bound = freedom as f64 + 4.0 * (2.0 * freedom as f64).sqrt();
        assert!(statistic < bound, "case {case}: chi-square {statistic} with {freedom} degrees of freedom");
    }
}

#[test]
fn the_engine_draws_from_the_model() {
    let (_folder, checkpoint) = checkpoint("tied-1");
    let mut job = jobs(&checkpoint).swap_remove(0);
    let images: Vec<&ImageInput> = job.images.iter().map(AsRef::as_ref).collect();
    let shares: Vec<f64> = (0..272u32)
        .map(|token| f64::from(score(&checkpoint.model, &job.ids, &images, &[token]).unwrap()[0]).exp())
        .collect();
    // Rare tokens share a cell, so that each cell expects enough draws; placeholders are never
    // drawn.
    let common: Vec<usize> = (0..272).filter(|i| shares[*i] > 5e-3 && ![261, 262].contains(i)).collect();
    let allowed: f64 = (0..272).filter(|i| ![261, 262].contains(i)).map(|i| shares[i]).sum();
    job.streams = (0..3000).map(|s| Seed(4).stream("engine", "", s)).collect();
    job.options = Arc::new(options(1.0, 1));
    let drawn = run(&checkpoint, engine_options(&checkpoint, 64, 1), vec![job]);
    let mut counts = vec![0u32; common.len() + 1];
    for sample in &drawn[&0] {
        let token = sample.token_ids[0] as usize;
        assert!((f64::from(sample.logprobs[0]) - shares[token].ln()).abs() < 1e-5);
        counts[common.iter().position(|c| *c == token).unwrap_or(common.len())] += 1;
    }
    let mut expected: Vec<f64> = common.iter().map(|i| shares[*i] / allowed).collect();
    expected.push(1.0 - expected.iter().sum::<f64>());
    let (statistic, freedom) = chi_square(&counts, &expected);
    assert!(statistic < freedom as f64 + 4.0 * (2.0 * freedom as f64).sqrt(), "chi-square {statistic}, {freedom}");
}

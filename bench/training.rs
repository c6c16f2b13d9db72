//! Benchmark of a training step's speed and memory; `bench/training_peer.py` measures transformers
//! on the same batch and documents how the batch is built.
//!
//!     cargo run --release --example bench-training -- SPEC MODEL [--micro-batch-tokens 4096]
//!         [--layers-per-checkpoint 1] [--threads 2] [--steps N]
//!
//! SPEC is a file `bench/configs/training-*.json`, MODEL a checkpoint folder. Prints one JSON
//! object with the same keys as the peer.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device};
use serde_json::{Value, json};
use visplay::random::Seed;
use visplay::training::grpo::{Aggregation, GrpoSettings, token_weights};
use visplay::training::objective::{PolicyObjective, PolicyToken};
use visplay::training::step::{gradients, token_stats};
use visplay::training::supervised::cross_entropy;
use visplay::training::{AdamW, AdamWSettings, ComputeSettings, Continuation, PrefixGroup, TrainScope, TrainableModel};
use visplay::vlm::config::Config;
use visplay::vlm::image_processor::Patches;
use visplay::vlm::named_tensors::CheckpointTensors;
use visplay::vlm::ops::Ops;
use visplay::vlm::weights::Weights;

#[global_allocator]
static ALLOCATOR: visplay::huge_pages::HugePages = visplay::huge_pages::HugePages;

fn main() {
    visplay::candle_threads::limit();
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str| args.iter().position(|a| a == name).map(|i| args[i + 1].parse::<usize>().unwrap());
    let spec: Value = serde_json::from_str(&std::fs::read_to_string(&args[1]).unwrap()).unwrap();
    let config = Config::load(Path::new(&args[2])).unwrap();
    let threads = option("--threads").unwrap_or(2);
    let compute = ComputeSettings {
        temperature: 1.0,
        micro_batch_tokens: option("--micro-batch-tokens").unwrap_or(4096),
        layers_per_checkpoint: option("--layers-per-checkpoint").or(option("--layers-at-once")).unwrap_or(1),
        threads,
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let weights = load(Path::new(&args[2]), &config);
    let mut optimizer = AdamW::new(AdamWSettings::default(), weights.variables()).unwrap();
    let (prefix_groups, advantages) = batch(&spec, &config);
    let lengths: Vec<usize> = prefix_groups.iter().flat_map(|t| t.continuations.iter().map(|b| b.ids.len())).collect();
    let responses: usize = lengths.iter().sum();
    let tokens = responses + prefix_groups.iter().map(|t| t.prefix.len() * t.continuations.len()).sum::<usize>();
    let settings = GrpoSettings { aggregation: Aggregation::Token, ..GrpoSettings::default() };
    let objective = (spec["loss"] == "grpo").then(|| {
        let before = token_stats(&weights, &prefix_groups, compute).unwrap();
        let weight = token_weights(&lengths, settings.aggregation, settings.max_tokens);
        let each = lengths.iter().zip(&weight).zip(&advantages);
        let each = each.flat_map(|((n, weight), advantage)| std::iter::repeat_n((*weight, *advantage), *n));
        let token = |((weight, advantage), stats): ((f64, f64), &visplay::training::TokenStats)| PolicyToken {
            advantage,
            old: Some(stats.logprob),
            sampler: stats.logprob,
            reference: Some(stats.logprob),
            weight,
        };
        PolicyObjective { settings: &settings, tokens: each.zip(&before).map(token).collect() }
    });
    let before = peak_mib();
    let warm_up = number(&spec, "warm_up_steps");
    let steps = option("--steps").unwrap_or(warm_up + number(&spec, "timed_steps"));
    let rate = spec["learning_rate"].as_f64().unwrap();
    let (mut seconds, mut optimizer_seconds, mut losses, mut norms) = (vec![], vec![], vec![], vec![]);
    for _ in 0..steps {
        let start = Instant::now();
        let (loss, sums) = match &objective {
            None => {
                let (loss, _, sums) = cross_entropy(&weights, &prefix_groups, compute).unwrap();
                (loss, sums)
            }
            Some(objective) => {
                let (after, sums) = gradients(&weights, &prefix_groups, objective, compute).unwrap();
                let (policy, k3) = objective.losses(&after);
                (policy + settings.beta * k3, sums)
            }
        };
        let backward = start.elapsed();
        let update = optimizer.update(weights.variables(), &sums, rate).unwrap();
        drop(sums);
        optimizer_seconds.push((start.elapsed() - backward).as_secs_f64());
        seconds.push(start.elapsed().as_secs_f64());
        losses.push(loss);
        norms.push(update.grad_norm);
    }
    let best = seconds.iter().skip(warm_up.min(steps - 1)).copied().fold(f64::INFINITY, f64::min);
    let report = json!({
        "program": "visplay", "spec": spec["name"], "loss": spec["loss"], "threads": threads,
        "micro_batch_tokens": compute.micro_batch_tokens, "layers_per_checkpoint": compute.layers_per_checkpoint,
        "samples": lengths.len(), "tokens": tokens, "response_tokens": responses,
        "tokens_per_second": tokens as f64 / best, "step_seconds": best, "steps_seconds": seconds,
        "optimizer_seconds": optimizer_seconds, "peak_mib": peak_mib(), "peak_before_mib": before,
        "losses": losses, "gradient_norms": norms,
    });
    println!("{report}");
}

fn load(folder: &Path, config: &Config) -> TrainableModel {
    let weights = Weights::open(folder, config).unwrap();
    let source = CheckpointTensors { weights: &weights, dtype: DType::F32, device: &Device::Cpu, ops: Ops::Kernels };
    TrainableModel::new(config, TrainScope::All, &source, Seed(1), DType::F32, &Device::Cpu).unwrap()
}

/// Returns the prefix groups of the spec and the advantage of every response.
fn batch(spec: &Value, config: &Config) -> (Vec<PrefixGroup>, Vec<f64>) {
    let pair = |key: &str| [0, 1].map(|i| spec[key][i].as_u64().unwrap());
    let ([height, width], [low, high], [shortest, longest]) =
        (pair("image"), pair("text_ids"), pair("response_tokens"));
    let (groups, responses) = (number(spec, "groups"), number(spec, "responses"));
    let (before, after) = (number(spec, "before"), number(spec, "after"));
    let seed = spec["seed"].as_u64().unwrap();
    let patch = config.vision.patch_size;
    let grid = [1, height as usize / patch, width as usize / patch];
    let count = grid[1] * grid[2];
    let text = |key: u64, count: usize| -> Vec<u32> {
        (0..count as u64).map(|i| (low + split_mix(seed, key, i) % (high - low)) as u32).collect()
    };
    let scale = ((responses as f64 - 1.0) / responses as f64).sqrt();
    let (mut prefix_groups, mut advantages) = (Vec::new(), Vec::new());
    for g in 0..groups as u64 {
        let words = text(g, before + after);
        let mut prefix = words[..before].to_vec();
        prefix.push(config.tokens.vision_start);
        prefix.extend(std::iter::repeat_n(config.tokens.image, count / config.vision.merge_unit()));
        prefix.push(config.tokens.vision_end);
        prefix.extend_from_slice(&words[before..]);
        let continuations = (0..responses as u64).map(|r| {
            let n = shortest + split_mix(seed, (1 << 20) + g, r) % (longest - shortest + 1);
            advantages.push(if r % 2 == 0 { scale } else { -scale });
            Continuation::response(text((1 << 21) + g * responses as u64 + r, n as usize))
        });
        let value = |i: u64| ((split_mix(seed, (1 << 22) + g, i) >> 40) as f64 / f64::from(1 << 22) - 2.0) as f32;
        let values = (0..(count * config.vision.patch_len()) as u64).map(value).collect();
        let continuations = continuations.collect();
        prefix_groups.push(PrefixGroup {
            prefix,
            images: vec![Arc::new(Patches { values, grid }.into())],
            continuations,
        });
    }
    (prefix_groups, advantages)
}

/// Returns output `i + 1` of SplitMix64 from the state `seed * 2^32 + key`.
fn split_mix(seed: u64, key: u64, i: u64) -> u64 {
    let start = (seed << 32).wrapping_add(key);
    let z = start.wrapping_add(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(i + 1));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn number(spec: &Value, key: &str) -> usize {
    spec[key].as_u64().unwrap() as usize
}

/// Returns the peak memory of the process in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

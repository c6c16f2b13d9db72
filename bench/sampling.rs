//! Benchmark of vision tower, prefill and decoding; `bench/sampling_peer.py` measures transformers
//! on the same work.
//!
//!     cargo run --release --example bench-sampling -- MODEL IMAGE [PROMPTS] [SAMPLES] [TOKENS] [THREADS]
//!
//! Prints one JSON object. Every sample has exactly TOKENS tokens.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use visplay::imaging::{Limits, decode};
use visplay::random::Seed;
use visplay::sampling::{Engine, EngineOptions, ImageInput, Job, SamplingOptions};
use visplay::vlm::checkpoint::Checkpoint;
use visplay::vlm::named_tensors::Purpose;
use visplay::vlm::ops::Ops;
use visplay::vlm::prompt::Prompt;

#[global_allocator]
static ALLOCATOR: visplay::huge_pages::HugePages = visplay::huge_pages::HugePages;

fn main() {
    visplay::candle_threads::limit();
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize, default: usize| args.get(i).map_or(default, |a| a.parse().unwrap());
    let (prompts, samples, tokens) = (number(3, 32), number(4, 8), number(5, 24));
    let threads = number(6, std::thread::available_parallelism().map_or(1, NonZero::get));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let checkpoint =
        Checkpoint::load(Path::new(&args[1]), DType::F32, &Device::Cpu, Ops::Kernels, Purpose::Sampling).unwrap();
    let (model, tokenizer) = (&checkpoint.model, &checkpoint.tokenizer);
    let pixels = decode(&std::fs::read(&args[2]).unwrap(), &Limits::default()).unwrap().pixels;
    let patches = checkpoint.processor.process(&pixels).unwrap();
    let grid = ImageInput::new(patches.clone()).grid();
    let image_tokens = grid.tokens(model.config.vision.spatial_merge_size);
    let ids: Vec<Vec<u32>> = (0..prompts)
        .map(|i| {
            let question = format!("Question {i}: what is it?");
            let prompt = Prompt::chat("You are a helpful assistant.", Some(image_tokens), &question);
            tokenizer.encode_prompt(&prompt).unwrap()
        })
        .collect();

    let values =
        Tensor::from_slice(&patches.values, (patches.count(), model.config.vision.patch_len()), &Device::Cpu).unwrap();
    let vision = best_of(5, || drop(model.visual.forward(&values, &[grid]).unwrap()));
    let features = model.visual.forward(&values, &[grid]).unwrap();
    let embedded: Vec<Tensor> = ids.iter().take(8).map(|ids| model.embed(ids, Some(&features)).unwrap()).collect();
    let positions: Vec<_> = ids.iter().take(8).flat_map(|ids| model.positions(ids, &[grid]).unwrap().tokens).collect();
    let lengths: Vec<usize> = ids.iter().take(8).map(Vec::len).collect();
    let prefill = best_of(5, || {
        let x = Tensor::cat(&embedded, 0).unwrap();
        drop(model.forward(x, &positions, lengths.clone()).unwrap());
    });

    let options = Arc::new(SamplingOptions { temperature: 1.0, ..SamplingOptions::greedy(tokens, Vec::new()) });
    let sequences = (prompts * samples).min(256);
    let engine_options = EngineOptions {
        cache_bytes: Engine::cache_bytes_for(model, sequences, ids[0].len() + tokens),
        max_sequences: sequences,
        threads,
    };
    let mut engine = Engine::new(model, tokenizer, engine_options).unwrap();
    let mut drawn = 0;
    let seconds = best_of(3, || {
        drawn = 0;
        // One image per prompt, as in the peer's benchmark; each is encoded once.
        let jobs = ids.iter().enumerate().map(|(i, ids)| Job {
            id: i as u64,
            ids: ids.clone(),
            images: vec![Arc::new(ImageInput::new(patches.clone()))],
            streams: (0..samples as u64).map(|s| Seed(1).stream("bench", &i.to_string(), s)).collect(),
            options: options.clone(),
        });
        let count = |o: visplay::sampling::Outcome| {
            drawn += o.samples.unwrap().iter().map(|s| s.token_ids.len()).sum::<usize>()
        };
        engine.run(jobs, Some, count).unwrap();
    });
    let report = serde_json::json!({
        "threads": threads, "prompts": prompts, "samples": samples, "tokens": tokens, "prompt_tokens": ids[0].len(),
        "vision_ms": vision * 1e3, "prefill_tokens_per_second": positions.len() as f64 / prefill,
        "generated": drawn, "seconds": seconds, "tokens_per_second": drawn as f64 / seconds,
    });
    println!("{report}");
}

fn best_of(times: usize, mut work: impl FnMut()) -> f64 {
    (0..times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

//! The greedy tokens of the sampling engine with its KV cache, compared with those of transformers,
//! which `tests/oracles/model.py` recorded.

use std::sync::Arc;

use visplay::random::Seed;
use visplay::sampling::{ImageInput, Job, SamplingOptions};

use super::model_parity::{oracle, process};
use super::sampling::{checkpoint, engine_options, run};

#[test]
fn the_engine_draws_the_same_tokens_as_transformers() {
    let oracle = oracle();
    for (name, cases) in &oracle.checkpoints {
        let (_folder, checkpoint) = checkpoint(name);
        let jobs = oracle.prompts.iter().zip(cases).enumerate().map(|(i, (prompt, case))| Job {
            id: i as u64,
            ids: prompt.prompt_ids.clone(),
            images: process(&prompt.images).into_iter().map(|image| Arc::new(ImageInput::new(image))).collect(),
            streams: vec![Seed(0).stream("greedy", "", 0)],
            options: Arc::new(SamplingOptions::greedy(case.greedy.len(), Vec::new())),
        });
        let drawn = run(&checkpoint, engine_options(&checkpoint, 8, 2), jobs.collect());
        for (i, case) in cases.iter().enumerate() {
            assert_eq!(drawn[&(i as u64)][0].token_ids, case.greedy, "{name}, prompt {i}");
        }
    }
}

//! Validation of the values in a pipeline file.

use std::ops::RangeInclusive;

use super::{Pipeline, Thresholds};
use crate::reward::Denominator;
use crate::stages::update::{TrainedPart, UpdateSettings};
use crate::store::is_name;

/// A count: its key, value and valid range.
type Count = (String, u64, RangeInclusive<u64>);
/// A number: its key, value and valid range.
type Number = (String, f64, RangeInclusive<f64>);

const SMALL: RangeInclusive<u64> = 1..=1 << 16;
/// Any number but NaN and the infinities.
const FINITE: RangeInclusive<f64> = f64::MIN..=f64::MAX;
/// Weights and cutoffs.
const WEIGHT: RangeInclusive<f64> = 0.0..=1e6;
const SHARE: RangeInclusive<f64> = 0.0..=1.0;
/// The decay rates of AdamW; with 1 the moments would never change.
const DECAY: RangeInclusive<f64> = 0.0..=0.999_999_9;
/// Divisors in f32.
const DIVISOR: RangeInclusive<f64> = 1e-30..=1e6;
const TEMPERATURE: RangeInclusive<f64> = 1e-3..=1e3;
const TOP_P: RangeInclusive<f64> = 1e-6..=1.0;

/// Returns the first key with an invalid value, and the problem.
pub(super) fn first_invalid_value(pipeline: &Pipeline) -> Option<(String, String)> {
    if !is_name(&pipeline.evolution) {
        let rule = "use 1 to 64 letters, digits, `.`, `_` and `-`, the first one a letter, digit or `_`";
        return Some(("evolution".into(), format!("`{}` cannot name an evolution: {rule}", pipeline.evolution)));
    }
    let ingest = pipeline.ingest.ranges().into_iter().map(|(key, value, range)| (key.to_owned(), value, range));
    let count = ingest.chain(counts(pipeline)).find(|(_, value, range)| !range.contains(value));
    if let Some((key, value, range)) = count {
        return Some((key, format!("{value} is not within {} to {}", range.start(), range.end())));
    }
    // NaN is within no range.
    let number = numbers(pipeline).into_iter().find(|(_, value, range)| !range.contains(value));
    if let Some((key, value, range)) = number {
        let problem = if *range.start() == f64::MIN {
            format!("{value} is not a number")
        } else {
            format!("{value} is not within {} to {}", range.start(), range.end())
        };
        return Some((key, problem));
    }
    contradiction(pipeline).map(|(key, problem)| (key.to_owned(), problem))
}

/// Returns the first key whose value contradicts another value, and the problem.
fn contradiction(pipeline: &Pipeline) -> Option<(&'static str, String)> {
    let model = &pipeline.model;
    if model.min_pixels > model.max_pixels {
        let problem = match model.max_pixels {
            0 => "set model.max_pixels too".to_owned(),
            most => format!("{} is more than model.max_pixels, {most}", model.min_pixels),
        };
        return Some(("model.min_pixels", problem));
    }
    let evaluation = &pipeline.evaluation;
    let protocols = &evaluation.protocols;
    if !evaluation.benchmarks.is_empty() && !protocols.greedy && protocols.sampled == 0 && protocols.majority == 0 {
        return Some((
            "evaluation.protocols.greedy",
            "there are benchmarks but no protocol; enable greedy, sampled or majority".to_owned(),
        ));
    }
    let curriculum = &pipeline.curriculum;
    for (key, words) in [
        ("curriculum.drop_question_contains", &curriculum.drop_question_contains),
        ("curriculum.drop_majority_contains", &curriculum.drop_majority_contains),
    ] {
        if words.iter().any(String::is_empty) {
            return Some((
                key,
                "an empty text is contained in every text, so nothing would be kept; remove it".to_owned(),
            ));
        }
    }
    let m = curriculum.label_samples;
    // With the denominator `answered` it is any number up to m.
    let wholes = if curriculum.label_denominator == Denominator::Sampled { m..=m } else { 1..=m };
    let in_band = |part: u32, whole: u32| {
        let confidence = f64::from(part) / f64::from(whole);
        (curriculum.low..=curriculum.high).contains(&confidence)
    };
    if m <= 1000 && !wholes.into_iter().any(|whole| (1..=whole).any(|part| in_band(part, whole))) {
        let (low, high) = (curriculum.low, curriculum.high);
        return Some(("curriculum.low", format!("no vote of {m} answers has a share within {low} to {high}")));
    }
    None
}

fn counts(pipeline: &Pipeline) -> Vec<Count> {
    let mut counts = vec![
        ("questioner.group_size", pipeline.questioner.group_size.into(), SMALL),
        ("questioner.reward_samples", pipeline.questioner.reward_samples.into(), SMALL),
        ("reasoner.group_size", pipeline.reasoner.group_size.into(), SMALL),
        ("curriculum.label_samples", pipeline.curriculum.label_samples.into(), SMALL),
        ("sampling.cache_bytes", pipeline.sampling.cache_bytes, 1 << 12..=1 << 42),
        ("sampling.max_sequences", pipeline.sampling.max_sequences.into(), SMALL),
        ("sampling.questioner.max_tokens", pipeline.sampling.questioner.max_tokens.into(), 1..=1 << 20),
        ("sampling.reasoner.max_tokens", pipeline.sampling.reasoner.max_tokens.into(), 1..=1 << 20),
        ("model.max_pixels", pipeline.model.max_pixels, 0..=1 << 32),
        ("round.questions_per_image", pipeline.round.questions_per_image.into(), SMALL),
        ("round.shard_rows", pipeline.round.shard_rows.into(), 1..=1 << 20),
        // Seeds are JSON integers in actions and TOML integers here.
        ("round.seed", pipeline.round.seed, 0..=i64::MAX as u64),
        ("evaluation.protocols.sampled", pipeline.evaluation.protocols.sampled.into(), 0..=1 << 16),
        ("evaluation.protocols.majority", pipeline.evaluation.protocols.majority.into(), 0..=1 << 16),
        ("evaluation.protocols.max_tokens", pipeline.evaluation.protocols.max_tokens.into(), 1..=1 << 20),
    ];
    if pipeline.round.keep_best {
        counts.push(("round.keep_best_questions", pipeline.round.keep_best_questions.into(), 1..=1 << 24));
        counts.push(("round.keep_best_samples", pipeline.round.keep_best_samples.into(), SMALL));
    }
    let counts = counts.into_iter().map(|(key, value, range)| (key.to_owned(), value, range));
    counts.chain(for_both_roles(pipeline, update_counts)).collect()
}

fn numbers(pipeline: &Pipeline) -> Vec<Number> {
    let (curriculum, sampling) = (&pipeline.curriculum, &pipeline.sampling);
    let protocols = &pipeline.evaluation.protocols;
    let mut numbers = vec![
        ("questioner.lambda", pipeline.questioner.lambda, WEIGHT),
        ("reasoner.correct", pipeline.reasoner.correct, WEIGHT),
        ("reasoner.form", pipeline.reasoner.form, WEIGHT),
        ("curriculum.low", curriculum.low, SHARE),
        ("curriculum.high", curriculum.high, curriculum.low..=1.0),
        ("curriculum.min_margin", curriculum.min_margin, SHARE),
        ("curriculum.max_type_share", curriculum.max_type_share, SHARE),
        ("round.keep_best_slack", pipeline.round.keep_best_slack, SHARE),
        ("sampling.questioner.temperature", sampling.questioner.temperature, TEMPERATURE),
        ("sampling.reasoner.temperature", sampling.reasoner.temperature, TEMPERATURE),
        ("sampling.questioner.top_p", sampling.questioner.top_p, TOP_P),
        ("sampling.reasoner.top_p", sampling.reasoner.top_p, TOP_P),
        ("evaluation.protocols.top_p", protocols.top_p, TOP_P),
    ];
    // 0 selects greedy decoding.
    if protocols.temperature != 0.0 {
        numbers.push(("evaluation.protocols.temperature", protocols.temperature, TEMPERATURE));
    }
    let numbers = numbers.into_iter().map(|(key, value, range)| (key.to_owned(), value, range));
    numbers.chain(for_both_roles(pipeline, update_numbers)).chain(thresholds(pipeline)).collect()
}

/// Applies `ranges` to the training settings of both roles and completes the keys.
fn for_both_roles<T>(
    pipeline: &Pipeline,
    ranges: impl Fn(&UpdateSettings) -> Vec<(&'static str, T, RangeInclusive<T>)>,
) -> impl Iterator<Item = (String, T, RangeInclusive<T>)> {
    let roles = [("questioner", ranges(&pipeline.update.questioner)), ("reasoner", ranges(&pipeline.update.reasoner))];
    let with_full_keys = |(role, keys): (&'static str, Vec<_>)| {
        keys.into_iter().map(move |(key, value, range)| (format!("update.{role}.{key}"), value, range))
    };
    roles.into_iter().flat_map(with_full_keys)
}

fn update_counts(update: &UpdateSettings) -> Vec<(&'static str, u64, RangeInclusive<u64>)> {
    let mut counts = vec![
        ("steps", update.steps.into(), 0..=1 << 20),
        ("prompts_per_step", update.prompts_per_step.into(), SMALL),
        ("prompts_per_update", update.prompts_per_update.into(), SMALL),
        ("epochs", update.epochs.into(), SMALL),
        ("overlong_tokens", update.overlong_tokens.into(), 0..=1 << 20),
        ("micro_batch_tokens", update.micro_batch_tokens.into(), 1..=1 << 30),
        ("layers_per_checkpoint", update.layers_per_checkpoint.into(), SMALL),
        ("checkpoint_every", update.checkpoint_every.into(), SMALL),
    ];
    if update.train == TrainedPart::Lora {
        counts.push(("lora_rank", update.lora_rank.into(), SMALL));
    }
    counts
}

fn update_numbers(update: &UpdateSettings) -> Vec<(&'static str, f64, RangeInclusive<f64>)> {
    vec![
        ("learning_rate", update.learning_rate, SHARE),
        ("final_share", update.final_share, SHARE),
        ("beta1", update.beta1, DECAY),
        ("beta2", update.beta2, DECAY),
        ("epsilon", update.epsilon, DIVISOR),
        ("weight_decay", update.weight_decay, SHARE),
        ("max_grad_norm", update.max_grad_norm, DIVISOR),
        ("eps_low", update.eps_low, SHARE),
        ("eps_high", update.eps_high, WEIGHT),
        ("dual", update.dual, WEIGHT),
        ("beta", update.beta, WEIGHT),
        ("importance_cap", update.importance_cap, WEIGHT),
        ("lora_alpha", update.lora_alpha, DIVISOR),
    ]
}

/// Returns the thresholds of all gates. NaN is invalid, since no value is beyond it.
fn thresholds(pipeline: &Pipeline) -> Vec<Number> {
    let gates = &pipeline.gates;
    let named: [(&str, &Thresholds); 10] = [
        ("valid_share", &gates.valid_share),
        ("distinct_share", &gates.distinct_share),
        ("distinct_texts", &gates.distinct_texts),
        ("top_type_share", &gates.top_type_share),
        ("entropy", &gates.entropy),
        ("mean_confidence", &gates.mean_confidence),
        ("boxed_share", &gates.boxed_share),
        ("kept_share", &gates.kept_share),
        ("kept_rows", &gates.kept_rows),
        ("label_accuracy", &gates.label_accuracy),
    ];
    let of_gate = |(gate, thresholds): (&str, &Thresholds)| {
        let both = [("warn", thresholds.warn), ("stop", thresholds.stop)];
        both.map(|(key, value)| value.map(|value| (format!("gates.{gate}.{key}"), value, FINITE)))
    };
    named.into_iter().flat_map(of_gate).flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn invalid_values_are_named_with_their_line() {
        let cases = [
            ("[questioner]\ngroup_size = 0", "`questioner.group_size`: 0 is not within 1 to 65536"),
            ("[questioner]\nlambda = -1.0", "`questioner.lambda`: -1 is not within 0 to 1000000"),
            ("[curriculum]\nlow = nan", "`curriculum.low`: NaN is not within 0 to 1"),
            ("[curriculum]\nlow = 0.8\nhigh = 0.3", "p.toml:4: `curriculum.high`: 0.3 is not within 0.8 to 1"),
            (
                "[curriculum]\nlow = 0.41\nhigh = 0.44\nlabel_samples = 10",
                "`curriculum.low`: no vote of 10 answers has a share within 0.41 to 0.44",
            ),
            (
                "[curriculum]\nlabel_samples = 1",
                "`curriculum.low`: no vote of 1 answers has a share within 0.25 to 0.75",
            ),
            ("[curriculum]\ndrop_question_contains = [\"\"]", "an empty text is contained in every text"),
            (
                "[model]\nmin_pixels = 500\nmax_pixels = 400",
                "`model.min_pixels`: 500 is more than model.max_pixels, 400",
            ),
            ("[update.reasoner]\nepsilon = 0.0", "`update.reasoner.epsilon`: 0 is not within"),
            ("[update.questioner]\nbeta2 = 1.0", "`update.questioner.beta2`: 1 is not within"),
            ("[update.reasoner]\nlearning_rate = -1e-5", "p.toml:3: `update.reasoner.learning_rate`: -0.00001"),
            ("[update.reasoner]\nmax_grad_norm = inf", "`update.reasoner.max_grad_norm`: inf"),
            ("[update.reasoner]\ntrain = \"lora\"\nlora_rank = 0", "`update.reasoner.lora_rank`: 0 is not within"),
            ("[gates.label_accuracy]\nstop = 0.5", "p.toml:3: `gates.label_accuracy.stop`: this gate can only warn"),
            ("[gates.kept_share]\nstop = nan", "p.toml:3: `gates.kept_share.stop`: NaN is not a number"),
            ("[sampling]\ncache_bytes = 0", "`sampling.cache_bytes`: 0 is not within"),
            ("[evaluation.protocols]\ntop_p = 0.0", "`evaluation.protocols.top_p`: 0 is not within"),
            (
                "[evaluation]\nbenchmarks = [\"b.parquet\"]\nprotocols = { greedy = false, sampled = 0 }",
                "there are benchmarks but no protocol",
            ),
            ("[round]\nkeep_best = true\nkeep_best_samples = 0", "`round.keep_best_samples`: 0 is not within"),
        ];
        for (text, part) in cases {
            let text = format!("evolution = \"a\"\n{text}\n");
            let problem = Pipeline::parse(Path::new("p.toml"), &text).map(|_| ()).expect_err(&text).to_string();
            assert!(problem.contains(part), "{text}{problem}");
        }
    }

    #[test]
    fn unusual_but_valid_values_are_accepted() {
        for text in [
            "[curriculum]\nlow = 0.0\nhigh = 1.0\nlabel_samples = 1",
            "[curriculum]\nlow = 0.5\nhigh = 0.5",
            "[curriculum]\nlow = 0.66\nhigh = 0.67\nlabel_samples = 9\nlabel_denominator = \"answered\"",
            "[questioner]\ngroup_size = 1\nreward_samples = 1",
            "[update.reasoner]\nsteps = 0\nlora_rank = 0",
            "[update.reasoner]\ndual = 0.0\nbeta = 0.0\nlearning_rate = 0.0",
            "[round]\nkeep_best = false\nkeep_best_samples = 0",
        ] {
            let text = format!("evolution = \"a\"\n{text}\n");
            Pipeline::parse(Path::new("p.toml"), &text).expect(&text);
        }
    }
}

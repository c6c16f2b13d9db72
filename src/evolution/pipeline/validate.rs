//! Validation of the values in a pipeline file.

use std::ops::RangeInclusive;

use super::{Pipeline, Thresholds};
use crate::imaging::NearDuplicates;
use crate::reward::Denominator;
use crate::stages::update::{TrainedPart, UpdateSettings};
use crate::store::is_name;

/// A key with its value and valid range. Counts are exact in f64 up to 2^53.
type CheckedValue = (String, f64, RangeInclusive<f64>);

const SMALL: RangeInclusive<f64> = 1.0..=65536.0;
const MILLION: RangeInclusive<f64> = 1.0..=1_048_576.0;
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

/// Lists fields of a section with their valid ranges: `questioner.group_size in SMALL`. A key is
/// the path of its field, below `prefix`.
macro_rules! ranges {
    ($prefix:expr, $section:expr, { $($($field:ident).+ in $range:expr,)+ }) => {
        vec![$(($prefix.to_owned() + &[$(stringify!($field)),+].join("."), $section.$($field).+ as f64, $range)),+]
    };
}

/// Returns the first key with an invalid value, and the problem.
pub(super) fn first_invalid_value(pipeline: &Pipeline) -> Option<(String, String)> {
    if !is_name(&pipeline.evolution) {
        let rule = "use 1 to 64 letters, digits, `.`, `_` and `-`, the first one a letter, digit or `_`";
        return Some(("evolution".into(), format!("`{}` cannot name an evolution: {rule}", pipeline.evolution)));
    }
    // NaN is within no range.
    let invalid = checked_values(pipeline).into_iter().find(|(_, value, range)| !range.contains(value));
    if let Some((key, value, range)) = invalid {
        let problem = match (*range.start(), *range.end()) {
            (f64::MIN, _) => format!("{value} is not a number"),
            (low, high) => format!("{value} is not within {low} to {high}"),
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
        let problem = "there are benchmarks but no protocol; enable greedy, sampled or majority";
        return Some(("evaluation.protocols.greedy", problem.to_owned()));
    }
    let curriculum = &pipeline.curriculum;
    for (key, words) in [
        ("curriculum.drop_question_contains", &curriculum.drop_question_contains),
        ("curriculum.drop_majority_contains", &curriculum.drop_majority_contains),
    ] {
        if words.iter().any(String::is_empty) {
            let problem = "an empty text is contained in every text, so nothing would be kept; remove it";
            return Some((key, problem.to_owned()));
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

/// Returns every value that has a valid range.
fn checked_values(pipeline: &Pipeline) -> Vec<CheckedValue> {
    let mut checked = ranges!("", pipeline, {
        ingest.max_bytes in 1.0..=(1u64 << 30) as f64,
        ingest.max_pixels in 1.0..=(1u64 << 32) as f64,
        ingest.max_aspect_ratio in 1.0..=f64::from(u32::MAX),
        ingest.shard_rows in MILLION,
        ingest.shard_bytes in 1.0..=(1u64 << 30) as f64,
        questioner.group_size in SMALL,
        questioner.reward_samples in SMALL,
        questioner.lambda in WEIGHT,
        reasoner.group_size in SMALL,
        reasoner.correct in WEIGHT,
        reasoner.form in WEIGHT,
        curriculum.label_samples in SMALL,
        curriculum.low in SHARE,
        curriculum.high in pipeline.curriculum.low..=1.0,
        curriculum.min_margin in SHARE,
        curriculum.max_type_share in SHARE,
        sampling.cache_bytes in 4096.0..=(1u64 << 42) as f64,
        sampling.max_sequences in SMALL,
        sampling.questioner.max_tokens in MILLION,
        sampling.questioner.temperature in TEMPERATURE,
        sampling.questioner.top_p in TOP_P,
        sampling.reasoner.max_tokens in MILLION,
        sampling.reasoner.temperature in TEMPERATURE,
        sampling.reasoner.top_p in TOP_P,
        model.max_pixels in 0.0..=(1u64 << 32) as f64,
        round.questions_per_image in SMALL,
        round.shard_rows in MILLION,
        round.shard_tokens in 0.0..=f64::from(u32::MAX),
        round.min_shards in 0.0..=65536.0,
        // Seeds are JSON integers in actions and TOML integers here.
        round.seed in 0.0..=i64::MAX as f64,
        round.keep_best_slack in SHARE,
        evaluation.protocols.sampled in 0.0..=65536.0,
        evaluation.protocols.majority in 0.0..=65536.0,
        evaluation.protocols.max_tokens in MILLION,
        evaluation.protocols.top_p in TOP_P,
    });
    if let Some(bits) = pipeline.ingest.near_duplicate_bits {
        let range = 0.0..=f64::from(NearDuplicates::MAX_THRESHOLD);
        checked.push(("ingest.near_duplicate_bits".to_owned(), f64::from(bits), range));
    }
    if pipeline.round.keep_best {
        checked.extend(ranges!("round.", pipeline.round, {
            keep_best_questions in 1.0..=(1u64 << 24) as f64,
            keep_best_samples in SMALL,
        }));
    }
    // 0 selects greedy decoding.
    if pipeline.evaluation.protocols.temperature != 0.0 {
        checked.extend(ranges!("", pipeline, { evaluation.protocols.temperature in TEMPERATURE, }));
    }
    checked.extend(update_values("update.questioner.", &pipeline.update.questioner));
    checked.extend(update_values("update.reasoner.", &pipeline.update.reasoner));
    checked.extend(thresholds(pipeline));
    checked
}

fn update_values(prefix: &str, update: &UpdateSettings) -> Vec<CheckedValue> {
    let mut checked = ranges!(prefix, update, {
        steps in 0.0..=1_048_576.0,
        prompts_per_step in SMALL,
        prompts_per_update in SMALL,
        epochs in SMALL,
        overlong_tokens in 0.0..=1_048_576.0,
        micro_batch_tokens in 1.0..=(1u64 << 30) as f64,
        layers_per_checkpoint in SMALL,
        checkpoint_every in SMALL,
        learning_rate in SHARE,
        final_share in SHARE,
        beta1 in DECAY,
        beta2 in DECAY,
        epsilon in DIVISOR,
        weight_decay in SHARE,
        max_grad_norm in DIVISOR,
        eps_low in SHARE,
        eps_high in WEIGHT,
        dual in WEIGHT,
        beta in WEIGHT,
        importance_cap in WEIGHT,
        lora_alpha in DIVISOR,
    });
    if update.train == TrainedPart::Lora {
        checked.extend(ranges!(prefix, update, { lora_rank in SMALL, }));
    }
    checked
}

/// Returns the thresholds of all gates. NaN is invalid, since no value is beyond it.
fn thresholds(pipeline: &Pipeline) -> impl Iterator<Item = CheckedValue> {
    macro_rules! named {
        ($($gate:ident)+) => { [$((stringify!($gate), pipeline.gates.$gate)),+] };
    }
    let named = named!(valid_share distinct_share distinct_texts top_type_share entropy mean_confidence
        boxed_share kept_share kept_rows label_accuracy);
    named.into_iter().flat_map(|(gate, Thresholds { warn, stop })| {
        let both = [("warn", warn), ("stop", stop)].into_iter();
        both.filter_map(move |(key, value)| Some((format!("gates.{gate}.{key}"), value?, FINITE)))
    })
}

#[cfg(test)]
mod tests {
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
            let problem = Pipeline::parse_keys(text).map(|_| ()).expect_err(text).to_string();
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
            Pipeline::parse_keys(text).expect(text);
        }
    }
}

//! `visplay evaluate`: a checkpoint's accuracy on a benchmark.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::analysis::boxes::boxed_share;
use crate::cli::args::{ComputeArgs, StoreArgs, ThreadArgs};
use crate::cli::model_source::ModelSource;
use crate::cli::output::format::{low_box_warning, number};
use crate::cli::session::Session;
use crate::cli::{CommandError, Result, Ui};
use crate::input_kind::kind_in_rejection;
use crate::random::Seed;
use crate::stages::compute_identity::ComputeIdentity;
use crate::stages::evaluation::{Benchmark, BenchmarkColumns, Evaluation, Protocols, Scores};
use crate::stages::image_set::ImageSet;
use crate::stages::model::{LoadedModel, ModelHandle};
use crate::stages::prompt_sampler::{PromptSampler, SamplingLimits};
use crate::stages::role_prompt::{RolePrompt, shipped_prompt};
use crate::stages::{ListedRows, read_rows};
use crate::tables::{PredictionBox, PredictionRow, RejectRow, ScoreRow};
use crate::vlm::ops::Ops;

/// The default prompt: the image and the question in the chat format.
const PROMPT: &str = "pipelines/prompts/nano-reasoner.txt";
/// Number of items in a shard.
const SHARD_ROWS: usize = 512;
/// Memory limit for image patches, in bytes.
const IMAGE_MEMORY: u64 = 1 << 30;

/// Measure a checkpoint's accuracy on a benchmark, with its 95 % interval.
///
/// A benchmark is a Parquet file with the columns `image` or `images` (bytes, paths relative to the
/// file, structs of `bytes` and `path`, or lists with one image), `question` or `problem`, `answer`
/// (a string, a number or a boolean) and optionally `category`. A row that cannot be used is left
/// out and reported.
///
/// The content of the last \boxed{} of a response is its answer; it is right if the grader finds it
/// equal to the benchmark's. A response without a box counts as wrong, so the share of answers with
/// a box is printed with every accuracy. Use a prompt that asks for one, such as
/// `pipelines/prompts/paper-reasoner.txt`, which is built in, unless the model has learned to
/// answer in boxes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay evaluate --model data/nano --benchmark data/benchmarks/scenes.parquet --majority 10
  visplay evaluate --model nano/round-0003/reasoner --benchmark data/benchmarks/scenes.parquet
  visplay evaluate --model models/qwen2.5-vl-3b --benchmark mmmu.parquet --prompt pipelines/prompts/paper-reasoner.txt --sampled 0 --max-tokens 2048
  visplay evaluate --model data/nano --benchmark vqa.parquet --columns question=query,answer=label")]
pub struct EvaluateArgs {
    /// Folder of a checkpoint, or the ref of a model in the store.
    #[arg(long, value_name = "DIR|REF")]
    model: PathBuf,
    /// Parquet file of the benchmark.
    #[arg(long, value_name = "FILE")]
    benchmark: PathBuf,
    /// Columns with other names: image, question, answer or category=NAME, with commas between.
    #[arg(long, value_name = "KEY=NAME,..", value_parser = str::parse::<BenchmarkColumns>)]
    columns: Option<BenchmarkColumns>,
    /// Use only the first N rows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    items: Option<u32>,
    /// Prompt template file with {{image}} and {{question}}, which ends with
    /// `<|im_start|>assistant`; the templates in pipelines/prompts are built in [default: just the
    /// image and the question].
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// Skip the greedy protocol.
    #[arg(long)]
    no_greedy: bool,
    /// Sampled answers per item; 0 skips the protocol.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=65536))]
    sampled: u32,
    /// Sampled answers per item for a majority vote; 0 skips the protocol.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=65536))]
    majority: u32,
    /// Sampling temperature.
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Sample only from the K most likely tokens; 0 for all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Maximum number of tokens per answer.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: u32,
    /// Memory limit of the KV cache, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(1 << 12..=1 << 42))]
    cache_bytes: u64,
    /// Maximum number of samples decoded at once.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    max_sequences: u32,
    /// Sampling seed.
    #[arg(long, value_name = "S", default_value_t = Seed(0))]
    seed: Seed,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// Runs `visplay evaluate`.
pub fn cmd_evaluate(args: &EvaluateArgs, ui: &Ui) -> Result<()> {
    if args.no_greedy && args.sampled == 0 && args.majority == 0 {
        return Err(CommandError::usage(
            "no protocol is selected: drop --no-greedy, or pass --sampled N or --majority N",
        ));
    }
    let (device, dtype) = args.compute.open()?;
    args.threads.start()?;
    let session = Session::new(args.store.open_or_create()?, ui);
    let (store, runner) = (&session.store, session.runner());
    let file = args.prompt.as_deref().unwrap_or(Path::new(PROMPT));
    let prompt = RolePrompt::read(file, &prompt_bytes(args)?).map_err(CommandError::from_input)?;
    if let Some(missing) = ["image", "question"].into_iter().find(|name| !prompt.has(name)) {
        return Err(CommandError::usage(format!("{}: the template has no {{{{{missing}}}}}", file.display())));
    }
    prompt.check_end().map_err(CommandError::from_input)?;
    let limit = args.items.map_or(usize::MAX, |items| items as usize);
    let benchmark = Benchmark::read(&args.benchmark, limit, &args.columns.clone().unwrap_or_default())?;
    let base = ModelSource::find(&args.model, store)?.into_stored(&runner)?;
    let load = || {
        let assets = Arc::new(base.assets(store, None)?);
        LoadedModel::from_stored(assets, &base.tensors(store)?, dtype, &device, Ops::Kernels)
    };
    let model = ModelHandle::new(base.id, load);
    let files = benchmark.images.clone();
    let images = ImageSet::new(IMAGE_MEMORY, move || Ok(files.clone()));
    let sampler = PromptSampler::new(
        &model,
        &prompt,
        &images,
        SamplingLimits { cache_bytes: args.cache_bytes, max_sequences: args.max_sequences },
        &ComputeIdentity::new(dtype, &device, None, None),
    );
    let stage = Evaluation {
        sampler: &sampler,
        benchmark: &benchmark.name,
        protocols: Protocols {
            greedy: !args.no_greedy,
            sampled: args.sampled,
            majority: args.majority,
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: 1.0,
            max_tokens: args.max_tokens,
        },
        seed: args.seed.0,
    };
    let cut = ListedRows::split(store, &benchmark.rows, SHARD_ROWS)?;
    let predictions = runner.run(&stage, &cut)?.results;
    let scores = Scores { predictions: &predictions, benchmark: &benchmark.name, model: base.id };
    let counted = runner.run(&scores, &[()])?.results;
    let scores: Vec<ScoreRow> = read_rows(store, &counted)?;
    let answers: Vec<PredictionRow> = read_rows(store, &predictions)?;
    let straight = straight_share(&answers);
    let left_out: u64 = predictions.iter().map(|result| result.counts.rejects).sum();
    if left_out > 0 {
        let rejects: Vec<RejectRow> = read_rows(store, &predictions)?;
        let why = rejects.first().map_or(String::new(), |row| {
            let number = row.subject_row.map_or(String::new(), |number| format!("row {number}: "));
            let kind = kind_in_rejection(&row.detail).map_or(String::new(), |kind| format!(" ({})", kind.name()));
            format!("; the first: {number}{}: {}{kind}", row.reason, row.detail)
        });
        let rows = benchmark.rows.len();
        ui.say(format!("{left_out} of {rows} rows cannot be used and are not scored{why}"));
    }
    if scores.is_empty() {
        let file = args.benchmark.display();
        return Err(CommandError::usage(format!("{file}: none of the items could be given to the model")));
    }
    let boxes: Vec<PredictionBox> = read_rows(store, &predictions)?;
    let scores: Vec<ScoreWithBoxes> = scores.into_iter().map(|score| ScoreWithBoxes::new(score, &boxes)).collect();
    let without_category = |score: &&ScoreWithBoxes| score.score.category.is_none();
    for ScoreWithBoxes { score, boxed_share } in scores.iter().filter(without_category) {
        let advice = match args.prompt {
            None => "pass a prompt that asks for one, such as --prompt pipelines/prompts/paper-reasoner.txt",
            Some(_) => "check that the prompt asks for one",
        };
        let what = format!("the protocol {}", score.protocol);
        boxed_share.and_then(|share| low_box_warning(&what, share, advice)).into_iter().for_each(|text| ui.say(text));
    }
    if ui.json {
        return ui.result_json(&json!({ "scores": scores, "straight_share": straight, "left_out": left_out }));
    }
    for ScoreWithBoxes { score, boxed_share } in &scores {
        let category = score.category.as_deref().map_or(String::new(), |category| format!(" {category}"));
        let interval = match (score.low, score.high) {
            (Some(low), Some(high)) => format!(" [{low:.3}, {high:.3}]"),
            _ => String::new(),
        };
        let boxed = number(*boxed_share);
        ui.result(format!(
            "{}{category}: {:.3}{interval} of {}; answers with a \\boxed{{}}: {boxed}",
            score.protocol, score.value, score.items
        ))?;
    }
    straight.map_or(Ok(()), |share| ui.result(format!("sampled answers that start with \\boxed: {share:.3}")))
}

/// A score with the share of its answers that have a box.
#[derive(Debug, Serialize)]
struct ScoreWithBoxes {
    #[serde(flatten)]
    score: ScoreRow,
    boxed_share: Option<f64>,
}

impl ScoreWithBoxes {
    fn new(score: ScoreRow, boxes: &[PredictionBox]) -> Self {
        let share = boxed_share(boxes, |row| {
            row.protocol == score.protocol && (score.category.is_none() || row.category == score.category)
        });
        Self { score, boxed_share: share }
    }
}

/// Returns the bytes of the prompt's file. A template that ships with the program is built in, for
/// working directories without it.
fn prompt_bytes(args: &EvaluateArgs) -> Result<Vec<u8>> {
    let Some(file) = &args.prompt else {
        return Ok(shipped_prompt(Path::new(PROMPT)).unwrap_or_default().as_bytes().to_owned());
    };
    match (std::fs::read(file), shipped_prompt(file)) {
        (Ok(bytes), _) => Ok(bytes),
        (Err(e), Some(shipped)) if e.kind() == std::io::ErrorKind::NotFound => Ok(shipped.as_bytes().to_owned()),
        (Err(e), _) => Err(CommandError::usage(format!("{}: {e}", file.display()))),
    }
}

/// Returns the share of sampled answers that start with `\boxed`, without reasoning before it.
fn straight_share(answers: &[PredictionRow]) -> Option<f64> {
    let sampled: Vec<&PredictionRow> = answers.iter().filter(|row| row.protocol == "sampled").collect();
    let straight = sampled.iter().filter(|row| row.response.trim_start().starts_with("\\boxed")).count();
    (!sampled.is_empty()).then(|| straight as f64 / sampled.len() as f64)
}

//! `visplay warm-start`: supervised fine-tuning on a table of demonstrations.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::args::{ComputeArgs, StoreArgs, ThreadArgs};
use crate::cli::model_source::ModelSource;
use crate::cli::session::Session;
use crate::cli::{CommandError, Result, Ui};
use crate::stages::read_rows;
use crate::stages::warm_start::{Demonstrations, WarmStartSettings, trained_adapter, warm_start};
use crate::tables::MetricRow;
use crate::training::ScheduleKind;
use crate::vlm::export::{ExportOptions, export_with, publish};
use crate::vlm::tensor_source::TensorSource;

/// Fine-tune a model on demonstrations, with cross-entropy on the responses.
///
/// The demonstrations are a Parquet file with the columns `image` (a struct of `bytes` and `path`,
/// as in Hugging Face datasets; without bytes, the path names a file next to the table), `prompt`,
/// `response` and optionally `system`. Rows are used in order; consecutive rows of one image share
/// its encoding. Use it to teach a base model the Questioner's output format before an evolution.
/// An interrupted run resumes with the same command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay warm-start --model models/qwen2.5-vl-3b --data questions.parquet --out models/questioner
  visplay warm-start --model random --data warm-1/demonstrations.parquet --rows 160 --learning-rate 2e-3 --beta2 0.98 --out warm-1/model
  visplay warm-start --model models/qwen2.5-vl-3b --data questions.parquet --lora-rank 16 --adapter-out models/adapter --out models/questioner")]
pub struct WarmStartArgs {
    /// Folder of the checkpoint to start from, or the ref of a model in the store.
    #[arg(long, value_name = "DIR|REF")]
    model: PathBuf,
    /// Parquet file of the demonstrations.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Folder for the trained checkpoint; it must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    /// Rows per step.
    #[arg(long, value_name = "N", default_value_t = WarmStartSettings::default().rows_per_step, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Number of passes over the table.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Peak learning rate.
    #[arg(long, value_name = "RATE", default_value_t = WarmStartSettings::default().learning_rate, allow_negative_numbers = true)]
    learning_rate: f64,
    /// Keep the learning rate constant after the warm-up, instead of a cosine decay.
    #[arg(long)]
    constant: bool,
    /// Warm-up steps.
    #[arg(long, value_name = "N", default_value_t = WarmStartSettings::default().warmup_steps)]
    warmup: u32,
    /// Final learning rate of the cosine decay, as a share of the peak.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true)]
    final_share: f64,
    /// AdamW's beta1, the decay of the first moment.
    #[arg(long, value_name = "BETA", default_value_t = WarmStartSettings::default().beta1, allow_negative_numbers = true)]
    beta1: f64,
    /// AdamW's beta2, the decay of the second moment.
    #[arg(long, value_name = "BETA", default_value_t = WarmStartSettings::default().beta2, allow_negative_numbers = true)]
    beta2: f64,
    /// AdamW's weight decay.
    #[arg(long, value_name = "DECAY", default_value_t = WarmStartSettings::default().weight_decay, allow_negative_numbers = true)]
    weight_decay: f64,
    /// Do not train the vision tower.
    #[arg(long)]
    freeze_vision: bool,
    /// Train only LoRA adapters of this rank on the text tower, merged into the result; 0 trains
    /// all weights.
    #[arg(long, value_name = "RANK", default_value_t = 0)]
    lora_rank: u32,
    /// Also write the LoRA adapter to this new folder, in PEFT's format.
    #[arg(long, value_name = "DIR")]
    adapter_out: Option<PathBuf>,
    /// LoRA alpha; the adapter is scaled by alpha / rank.
    #[arg(long, value_name = "ALPHA", default_value_t = WarmStartSettings::default().lora_alpha, allow_negative_numbers = true)]
    lora_alpha: f64,
    /// Skip rows with more tokens than this.
    #[arg(long, value_name = "N", default_value_t = WarmStartSettings::default().max_tokens, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Tokens per micro-batch; fewer need less memory.
    #[arg(long, value_name = "N", default_value_t = WarmStartSettings::default().micro_batch_tokens, value_parser = clap::value_parser!(u32).range(1..))]
    micro_batch_tokens: u32,
    /// Layers per activation checkpoint; fewer need less memory and more time.
    #[arg(long, alias = "layers-at-once", value_name = "N", default_value_t = WarmStartSettings::default().layers_per_checkpoint, value_parser = clap::value_parser!(u32).range(1..))]
    layers_per_checkpoint: u32,
    /// Steps between checkpoints of the weights and the optimizer.
    #[arg(long, value_name = "N", default_value_t = WarmStartSettings::default().checkpoint_every, value_parser = clap::value_parser!(u32).range(1..))]
    checkpoint_every: u32,
    /// Seed of the adapters' initialization.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// Advice for a model of which the store lacks files.
const ADVICE: &str = "export it with the files of its base model first: `visplay model export REF DIR --base BASE`, then \
                      pass DIR as --model";

impl WarmStartArgs {
    fn settings(&self) -> Result<WarmStartSettings> {
        let positive = |name: &str, value: f64, most: f64| match value > 0.0 && value <= most {
            true => Ok(value),
            false => Err(CommandError::usage(format!("--{name} is {value}; it must be above 0 and at most {most}"))),
        };
        let share = |name: &str, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(value),
            false => Err(CommandError::usage(format!("--{name} is {value}; it must be at least 0 and below 1"))),
        };
        Ok(WarmStartSettings {
            rows_per_step: self.rows,
            epochs: self.epochs,
            learning_rate: positive("learning-rate", self.learning_rate, 1.0)?,
            schedule: if self.constant { ScheduleKind::Constant } else { ScheduleKind::Cosine },
            warmup_steps: self.warmup,
            final_share: share("final-share", self.final_share)?,
            beta1: share("beta1", self.beta1)?,
            beta2: share("beta2", self.beta2)?,
            weight_decay: share("weight-decay", self.weight_decay)?,
            freeze_vision: self.freeze_vision,
            lora_rank: self.lora_rank,
            lora_alpha: positive("lora-alpha", self.lora_alpha, 1e6)?,
            max_tokens: self.max_tokens,
            micro_batch_tokens: self.micro_batch_tokens,
            layers_per_checkpoint: self.layers_per_checkpoint,
            checkpoint_every: self.checkpoint_every,
            seed: self.seed,
            ..WarmStartSettings::default()
        })
    }
}

/// Runs `visplay warm-start`.
pub fn cmd_warm_start(args: &WarmStartArgs, ui: &Ui) -> Result<()> {
    let settings = args.settings()?;
    if args.adapter_out.is_some() && args.lora_rank == 0 {
        return Err(CommandError::usage("--adapter-out needs --lora-rank"));
    }
    if let Some(adapter) = &args.adapter_out
        && (adapter.starts_with(&args.out) || args.out.starts_with(adapter))
    {
        return Err(CommandError::usage(
            "--adapter-out and --out must be different folders, and neither may contain the other",
        ));
    }
    for out in args.adapter_out.iter().chain([&args.out]) {
        if out.symlink_metadata().is_ok() {
            let message = format!("{} already exists: pass a new folder", out.display());
            return Err(CommandError::usage(message));
        }
    }
    let (device, dtype) = args.compute.open()?;
    args.threads.start()?;
    let session = Session::new(args.store.open_or_create()?, ui);
    let (store, runner) = (&session.store, session.runner());
    let data = Demonstrations::read(&args.data)?;
    let source = ModelSource::find(&args.model, store)?;
    let (config, side_files) = (source.config()?, source.side_files(None, ADVICE)?);
    let base = source.into_stored(&runner)?;
    let (pieces, model) = warm_start(&base, &data, &settings, (dtype, &device), &runner)?;
    let metrics: Vec<MetricRow> = read_rows(store, &pieces)?;
    if metrics.iter().all(|row| row.updates == 0) {
        let message = "every update was skipped because no gradient was finite; the unchanged model was not written";
        return Err(CommandError::failed(message).with_hint("check the model's weights, or lower --learning-rate"));
    }
    // The adapter gets its final name after the model is written, so that a run that was killed in
    // between can be repeated.
    let mut adapter = None;
    if let (Some(out), Some(last)) = (&args.adapter_out, pieces.last())
        && let Some(trained) = trained_adapter(store, last, &settings)?
    {
        adapter = Some((out, trained.prepare(out, &args.model.display().to_string())?));
    }
    let tensors: BTreeMap<_, _> = model.tensors(store)?.into_iter().collect();
    let source: &dyn TensorSource = &tensors;
    export_with(&args.out, &config, source, &side_files, ExportOptions::default())?;
    if let Some((out, folder)) = adapter {
        publish(folder, out)?;
    }
    let rejects: u64 = pieces.iter().map(|piece| piece.counts.rejects).sum();
    let skipped: u32 = metrics.iter().map(|row| row.updates_skipped).sum();
    let losses: Vec<f64> = metrics.iter().filter_map(|row| row.loss).collect();
    let tokens: u64 = metrics.iter().map(|row| row.response_tokens).sum();
    let (first, last) = (losses.first().copied(), losses.last().copied());
    if ui.json {
        return ui.result_json(&json!({
            "out": args.out, "adapter": args.adapter_out, "model": model.id, "steps": metrics.len(), "rows": data.len(), "rejects": rejects,
            "response_tokens": tokens, "updates_skipped": skipped, "first_loss": first, "last_loss": last,
        }));
    }
    let shown = |loss: Option<f64>| loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
    ui.result(format!(
        "{} steps over {} rows ({rejects} skipped), {tokens} response tokens; loss {} -> {}; wrote {}",
        metrics.len(),
        data.len(),
        shown(first),
        shown(last),
        args.out.display()
    ))?;
    if skipped > 0 {
        ui.say(format!("{skipped} updates were skipped because the gradient was not finite"));
    }
    Ok(())
}

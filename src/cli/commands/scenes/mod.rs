//! `visplay scenes`: drawn scenes with known answers, for the nano model and for measuring.

mod truth;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use self::truth::{ScenesTruthArgs, cmd_scenes_truth};
use crate::cli::args::ThreadArgs;
use crate::cli::{CommandError, Result, Ui, format};
use crate::random::Seed;
use crate::scenes::{
    DemonstrationOptions, FamilyWeights, QuestionFamily, WrittenFile, write_benchmark, write_demonstrations,
    write_images, write_tokenizer,
};

/// Draw scenes: images of coloured shapes with known answers.
///
/// Writes to a folder: images/*.png, `scenes.parquet` (the objects) and `questions.parquet` (a
/// question of each family with its right answer). With --demonstrations, `demonstrations.parquet`
/// for the nano model's warm start replaces the questions; with --benchmark, one file of held-out
/// questions is written instead. Scenes drawn for different purposes are always different, whatever
/// their seeds. The answers are for warm start and evaluation; evolution never sees them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  visplay scenes --count 300 --seed 1 --out data
  visplay scenes --count 28000 --seed 1 --out warm-1 --demonstrations
  visplay scenes --count 8960 --seed 1 --first 28000 --out warm-2 --demonstrations --wrong 0.35 --weight count-more=3
  visplay scenes --count 600 --seed 1 --benchmark data/benchmarks/scenes.parquet
  visplay scenes truth data/store/views/nano/round=1/questions --out truth.parquet",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct ScenesArgs {
    #[command(subcommand)]
    command: Option<ScenesCommand>,
    /// Number of scenes.
    #[arg(long, value_name = "N", required_unless_present = "tokenizer")]
    count: Option<u64>,
    /// Seed; scene I of a seed is always the same.
    #[arg(long, value_name = "S", default_value_t = Seed(0))]
    seed: Seed,
    /// Number of the first scene.
    #[arg(long, value_name = "I", default_value_t = 0)]
    first: u64,
    /// Folder to write to; it is created if needed, and files of the same names are replaced.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["benchmark", "tokenizer"])]
    out: Option<PathBuf>,
    /// Write `demonstrations.parquet` for the warm start: for each scene a description, answers and
    /// a question.
    #[arg(long)]
    demonstrations: bool,
    /// Share of the immediate answers to make wrong, from 0 to 1 in steps of 0.01.
    #[arg(
        long,
        value_name = "SHARE",
        requires = "demonstrations",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    wrong: f64,
    /// Number of answered questions per scene, all of different families.
    #[arg(long, value_name = "N", requires = "demonstrations", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=15))]
    answers: u8,
    /// Relative frequency of a question family, 1 by default; may be repeated.
    #[arg(long = "weight", value_name = "FAMILY=N", requires = "demonstrations", value_parser = weight)]
    weights: Vec<(QuestionFamily, u64)>,
    /// Write held-out questions with their right answers to this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "demonstrations"])]
    benchmark: Option<PathBuf>,
    /// Write the nano model's tokenizer to this file.
    #[arg(long, value_name = "FILE", hide = true, conflicts_with_all = ["count", "out", "demonstrations", "benchmark"])]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadArgs,
}

#[derive(Debug, Subcommand)]
enum ScenesCommand {
    Truth(ScenesTruthArgs),
}

fn weight(text: &str) -> Result<(QuestionFamily, u64), String> {
    let (family, weight) = text.split_once('=').ok_or("expected FAMILY=N")?;
    let number = weight.parse().ok().filter(|n| *n <= 1_000_000);
    Ok((family.parse()?, number.ok_or_else(|| format!("expected a number from 0 to 1000000, not {weight:?}"))?))
}

/// Runs `visplay scenes`.
pub fn cmd_scenes(args: &ScenesArgs, ui: &Ui) -> Result<()> {
    if let Some(ScenesCommand::Truth(args)) = &args.command {
        return cmd_scenes_truth(args, ui);
    }
    if let Some(file) = &args.tokenizer {
        return Ok(write_tokenizer(file)?);
    }
    let end = args.first.checked_add(args.count.unwrap_or(0));
    let end = end.ok_or_else(|| CommandError::usage("--first plus --count does not fit in 64 bits"))?;
    let options = demonstration_options(args)?;
    args.threads.start()?;
    let indexes = args.first..end;
    let written = match (&args.benchmark, &args.out) {
        (Some(file), _) => vec![write_benchmark(file, args.seed, indexes)?],
        (None, Some(folder)) if args.demonstrations => write_demonstrations(folder, args.seed, indexes, &options)?,
        (None, Some(folder)) => write_images(folder, args.seed, indexes)?,
        (None, None) => return Err(CommandError::usage("pass --out or --benchmark")),
    };
    report(&written, ui)
}

fn demonstration_options(args: &ScenesArgs) -> Result<DemonstrationOptions> {
    if !(0.0..=1.0).contains(&args.wrong) {
        return Err(CommandError::usage(format!("--wrong is {}; it must be between 0 and 1", args.wrong)));
    }
    let mut weights = FamilyWeights::default();
    for (family, weight) in &args.weights {
        weights.set(*family, *weight);
    }
    let answers = usize::from(args.answers);
    if !weights.suffice_for(answers) {
        let message = format!("--answers {answers} needs at least {answers} families with a weight above 0");
        return Err(CommandError::usage(message));
    }
    Ok(DemonstrationOptions { answers, wrong_percent: (args.wrong * 100.0).round() as usize, weights })
}

fn report(written: &[WrittenFile], ui: &Ui) -> Result<()> {
    if ui.json {
        let written: Vec<_> = written.iter().map(|w| json!({"path": w.path, "rows": w.rows})).collect();
        return ui.result_json(&json!({"written": written}));
    }
    for WrittenFile { path, rows } in written {
        let unit = if path.extension().is_some() { "rows" } else { "images" };
        ui.result(format!("{}: {} {unit}", path.display(), format::count(*rows)))?;
    }
    Ok(())
}

//! `visplay scenes`: drawn scenes with their truth, for the nano model and for measuring.

use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rayon::prelude::*;
use serde_json::json;

use super::context::ThreadArgs;
use super::error::CommandError;
use super::scenes_truth::{ScenesTruthArgs, cmd_scenes_truth};
use super::text;
use super::ui::Ui;
use crate::random::Seed;
use crate::scenes::{
    DemonstrationOptions, Family, Purpose, Scene, Weights, benchmark_row, demonstrations, image_path, object_rows,
    question_rows, tokenizer_json,
};
use crate::tables::{TableRow, TableWriter};

/// Scenes that are drawn before their rows are written.
const CHUNK: u64 = 1024;

/// Draw scenes: pictures of coloured shapes whose truth is known.
///
/// Writes images/*.png, `scenes.parquet` (the objects) and `questions.parquet` (a question of each family with its right
/// answer) to a folder. With --demonstrations the rows that the warm start of the nano model learns from take the place of
/// the questions; with --benchmark one file with held-out questions is written instead. Scenes for these three purposes
/// are never the same, whatever their seeds. The truth is for warm start and evaluation; evolution never sees it.
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
    /// The number of scenes.
    #[arg(long, value_name = "N", required_unless_present = "tokenizer")]
    count: Option<u64>,
    /// The seed: scene I of a seed is always the same.
    #[arg(long, value_name = "S", default_value_t = Seed(0))]
    seed: Seed,
    /// The number of the first scene.
    #[arg(long, value_name = "I", default_value_t = 0)]
    first: u64,
    /// The folder to write to; it is made if needed, and files of the same names are replaced.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["benchmark", "tokenizer"])]
    out: Option<PathBuf>,
    /// Write `demonstrations.parquet` for the warm start: for each scene a description, some answers, an asked question.
    #[arg(long)]
    demonstrations: bool,
    /// Make this share of the straight answers wrong, 0 to 1 in hundredths.
    #[arg(
        long,
        value_name = "SHARE",
        requires = "demonstrations",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    wrong: f64,
    /// Answered questions for each scene, all of different families.
    #[arg(long, value_name = "N", requires = "demonstrations", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=15))]
    answers: u8,
    /// Answer a family so many times as often as another one with weight 1; may be given several times.
    #[arg(long = "weight", value_name = "FAMILY=N", requires = "demonstrations", value_parser = weight)]
    weights: Vec<(Family, u64)>,
    /// Write held-out questions with their right answers to this file, the families in turn.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "demonstrations"])]
    benchmark: Option<PathBuf>,
    /// Write the tokenizer of the nano model to this file.
    #[arg(long, value_name = "FILE", hide = true, conflicts_with_all = ["count", "out", "demonstrations", "benchmark"])]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadArgs,
}

#[derive(Debug, Subcommand)]
enum ScenesCommand {
    Truth(ScenesTruthArgs),
}

fn weight(text: &str) -> Result<(Family, u64), String> {
    let (family, weight) = text.split_once('=').ok_or("a weight is written FAMILY=N")?;
    let number = weight.parse().ok().filter(|n| *n <= 1_000_000);
    Ok((family.parse()?, number.ok_or_else(|| format!("{weight:?} is no weight; a weight is 0 to 1000000"))?))
}

/// Runs `visplay scenes`.
pub fn cmd_scenes(args: &ScenesArgs, ui: &Ui) -> Result<(), CommandError> {
    if let Some(ScenesCommand::Truth(args)) = &args.command {
        return cmd_scenes_truth(args, ui);
    }
    if let Some(file) = &args.tokenizer {
        let json = tokenizer_json().map_err(|e| CommandError::failed(format!("cannot make the tokenizer: {e}")))?;
        make_folder(file.parent())?;
        return write_file(file, json.as_bytes());
    }
    let end = args.first.checked_add(args.count.unwrap_or(0));
    let end = end.ok_or_else(|| CommandError::usage("--first and --count together are more than there are numbers"))?;
    let options = demonstration_options(args)?;
    args.threads.start()?;
    let indexes = args.first..end;
    let written = if let Some(file) = &args.benchmark {
        make_folder(file.parent())?;
        let mut table = TableFile::new(file)?;
        for chunk in chunks(indexes) {
            table.extend(chunk.into_par_iter().map(|index| vec![benchmark_row(args.seed, index)]).collect())?;
        }
        vec![table.finish()?]
    } else if let Some(folder) = &args.out {
        make_folder(Some(&folder.join("images")))?;
        if args.demonstrations {
            let rows = |scene: &Scene| demonstrations(scene, &image_path(scene.index()), &options);
            draw(args.seed, Purpose::WarmStart, indexes, folder, "demonstrations.parquet", rows)?
        } else {
            draw(args.seed, Purpose::Images, indexes, folder, "questions.parquet", question_rows)?
        }
    } else {
        return Err(CommandError::usage("--out or --benchmark is needed"));
    };
    report(&written, ui)
}

fn demonstration_options(args: &ScenesArgs) -> Result<DemonstrationOptions, CommandError> {
    if !(0.0..=1.0).contains(&args.wrong) {
        return Err(CommandError::usage(format!("--wrong is {}; it is a share, 0 to 1", args.wrong)));
    }
    let mut weights = Weights::default();
    for (family, weight) in &args.weights {
        weights.set(*family, *weight);
    }
    let answers = usize::from(args.answers);
    if !weights.are_enough(answers) {
        let message = format!("{answers} answers an image need as many families with a weight above 0");
        return Err(CommandError::usage(message));
    }
    Ok(DemonstrationOptions { answers, wrong_percent: (args.wrong * 100.0).round() as usize, weights })
}

/// Draws scenes: their images, the table of their objects, and another table.
fn draw<R: TableRow>(
    seed: Seed,
    purpose: Purpose,
    indexes: Range<u64>,
    folder: &Path,
    table: &str,
    rows: impl Fn(&Scene) -> Vec<R> + Sync,
) -> Result<Vec<Written>, CommandError> {
    let mut objects = TableFile::new(&folder.join("scenes.parquet"))?;
    let mut others = TableFile::new(&folder.join(table))?;
    let mut images = 0;
    for chunk in chunks(indexes) {
        let drawn = chunk.into_par_iter().map(|index| {
            let scene = Scene::draw(purpose, seed, index);
            write_file(&folder.join(image_path(index)), &scene.to_png())?;
            Ok((object_rows(&scene), rows(&scene)))
        });
        let drawn: Vec<_> = drawn.collect::<Result<_, CommandError>>()?;
        images += drawn.len() as u64;
        let (object_rows, other_rows) = drawn.into_iter().unzip();
        objects.extend(object_rows)?;
        others.extend(other_rows)?;
    }
    let images = Written { path: folder.join("images"), rows: images };
    Ok(vec![images, objects.finish()?, others.finish()?])
}

/// `indexes` in ranges of at most [`CHUNK`].
fn chunks(indexes: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = indexes.end;
    indexes.step_by(CHUNK as usize).map(move |first| first..end.min(first.saturating_add(CHUNK)))
}

/// What was written where.
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) rows: u64,
}

/// A table that has its name only when it is whole.
pub(super) struct TableFile<R: TableRow> {
    path: PathBuf,
    partial: PathBuf,
    writer: TableWriter<R, std::io::BufWriter<fs::File>>,
}

impl<R: TableRow> TableFile<R> {
    pub(super) fn new(path: &Path) -> Result<Self, CommandError> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = fs::File::create(&partial).map_err(|e| unwritable(&partial, &e))?;
        Ok(Self { path: path.to_owned(), partial, writer: TableWriter::new(std::io::BufWriter::new(file))? })
    }

    pub(super) fn extend(&mut self, rows: Vec<Vec<R>>) -> Result<(), CommandError> {
        Ok(rows.into_iter().flatten().try_for_each(|row| self.writer.push(row))?)
    }

    pub(super) fn finish(self) -> Result<Written, CommandError> {
        let rows = self.writer.rows();
        let mut file = self.writer.finish()?;
        file.flush().map_err(|e| unwritable(&self.partial, &e))?;
        fs::rename(&self.partial, &self.path).map_err(|e| unwritable(&self.path, &e))?;
        Ok(Written { path: self.path, rows })
    }
}

pub(super) fn make_folder(folder: Option<&Path>) -> Result<(), CommandError> {
    let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    fs::write(path, bytes).map_err(|e| unwritable(path, &e))
}

fn unwritable(path: &Path, e: &std::io::Error) -> CommandError {
    CommandError::failed(format!("{}: cannot be written: {e}", path.display()))
}

fn report(written: &[Written], ui: &Ui) -> Result<(), CommandError> {
    if ui.json {
        let written: Vec<_> = written.iter().map(|w| json!({"path": w.path, "rows": w.rows})).collect();
        return ui.result_json(&json!({"written": written}));
    }
    for Written { path, rows } in written {
        let what = if path.extension().is_some() { "rows" } else { "images" };
        ui.result(format!("{}: {} {what}", path.display(), text::count(*rows)))?;
    }
    Ok(())
}

//! `visplay ingest`: reads folders of images and Parquet datasets into the images table.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use crate::cli::args::{PipelineArgs, StoreArgs, ThreadArgs};
use crate::cli::output::mistaken_files::say_mistaken_files;
use crate::cli::session::Session;
use crate::cli::{CommandError, Result, Ui, exit, format};
use crate::input_kind::describe_without_images;
use crate::stages::ingest::{IngestRequest, IngestSummary, UnusableSource, ingest};
use crate::store::Store;

/// Add images to an evolution.
///
/// Reads PNG, JPEG, WebP, GIF (first frame), BMP and TIFF files, zip and tar archives of them (also
/// .tar.gz), and Parquet files with a column of images or of their paths, as Hugging Face datasets
/// use. A file that is not a usable image becomes a row of the `rejects` table with the reason.
/// Running it again adds only what is new. A source without any usable image ends the command with
/// exit code 7.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay ingest ~/photos
  visplay ingest train-00000-of-00002.parquet train-00001-of-00002.parquet --column image
  visplay ingest shards/000000.tar photos.zip
  visplay ingest scans/ --evolution scans --store /data/visplay")]
pub struct IngestArgs {
    /// Folders, image files, Parquet files and archives to read.
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// Image column of the Parquet files [default: detected by type and name].
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// Runs `visplay ingest`.
pub fn cmd_ingest(args: &IngestArgs, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    let pipeline = args.pipeline.load()?;
    args.threads.start()?;
    let session = Session::new(args.store.open_or_create()?, ui);
    let options = pipeline.ingest.options();
    let request = IngestRequest {
        evolution: &pipeline.evolution,
        sources: &args.sources,
        column: args.column.as_deref(),
        options: &options,
    };
    let ingested = ingest(&request, &session.runner())?;
    say_mistaken_files(&ingested, &session.store, ui);
    if ui.json {
        print_json(&ingested, &session.store, ui)?;
    } else {
        print_table(&ingested, &session.store, start, ui)?;
    }
    check_sources(&ingested)
}

/// Returns an error if one of the sources has no usable image.
pub fn check_sources(done: &IngestSummary) -> Result<()> {
    if done.unusable.is_empty() {
        return Ok(());
    }
    let describe = |source: &UnusableSource| {
        if let Some(problem) = &source.problem {
            return format!("{}: no usable image: {problem}", source.source.display());
        }
        let counts =
            source.rejects.iter().map(|(reason, n)| format!("{} {}", format::count(*n), reason.replace('_', " ")));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let found =
            if counts.is_empty() { "it has no files or rows".to_owned() } else { format!("rejected: {counts}") };
        let what = describe_without_images(&source.source).map_or_else(String::new, |what| format!("; {what}"));
        format!("{}: no usable image ({found}){what}", source.source.display())
    };
    let message = done.unusable.iter().map(describe).collect::<Vec<_>>().join("\n");
    let sources = "images are read from folders, image files, Parquet files, and zip, tar and .tar.gz archives";
    let hint = match done.unusable.iter().all(|source| source.problem.is_some()) {
        true => sources.to_owned(),
        false => format!("{sources}; the view `rejects` has the reason for each file"),
    };
    Err(CommandError { code: exit::NO_IMAGE, message, hint: Some(hint) })
}

fn print_json(done: &IngestSummary, store: &Store, ui: &Ui) -> Result<()> {
    ui.result_json(&json!({
        "ref": done.reference.to_string(),
        "result": done.table.digest()?,
        "action": done.table.action,
        "images": done.table.counts.rows_out,
        "rejects": done.table.counts.rejects,
        "rejects_by_reason": rejects_by_reason(done),
        "entries": done.entries,
        "read": done.read,
        "new": done.new,
        "new_images": done.new_images,
        "new_rejects": done.new_rejects,
        "shards_made": done.shards_computed,
        "left_behind": done.left_behind,
        "unusable_sources": done.unusable,
        "store": store.root(),
    }))
}

fn rejects_by_reason(done: &IngestSummary) -> std::collections::BTreeMap<&str, u64> {
    let reasons = done.table.statistics.iter();
    reasons.filter_map(|(figure, n)| Some((figure.strip_prefix("rejected.")?, *n))).collect()
}

fn print_table(done: &IngestSummary, store: &Store, start: Instant, ui: &Ui) -> Result<()> {
    if done.left_behind > 0 {
        ui.say(format!(
            "the ingest options changed: {} images of earlier ingests are not in the new table unless their sources \
             were passed again",
            format::count(done.left_behind)
        ));
    }
    let changes = match (done.new, done.shards_rebuilt) {
        (0, 0) => "nothing new".to_owned(),
        (0, shards) => format!("nothing new; recomputed {shards} lost shards"),
        (new, _) => {
            let rejected: u64 = done.new_rejects.values().sum();
            let [new, images, rejected] = [new, done.new_images, rejected].map(format::count);
            format!("{new} new: {images} images, {rejected} rejected")
        }
    };
    ui.result(format!("{} files and rows read, {changes} ({})", format::count(done.entries), format::elapsed(start)))?;
    let rejects = rejects_by_reason(done);
    if !rejects.is_empty() {
        let new = |reason| format::count(done.new_rejects.get(reason).copied().unwrap_or(0));
        let rows = rejects.into_iter().map(|(reason, n)| [reason.to_owned(), new(reason), format::count(n)]);
        ui.indented_table(&format::with_heading(["rejected", "new", "total"], rows))?;
    }
    let view = store.root().join("views").join(&done.reference.evolution);
    ui.result(format!(
        "{} has {} images (result {:.12}); browse them in {}",
        done.reference,
        format::count(done.table.counts.rows_out),
        done.table.digest()?.to_string(),
        view.join("images").display()
    ))?;
    if done.table.counts.rejects > 0 {
        ui.result(format!("reasons for the rejects: {}", view.join("rejects").display()))?;
    }
    Ok(())
}

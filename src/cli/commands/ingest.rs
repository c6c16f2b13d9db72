//! `visplay ingest`: reads folders of images and Parquet datasets into the images table.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use crate::cli::args::{PipelineArgs, StoreArgs, ThreadArgs};
use crate::cli::error::CommandError;
use crate::cli::interrupt::listen_for_interrupt;
use crate::cli::output::format;
use crate::cli::output::progress::TerminalProgress;
use crate::cli::output::ui::Ui;
use crate::stages::Runner;
use crate::stages::ingest::{IngestRequest, IngestSummary, ingest};
use crate::store::Store;

/// Add images to an evolution.
///
/// Reads PNG, JPEG, WebP, GIF (first frame), BMP and TIFF files, and Parquet files with an image
/// column, as Hugging Face datasets use. A file that is not a usable image becomes a row of the
/// `rejects` table with the reason. Running it again adds only what is new.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay ingest ~/photos
  visplay ingest train-00000-of-00002.parquet train-00001-of-00002.parquet --column image
  visplay ingest scans/ --evolution scans --store /data/visplay")]
pub struct IngestArgs {
    /// Folders, image files and Parquet files to read.
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
pub fn cmd_ingest(args: &IngestArgs, ui: &Ui) -> Result<(), CommandError> {
    let start = Instant::now();
    let pipeline = args.pipeline.load()?;
    args.threads.start()?;
    let interrupt = listen_for_interrupt();
    let progress = TerminalProgress::new(ui);
    let store = Store::open_or_create(&args.store.store)?;
    let runner = Runner { store: &store, progress: &progress, interrupt: &interrupt, dry_run: false };
    let options = pipeline.ingest.options();
    let request = IngestRequest {
        evolution: &pipeline.evolution,
        sources: &args.sources,
        column: args.column.as_deref(),
        options: &options,
    };
    let ingested = ingest(&request, &runner)?;
    if ui.json { print_json(&ingested, &store, ui) } else { print_table(&ingested, &store, start, ui) }
}

fn print_json(done: &IngestSummary, store: &Store, ui: &Ui) -> Result<(), CommandError> {
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
        "store": store.root(),
    }))
}

fn rejects_by_reason(done: &IngestSummary) -> std::collections::BTreeMap<&str, u64> {
    let reasons = done.table.statistics.iter();
    reasons.filter_map(|(figure, n)| Some((figure.strip_prefix("rejected.")?, *n))).collect()
}

fn print_table(done: &IngestSummary, store: &Store, start: Instant, ui: &Ui) -> Result<(), CommandError> {
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
            format!(
                "{} new: {} images, {} rejected",
                format::count(new),
                format::count(done.new_images),
                format::count(rejected)
            )
        }
    };
    ui.result(format!("{} files and rows read, {changes} ({})", format::count(done.entries), format::elapsed(start)))?;
    let mut rows = vec![vec!["rejected".to_owned(), "new".to_owned(), "total".to_owned()]];
    for (reason, n) in rejects_by_reason(done) {
        let new = done.new_rejects.get(reason).copied().unwrap_or(0);
        rows.push(vec![reason.to_owned(), format::count(new), format::count(n)]);
    }
    if rows.len() > 1 {
        ui.indented_table(&rows)?;
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

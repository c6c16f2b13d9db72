//! `visplay why`: what a stage would do now and had not done before, key by key.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::args::{PipelineArgs, StoreArgs, ThreadArgs};
use crate::cli::error::CommandError;
use crate::cli::interrupt::listen_for_interrupt;
use crate::cli::output::format;
use crate::cli::output::progress::TerminalProgress;
use crate::cli::output::ui::Ui;
use crate::stages::Runner;
use crate::stages::ingest::{IngestRequest, preview};

/// Say what changed in a stage's key since its last result, and so why it would run again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay why ingest                the options of the pipeline file against those of the last ingest
  visplay why ingest ~/photos       also which files are new")]
pub struct WhyArgs {
    /// The stage.
    #[arg(value_enum)]
    stage: StageName,
    /// Sources to compare with what was ingested.
    #[arg(value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// The image column of Parquet files.
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// A stage that can be asked about.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StageName {
    /// From files to the table of images.
    Ingest,
}

/// How many new files are named.
const NAMED: usize = 10;

/// Runs `visplay why`.
pub fn cmd_why(args: &WhyArgs, ui: &Ui) -> Result<(), CommandError> {
    let StageName::Ingest = args.stage;
    let pipeline = args.pipeline.load()?;
    args.threads.start()?;
    let store = args.store.open()?;
    let (interrupt, progress) = (listen_for_interrupt(), TerminalProgress::new(ui));
    let runner = Runner { store: &store, progress: &progress, interrupt: &interrupt, dry_run: false };
    let options = pipeline.ingest.options();
    let request = IngestRequest {
        evolution: &pipeline.evolution,
        sources: &args.sources,
        column: args.column.as_deref(),
        options: &options,
    };
    let preview = preview(&request, &runner)?;
    if ui.json {
        return ui.result_json(&json!({
            "last": preview.last.as_ref().map(ToString::to_string),
            "differences": preview.differences,
            "broken": preview.broken.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "new": preview.new,
        }));
    }
    let Some(last) = &preview.last else {
        return ui.result(format!("{} has no images yet: everything would be done", pipeline.evolution));
    };
    for d in &preview.differences {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not there)".into());
        ui.result(format!("{}: {} -> {}", d.key, shown(&d.before), shown(&d.after)))?;
    }
    for r in &preview.broken {
        ui.result(format!("{r}: parts of it are gone and would be made again"))?;
    }
    for label in preview.new.iter().take(NAMED) {
        ui.result(format!("new: {}", format::plain(label)))?;
    }
    if preview.new.len() > NAMED {
        ui.result(format!("and {} more new entries", format::count((preview.new.len() - NAMED) as u64)))?;
    }
    if preview.differences.is_empty() && preview.new.is_empty() && preview.broken.is_empty() {
        ui.result(format!("nothing changed since {last}: nothing would be done"))?;
    }
    Ok(())
}

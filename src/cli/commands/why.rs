//! `visplay why`: the changes that make a stage run again.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::args::{PipelineArgs, StoreArgs, ThreadArgs};
use crate::cli::session::Session;
use crate::cli::{Result, Ui, format};
use crate::stages::ingest::{IngestRequest, preview};

/// Explain why a stage would run again: what changed since its last result.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay why ingest                compare the pipeline file's options with those of the last ingest
  visplay why ingest ~/photos       also list new files")]
pub struct WhyArgs {
    /// The stage to explain.
    #[arg(value_enum)]
    stage: StageName,
    /// Folders and files to compare with those ingested before.
    #[arg(value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// Image column of the Parquet files.
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// A stage that can be explained.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StageName {
    /// Reads image files into the images table.
    Ingest,
}

/// Number of new files that are listed.
const MAX_LISTED: usize = 10;

/// Runs `visplay why`.
pub fn cmd_why(args: &WhyArgs, ui: &Ui) -> Result<()> {
    let StageName::Ingest = args.stage;
    let pipeline = args.pipeline.load()?;
    args.threads.start()?;
    let session = Session::new(args.store.open()?, ui);
    let options = pipeline.ingest.options();
    let request = IngestRequest {
        evolution: &pipeline.evolution,
        sources: &args.sources,
        column: args.column.as_deref(),
        options: &options,
    };
    let preview = preview(&request, &session.runner())?;
    if ui.json {
        return ui.result_json(&json!({
            "last": preview.last.as_ref().map(ToString::to_string),
            "differences": preview.differences,
            "broken": preview.damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "new": preview.new,
        }));
    }
    let Some(last) = &preview.last else {
        return ui.result(format!("{} has no images yet: the whole stage would run", pipeline.evolution));
    };
    for d in &preview.differences {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(absent)".into());
        ui.result(format!("{}: {} -> {}", d.key, shown(&d.before), shown(&d.after)))?;
    }
    for r in &preview.damaged {
        ui.result(format!("{r}: some of its data is missing and would be recomputed"))?;
    }
    for label in preview.new.iter().take(MAX_LISTED) {
        ui.result(format!("new: {}", format::plain(label)))?;
    }
    if preview.new.len() > MAX_LISTED {
        ui.result(format!("and {} more new files or rows", format::count((preview.new.len() - MAX_LISTED) as u64)))?;
    }
    if preview.differences.is_empty() && preview.new.is_empty() && preview.damaged.is_empty() {
        ui.result(format!("nothing changed since {last}: nothing would run"))?;
    }
    Ok(())
}

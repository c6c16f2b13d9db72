//! `visplay branch`: starts an evolution that shares the first rounds of another one.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::args::StoreArgs;
use crate::cli::{Result, Ui};
use crate::evolution::pipeline::{Pipeline, Setting};
use crate::evolution::{BranchRequest, branch};

/// Start a new evolution from a round of another one, with changed settings.
///
/// The shared rounds are the same stored results under the new name: nothing is copied and nothing
/// is recomputed. The settings are written to a pipeline file of the new evolution, NAME.toml next
/// to the original, comments included; they apply from the next round on. Repeating the command
/// changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay branch tighter --from round-2 --set curriculum.low=0.3
  visplay branch low --from base --set curriculum.low=0.2 --pipeline pipelines/qwen2.5-vl-3b.toml
  visplay evolve-round next --pipeline pipelines/tighter.toml")]
pub struct BranchArgs {
    /// Name of the new evolution.
    #[arg(value_name = "NAME")]
    name: String,
    /// Last shared round: round-N, or base for only the images and the base model.
    #[arg(long, value_name = "ROUND", value_parser = branch_point)]
    from: u32,
    /// Set a key of the pipeline file; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Setting::parse)]
    settings: Vec<Setting>,
    /// Pipeline file to write [default: NAME.toml next to the original].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Pipeline file to start from [default: pipelines/nano.toml].
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
    /// Evolution to branch from, overriding the pipeline file.
    #[arg(long, value_name = "NAME")]
    evolution: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
}

/// Parses the last shared round; 0 is the base model.
fn branch_point(text: &str) -> Result<u32, String> {
    if text == "base" {
        return Ok(0);
    }
    let number = text.strip_prefix("round-").unwrap_or(text);
    let digits = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    let number = number.parse().ok().filter(|n| digits && *n <= 9999);
    number.ok_or_else(|| "expected round-N or base".to_owned())
}

/// Runs `visplay branch`.
pub fn cmd_branch(args: &BranchArgs, ui: &Ui) -> Result<()> {
    let (file, text) = Pipeline::text(args.pipeline.as_deref())?;
    let evolution = match &args.evolution {
        Some(name) => name.clone(),
        None => Pipeline::parse(&file, &text)?.evolution,
    };
    let store = args.store.open()?;
    let out = args.out.clone().unwrap_or_else(|| default_out(&file, &args.name));
    let request = BranchRequest {
        store: &store,
        name: &args.name,
        from: args.from,
        evolution: &evolution,
        pipeline: (&file, &text),
        settings: &args.settings,
        out: &out,
    };
    let branched = branch(&request)?;
    if ui.json {
        return ui.result_json(&branched);
    }
    let state = if branched.already_existed { "already exists" } else { "was created" };
    let shared = match args.from {
        0 => format!("the images of {evolution}"),
        1 => format!("the images and round 1 of {evolution}"),
        n => format!("the images and rounds 1 to {n} of {evolution}"),
    };
    ui.result(format!("{} {state}; it shares {shared}", branched.evolution))?;
    ui.result(format!("pipeline file: {}", branched.pipeline.display()))?;
    ui.result(format!("next: visplay evolve-round next --pipeline {}", branched.pipeline.display()))
}

/// Returns `NAME.toml` in the folder of a pipeline file, or in the working folder for the bundled
/// file.
fn default_out(file: &Path, name: &str) -> PathBuf {
    let name = PathBuf::from(format!("{name}.toml"));
    match file.parent() {
        Some(folder) if folder.is_dir() => folder.join(name),
        _ => name,
    }
}

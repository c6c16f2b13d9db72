//! `visplay branch`: another evolution that shares the first rounds of one and goes on by other settings.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::cli::args::StoreArgs;
use crate::cli::error::CommandError;
use crate::cli::output::ui::Ui;
use crate::evolution::pipeline::{DEFAULT_FILE, Pipeline, Setting};
use crate::evolution::{Branch, branch};

/// Start another evolution that shares the rounds of one up to here, and goes on by other settings.
///
/// The shared rounds are the same results under the new name: nothing is copied and nothing runs again. The settings become a pipeline
/// file of the branch's own, NAME.toml beside the original, which keeps its comments; from the next round on it holds. Doing it
/// again changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay branch tighter --from round-2 --set curriculum.low=0.3
  visplay branch low --from base --set curriculum.low=0.2 --pipeline pipelines/qwen2.5-vl-3b.toml
  visplay evolve-round next --pipeline pipelines/tighter.toml")]
pub struct BranchArgs {
    /// The name of the new evolution.
    #[arg(value_name = "NAME")]
    name: String,
    /// The last round that is shared: `round-2`, or `base` (round-0) for the images and the base model alone.
    #[arg(long, value_name = "ROUND")]
    from: Start,
    /// A key of the pipeline file and its new value; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Setting::parse)]
    settings: Vec<Setting>,
    /// Where the branch's pipeline file is written [default: NAME.toml beside the original].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The pipeline file to start from [default: pipelines/nano.toml].
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
    /// The evolution to branch from, instead of the pipeline file's.
    #[arg(long, value_name = "NAME")]
    evolution: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
}

/// The last shared round.
#[derive(Debug, Clone, Copy)]
struct Start(u32);

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "base" {
            return Ok(Self(0));
        }
        let number = text.strip_prefix("round-").unwrap_or(text);
        let digits = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
        let number = number.parse().ok().filter(|n| digits && *n <= 9999);
        number.map(Self).ok_or_else(|| "a round is written round-2, and the beginning `base`".to_owned())
    }
}

/// Runs `visplay branch`.
pub fn cmd_branch(args: &BranchArgs, ui: &Ui) -> Result<(), CommandError> {
    let (file, text) = Pipeline::text(args.pipeline.as_deref())?;
    let evolution = match &args.evolution {
        Some(name) => name.clone(),
        None => Pipeline::parse(&file, &text)?.evolution,
    };
    let store = args.store.open()?;
    let out = args.out.clone().unwrap_or_else(|| beside(&file, &args.name));
    let request = Branch {
        store: &store,
        name: &args.name,
        from: args.from.0,
        evolution: &evolution,
        pipeline: (&file, &text),
        settings: &args.settings,
        out: &out,
    };
    let branched = branch(&request)?;
    if ui.json {
        return ui.result_json(&branched);
    }
    let state = if branched.found { "was there already" } else { "is there" };
    let shared = match args.from.0 {
        0 => format!("the images of {evolution}"),
        1 => format!("the images and round 1 of {evolution}"),
        n => format!("the images and rounds 1 to {n} of {evolution}"),
    };
    ui.result(format!("{} {state}: it shares {shared}", branched.evolution))?;
    ui.result(format!("its pipeline file: {}", branched.pipeline.display()))?;
    ui.result(format!("go on with: visplay evolve-round next --pipeline {}", branched.pipeline.display()))
}

/// `NAME.toml` in the folder of a pipeline file; in the working folder where the bundled file has none.
fn beside(file: &Path, name: &str) -> PathBuf {
    let own = PathBuf::from(format!("{name}.toml"));
    match file.parent() {
        Some(folder) if file != Path::new(DEFAULT_FILE) || folder.is_dir() => folder.join(own),
        _ => own,
    }
}

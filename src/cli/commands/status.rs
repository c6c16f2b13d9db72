//! `visplay status`: an overview of the store.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::args::StoreArgs;
use crate::cli::output::space_table;
use crate::cli::output::under_way::UnderWay;
use crate::cli::{CommandError, Result, Ui, format};
use crate::evolution::{CurrentRound, RoundUnderWay, current_round, ref_name};
use crate::store::{Ref, Store, now_ms};

/// Show the evolutions of the store, their refs, and the workers of rounds under way.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay status
  visplay status --watch 30        show the rounds under way again every 30 seconds
  visplay status --space           list what the space is used for (reads every result)
  visplay status --json | jq .refs")]
pub struct StatusArgs {
    /// Show the rounds under way again and again, after this number of seconds, until none is left.
    /// Ends with exit code 1 if no worker is running for a round and no job of it is queued.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
    /// List what the space of the store is used for: models, checkpoints, images, tables and so on.
    #[arg(long)]
    space: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay status`.
pub fn cmd_status(args: &StatusArgs, ui: &Ui) -> Result<()> {
    let store = args.store.open()?;
    if let Some(seconds) = args.watch {
        return watch(&store, Duration::from_secs(seconds), ui);
    }
    if args.space {
        return space_table::print(&store, ui);
    }
    let heads = heads(&store)?;
    let under_way = UnderWay::read(&store)?;
    if ui.json {
        let refs: Result<Vec<Value>> = heads.iter().map(|r| describe(&store, r)).collect();
        let current = current(&store, &heads)?;
        return ui.result_json(
            &json!({"store": store.root(), "refs": refs?, "current": current, "under_way": under_way.json()}),
        );
    }
    if heads.is_empty() {
        ui.result(format!("{} is empty; `visplay ingest FOLDER` adds images", store.root().display()))?;
    } else {
        let rows: Vec<_> = heads.iter().map(|r| row(&store, r)).collect::<Result<_>>()?;
        let heading = ["ref", "written (UTC)", "rows", "rejects", "size", "result"];
        ui.table(&format::with_heading(heading, rows))?;
        for (evolution, current) in current(&store, &heads)? {
            let current = match current {
                CurrentRound::Round(round) => format!("round {round} is current; the next round starts from it"),
                CurrentRound::Base => "the base model is current; the next round starts from it".to_owned(),
                CurrentRound::Lost { lost } => format!(
                    "parts of round {lost} are missing; run `visplay verify --full`, then `visplay evolve-round`"
                ),
            };
            ui.result(format!("{evolution}: {current}"))?;
        }
    }
    under_way.print(ui)
}

/// Shows the rounds under way again and again until none is left.
fn watch(store: &Store, interval: Duration, ui: &Ui) -> Result<()> {
    loop {
        let under_way = UnderWay::read(store)?;
        if ui.json {
            ui.result_json(&json!({"under_way": under_way.json(), "jobs": under_way.jobs}))?;
        } else {
            ui.result(format::time(now_ms()))?;
            under_way.print(ui)?;
        }
        if under_way.is_over() {
            return if ui.json { Ok(()) } else { ui.result("no round is under way") };
        }
        if let Some(RoundUnderWay { evolution, round }) = under_way.abandoned().next() {
            return Err(CommandError::failed(format!("no worker is running for round {round} of {evolution}"))
                .with_hint(format!("run `visplay evolve-round {round}` or `visplay submit {round}`")));
        }
        std::thread::sleep(interval);
    }
}

/// Returns the latest version of each ref.
fn heads(store: &Store) -> Result<Vec<Ref>> {
    let mut heads = BTreeMap::new();
    for r in store.refs()? {
        heads.insert((r.evolution.clone(), r.name.clone()), r);
    }
    Ok(heads.into_values().collect())
}

/// Returns the current round of each evolution that has finished one.
fn current(store: &Store, heads: &[Ref]) -> Result<BTreeMap<String, CurrentRound>> {
    let first = ref_name(1, "round");
    let begun = heads.iter().filter(|r| r.name == first);
    begun.map(|r| Ok((r.evolution.clone(), current_round(store, &r.evolution)?))).collect()
}

fn row(store: &Store, r: &Ref) -> Result<Vec<String>> {
    let made = format::time(r.made_ms);
    let Some(result) = store.result(r.result)? else {
        return Ok(vec![r.to_string(), made, "its result is missing; run `visplay verify`".into()]);
    };
    let bytes = result.outputs.iter().map(|o| o.bytes).sum();
    Ok(vec![
        r.to_string(),
        made,
        format::count(result.counts.rows_out),
        format::count(result.counts.rejects),
        format::bytes(bytes),
        format!("{:.12}", result.digest()?.to_string()),
    ])
}

fn describe(store: &Store, r: &Ref) -> Result<Value> {
    let result = store.result(r.result)?;
    let digest = result.as_ref().map(crate::store::StageResult::digest).transpose()?;
    Ok(json!({
        "ref": r.to_string(),
        "evolution": r.evolution,
        "name": r.name,
        "sequence": r.sequence,
        "action": r.result,
        "result": digest,
        "counts": result.as_ref().map(|x| x.counts),
        "figures": result.as_ref().map(|x| &x.statistics),
        "bytes": result.map(|x| x.outputs.iter().map(|o| o.bytes).sum::<u64>()),
    }))
}

//! `visplay rescore`: rewards and curriculum of stored questions and votes under other settings.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::analysis::rescore::{Decision, RescoreResult, rescore};
use crate::cli::args::{parse_scope, set_diversity};
use crate::cli::output::table_files::read_all;
use crate::cli::{CommandError, Result, Ui, format};
use crate::reward::{DiversityScope, Preset};
use crate::tables::{QuestionRow, VoteRow};

/// Rescore stored questions and votes under other settings, without a model.
///
/// Reads the `questions` and `votes` tables of a step or a round, from files or folders such as
/// those under the store's `views`. Compares --preset with --to, or with the same preset, after
/// --lambda, --scope, --low, --high and --min-margin are applied.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay rescore --questions views/questions --votes views/votes --preset paper --low 0.3 --high 0.8
  visplay rescore --questions q.parquet --votes v.parquet --preset paper --to released-code
  visplay rescore --questions q.parquet --votes v.parquet --preset paper --lambda 0.5 --json | jq .changed")]
pub struct RescoreArgs {
    /// Parquet files, or folders of Parquet files, of the questions table.
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    questions: Vec<PathBuf>,
    /// Parquet files, or folders of Parquet files, of the votes table.
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    votes: Vec<PathBuf>,
    /// Preset to start from: paper or released-code.
    #[arg(long, value_name = "NAME")]
    preset: String,
    /// Preset to compare with [default: the same preset].
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// Weight of the diversity penalty.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    lambda: Option<f64>,
    /// Compare questions within a group (one image) or the whole step [group, step].
    #[arg(long, value_name = "SCOPE", value_parser = parse_scope)]
    scope: Option<DiversityScope>,
    /// Lower end of the confidence band, 0 to 1.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    low: Option<f64>,
    /// Upper end of the confidence band, 0 to 1.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    high: Option<f64>,
    /// Minimum lead of the majority over the runner-up, 0 to 1.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    min_margin: Option<f64>,
}

/// Runs `visplay rescore`.
pub fn cmd_rescore(args: &RescoreArgs, ui: &Ui) -> Result<()> {
    let preset = |name: &str| Preset::named(name).map_err(CommandError::from_input);
    let before = preset(&args.preset)?;
    let after = apply_options(args.to.as_deref().map_or(Ok(before), preset)?, args)?;
    let questions: Vec<QuestionRow> = read_all(&args.questions)?;
    let votes: Vec<VoteRow> = read_all(&args.votes)?;
    let (before, after) = (rescore(&questions, &votes, before), rescore(&questions, &votes, &after));
    for (name, scored) in [("before", &before), ("after", &after)] {
        if let Some(note) = &scored.note {
            ui.say(format!("{name}: {note}"));
        }
    }
    if ui.json { print_json(&before, &after, ui) } else { print_table(&before, &after, ui) }
}

/// Applies the options of the command line to a preset.
fn apply_options(preset: &Preset, args: &RescoreArgs) -> Result<Preset> {
    let mut preset = preset.clone();
    let share = |flag: &str, value: Option<f64>, current: f64| match value {
        Some(v) if !(0.0..=1.0).contains(&v) => {
            Err(CommandError::usage(format!("--{flag} is {v}; it must be between 0 and 1")))
        }
        other => Ok(other.unwrap_or(current)),
    };
    let d = &mut preset.difficulty;
    d.low = share("low", args.low, d.low)?;
    d.high = share("high", args.high, d.high)?;
    d.min_margin = share("min-margin", args.min_margin, d.min_margin)?;
    if d.low > d.high {
        let (low, high) = (d.low, d.high);
        let message = format!("the confidence band {low} to {high} is empty: --low is above --high");
        return Err(CommandError::usage(message));
    }
    set_diversity(&mut preset.questioner, args.lambda, args.scope)?;
    Ok(preset)
}

fn print_json(before: &RescoreResult, after: &RescoreResult, ui: &Ui) -> Result<()> {
    let changed = before.questions.iter().zip(&after.questions).filter(|(b, a)| b != a);
    let changed: Vec<_> = changed
        .map(|(b, a)| {
            let side = |reward: Option<f64>, decision: &Decision| {
                let mut side = json!(decision);
                side["reward"] = json!(reward);
                side
            };
            json!({"question_id": b.question_id, "before": side(b.reward, &b.decision), "after": side(a.reward, &a.decision)})
        })
        .collect();
    let summary =
        |s: &RescoreResult| json!({"kept": s.kept, "dropped": s.dropped, "rewards": s.rewards, "note": s.note});
    ui.result_json(&json!({
        "questions": before.questions.len(), "before": summary(before), "after": summary(after), "changed": changed,
    }))
}

fn print_table(before: &RescoreResult, after: &RescoreResult, ui: &Ui) -> Result<()> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: &dyn Fn(&RescoreResult) -> String| {
        rows.push([name.to_owned(), value(before), value(after)]);
    };
    row("questions", &|s| format::count(s.questions.len() as u64));
    row("kept", &|s| format::count(s.kept as u64));
    let reasons: std::collections::BTreeSet<&String> = before.dropped.keys().chain(after.dropped.keys()).collect();
    for reason in reasons {
        row(&format!("dropped: {reason}"), &|s| format::count(s.dropped.get(reason).copied().unwrap_or(0) as u64));
    }
    row("reward mean", &|s| format!("{:.4}", s.rewards.mean));
    row("reward std", &|s| format!("{:.4}", s.rewards.std));
    for (i, name) in ["reward min", "lower quartile", "median", "upper quartile", "max"].iter().enumerate() {
        row(name, &|s| format!("{:.4}", s.rewards.quartiles[i]));
    }
    let pairs = || before.questions.iter().zip(&after.questions);
    let gained = pairs().filter(|(b, a)| !b.decision.is_kept() && a.decision.is_kept()).count();
    let lost = pairs().filter(|(b, a)| b.decision.is_kept() && !a.decision.is_kept()).count();
    ui.table(&format::with_heading(["", "before", "after"], rows))?;
    let [gained, lost] = [gained, lost].map(|n| format::count(n as u64));
    ui.result(format!("{gained} dropped questions would be kept, and {lost} kept questions would be dropped"))
}

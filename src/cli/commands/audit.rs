//! `visplay audit`: whether the tables of a round fit together, and what its questions and labels are like.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::analysis::labels::LabelFigures;
use crate::analysis::truth::SceneTruth;
use crate::cli::args::{PipelineArgs, StoreArgs};
use crate::cli::error::CommandError;
use crate::cli::output::format;
use crate::cli::output::ui::Ui;
use crate::evolution::pipeline::Pipeline;
use crate::evolution::{Audit, audit};

/// Audit a round: alignment, duplicates, label noise, differences from the paper.
///
/// Every id must resolve, sample numbers must be complete, and what follows from other rows must follow: votes from answers by the
/// grader, confidence from its denominator, the curriculum and its rejects from the band, rewards and advantages from votes, metrics from
/// rewards, scores from predictions. A row that does not fit is named, and the exit code is 4. Where the truth is known (drawn scenes),
/// it also says how many pseudo-labels are right, by confidence with 95 % intervals, and which questions have no answer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay audit 1
  visplay audit 3 --evolution tighter --pipeline pipelines/tighter.toml
  visplay audit 1 --json | jq .truth.kept.by_confidence")]
pub struct AuditArgs {
    /// The round, from 1.
    #[arg(value_name = "ROUND", value_parser = clap::value_parser!(u32).range(1..=9999))]
    round: u32,
    /// What is in the images: the `scenes.parquet` beside them [default: evaluation.truth of the pipeline file].
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// Runs `visplay audit`.
pub fn cmd_audit(args: &AuditArgs, ui: &Ui) -> Result<(), CommandError> {
    let pipeline = args.pipeline.load()?;
    let store = args.store.open()?;
    let truth = match &args.truth {
        Some(file) => Some(SceneTruth::read(file).map_err(|e| CommandError::usage(e.to_string()))?),
        None => truth_of(&pipeline, ui),
    };
    let found = audit(&store, &pipeline.evolution, args.round, truth.as_ref())?;
    if ui.json {
        ui.result_json(&found)?
    } else {
        print(&found, ui)?
    }
    let count = found.alignment.count;
    match found.alignment.misaligned.first() {
        None => Ok(()),
        Some(first) => {
            let more = if count > 1 { format!(", and {} more", format::count(count - 1)) } else { String::new() };
            let message = format!("{} {}: {}{more}", first.table, first.row, first.problem);
            let hint = "`visplay replay` makes stored results again; `visplay verify --full` checks every byte";
            Err(CommandError::damaged(message).with_hint(hint))
        }
    }
}

/// The truth that the pipeline names, where it is there. A file that cannot be used is said, and is no truth.
pub fn truth_of(pipeline: &Pipeline, ui: &Ui) -> Option<SceneTruth> {
    let file = Some(pipeline.evaluation.truth.as_str()).filter(|file| !file.is_empty()).map(Path::new)?;
    if !file.exists() {
        return None;
    }
    match SceneTruth::read(file) {
        Ok(truth) => Some(truth).filter(|truth| !truth.is_empty()),
        Err(e) => {
            ui.say(format!("evaluation.truth: {e}"));
            None
        }
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

fn print(found: &Audit, ui: &Ui) -> Result<(), CommandError> {
    let say = |title: &str, rows: Vec<Vec<String>>| -> Result<(), CommandError> {
        ui.result(title)?;
        format::columns(&rows).iter().try_for_each(|line| ui.result(format!("  {line}")))
    };
    let pairs = |heading: [&str; 2], rows: Vec<(String, String)>| -> Vec<Vec<String>> {
        let rows = rows.into_iter().map(|(name, value)| vec![name, value]);
        std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect()
    };
    ui.result(format!("round {} of {}", found.round, found.evolution))?;
    let checked = found.alignment.checked.iter().map(|(table, n)| (table.clone(), format::count(*n))).collect();
    say("alignment", pairs(["table", "rows checked"], checked))?;
    if found.alignment.count == 0 {
        ui.result("  every row fits")?;
    } else {
        ui.result(format!("  {} rows do not fit:", format::count(found.alignment.count)))?;
        for m in &found.alignment.misaligned {
            ui.result(format::plain(&format!("  {} {}: {}", m.table, m.row, m.problem)))?;
        }
    }
    let heading = ["stage", "in", "out", "rejects"].map(str::to_owned).to_vec();
    let counts = found.counts.iter().map(|(stage, c)| {
        [stage.clone(), format::count(c.rows_in), format::count(c.rows_out), format::count(c.rejects)].to_vec()
    });
    say("rows", std::iter::once(heading).chain(counts).collect())?;
    say("questions", pairs(["figure", "value"], question_figures(found)))?;
    say("confidence", pairs(["share of the majority", "questions"], histogram(found)))?;
    if !found.gates.is_empty() {
        let heading = ["gate", "figure", "warn", "stop", "verdict"].map(str::to_owned).to_vec();
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let rows = found.gates.iter().map(|gate| {
            let verdict = format!("{:?}", gate.verdict).to_lowercase();
            vec![gate.gate.clone(), number(gate.figure), number(gate.warn), number(gate.stop), verdict]
        });
        say("gates", std::iter::once(heading).chain(rows).collect())?;
    }
    match &found.truth {
        None => ui.result("labels: no truth is known about these images")?,
        Some(truth) => {
            say("labels of all voted questions", pairs(["figure", "value"], label_figures(&truth.voted)))?;
            say("labels of the curriculum", pairs(["figure", "value"], label_figures(&truth.kept)))?;
        }
    }
    let heading = ["key", "round", "paper", "source"].map(str::to_owned).to_vec();
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows =
        found.differences.iter().map(|d| vec![d.key.clone(), shown(&d.round), shown(&d.paper), d.source.clone()]);
    say("settings that are not the paper's", std::iter::once(heading).chain(rows).collect())
}

fn question_figures(found: &Audit) -> Vec<(String, String)> {
    let (asked, votes) = (&found.questions, &found.votes);
    let of = |part: u64, whole: u64| {
        let share = (whole > 0).then(|| part as f64 / whole as f64);
        format!("{} ({})", format::count(part), percent(share))
    };
    let mut rows = vec![
        ("asked".to_owned(), format::count(asked.asked)),
        ("valid".to_owned(), of(asked.valid, asked.asked)),
        ("duplicates within an image".to_owned(), percent(found.duplicates.within_image)),
        ("duplicates over all images".to_owned(), percent(found.duplicates.over_all)),
    ];
    rows.extend(asked.types.iter().map(|(kind, n)| (format!("of type {kind}"), of(*n, asked.valid))));
    rows.extend(asked.invalid.iter().map(|(reason, n)| (format!("invalid: {reason}"), of(*n, asked.asked))));
    rows.extend([
        ("voted on".to_owned(), format::count(votes.voted)),
        (format!("answers (a majority is a share of those {})", found.denominator), format::count(votes.answers)),
        ("answers with a box".to_owned(), of(votes.boxed, votes.answers)),
        ("kept".to_owned(), of(votes.kept, votes.voted)),
    ]);
    let left = found.left_out.iter();
    rows.extend(left.map(|(reason, n)| (format!("left out: {}", reason.replace('_', " ")), of(*n, votes.voted))));
    rows
}

fn histogram(found: &Audit) -> Vec<(String, String)> {
    let tenths = found.votes.confidence_tenths.iter().enumerate();
    let range = |n: usize| format!("{:.1} to {:.1}", n as f64 / 10.0, (n + 1) as f64 / 10.0);
    tenths.map(|(n, count)| (range(n), format::count(*count))).collect()
}

fn label_figures(figures: &LabelFigures) -> Vec<(String, String)> {
    let of = |n: u64| {
        let share = (figures.with_truth > 0).then(|| n as f64 / figures.with_truth as f64);
        format!("{} ({})", format::count(n), percent(share))
    };
    let mut rows = vec![
        ("questions with known truth".to_owned(), format::count(figures.with_truth)),
        ("right".to_owned(), format::share(&figures.labels)),
        ("right, of those with an answer".to_owned(), format::share(&figures.answerable)),
        ("ambiguous".to_owned(), of(figures.ambiguous)),
        ("without an answer: a tie".to_owned(), of(figures.ties)),
        ("without an answer: a false premise".to_owned(), of(figures.false_premises)),
        ("of no known family".to_owned(), of(figures.unknown)),
    ];
    let bins = figures.by_confidence.iter();
    rows.extend(
        bins.map(|bin| (format!("right at confidence {:.1} to {:.1}", bin.from, bin.to), format::share(&bin.labels))),
    );
    rows
}

//! `visplay audit`: consistency of a round's tables, and statistics of its questions and labels.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::analysis::labels::LabelStatistics;
use crate::cli::args::{PipelineArgs, StoreArgs};
use crate::cli::error::CommandError;
use crate::cli::output::format;
use crate::cli::output::ui::Ui;
use crate::evolution::pipeline::Pipeline;
use crate::evolution::{Audit, audit};
use crate::scenes::KnownScenes;

/// Audit a round: consistency, duplicates, label noise, differences from the paper.
///
/// Every id must resolve, sample numbers must be complete, and derived rows must follow from their
/// sources: votes from the graded answers, confidence from its denominator, the curriculum and its
/// rejects from the confidence band, rewards and advantages from votes, metrics from rewards,
/// scores from predictions. Inconsistent rows are listed, and the exit code is 4. Where the truth
/// is known (drawn scenes), it also shows how many pseudo-labels are right, by confidence and with
/// 95 % intervals, and how many questions have no answer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay audit 1
  visplay audit 3 --evolution tighter --pipeline pipelines/tighter.toml
  visplay audit 1 --json | jq .truth.kept.by_confidence")]
pub struct AuditArgs {
    /// Number of the round, from 1.
    #[arg(value_name = "ROUND", value_parser = clap::value_parser!(u32).range(1..=9999))]
    round: u32,
    /// The `scenes.parquet` that describes the images [default: evaluation.truth of the pipeline
    /// file].
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
        Some(file) => Some(KnownScenes::read(file).map_err(|e| CommandError::usage(e.to_string()))?),
        None => truth_of(&pipeline, ui),
    };
    let found = audit(&store, &pipeline.evolution, args.round, truth.as_ref())?;
    if ui.json {
        ui.result_json(&found)?
    } else {
        print(&found, ui)?
    }
    let count = found.alignment.count;
    match found.alignment.inconsistencies.first() {
        None => Ok(()),
        Some(first) => {
            let more = if count > 1 { format!(", and {} more", format::count(count - 1)) } else { String::new() };
            let message = format!("{} {}: {}{more}", first.table, first.row, first.problem);
            let hint = "`visplay verify --full` checks every byte; `visplay replay` recomputes results and compares";
            Err(CommandError::damaged(message).with_hint(hint))
        }
    }
}

/// Reads the truth file named by the pipeline, if it exists. An unusable file is reported and
/// ignored.
pub fn truth_of(pipeline: &Pipeline, ui: &Ui) -> Option<KnownScenes> {
    let file = Some(&pipeline.evaluation.truth).filter(|file| !file.as_os_str().is_empty())?;
    if !file.exists() {
        return None;
    }
    match KnownScenes::read(file) {
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
    let section = |title: &str, rows: Vec<Vec<String>>| -> Result<(), CommandError> {
        ui.result(title)?;
        ui.indented_table(&rows)
    };
    let pairs = |heading: [&str; 2], rows: Vec<(String, String)>| -> Vec<Vec<String>> {
        let rows = rows.into_iter().map(|(name, value)| vec![name, value]);
        std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect()
    };
    ui.result(format!("round {} of {}", found.round, found.evolution))?;
    let checked = found.alignment.checked.iter().map(|(table, n)| (table.clone(), format::count(*n))).collect();
    section("consistency", pairs(["table", "rows checked"], checked))?;
    if found.alignment.count == 0 {
        ui.result("  every row is consistent")?;
    } else {
        ui.result(format!("  {} rows are inconsistent:", format::count(found.alignment.count)))?;
        for m in &found.alignment.inconsistencies {
            ui.result(format::plain(&format!("  {} {}: {}", m.table, m.row, m.problem)))?;
        }
    }
    let heading = ["stage", "in", "out", "rejects"].map(str::to_owned).to_vec();
    let counts = found.counts.iter().map(|(stage, c)| {
        [stage.clone(), format::count(c.rows_in), format::count(c.rows_out), format::count(c.rejects)].to_vec()
    });
    section("rows", std::iter::once(heading).chain(counts).collect())?;
    section("questions", pairs(["statistic", "value"], question_statistics(found)))?;
    section("confidence", pairs(["majority's share", "questions"], histogram(found)))?;
    if !found.gates.is_empty() {
        let heading = ["gate", "value", "warn", "stop", "verdict"].map(str::to_owned).to_vec();
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let rows = found.gates.iter().map(|gate| {
            let verdict = format!("{:?}", gate.verdict).to_lowercase();
            vec![gate.gate.clone(), number(gate.value), number(gate.warn), number(gate.stop), verdict]
        });
        section("gates", std::iter::once(heading).chain(rows).collect())?;
    }
    match &found.truth {
        None => ui.result("labels: the truth about these images is not known")?,
        Some(truth) => {
            section(
                "labels of all questions with a vote",
                pairs(["statistic", "value"], label_statistics(&truth.voted)),
            )?;
            section("labels of the curriculum", pairs(["statistic", "value"], label_statistics(&truth.kept)))?;
        }
    }
    let heading = ["key", "round", "paper", "source"].map(str::to_owned).to_vec();
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows =
        found.differences.iter().map(|d| vec![d.key.clone(), shown(&d.round), shown(&d.paper), d.source.clone()]);
    section("settings that differ from the paper", std::iter::once(heading).chain(rows).collect())
}

fn question_statistics(found: &Audit) -> Vec<(String, String)> {
    let (asked, votes) = (&found.questions, &found.votes);
    let of = |part: u64, whole: u64| {
        let share = (whole > 0).then(|| part as f64 / whole as f64);
        format!("{} ({})", format::count(part), percent(share))
    };
    let mut rows = vec![
        ("asked".to_owned(), format::count(asked.asked)),
        ("valid".to_owned(), of(asked.valid, asked.asked)),
        ("duplicates within an image".to_owned(), percent(found.duplicates.within_image)),
        ("duplicates across all images".to_owned(), percent(found.duplicates.over_all)),
    ];
    rows.extend(asked.types.iter().map(|(kind, n)| (format!("type: {kind}"), of(*n, asked.valid))));
    rows.extend(asked.invalid.iter().map(|(reason, n)| (format!("invalid: {reason}"), of(*n, asked.asked))));
    rows.extend([
        ("with a vote".to_owned(), format::count(votes.voted)),
        (format!("answers (confidence is a share of the {} ones)", found.denominator), format::count(votes.answers)),
        ("answers with a \\boxed{}".to_owned(), of(votes.boxed, votes.answers)),
        ("kept for the curriculum".to_owned(), of(votes.kept, votes.voted)),
    ]);
    let dropped = found.left_out.iter();
    rows.extend(dropped.map(|(reason, n)| (format!("dropped: {}", reason.replace('_', " ")), of(*n, votes.voted))));
    rows
}

fn histogram(found: &Audit) -> Vec<(String, String)> {
    let tenths = found.votes.confidence_tenths.iter().enumerate();
    let range = |n: usize| format!("{:.1} to {:.1}", n as f64 / 10.0, (n + 1) as f64 / 10.0);
    tenths.map(|(n, count)| (range(n), format::count(*count))).collect()
}

fn label_statistics(labels: &LabelStatistics) -> Vec<(String, String)> {
    let of = |n: u64| {
        let share = (labels.with_truth > 0).then(|| n as f64 / labels.with_truth as f64);
        format!("{} ({})", format::count(n), percent(share))
    };
    let mut rows = vec![
        ("questions with a known truth".to_owned(), format::count(labels.with_truth)),
        ("right".to_owned(), format::share(&labels.labels)),
        ("right, among those with an answer".to_owned(), format::share(&labels.answerable)),
        ("ambiguous".to_owned(), of(labels.ambiguous)),
        ("no answer: tie".to_owned(), of(labels.ties)),
        ("no answer: false premise".to_owned(), of(labels.false_premises)),
        ("unknown question family".to_owned(), of(labels.unknown)),
    ];
    let bins = labels.by_confidence.iter();
    rows.extend(
        bins.map(|bin| (format!("right at confidence {:.1} to {:.1}", bin.from, bin.to), format::share(&bin.labels))),
    );
    rows
}

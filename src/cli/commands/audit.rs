//! `visplay audit`: consistency of a round's tables, and statistics of its questions and labels.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::analysis::labels::LabelStatistics;
use crate::cli::args::{PipelineArgs, StoreArgs};
use crate::cli::output::format::{number, with_heading};
use crate::cli::{CommandError, Result, Ui, format};
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
pub fn cmd_audit(args: &AuditArgs, ui: &Ui) -> Result<()> {
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
    let Some(first) = found.alignment.inconsistencies.first() else { return Ok(()) };
    let more = if count > 1 { format!(", and {} more", format::count(count - 1)) } else { String::new() };
    let message = format!("{} {}: {}{more}", first.table, first.row, first.problem);
    let hint = "`visplay verify --full` checks every byte; `visplay replay` recomputes results and compares";
    Err(CommandError::damaged(message).with_hint(hint))
}

/// Reads the truth file named by the pipeline. A missing or unusable file is reported and ignored.
pub fn truth_of(pipeline: &Pipeline, ui: &Ui) -> Option<KnownScenes> {
    let file = Some(&pipeline.evaluation.truth).filter(|file| !file.as_os_str().is_empty())?;
    if let Err(e) = pipeline.check_truth() {
        ui.say(format!("note: the truth about the images is not known: {e}"));
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

fn count_and_share(part: u64, whole: u64) -> String {
    format!("{} ({})", format::count(part), percent((whole > 0).then(|| part as f64 / whole as f64)))
}

fn print(found: &Audit, ui: &Ui) -> Result<()> {
    let section = |title: &str, rows: Vec<Vec<String>>| -> Result<()> {
        ui.result(title)?;
        ui.indented_table(&rows)
    };
    ui.result(format!("round {} of {}", found.round, found.evolution))?;
    let checked = found.alignment.checked.iter().map(|(table, n)| [table.clone(), format::count(*n)]);
    section("consistency", with_heading(["table", "rows checked"], checked))?;
    if found.alignment.count == 0 {
        ui.result("  every row is consistent")?;
    } else {
        ui.result(format!("  {} rows are inconsistent:", format::count(found.alignment.count)))?;
        for m in &found.alignment.inconsistencies {
            ui.result(format::plain(&format!("  {} {}: {}", m.table, m.row, m.problem)))?;
        }
    }
    let counts = found.counts.iter().map(|(stage, c)| {
        [stage.clone(), format::count(c.rows_in), format::count(c.rows_out), format::count(c.rejects)]
    });
    section("rows", with_heading(["stage", "in", "out", "rejects"], counts))?;
    section("questions", with_heading(["statistic", "value"], question_statistics(found)))?;
    section("confidence", with_heading(["majority's share", "questions"], histogram(found)))?;
    if !found.gates.is_empty() {
        let rows = found.gates.iter().map(|gate| {
            let verdict = format!("{:?}", gate.verdict).to_lowercase();
            [gate.gate.clone(), number(gate.value), number(gate.warn), number(gate.stop), verdict]
        });
        section("gates", with_heading(["gate", "value", "warn", "stop", "verdict"], rows))?;
    }
    match &found.truth {
        None => ui.result("labels: the truth about these images is not known")?,
        Some(truth) => {
            let labels = |labels| with_heading(["statistic", "value"], label_statistics(labels));
            section("labels of all questions with a vote", labels(&truth.voted))?;
            section("labels of the curriculum", labels(&truth.kept))?;
        }
    }
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = found.differences.iter().map(|d| [d.key.clone(), shown(&d.round), shown(&d.paper), d.source.clone()]);
    section("settings that differ from the paper", with_heading(["key", "round", "paper", "source"], rows))
}

fn question_statistics(found: &Audit) -> Vec<[String; 2]> {
    let (asked, votes) = (&found.questions, &found.votes);
    let mut rows = vec![
        ["asked".to_owned(), format::count(asked.asked)],
        ["valid".to_owned(), count_and_share(asked.valid, asked.asked)],
        ["duplicates within an image".to_owned(), percent(found.duplicates.within_image)],
        ["duplicates across all images".to_owned(), percent(found.duplicates.over_all)],
    ];
    rows.extend(asked.types.iter().map(|(kind, n)| [format!("type: {kind}"), count_and_share(*n, asked.valid)]));
    rows.extend(
        asked.invalid.iter().map(|(reason, n)| [format!("invalid: {reason}"), count_and_share(*n, asked.asked)]),
    );
    rows.extend([
        ["with a vote".to_owned(), format::count(votes.voted)],
        [format!("answers (confidence is a share of the {} ones)", found.denominator), format::count(votes.answers)],
        ["answers with a \\boxed{}".to_owned(), count_and_share(votes.boxed, votes.answers)],
        ["kept for the curriculum".to_owned(), count_and_share(votes.kept, votes.voted)],
    ]);
    let dropped = found.left_out.iter();
    rows.extend(
        dropped.map(|(reason, n)| [format!("dropped: {}", reason.replace('_', " ")), count_and_share(*n, votes.voted)]),
    );
    rows
}

fn histogram(found: &Audit) -> Vec<[String; 2]> {
    let tenths = found.votes.confidence_tenths.iter().enumerate();
    let range = |n: usize| format!("{:.1} to {:.1}", n as f64 / 10.0, (n + 1) as f64 / 10.0);
    tenths.map(|(n, count)| [range(n), format::count(*count)]).collect()
}

fn label_statistics(labels: &LabelStatistics) -> Vec<[String; 2]> {
    let of = |n: u64| count_and_share(n, labels.with_truth);
    let mut rows = vec![
        ["questions with a known truth".to_owned(), format::count(labels.with_truth)],
        ["right".to_owned(), format::share(&labels.labels)],
        ["right, among those with an answer".to_owned(), format::share(&labels.answerable)],
        ["ambiguous".to_owned(), of(labels.ambiguous)],
        ["no answer: tie".to_owned(), of(labels.ties)],
        ["no answer: false premise".to_owned(), of(labels.false_premises)],
        ["unknown question family".to_owned(), of(labels.unknown)],
    ];
    rows.extend(
        labels
            .by_confidence
            .iter()
            .map(|bin| [format!("right at confidence {:.1} to {:.1}", bin.from, bin.to), format::share(&bin.labels)]),
    );
    rows
}

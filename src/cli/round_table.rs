//! The closing table of a round.

use std::time::Instant;

use super::audit::share_of;
use super::error::CommandError;
use super::text;
use super::ui::Ui;
use crate::analysis::labels::LabelFigures;
use crate::evolution::pipeline::Pipeline;
use crate::evolution::{Done, PhaseTime, RoundReport, TrainingFigures, Verdict};
use crate::store::Store;

/// Prints what came of the last of these rounds.
pub(super) fn print(
    done: &[Done],
    times: &[PhaseTime],
    store: &Store,
    pipeline: &Pipeline,
    labels: Option<&LabelFigures>,
    clock: Instant,
    ui: &Ui,
) -> Result<(), CommandError> {
    let Some(last) = done.last() else { return Ok(()) };
    let report = &last.report;
    let state = if last.found { "was done already" } else { "is done" };
    let took = text::duration(u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX));
    ui.result(format!("round {} of {} {state} ({took})", report.round, pipeline.evolution))?;
    for line in text::columns(&figures(report, labels)) {
        ui.result(format!("  {line}"))?;
    }
    if !report.scores.is_empty() {
        for line in text::columns(&scores(report)) {
            ui.result(format!("  {line}"))?;
        }
    }
    for gate in report.gates.iter().filter(|gate| gate.verdict != Verdict::Passed) {
        ui.result(format!("  warned: {gate}"))?;
    }
    let mut rows = vec![["stage", "results", "time"].map(str::to_owned).to_vec()];
    rows.extend(times.iter().map(|time| vec![time.stage.clone(), text::count(time.results), text::duration(time.ms)]));
    for line in text::columns(&rows) {
        ui.result(format!("  {line}"))?;
    }
    let name = format!("{}/round-{:04}", pipeline.evolution, report.round);
    let view = store.root().join("views").join(&pipeline.evolution).join(format!("round={}", report.round));
    ui.result(format!("models: {name}/questioner, {name}/reasoner; tables: {}", view.display()))
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        text::count(part)
    } else {
        format!("{} ({:.1} %)", text::count(part), 100.0 * part as f64 / whole as f64)
    }
}

fn figures(report: &RoundReport, labels: Option<&LabelFigures>) -> Vec<Vec<String>> {
    let (asked, votes) = (&report.questions, &report.votes);
    let mut rows = vec![vec!["figure".to_owned(), "value".to_owned()]];
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("images", text::count(report.images));
    row("questions asked", text::count(asked.asked));
    row("valid", share(asked.valid, asked.asked));
    row("distinct", share(asked.distinct, asked.valid));
    for (kind, n) in asked.types.iter().filter(|(kind, _)| *kind != "none") {
        row(&format!("of type {kind}"), share(*n, asked.valid));
    }
    row("voted on", text::count(votes.voted));
    row("mean confidence", figure(votes.mean_confidence));
    row("kept for training", share(votes.kept, votes.voted));
    for (reason, n) in &report.left_out {
        row(&format!("left out: {}", reason.replace('_', " ")), text::count(*n));
    }
    if let Some(labels) = labels.filter(|labels| labels.labels.of > 0) {
        row("pseudo-labels right (by the truth)", share_of(&labels.labels));
    }
    if let Some(kept) = report.kept {
        let state = if kept.current { "current" } else { "kept, not current" };
        row("agreement with the base's majority", format!("{:.3} -> {:.3} ({state})", kept.before, kept.score));
    }
    for (role, training) in [("Questioner", &report.questioner), ("Reasoner", &report.reasoner)] {
        if let Some(TrainingFigures { steps, reward, entropy, kl_reference, frac_zero_std, .. }) = training {
            row(&format!("{role} steps"), text::count(u64::from(*steps)));
            row(&format!("{role} reward"), format!("{} -> {}", figure(reward[0]), figure(reward[1])));
            row(&format!("{role} entropy"), format!("{} -> {}", figure(entropy[0]), figure(entropy[1])));
            row(&format!("{role} divergence"), figure(*kl_reference));
            row(&format!("{role} groups without a difference"), figure(*frac_zero_std));
        }
    }
    rows
}

fn scores(report: &RoundReport) -> Vec<Vec<String>> {
    let mut rows = vec![["accuracy", "protocol", "items", "before", "after"].map(str::to_owned).to_vec()];
    let with_interval = |[value, low, high]: [Option<f64>; 3]| match (low, high) {
        (Some(low), Some(high)) => format!("{} ({low:.3} to {high:.3})", figure(value)),
        _ => figure(value),
    };
    for change in &report.scores {
        rows.push(vec![
            change.benchmark.clone(),
            change.protocol.clone(),
            text::count(u64::from(change.items)),
            with_interval(change.before),
            with_interval(change.after),
        ]);
    }
    rows
}

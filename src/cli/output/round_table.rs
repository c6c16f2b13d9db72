//! The table that `visplay evolve-round` prints at its end.

use std::time::Instant;

use crate::analysis::labels::LabelStatistics;
use crate::cli::output::format::{low_box_warning, number, with_heading};
use crate::cli::{Result, Ui, format};
use crate::evolution::pipeline::Pipeline;
use crate::evolution::{
    BoxedShares, FinishedRound, GateResult, GateVerdict, RoundReport, ScoreChange, StageTime, ThresholdSide,
    TrainingSummary, boxed_shares, label_gate,
};
use crate::store::Store;

/// Prints the results of the last of these rounds and, if there are several, one line per round.
pub fn print(
    done: &[FinishedRound],
    times: &[StageTime],
    store: &Store,
    pipeline: &Pipeline,
    labels: Option<&LabelStatistics>,
    start: Instant,
    ui: &Ui,
) -> Result<()> {
    let Some(last) = done.last() else { return Ok(()) };
    let report = &last.report;
    let state = if last.already_finished { "was already finished" } else { "finished" };
    let elapsed = format::elapsed(start);
    ui.result(format!("round {} of {} {state} ({elapsed})", report.round, pipeline.evolution))?;
    ui.indented_table(&statistics(report, labels))?;
    if !report.scores.is_empty() {
        let boxes = boxed_shares(store, last)?;
        ui.indented_table(&scores(report, &boxes))?;
        warn_of_few_boxes(&boxes, ui);
    }
    let labels = labels.filter(|labels| labels.labels.total > 0);
    let label_gate = labels.map(|labels| label_gate(&pipeline.gates, labels.labels.correct, labels.labels.total));
    let checked: Vec<GateResult> = report.gates.iter().cloned().chain(label_gate).collect();
    ui.indented_table(&gates(&checked))?;
    let times = times.iter().map(|time| [time.stage.clone(), format::count(time.results), format::duration(time.ms)]);
    ui.indented_table(&with_heading(["stage", "results", "time"], times))?;
    if done.len() > 1 {
        let boxes = done.iter().map(|round| boxed_shares(store, round)).collect::<Result<Vec<_>, _>>()?;
        ui.indented_table(&rounds(done, &boxes))?;
    }
    let name = format!("{}/round-{:04}", pipeline.evolution, report.round);
    let view = store.root().join("views").join(&pipeline.evolution).join(format!("round={}", report.round));
    ui.result(format!("models: {name}/questioner, {name}/reasoner; tables: {}", view.display()))
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        format::count(part)
    } else {
        format!("{} ({:.1} %)", format::count(part), 100.0 * part as f64 / whole as f64)
    }
}

fn statistics(report: &RoundReport, labels: Option<&LabelStatistics>) -> Vec<Vec<String>> {
    let (asked, votes) = (&report.questions, &report.votes);
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    row("images", format::count(report.images));
    row("questions asked", format::count(asked.asked));
    row("valid", share(asked.valid, asked.asked));
    row("distinct", share(asked.distinct, asked.valid));
    for (kind, n) in asked.types.iter().filter(|(kind, _)| *kind != "none") {
        row(&format!("type: {kind}"), share(*n, asked.valid));
    }
    row("with a vote", format::count(votes.voted));
    row("mean confidence", number(votes.mean_confidence));
    if votes.voted > 0 {
        let tenths: Vec<String> = votes.confidence_tenths.iter().map(|&n| format::count(n)).collect();
        row("questions per tenth of confidence", tenths.join(" "));
    }
    row("kept for training", share(votes.kept, votes.voted));
    for (reason, n) in &report.left_out {
        row(&format!("dropped: {}", reason.replace('_', " ")), format::count(*n));
    }
    if let Some(labels) = labels.filter(|labels| labels.labels.total > 0) {
        row("right pseudo-labels", format::share(&labels.labels));
    }
    if let Some(kept) = report.keep_best {
        let state = if kept.current { "current" } else { "kept, not current" };
        row("agreement with the base model's majority", format!("{:.3} -> {:.3} ({state})", kept.before, kept.score));
    }
    for (role, training) in [("Questioner", &report.questioner), ("Reasoner", &report.reasoner)] {
        if let Some(TrainingSummary { steps, reward, entropy, kl_reference, frac_zero_std, .. }) = training {
            row(&format!("{role} steps"), format::count(u64::from(*steps)));
            row(&format!("{role} reward"), format!("{} -> {}", number(reward[0]), number(reward[1])));
            row(&format!("{role} entropy"), format!("{} -> {}", number(entropy[0]), number(entropy[1])));
            row(&format!("{role} KL to the reference"), number(*kl_reference));
            row(&format!("{role} groups with equal rewards"), number(*frac_zero_std));
        }
    }
    with_heading(["statistic", "value"], rows)
}

/// Formats the gates with their values and thresholds.
pub fn gates(gates: &[GateResult]) -> Vec<Vec<String>> {
    let rows = gates.iter().map(|gate| {
        let side = if gate.side == ThresholdSide::AtLeast { "below" } else { "above" };
        let threshold = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{side} {value}"));
        let verdict = match gate.verdict {
            GateVerdict::Passed if gate.warn.is_none() && gate.stop.is_none() => "no threshold",
            GateVerdict::Passed => "passed",
            GateVerdict::Warned => "warned",
            GateVerdict::Stopped => "stopped",
        };
        [gate.gate.clone(), number(gate.value), threshold(gate.warn), threshold(gate.stop), verdict.into()]
    });
    with_heading(["gate", "value", "warn", "stop", "verdict"], rows)
}

/// Formats one line per round: its questions, and its accuracy by each protocol of the last round
/// with the share of answers that have a box. `boxes` has the shares of each round.
fn rounds(done: &[FinishedRound], boxes: &[BoxedShares]) -> Vec<Vec<String>> {
    let protocols: Vec<&ScoreChange> = done.last().into_iter().flat_map(|last| &last.report.scores).collect();
    let one_benchmark = protocols.iter().all(|change| change.benchmark == protocols[0].benchmark);
    let name = |change: &&ScoreChange| {
        if one_benchmark { change.protocol.clone() } else { format!("{} {}", change.benchmark, change.protocol) }
    };
    let of = |report: &RoundReport, boxes: &BoxedShares, wanted: &ScoreChange, is_after: bool| {
        let key = (wanted.benchmark.clone(), wanted.protocol.clone());
        let is_it = |change: &&ScoreChange| (&change.benchmark, &change.protocol) == (&key.0, &key.1);
        let change = report.scores.iter().find(is_it);
        let accuracy = change.and_then(|change| if is_after { change.after[0] } else { change.before[0] });
        let boxed = boxes.get(&key).and_then(|shares| if is_after { shares.after } else { shares.before });
        match boxed.filter(|_| accuracy.is_some()) {
            Some(share) => format!("{} (boxed {share:.3})", number(accuracy)),
            None => number(accuracy),
        }
    };
    let mut heading: Vec<String> = ["round", "valid", "with a vote", "kept", "confidence"].map(str::to_owned).to_vec();
    heading.extend(protocols.iter().map(name));
    heading.push("state".into());
    let mut rows = vec![heading];
    if let (Some(first), Some(boxes)) = (done.first(), boxes.first()) {
        let mut row: Vec<String> = vec!["before".into(), "-".into(), "-".into(), "-".into(), "-".into()];
        row.extend(protocols.iter().map(|protocol| of(&first.report, boxes, protocol, false)));
        rows.push(row);
    }
    for (FinishedRound { report, already_finished, .. }, boxes) in done.iter().zip(boxes) {
        let mut row = vec![
            report.round.to_string(),
            format::count(report.questions.valid),
            format::count(report.votes.voted),
            format::count(report.votes.kept),
            number(report.votes.mean_confidence),
        ];
        row.extend(protocols.iter().map(|protocol| of(report, boxes, protocol, true)));
        let state = if *already_finished { "finished before" } else { "finished now" };
        row.push(if report.is_current() { state.to_owned() } else { format!("{state}, not current") });
        rows.push(row);
    }
    rows
}

/// Warns of each accuracy of which few answers have a box.
pub fn warn_of_few_boxes(boxes: &BoxedShares, ui: &Ui) {
    for ((benchmark, protocol), shares) in boxes {
        let what = format!("{benchmark} ({protocol})");
        let advice = "check that the template prompts.reasoner asks for one";
        let warning = shares.after.and_then(|share| low_box_warning(&what, share, advice));
        warning.into_iter().for_each(|text| ui.say(text));
    }
}

fn scores(report: &RoundReport, boxes: &BoxedShares) -> Vec<Vec<String>> {
    let with_interval = |[value, low, high]: [Option<f64>; 3]| match (low, high) {
        (Some(low), Some(high)) => format!("{} ({low:.3} to {high:.3})", number(value)),
        _ => number(value),
    };
    let rows = report.scores.iter().map(|change| {
        let items = format::count(u64::from(change.items));
        let (before, after) = (with_interval(change.before), with_interval(change.after));
        let shares = boxes.get(&(change.benchmark.clone(), change.protocol.clone()));
        let boxed = shares.map_or_else(String::new, |s| format!("{} -> {}", number(s.before), number(s.after)));
        [change.benchmark.clone(), change.protocol.clone(), items, before, after, boxed]
    });
    with_heading(["accuracy", "protocol", "items", "before", "after", "answers with a box"], rows)
}

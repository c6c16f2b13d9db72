//! HallusionBench's statistics of causes: language hallucination, visual illusion, or a mixture.

use serde::Serialize;

use super::figure::ScoredItem;
use super::hallusion::{by_figure, by_question, is_without_figure};
use crate::benchmarks::judge::hallusion::Verdict;

/// An item with the judge's verdict on it.
#[derive(Debug, Clone, Copy)]
pub struct JudgedItem<'a> {
    /// The item; its score is that of the verdict.
    pub scored: ScoredItem<'a>,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the judge found the response the same as the one to the original question; `None`
    /// counts as no.
    pub is_same: Option<bool>,
}

/// Numbers of wrong answers by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Causes {
    /// Language hallucination.
    pub language: u64,
    /// Visual illusion.
    pub vision: u64,
    /// Either.
    pub mixed: u64,
}

impl Causes {
    fn add(&mut self, language: bool, vision: bool) {
        match (language, vision) {
            (true, true) => self.mixed += 1,
            (true, false) => self.language += 1,
            (false, true) => self.vision += 1,
            (false, false) => {}
        }
    }
}

/// Statistics over questions, groups of questions and figures.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct CauseStatistics {
    /// Causes by question, decided without the other questions of its group.
    pub by_question: Causes,
    /// Causes by question, decided with the original question.
    pub by_question_in_group: Causes,
    /// Causes by group of questions.
    pub by_group: Causes,
    /// Number of figures with all questions right.
    pub right_figures: u64,
    /// Number of figures with all questions wrong.
    pub wrong_figures: u64,
    /// Number of figures with questions of both kinds.
    pub inconsistent_figures: u64,
    /// Mean share of right questions of a figure.
    pub figure_score: f64,
}

/// Computes the statistics of items.
pub fn cause_statistics(items: &[JudgedItem<'_>]) -> CauseStatistics {
    let mut statistics = CauseStatistics::default();
    let scored: Vec<&ScoredItem<'_>> = items.iter().map(|item| &item.scored).collect();
    let judged = |item: &ScoredItem<'_>| items.iter().find(|judged| std::ptr::eq(&judged.scored, item));
    for item in items {
        let (language, vision) = alone(item);
        statistics.by_question.add(language, vision);
    }
    for group in by_question(&scored) {
        let group: Vec<&JudgedItem<'_>> = group.into_iter().filter_map(judged).collect();
        // The last question about the original figure counts, as upstream.
        let original = group.iter().rev().find(|item| is_original(item)).map(|item| item.verdict);
        let causes: Vec<(bool, bool)> = group.iter().map(|item| in_group(item, original)).collect();
        for &(language, vision) in &causes {
            statistics.by_question_in_group.add(language, vision);
        }
        let any = |part: fn(&(bool, bool)) -> bool| causes.iter().any(part);
        statistics.by_group.add(any(|cause| cause.0), any(|cause| cause.1));
    }
    let figures = by_figure(&scored);
    for figure in &figures {
        let right = figure.iter().filter(|item| item.is_right()).count();
        match right {
            n if n == figure.len() => statistics.right_figures += 1,
            0 => statistics.wrong_figures += 1,
            _ => statistics.inconsistent_figures += 1,
        }
        statistics.figure_score += right as f64 / figure.len() as f64;
    }
    statistics.figure_score /= figures.len().max(1) as f64;
    statistics
}

fn is_original(item: &JudgedItem<'_>) -> bool {
    item.scored.item.labels.figure.as_deref() == Some("0")
}

fn is_visual_supplement(item: &JudgedItem<'_>) -> bool {
    item.scored.item.labels.category.as_deref() != Some("VD")
}

/// Returns whether language and vision are the cause of a wrong answer, seen alone.
fn alone(item: &JudgedItem<'_>) -> (bool, bool) {
    let is_without_image = match is_visual_supplement(item) {
        true => item.scored.item.labels.visual_input.as_deref() == Some("0"),
        false => is_original(item),
    };
    match (is_visual_supplement(item), is_without_image, item.verdict) {
        (_, _, Verdict::Right) | (true, true, Verdict::Unclear) => (false, false),
        (true, true, Verdict::Wrong) => (true, false),
        (_, false, Verdict::Wrong) => (true, true),
        _ => (false, true),
    }
}

/// Returns whether language and vision are the cause of a wrong answer, given the verdict on the
/// original question.
fn in_group(item: &JudgedItem<'_>, original: Option<Verdict>) -> (bool, bool) {
    use Verdict::{Right, Unclear, Wrong};
    if item.verdict == Right {
        return (false, false);
    }
    let is_same = item.is_same == Some(true);
    if is_original(item) {
        return match (is_without_figure(&item.scored), item.verdict) {
            (true, Wrong) => (true, false),
            (true, _) => (false, false),
            (false, _) => (false, true),
        };
    }
    let Some(original) = original else { return (false, false) };
    if !is_visual_supplement(item) {
        let is_repeated = original == Right && item.verdict == Wrong && is_same;
        return (is_repeated, true);
    }
    let is_changed = item.scored.item.labels.visual_input.as_deref() == Some("2");
    match (original, item.verdict) {
        (Wrong, Wrong) if is_same => (true, false),
        (Wrong, _) => (true, true),
        (Right, Wrong) if is_changed && is_same => (true, false),
        (Right | Unclear, _) => (false, true),
    }
}

//! A figure, and how items are counted for it.

use serde::{Deserialize, Serialize};

use crate::benchmarks::item::BenchmarkItem;
use crate::benchmarks::outcome::Reason;
use crate::interval::wilson;

/// Statistic of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Metric {
    /// Share of items that are right: the micro mean.
    #[serde(rename = "accuracy")]
    Accuracy,
    /// Plain mean of the accuracies of parts.
    #[serde(rename = "macro")]
    Macro,
    /// Mean grade.
    #[serde(rename = "grade")]
    Grade,
    /// HallusionBench: share of questions that are right.
    #[serde(rename = "aAcc")]
    AAcc,
    /// HallusionBench: share of figures with all questions right.
    #[serde(rename = "fAcc")]
    FAcc,
    /// HallusionBench: share of groups of questions that are all right.
    #[serde(rename = "qAcc")]
    QAcc,
    /// HallusionBench: mean of aAcc, fAcc and qAcc, which leaderboards quote.
    #[serde(rename = "mean of aAcc, fAcc and qAcc")]
    MeanOfThree,
    /// HallusionBench: share of groups, without questions about changed figures.
    #[serde(rename = "easy aAcc")]
    EasyAAcc,
    /// HallusionBench: share of groups, only of questions about changed figures.
    #[serde(rename = "hard aAcc")]
    HardAAcc,
    /// Share of items that are answered with yes.
    #[serde(rename = "share of yes")]
    ShareOfYes,
}

/// Part of a benchmark over which a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// All items that count.
    Overall,
    /// A split.
    Split,
    /// A domain of MMMU.
    Domain,
    /// A category.
    Category,
    /// A second category, named with the first where the name alone is not unique.
    Subcategory,
    /// A subject.
    Subject,
    /// A subfield of a subject.
    Subfield,
    /// A level of difficulty.
    Level,
    /// A subject at a level of difficulty.
    SubjectLevel,
    /// A version of the problems.
    Version,
    /// A subject in a version.
    VersionSubject,
    /// A subfield in a version.
    VersionSubfield,
    /// A class of tasks.
    TaskClass,
    /// A capability.
    Capability,
    /// A set of capabilities.
    Integration,
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Statistic.
    pub metric: Metric,
    /// Kind of the part.
    pub level: Level,
    /// Name of the part; empty overall.
    pub name: String,
    /// Sum of the scores of the units.
    pub hits: f64,
    /// Number of units: items, or groups of them.
    pub count: u64,
    /// The value, between 0 and 1.
    pub value: f64,
    /// The value if answers that were drawn at random count as wrong.
    pub value_without_random: f64,
    /// 95 % interval of the value.
    pub interval: Option<(f64, f64)>,
    /// Whether this is the figure that is quoted.
    pub is_headline: bool,
}

impl Figure {
    /// Marks the figure as the one that is quoted.
    pub(super) fn headline(self) -> Self {
        Self { is_headline: true, ..self }
    }

    /// Replaces the interval.
    pub(super) fn with_interval(self, interval: Option<(f64, f64)>) -> Self {
        Self { interval, ..self }
    }
}

/// An item with its final score.
#[derive(Debug, Clone, Copy)]
pub struct ScoredItem<'a> {
    /// The item.
    pub item: &'a BenchmarkItem,
    /// Score: 1 right, 0 wrong, or a grade.
    pub score: f64,
    /// Extracted answer.
    pub extracted: Option<&'a str>,
    /// Reason why there is no answer, or why it is not the model's.
    pub reason: Option<Reason>,
}

impl ScoredItem<'_> {
    /// Whether the item is right.
    pub(super) fn is_right(&self) -> bool {
        self.score >= 1.0
    }

    /// Returns the score; 0 for an answer that was drawn at random.
    pub(super) fn score_without_random(&self) -> f64 {
        if self.reason == Some(Reason::Random) { 0.0 } else { self.score }
    }
}

/// Returns the micro mean over items, with Wilson's interval if every score is 0 or 1.
pub(super) fn accuracy(level: Level, name: &str, items: &[&ScoredItem<'_>]) -> Figure {
    let count = items.len() as u64;
    let mean = |sum: f64| if count == 0 { 0.0 } else { sum / count as f64 };
    let hits = items.iter().map(|item| item.score).sum();
    let is_binary = items.iter().all(|item| item.score == 0.0 || item.score == 1.0);
    Figure {
        metric: Metric::Accuracy,
        level,
        name: name.to_owned(),
        hits,
        count,
        value: mean(hits),
        value_without_random: mean(items.iter().map(|item| item.score_without_random()).sum()),
        interval: if is_binary { wilson(hits as u64, count) } else { None },
        is_headline: false,
    }
}

/// Returns the plain mean of figures, without an interval.
pub(super) fn macro_mean(level: Level, name: &str, parts: &[Figure]) -> Figure {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / parts.len().max(1) as f64;
    Figure {
        metric: Metric::Macro,
        level,
        name: name.to_owned(),
        hits: parts.iter().map(|part| part.hits).sum(),
        count: parts.iter().map(|part| part.count).sum(),
        value: mean(&mut parts.iter().map(|part| part.value)),
        value_without_random: mean(&mut parts.iter().map(|part| part.value_without_random)),
        interval: None,
        is_headline: false,
    }
}

/// Groups items by a key, in the order in which keys appear. Items without a key are left out.
pub(super) fn group_by<'a, 'b, K: PartialEq>(
    items: impl IntoIterator<Item = &'a ScoredItem<'b>>,
    key: impl Fn(&ScoredItem<'b>) -> Option<K>,
) -> Vec<(K, Vec<&'a ScoredItem<'b>>)>
where
    'b: 'a,
{
    let mut groups: Vec<(K, Vec<&ScoredItem<'b>>)> = Vec::new();
    for item in items {
        let Some(key) = key(item) else { continue };
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(item),
            None => groups.push((key, vec![item])),
        }
    }
    groups
}

/// Returns the accuracy of each group, named by its key.
pub(super) fn accuracies(
    level: Level,
    items: &[&ScoredItem<'_>],
    key: impl Fn(&ScoredItem<'_>) -> Option<String>,
) -> Vec<Figure> {
    let groups = group_by(items.iter().copied(), key);
    groups.iter().map(|(name, group)| accuracy(level, name, group)).collect()
}

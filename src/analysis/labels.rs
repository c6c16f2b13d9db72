//! Accuracy of pseudo-labels where the truth is known.

use serde::Serialize;

use crate::grading::compare;
use crate::ids::ImageId;
use crate::interval::wilson;
use crate::scenes::KnownScenes;
use crate::scenes::truth::{SceneJudgement, Truth};

/// Number of confidence bins.
const BINS: usize = 10;

/// A question with its label.
#[derive(Debug, Clone, Copy)]
pub struct LabelledQuestion<'a> {
    /// Image.
    pub image: ImageId,
    /// Question.
    pub question: &'a str,
    /// Label; `None` if no sample had an answer.
    pub label: Option<&'a str>,
    /// Confidence of the label.
    pub confidence: Option<f64>,
}

/// A proportion of correct labels with its 95 % interval (Wilson).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Proportion {
    /// Number of correct labels.
    #[serde(rename = "right")]
    pub correct: u64,
    /// Number of labels.
    #[serde(rename = "of")]
    pub total: u64,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

impl Proportion {
    fn new(correct: u64, total: u64) -> Self {
        let interval = wilson(correct, total);
        Self { correct, total, low: interval.map(|(low, _)| low), high: interval.map(|(_, high)| high) }
    }

    /// Returns the proportion; `None` if there are no labels.
    pub fn value(&self) -> Option<f64> {
        (self.total > 0).then(|| self.correct as f64 / self.total as f64)
    }
}

/// Accuracy of the labels in a range of confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ConfidenceBin {
    /// Lower end, inclusive.
    pub from: f64,
    /// Upper end, exclusive except for 1.
    pub to: f64,
    /// Correct labels in the range.
    pub labels: Proportion,
}

/// Accuracy of a set of labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LabelStatistics {
    /// Number of questions.
    pub questions: u64,
    /// Number of questions about known scenes.
    pub with_truth: u64,
    /// Accuracy over the questions of a known family with one meaning. For questions without an
    /// answer, `none` is correct.
    pub labels: Proportion,
    /// Accuracy over the questions among them that have an answer.
    pub answerable: Proportion,
    /// Number of questions about the most common object or property, where two are equally common.
    pub ties: u64,
    /// Number of questions with a false premise.
    pub false_premises: u64,
    /// Number of questions with more than one meaning, or none.
    pub ambiguous: u64,
    /// Number of questions outside the known families, whose truth is not decided.
    pub unknown: u64,
    /// Accuracy by confidence.
    pub by_confidence: Vec<ConfidenceBin>,
}

/// Compares labels with the right answers of their questions.
pub fn label_statistics<'a>(
    scenes: &KnownScenes,
    rows: impl IntoIterator<Item = LabelledQuestion<'a>>,
) -> LabelStatistics {
    let mut statistics = LabelStatistics::default();
    let (mut correct, mut total, mut correct_answers, mut answerable) = (0, 0, 0, 0);
    let mut bins = [(0u64, 0u64); BINS];
    for row in rows {
        statistics.questions += 1;
        let Some(judgement) = scenes.judge(row.image, row.question) else { continue };
        statistics.with_truth += 1;
        let truth = match judgement {
            SceneJudgement::Known(_, truth) => truth,
            SceneJudgement::Ambiguous(_) => {
                statistics.ambiguous += 1;
                continue;
            }
            SceneJudgement::Unknown => {
                statistics.unknown += 1;
                continue;
            }
        };
        let is_correct = row.label.is_some_and(|label| compare(label, truth.text()).equal);
        total += 1;
        correct += u64::from(is_correct);
        match truth {
            Truth::Answer(_) => {
                answerable += 1;
                correct_answers += u64::from(is_correct);
            }
            Truth::Tie => statistics.ties += 1,
            Truth::FalsePremise => statistics.false_premises += 1,
        }
        if let Some(confidence) = row.confidence {
            // 0.3 times ten is slightly below 3 in floating point, but belongs to the fourth bin.
            let bin = &mut bins[((confidence * BINS as f64 + 1e-9) as usize).min(BINS - 1)];
            *bin = (bin.0 + u64::from(is_correct), bin.1 + 1);
        }
    }
    statistics.labels = Proportion::new(correct, total);
    statistics.answerable = Proportion::new(correct_answers, answerable);
    let edge = |n: usize| n as f64 / BINS as f64;
    statistics.by_confidence = (bins.iter().enumerate())
        .filter(|(_, (_, total))| *total > 0)
        .map(|(n, &(correct, total))| ConfidenceBin {
            from: edge(n),
            to: edge(n + 1),
            labels: Proportion::new(correct, total),
        })
        .collect();
    statistics
}

//! How good labels are where the truth is known: pure functions of questions, labels and scenes.

use serde::Serialize;

use super::interval::wilson;
use crate::grading::compare;
use crate::ids::ImageId;
use crate::scenes::KnownScenes;
use crate::scenes::truth::{SceneJudgement, Truth};

/// Bins of confidence.
const BINS: usize = 10;

/// A question with the label that it was given.
#[derive(Debug, Clone, Copy)]
pub struct LabelledQuestion<'a> {
    /// The image.
    pub image: ImageId,
    /// The question.
    pub question: &'a str,
    /// The label; `None` where nobody voted.
    pub label: Option<&'a str>,
    /// The share of the majority.
    pub confidence: Option<f64>,
}

/// A share of right labels with its 95 % interval (Wilson).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Proportion {
    /// Right ones.
    pub right: u64,
    /// All of them.
    pub of: u64,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

impl Proportion {
    fn of(right: u64, of: u64) -> Self {
        let interval = wilson(right, of);
        Self { right, of, low: interval.map(|(low, _)| low), high: interval.map(|(_, high)| high) }
    }

    /// The share; `None` of none.
    pub fn value(&self) -> Option<f64> {
        (self.of > 0).then(|| self.right as f64 / self.of as f64)
    }
}

/// Labels of a range of confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ConfidenceBin {
    /// The lower end, included.
    pub from: f64,
    /// The upper end, not included but for 1.
    pub to: f64,
    /// How many of them are right.
    pub labels: Proportion,
}

/// How good labels are.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LabelStatistics {
    /// Questions.
    pub questions: u64,
    /// Questions about known scenes.
    pub with_truth: u64,
    /// Of these, questions of a known family with one meaning: their labels that are right, `none` being right for those that have
    /// no answer.
    pub labels: Proportion,
    /// Of these, only the questions that have an answer.
    pub answerable: Proportion,
    /// Questions with a tie between what they ask for.
    pub ties: u64,
    /// Questions that take for granted what is not so.
    pub false_premises: u64,
    /// Questions with more than one meaning, or none.
    pub ambiguous: u64,
    /// Questions of no known family, whose truth is not decided.
    pub unknown: u64,
    /// The labels by confidence.
    pub by_confidence: Vec<ConfidenceBin>,
}

/// Judges labels.
pub fn figures<'a>(scenes: &KnownScenes, rows: impl IntoIterator<Item = LabelledQuestion<'a>>) -> LabelStatistics {
    let mut figures = LabelStatistics::default();
    let (mut right, mut of, mut answered, mut answerable) = (0, 0, 0, 0);
    let mut bins = [(0u64, 0u64); BINS];
    for row in rows {
        figures.questions += 1;
        let Some(verdict) = scenes.judge(row.image, row.question) else { continue };
        figures.with_truth += 1;
        let truth = match verdict {
            SceneJudgement::Known(_, truth) => truth,
            SceneJudgement::Ambiguous(_) => {
                figures.ambiguous += 1;
                continue;
            }
            SceneJudgement::Unknown => {
                figures.unknown += 1;
                continue;
            }
        };
        let is_right = row.label.is_some_and(|label| compare(label, truth.text()).equal);
        of += 1;
        right += u64::from(is_right);
        match truth {
            Truth::Answer(_) => {
                answerable += 1;
                answered += u64::from(is_right);
            }
            Truth::Tie => figures.ties += 1,
            Truth::FalsePremise => figures.false_premises += 1,
        }
        if let Some(confidence) = row.confidence {
            // 0.3 of ten answers is 0.30000000000000004 times ten and still belongs to the third tenth.
            let bin = &mut bins[((confidence * BINS as f64 + 1e-9) as usize).min(BINS - 1)];
            *bin = (bin.0 + u64::from(is_right), bin.1 + 1);
        }
    }
    figures.labels = Proportion::of(right, of);
    figures.answerable = Proportion::of(answered, answerable);
    let edge = |n: usize| n as f64 / BINS as f64;
    figures.by_confidence = (bins.iter().enumerate())
        .filter(|(_, (_, of))| *of > 0)
        .map(|(n, &(right, of))| ConfidenceBin { from: edge(n), to: edge(n + 1), labels: Proportion::of(right, of) })
        .collect();
    figures
}

//! The selection of the questions that the Reasoner trains on: a pure function of questions, votes
//! and settings.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grading::Vote;
use crate::ids::{Digest, ImageId, QuestionId};
use crate::reward::{Denominator, DifficultySettings, DropReason, filter_question};
use crate::stages::Rejection;
use crate::stages::question_form::normalise;
use crate::tables::{QuestionRow, QuestionType, VoteRow};

/// Settings of the curriculum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CurriculumSettings {
    /// Lowest confidence that is kept, inclusive.
    pub low: f64,
    /// Highest confidence that is kept, inclusive.
    pub high: f64,
    /// Number of answers that the Reasoner gives to a question for its pseudo-label (m).
    pub label_samples: u32,
    /// Samples that the confidence is a share of: sampled (all), or answered (those with an
    /// answer).
    #[schemars(with = "String")]
    pub label_denominator: Denominator,
    /// Minimum lead of the majority over the runner-up, as a share of the same denominator; 0: no
    /// minimum.
    pub min_margin: f64,
    /// Whether to keep a question only if the greedy answer equals the majority answer.
    pub greedy_agrees: bool,
    /// Questions that contain one of these strings, ignoring case, are dropped.
    pub drop_question_contains: Vec<String>,
    /// Questions whose majority answer contains one of these strings, ignoring case, are dropped.
    pub drop_majority_contains: Vec<String>,
    /// Whether to keep only the first of equal questions about one image.
    pub deduplicate: bool,
    /// Maximum share of the curriculum that one type of question may have; 1: no cap.
    pub max_type_share: f64,
    /// Whether equal questions about one image share their answers (see the answers stage).
    pub share_equal: bool,
    /// Pseudo-labels to train on: `as-voted`, or `shuffled` among the rows, a control that must not
    /// gain.
    pub labels: Labels,
}

/// The pseudo-labels of a curriculum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// Majority answers.
    AsVoted,
    /// Majority answers, shuffled among the rows.
    Shuffled,
}

impl Default for CurriculumSettings {
    fn default() -> Self {
        Self {
            low: 0.25,
            high: 0.75,
            label_samples: 10,
            label_denominator: Denominator::Sampled,
            min_margin: 0.0,
            greedy_agrees: false,
            drop_question_contains: Vec::new(),
            drop_majority_contains: Vec::new(),
            deduplicate: false,
            max_type_share: 1.0,
            share_equal: false,
            labels: Labels::AsVoted,
        }
    }
}

impl CurriculumSettings {
    /// Returns the settings of the difficulty filter.
    pub fn difficulty(&self) -> DifficultySettings {
        DifficultySettings {
            low: self.low,
            high: self.high,
            min_margin: self.min_margin,
            drop_question_contains: self.drop_question_contains.clone(),
            drop_majority_contains: self.drop_majority_contains.clone(),
        }
    }
}

/// A voted question, and the decision about it: the confidence of a question that is kept, or the
/// rejection.
struct Candidate<'a> {
    vote: &'a VoteRow,
    question: Option<&'a QuestionRow>,
    decision: Result<f64, Rejection>,
}

/// Decides about every voted question, in order: returns the confidence of a question that is kept,
/// or the rejection.
pub fn select<'a>(
    votes: &'a [VoteRow],
    questions: &HashMap<QuestionId, &'a QuestionRow>,
    settings: &CurriculumSettings,
) -> Vec<Result<f64, Rejection>> {
    let difficulty = settings.difficulty();
    let candidate = |vote: &'a VoteRow| {
        let question = questions.get(&vote.question_id).copied();
        let decision = match question.and_then(|question| question.question.as_deref()) {
            Some(text) => decide(text, vote, settings, &difficulty),
            None => Err(Rejection::new("invalid_question", "the sample is no question")),
        };
        Candidate { vote, question, decision }
    };
    let mut candidates: Vec<Candidate<'_>> = votes.iter().map(candidate).collect();
    if settings.deduplicate {
        drop_duplicates(&mut candidates);
    }
    cap_types(&mut candidates, settings.max_type_share);
    candidates.into_iter().map(|candidate| candidate.decision).collect()
}

fn decide(
    text: &str,
    row: &VoteRow,
    settings: &CurriculumSettings,
    difficulty: &DifficultySettings,
) -> Result<f64, Rejection> {
    let confidence =
        filter_question(text, &Vote::from(row), settings.label_denominator, difficulty).map_err(to_rejection)?;
    if settings.greedy_agrees && row.greedy_agrees != Some(true) {
        let greedy = row.greedy_answer.as_deref().unwrap_or("nothing");
        let majority = row.majority_answer.as_deref().unwrap_or_default();
        return Err(Rejection::new("greedy_differs", format!("greedy says {greedy}, the majority {majority}")));
    }
    Ok(confidence)
}

fn to_rejection(dropped: DropReason) -> Rejection {
    match dropped {
        DropReason::NoAnswer => Rejection::new("no_answer", String::new()),
        DropReason::QuestionContains(word) => Rejection::new("question_contains", word),
        DropReason::MajorityContains(word) => Rejection::new("majority_contains", word),
        DropReason::BelowBand(c) => Rejection::new("below_band", format!("confidence {c:.3}")),
        DropReason::AboveBand(c) => Rejection::new("above_band", format!("confidence {c:.3}")),
        DropReason::SmallMargin(margin) => Rejection::new("small_margin", format!("margin {margin:.3}")),
    }
}

/// Rejects all but the first of the kept questions about one image whose texts are equal.
fn drop_duplicates(candidates: &mut [Candidate<'_>]) {
    let mut first: HashMap<(ImageId, String), QuestionId> = HashMap::new();
    for Candidate { vote, question, decision } in candidates {
        if let (Some(text), Ok(_)) = (question.and_then(|question| question.question.as_deref()), &decision) {
            let kept = *first.entry((vote.image_id, normalise(text))).or_insert(vote.question_id);
            if kept != vote.question_id {
                *decision = Err(Rejection { twin: Some(kept.0), ..Rejection::new("duplicate", text) });
            }
        }
    }
}

/// Rejects rows of each over-represented question type until it has at most its share, in an order
/// that depends on the ids only. A single type is not capped.
fn cap_types(candidates: &mut [Candidate<'_>], cap: f64) {
    let mut rows_by_type: BTreeMap<Option<&str>, Vec<(Digest, usize)>> = BTreeMap::new();
    for (i, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| candidate.decision.is_ok()) {
        let kind = candidate.question.and_then(|question| question.question_type);
        let order = Digest::derive("visplay 2026 cap order", &[candidate.vote.question_id.0.as_bytes()]);
        rows_by_type.entry(kind.map(QuestionType::as_str)).or_default().push((order, i));
    }
    let largest = rows_by_type.values().map(Vec::len).max().unwrap_or(0);
    let total = |limit: usize| rows_by_type.values().map(|rows| rows.len().min(limit)).sum::<usize>();
    // The maximum number of rows per type. A cap below an equal share cannot be met; then nothing
    // is rejected.
    let fits = |limit: &usize| *limit as f64 <= cap * total(*limit) as f64;
    let Some(limit) = (1..=largest).rev().find(fits).filter(|_| rows_by_type.len() > 1) else { return };
    for (kind, mut rows) in rows_by_type {
        rows.sort_unstable();
        for (_, i) in rows.into_iter().skip(limit) {
            let detail = format!("{} has more than {cap} of the rows", kind.unwrap_or("no type"));
            candidates[i].decision = Err(Rejection::new("type_cap", detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupId, ModelId, PromptId};
    use crate::tables::Finish;

    fn id(n: u8) -> QuestionId {
        QuestionId(Digest::of(&[n]))
    }

    fn question(n: u8, text: &str, kind: QuestionType) -> QuestionRow {
        QuestionRow {
            question_id: id(n),
            image_id: ImageId(Digest::of(b"image")),
            group_id: GroupId(Digest::of(b"group")),
            sample: u32::from(n),
            seed: 0,
            prompt_id: PromptId(Digest::of(b"prompt")),
            model_id: ModelId(Digest::of(b"model")),
            prompt_tokens: 1,
            raw_text: text.to_owned(),
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            finish: Finish::Stop,
            valid: true,
            invalid_reason: None,
            question_type: Some(kind),
            question: Some(text.to_owned()),
            claimed_answer: None,
        }
    }

    fn vote(n: u8, counts: &[u32], silent: u32, greedy: Option<bool>) -> VoteRow {
        let boxed = counts.iter().sum::<u32>();
        let mut sorted = counts.to_vec();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        VoteRow {
            question_id: id(n),
            image_id: ImageId(Digest::of(b"image")),
            sampled: boxed + silent,
            boxed,
            class_answers: (0..counts.len()).map(|class| class.to_string()).collect(),
            class_counts: counts.to_vec(),
            majority_answer: (!counts.is_empty()).then(|| "0".to_owned()),
            majority_count: sorted.first().copied().unwrap_or(0),
            runner_up_count: sorted.get(1).copied().unwrap_or(0),
            confidence: None,
            margin: None,
            greedy_answer: None,
            greedy_agrees: greedy,
        }
    }

    fn settings() -> CurriculumSettings {
        CurriculumSettings::default()
    }

    fn reasons(questions: &[QuestionRow], votes: &[VoteRow], settings: &CurriculumSettings) -> Vec<String> {
        let by_id = questions.iter().map(|question| (question.question_id, question)).collect();
        select(votes, &by_id, settings)
            .into_iter()
            .map(|d| d.map_or_else(|rejection| rejection.reason.into_owned(), |_| "kept".into()))
            .collect()
    }

    #[test]
    fn each_setting_rejects_with_its_own_reason() {
        let text = ["How many?", "How  many?", "What colour?", "Easy?", "Hard?", "Unanswered?"];
        let questions: Vec<QuestionRow> =
            (0..).zip(text).map(|(n, text)| question(n, text, QuestionType::Numerical)).collect();
        let votes = [
            vote(0, &[6, 4], 0, Some(true)),
            vote(1, &[5, 5], 0, Some(true)),
            vote(2, &[5, 4], 1, Some(false)),
            vote(3, &[10], 0, Some(true)),
            vote(4, &[2, 2, 2, 2, 2], 0, Some(true)),
            vote(5, &[], 10, None),
        ];
        let plain = settings();
        assert_eq!(
            reasons(&questions, &votes, &plain),
            ["kept", "kept", "kept", "above_band", "below_band", "no_answer"]
        );
        let greedy = CurriculumSettings { greedy_agrees: true, ..plain.clone() };
        assert_eq!(reasons(&questions, &votes, &greedy)[2], "greedy_differs");
        let margin = CurriculumSettings { min_margin: 0.2, ..plain.clone() };
        assert_eq!(reasons(&questions, &votes, &margin)[..3], ["kept", "small_margin", "small_margin"]);
        let distinct = CurriculumSettings { deduplicate: true, ..plain };
        assert_eq!(reasons(&questions, &votes, &distinct)[..3], ["kept", "duplicate", "kept"]);
    }

    #[test]
    fn a_common_type_is_capped_to_its_share() {
        let kinds = [QuestionType::Numerical; 6].into_iter().chain([QuestionType::MultipleChoice; 2]);
        let questions: Vec<QuestionRow> = (0..).zip(kinds).map(|(n, kind)| question(n, "How many?", kind)).collect();
        let votes: Vec<VoteRow> = (0..8).map(|n| vote(n, &[6, 4], 0, None)).collect();
        let kept = |cap: f64| {
            let settings = CurriculumSettings { max_type_share: cap, ..settings() };
            reasons(&questions, &votes, &settings).iter().filter(|reason| *reason == "kept").count()
        };
        assert_eq!([kept(1.0), kept(0.75), kept(0.6), kept(0.5), kept(0.4)], [8, 8, 5, 4, 8]);
    }
}

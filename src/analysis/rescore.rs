//! Rescoring: rewards and curriculum of stored votes under other settings, without a model.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde::ser::SerializeMap;

use crate::grading::Vote;
use crate::ids::{GroupId, QuestionId};
use crate::reward::{self, DropReason, Preset, QuestionOutcome, questioner_rewards};
use crate::tables::{QuestionRow, VoteRow};

/// Outcome of a set of questions under some settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RescoreResult {
    /// Every question in order.
    pub questions: Vec<RescoredQuestion>,
    /// Number of questions kept.
    pub kept: usize,
    /// Number of questions dropped, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// Distribution of the rewards.
    pub rewards: Distribution,
    /// Reason why no question has a reward: a scope has too many questions to cluster.
    pub note: Option<String>,
}

/// Outcome of one question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RescoredQuestion {
    /// Question.
    pub question_id: QuestionId,
    /// Questioner's reward; `None` for a valid question without a vote, or if clustering failed.
    pub reward: Option<f64>,
    /// Whether the curriculum keeps it.
    #[serde(flatten)]
    pub decision: Decision,
}

/// Decision of the difficulty filter, serialized as `{"kept": true, "confidence": 0.5}` or
/// `{"kept": false, "dropped": "below_band"}`.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Kept, with this confidence.
    Kept(f64),
    /// Dropped, for this reason.
    Dropped(String),
}

impl Decision {
    /// Whether the question is kept.
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }
}

impl Serialize for Decision {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("kept", &self.is_kept())?;
        match self {
            Self::Kept(confidence) => map.serialize_entry("confidence", confidence)?,
            Self::Dropped(reason) => map.serialize_entry("dropped", reason)?,
        }
        map.end()
    }
}

/// Summary of a set of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Distribution {
    /// Number of values.
    pub n: usize,
    /// Mean; 0 without values.
    pub mean: f64,
    /// Standard deviation (n - 1); 0 for fewer than two.
    pub std: f64,
    /// Minimum, quartiles (nearest member of the set) and maximum; zeros without values.
    pub quartiles: [f64; 5],
}

impl Distribution {
    /// Summarizes a set of numbers.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let mean = if n == 0 { 0.0 } else { values.iter().sum::<f64>() / n as f64 };
        let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
        let std = if n < 2 { 0.0 } else { (squares / (n - 1) as f64).sqrt() };
        let at = |quarter: usize| values.get((n.saturating_sub(1) * quarter + 2) / 4).copied().unwrap_or(0.0);
        Self { n, mean, std, quartiles: [0, 1, 2, 3, 4].map(at) }
    }
}

/// Scores the questions of one step, with all their groups, under a preset. Votes without a
/// question are ignored. If a scope has too many questions to cluster, no question has a reward,
/// the note gives the reason, and the filter still works.
pub fn rescore(questions: &[QuestionRow], votes: &[VoteRow], preset: &Preset) -> RescoreResult {
    let votes: HashMap<QuestionId, Vote> = votes.iter().map(|row| (row.question_id, Vote::from(row))).collect();
    let (rewards, note) = match rewards(questions, &votes, preset) {
        Ok(rewards) => (rewards, None),
        Err(error) => (vec![None; questions.len()], Some(format!("no rewards: {error}"))),
    };
    let mut dropped = BTreeMap::new();
    let scored: Vec<RescoredQuestion> = questions
        .iter()
        .zip(rewards)
        .map(|(row, reward)| {
            let decision = keep(row, votes.get(&row.question_id), preset);
            if let Decision::Dropped(reason) = &decision {
                *dropped.entry(reason.clone()).or_insert(0) += 1;
            }
            RescoredQuestion { question_id: row.question_id, reward, decision }
        })
        .collect();
    RescoreResult {
        kept: scored.iter().filter(|q| q.decision.is_kept()).count(),
        rewards: Distribution::of(scored.iter().filter_map(|q| q.reward).collect()),
        questions: scored,
        dropped,
        note,
    }
}

/// Returns the reward of each question, in order.
fn rewards(
    questions: &[QuestionRow],
    votes: &HashMap<QuestionId, Vote>,
    preset: &Preset,
) -> Result<Vec<Option<f64>>, reward::ClusterError> {
    let mut group_of: HashMap<GroupId, usize> = HashMap::new();
    let mut groups: Vec<Vec<QuestionOutcome>> = Vec::new();
    let mut places = Vec::with_capacity(questions.len());
    for row in questions {
        let group = *group_of.entry(row.group_id).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        let confidence =
            votes.get(&row.question_id).and_then(|vote| reward::confidence(vote, preset.reward_denominator));
        let text = row.question.clone().unwrap_or_default();
        places.push((group, groups[group].len(), !row.valid || votes.contains_key(&row.question_id)));
        groups[group].push(QuestionOutcome { text, valid: row.valid, confidence: confidence.unwrap_or(0.0) });
    }
    let rewards = questioner_rewards(&groups, &preset.questioner)?;
    Ok(places.into_iter().map(|(group, place, known)| known.then(|| rewards[group][place].reward)).collect())
}

fn keep(row: &QuestionRow, vote: Option<&Vote>, preset: &Preset) -> Decision {
    let Some(question) = row.question.as_ref().filter(|_| row.valid) else {
        return Decision::Dropped("invalid".into());
    };
    let Some(vote) = vote else { return Decision::Dropped("no_vote".into()) };
    match reward::filter_question(question, vote, preset.label_denominator, &preset.difficulty) {
        Ok(confidence) => Decision::Kept(confidence),
        Err(reason) => Decision::Dropped(reject_reason(&reason)),
    }
}

/// Returns the reason of a dropped question as the `rejects` table stores it.
fn reject_reason(reason: &DropReason) -> String {
    let serialized = serde_json::to_value(reason).unwrap_or_default();
    serialized["reason"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_the_words_of_the_rejects_table() {
        let contains = DropReason::QuestionContains("box".into());
        let reasons = [DropReason::NoAnswer, DropReason::BelowBand(0.1), contains].map(|reason| reject_reason(&reason));
        assert_eq!(reasons, ["no_answer", "below_band", "question_contains"]);
    }

    #[test]
    fn quartiles_are_members_of_the_set() {
        let d = Distribution::of(vec![4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!((d.mean, d.quartiles), (3.0, [1.0, 2.0, 3.0, 4.0, 5.0]));
        assert!((d.std - 2.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!(Distribution::of(vec![]).quartiles, [0.0; 5]);
    }
}

//! Whether the tables of a round fit together: every id resolves, sample numbers are complete, and what follows from other rows does
//! follow. Pure functions of rows; each misalignment names its row.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;

use serde::Serialize;

use crate::grading::{Answer, compare, last_boxed, vote};
use crate::ids::{GroupId, ImageId, QuestionId};
use crate::reward::{Denominator, Question, QuestionerSettings, ReasonerSettings, questioner_rewards, reasoner_reward};
use crate::tables::{AnswerRow, CurriculumRow, MetricRow, PredictionRow, QuestionRow, RewardRow, Role, VoteRow};
use crate::training::grpo::{Aggregation, advantages, overlong_penalty};

/// How many misalignments are named.
const NAMED: usize = 20;
/// How far a figure that is computed again may be off: sums are rounded in their order.
const ROUNDING: f64 = 1e-9;

/// A row that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Misaligned {
    /// The table.
    pub table: String,
    /// The row's id.
    pub row: String,
    /// What does not fit.
    pub problem: String,
}

/// What checking found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Rows checked, by table.
    pub checked: BTreeMap<String, u64>,
    /// Rows that do not fit.
    pub count: u64,
    /// The first of them.
    pub misaligned: Vec<Misaligned>,
}

impl Findings {
    /// Says that rows of a table are checked.
    pub fn checked(&mut self, table: &str, rows: usize) {
        *self.checked.entry(table.to_owned()).or_default() += rows as u64;
    }

    /// Says that a row does not fit.
    pub fn add(&mut self, table: &str, row: impl Display, problem: impl Into<String>) {
        self.count += 1;
        if self.misaligned.len() < NAMED {
            self.misaligned.push(Misaligned { table: table.into(), row: row.to_string(), problem: problem.into() });
        }
    }

    /// Says that a row does not fit, unless what is stored is what comes out.
    fn expect<T: PartialEq + std::fmt::Debug>(&mut self, at: (&str, &dyn Display, &str), stored: &T, out: &T) {
        if stored != out {
            let (table, row, column) = at;
            self.add(table, row, format!("{column} is {stored:?} and should be {out:?}"));
        }
    }

    fn expect_near(&mut self, at: (&str, &dyn Display, &str), stored: Option<f64>, out: Option<f64>) {
        let same = match (stored, out) {
            (Some(a), Some(b)) => (a - b).abs() <= ROUNDING * a.abs().max(b.abs()).max(1.0),
            (a, b) => a == b,
        };
        if !same {
            let (table, row, column) = at;
            let shown = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
            self.add(table, row, format!("{column} is {} and should be {}", shown(stored), shown(out)));
        }
    }

    /// Adds what another check found.
    pub fn merge(&mut self, other: Self) {
        for (table, rows) in other.checked {
            *self.checked.entry(table).or_default() += rows;
        }
        self.count += other.count;
        self.misaligned.extend(other.misaligned);
        self.misaligned.truncate(NAMED);
    }
}

/// Checks that the samples of each group are numbered from 0 to one below `samples`.
fn complete(found: &mut Findings, table: &str, rows: impl Iterator<Item = (GroupId, u32)>, samples: u32) {
    let mut groups: BTreeMap<GroupId, Vec<u32>> = BTreeMap::new();
    for (group, sample) in rows {
        groups.entry(group).or_default().push(sample);
    }
    for (group, mut numbers) in groups {
        numbers.sort_unstable();
        if numbers != (0..samples).collect::<Vec<u32>>() {
            found.add(
                table,
                format!("group {group}"),
                format!("its samples are {numbers:?} and should be 0 to {}", samples.saturating_sub(1)),
            );
        }
    }
}

/// Questions: each once, about a known image, `samples` to a group.
pub fn questions(rows: &[QuestionRow], images: &HashSet<ImageId>, samples: u32) -> Findings {
    let mut found = Findings::default();
    found.checked("questions", rows.len());
    let mut seen = HashSet::new();
    for row in rows {
        let id = row.question_id;
        if !seen.insert(id) {
            found.add("questions", id, "the id is there twice");
        }
        if !images.contains(&row.image_id) {
            found.add("questions", id, format!("its image {} is not in the images table", row.image_id));
        }
        if row.token_ids.len() != row.logprobs.len() {
            let (tokens, logprobs) = (row.token_ids.len(), row.logprobs.len());
            found.add("questions", id, format!("it has {tokens} tokens and {logprobs} log-probabilities"));
        }
        if row.valid != row.question.is_some() || row.valid == row.invalid_reason.is_some() {
            found.add("questions", id, "valid, question and invalid_reason do not go together");
        }
    }
    complete(&mut found, "questions", rows.iter().map(|row| (row.group_id, row.sample)), samples);
    found
}

/// How answers were drawn and counted.
#[derive(Debug, Clone, Copy)]
pub struct Counting {
    /// Answers to a question.
    pub samples: u32,
    /// What a majority is a share of.
    pub denominator: Denominator,
    /// Whether the greedy answer was asked for.
    pub greedy: bool,
}

/// Answers and votes: each vote is what the grader makes of the answers.
pub fn votes(
    answers: &[AnswerRow],
    votes: &[VoteRow],
    asked: &HashMap<QuestionId, ImageId>,
    how: Counting,
) -> Findings {
    let mut found = Findings::default();
    found.checked("answers", answers.len());
    found.checked("votes", votes.len());
    let mut by_question: HashMap<QuestionId, Vec<&AnswerRow>> = HashMap::new();
    let mut seen = HashSet::new();
    for row in answers {
        if !seen.insert(row.answer_id) {
            found.add("answers", row.answer_id, "the id is there twice");
        }
        match asked.get(&row.question_id) {
            None => found.add("answers", row.answer_id, format!("its question {} was not asked", row.question_id)),
            Some(image) => found.expect(("answers", &row.answer_id, "image_id"), &row.image_id, image),
        }
        let boxed = last_boxed(&row.raw_text).filter(|answer| !answer.is_empty()).map(str::to_owned);
        found.expect(("answers", &row.answer_id, "boxed_answer"), &row.boxed_answer, &boxed);
        by_question.entry(row.question_id).or_default().push(row);
    }
    complete(&mut found, "answers", answers.iter().map(|row| (row.group_id, row.sample)), how.samples);
    let mut voted = HashSet::new();
    for row in votes {
        if !voted.insert(row.question_id) {
            found.add("votes", row.question_id, "the question is there twice");
        }
        match by_question.get_mut(&row.question_id) {
            None => found.add("votes", row.question_id, "it has no answers"),
            Some(answers) => {
                answers.sort_by_key(|answer| answer.sample);
                one_vote(&mut found, row, answers, how);
            }
        }
    }
    for question in by_question.keys().filter(|question| !voted.contains(question)) {
        found.add("answers", question, "the question has answers and no vote");
    }
    found
}

fn one_vote(found: &mut Findings, row: &VoteRow, answers: &[&AnswerRow], how: Counting) {
    let boxed: Vec<Option<&str>> = answers.iter().map(|answer| answer.boxed_answer.as_deref()).collect();
    let vote = vote(&boxed);
    for (answer, class) in answers.iter().zip(&vote.class_of) {
        let class = class.map(|class| class as u32);
        found.expect(("answers", &answer.answer_id, "vote_class"), &answer.vote_class, &class);
    }
    let id = &row.question_id;
    let counts: Vec<u32> = vote.counts.iter().map(|&count| count as u32).collect();
    found.expect(("votes", id, "sampled"), &row.sampled, &(answers.len() as u32));
    found.expect(("votes", id, "boxed"), &row.boxed, &(vote.answered() as u32));
    found.expect(("votes", id, "class_answers"), &row.class_answers, &vote.classes);
    found.expect(("votes", id, "class_counts"), &row.class_counts, &counts);
    found.expect(("votes", id, "majority_answer"), &row.majority_answer.as_deref(), &vote.majority_answer());
    found.expect(("votes", id, "majority_count"), &row.majority_count, &(vote.majority_count() as u32));
    found.expect(("votes", id, "runner_up_count"), &row.runner_up_count, &(vote.runner_up_count() as u32));
    let below = match how.denominator {
        Denominator::Sampled => answers.len(),
        Denominator::Answered => vote.answered(),
    };
    let share = |count: usize| (below > 0).then(|| count as f64 / below as f64);
    found.expect_near(("votes", id, "confidence"), row.confidence, share(vote.majority_count()));
    let lead = vote.majority_count() - vote.runner_up_count();
    found.expect_near(("votes", id, "margin"), row.margin, share(lead));
    let agrees = how.greedy.then(|| match (&row.greedy_answer, &row.majority_answer) {
        (Some(greedy), Some(majority)) => compare(greedy, majority).equal,
        _ => false,
    });
    found.expect(("votes", id, "greedy_agrees"), &row.greedy_agrees, &agrees);
}

/// How rewards were made.
#[derive(Debug, Clone, Copy)]
pub struct Rewarding {
    /// The training step.
    pub step: u32,
    /// How advantages are made.
    pub aggregation: Aggregation,
    /// Whether groups without a difference are left out.
    pub drop_zero_std: bool,
    /// Tokens before the limit over which a penalty for length rises; 0: none.
    pub overlong_tokens: u32,
    /// The most tokens of a sample.
    pub max_tokens: u32,
}

impl Rewarding {
    fn penalty(&self, tokens: usize) -> f64 {
        let (limit, cache) = (self.max_tokens as usize, self.overlong_tokens as usize);
        if cache > 0 { overlong_penalty(tokens, limit, cache) } else { 0.0 }
    }
}

/// Rewards of the Questioner: what the votes, the clusters and the settings make of its samples.
pub fn questioner_step(
    rewards: &[RewardRow],
    questions: &[QuestionRow],
    votes: &[VoteRow],
    settings: &QuestionerSettings,
    how: Rewarding,
) -> Findings {
    let mut found = Findings::default();
    let votes: HashMap<QuestionId, &VoteRow> = votes.iter().map(|vote| (vote.question_id, vote)).collect();
    let vote_on = |row: &QuestionRow| votes.get(&row.question_id).copied().filter(|_| row.valid);
    let groups: Vec<&[QuestionRow]> = questions.chunk_by(|a, b| a.group_id == b.group_id).collect();
    let asked: Vec<Vec<Question>> = groups
        .iter()
        .map(|group| {
            let question = |row: &QuestionRow| Question {
                text: row.question.clone().unwrap_or_default(),
                valid: vote_on(row).is_some(),
                confidence: vote_on(row).and_then(|vote| vote.confidence).unwrap_or(0.0),
            };
            group.iter().map(question).collect()
        })
        .collect();
    let expected = match questioner_rewards(&asked, settings) {
        Ok(expected) => expected,
        Err(e) => {
            found.add("rewards", format!("step {}", how.step), e.to_string());
            return found;
        }
    };
    let rows: HashMap<_, &RewardRow> = rewards.iter().map(|row| (row.subject_id, row)).collect();
    for (row, reward) in questions.iter().zip(expected.into_iter().flatten()) {
        let Some(stored) = rows.get(&row.question_id.0) else {
            found.add("rewards", row.question_id, "the sample has no reward");
            continue;
        };
        let id = &row.question_id;
        let confidence = vote_on(row).and_then(|vote| vote.confidence);
        found.expect_near(("rewards", id, "confidence"), stored.confidence, confidence);
        found.expect_near(("rewards", id, "uncertainty"), stored.uncertainty, Some(reward.uncertainty));
        found.expect_near(("rewards", id, "diversity_penalty"), stored.diversity_penalty, Some(reward.diversity));
        found.expect(("rewards", id, "cluster_size"), &stored.cluster_size, &Some(reward.cluster_size as u32));
        let out = reward.reward - how.penalty(row.token_ids.len());
        found.expect_near(("rewards", id, "reward"), Some(stored.reward), Some(out));
        found.expect(("rewards", id, "sample"), &(stored.group_id, stored.sample), &(row.group_id, row.sample));
    }
    compared(&mut found, rewards, Role::Questioner, questions.len(), how);
    found
}

/// Rewards of the Reasoner: what the pseudo-labels and the settings make of its answers.
pub fn reasoner_step(
    rewards: &[RewardRow],
    answers: &[AnswerRow],
    curriculum: &[CurriculumRow],
    settings: &ReasonerSettings,
    how: Rewarding,
) -> Findings {
    let mut found = Findings::default();
    let labels: HashMap<QuestionId, Answer> =
        curriculum.iter().map(|row| (row.question_id, Answer::new(&row.pseudo_label))).collect();
    let rows: HashMap<_, &RewardRow> = rewards.iter().map(|row| (row.subject_id, row)).collect();
    for row in answers {
        let id = &row.answer_id;
        let Some(label) = labels.get(&row.question_id) else {
            found.add("answers", id, format!("its question {} is not in the curriculum", row.question_id));
            continue;
        };
        let Some(stored) = rows.get(&row.answer_id.0) else {
            found.add("rewards", id, "the sample has no reward");
            continue;
        };
        let reward = reasoner_reward(&row.raw_text, label, settings);
        found.expect(("rewards", id, "correct"), &stored.correct, &Some(reward.correct));
        let out = reward.reward - how.penalty(row.token_ids.len());
        found.expect_near(("rewards", id, "reward"), Some(stored.reward), Some(out));
        found.expect(("rewards", id, "sample"), &(stored.group_id, stored.sample), &(row.group_id, row.sample));
    }
    compared(&mut found, rewards, Role::Reasoner, answers.len(), how);
    found
}

/// Group statistics and advantages.
fn compared(found: &mut Findings, rewards: &[RewardRow], role: Role, samples: usize, how: Rewarding) {
    found.checked("rewards", rewards.len());
    if rewards.len() != samples {
        let problem = format!("{} rewards of {samples} samples", rewards.len());
        found.add("rewards", format!("step {}", how.step), problem);
    }
    for group in rewards.chunk_by(|a, b| a.group_id == b.group_id) {
        let values: Vec<f64> = group.iter().map(|row| row.reward).collect();
        let out = advantages(&values, how.aggregation);
        for (row, advantage) in group.iter().zip(out.values) {
            let id = &row.subject_id;
            found.expect(("rewards", id, "role"), &row.role, &role);
            found.expect(("rewards", id, "step"), &row.step, &how.step);
            found.expect_near(("rewards", id, "group_mean"), Some(row.group_mean), Some(out.mean));
            found.expect_near(("rewards", id, "group_std"), Some(row.group_std), Some(out.std));
            found.expect_near(("rewards", id, "advantage"), Some(row.advantage), Some(advantage));
            found.expect(("rewards", id, "in_update"), &row.in_update, &!(out.zero_std && how.drop_zero_std));
        }
    }
}

/// The figures of a training step that its rewards decide.
pub fn metrics(rows: &[MetricRow], rewards: &[RewardRow]) -> Findings {
    let mut found = Findings::default();
    found.checked("metrics", rows.len());
    let mean = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let share = |of: &dyn Fn(&RewardRow) -> Option<bool>| {
        mean(rewards.iter().filter_map(|row| of(row).map(|yes| f64::from(u8::from(yes)))).collect())
    };
    for row in rows {
        let id = format!("{} step {}", row.role.map_or_else(String::new, |role| role.to_string()), row.step);
        let at = |column: &'static str| ("metrics", &id as &dyn Display, column);
        let groups: Vec<&[RewardRow]> = rewards.chunk_by(|a, b| a.group_id == b.group_id).collect();
        found.expect(at("groups"), &(row.groups as usize), &groups.len());
        let zero = groups.iter().map(|group| f64::from(u8::from(group[0].group_std == 0.0))).collect();
        found.expect_near(at("frac_zero_std"), row.frac_zero_std, mean(zero));
        found.expect_near(at("reward_mean"), row.reward_mean, mean(rewards.iter().map(|r| r.reward).collect()));
        found.expect_near(
            at("advantage_mean"),
            row.advantage_mean,
            mean(rewards.iter().map(|r| r.advantage).collect()),
        );
        let confidences = rewards.iter().filter_map(|r| r.confidence).collect();
        found.expect_near(at("confidence_mean"), row.confidence_mean, mean(confidences));
        found.expect_near(at("valid_share"), row.valid_share, share(&|r| Some(r.valid)));
        found.expect_near(at("correct_share"), row.correct_share, share(&|r| r.correct));
    }
    found
}

/// Predictions: the grader's verdict on each.
pub fn predictions(rows: &[PredictionRow]) -> Findings {
    let mut found = Findings::default();
    found.checked("predictions", rows.len());
    for row in rows.iter().filter(|row| row.judge == "grader") {
        let id = format!("{} {} {}", row.item_id, row.protocol, row.sample);
        let equal = match (&row.extracted_answer, &row.gold) {
            (Some(given), Some(gold)) => compare(given, gold).equal,
            _ => false,
        };
        found.expect(("predictions", &id, "correct"), &row.correct, &Some(equal));
        found.expect_near(("predictions", &id, "mark"), Some(row.mark), Some(f64::from(u8::from(equal))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AnswerId, Digest, ModelId, PromptId};
    use crate::tables::Finish;

    fn answer(n: u32, text: &str, class: Option<u32>) -> AnswerRow {
        AnswerRow {
            answer_id: AnswerId(Digest::of(&n.to_le_bytes())),
            question_id: QuestionId(Digest::of(b"q")),
            image_id: ImageId(Digest::of(b"i")),
            group_id: GroupId(Digest::of(b"g")),
            sample: n,
            seed: 0,
            prompt_id: PromptId(Digest::of(b"p")),
            model_id: ModelId(Digest::of(b"m")),
            prompt_tokens: 1,
            raw_text: format!("\\boxed{{{text}}}"),
            token_ids: vec![1],
            logprobs: vec![-1.0],
            finish: Finish::Stop,
            boxed_answer: Some(text.to_owned()),
            vote_class: class,
        }
    }

    fn found(answers: &[AnswerRow], change: impl Fn(&mut VoteRow)) -> Vec<String> {
        let mut row = VoteRow {
            question_id: QuestionId(Digest::of(b"q")),
            image_id: ImageId(Digest::of(b"i")),
            sampled: 3,
            boxed: 3,
            class_answers: vec!["2".into(), "3".into()],
            class_counts: vec![2, 1],
            majority_answer: Some("2".into()),
            majority_count: 2,
            runner_up_count: 1,
            confidence: Some(2.0 / 3.0),
            margin: Some(1.0 / 3.0),
            greedy_answer: None,
            greedy_agrees: None,
        };
        change(&mut row);
        let asked = HashMap::from([(row.question_id, row.image_id)]);
        let how = Counting { samples: 3, denominator: Denominator::Sampled, greedy: false };
        votes(answers, &[row], &asked, how)
            .misaligned
            .into_iter()
            .map(|m| format!("{}: {}", m.table, m.problem))
            .collect()
    }

    #[test]
    fn a_vote_is_what_its_answers_say() {
        let answers = [answer(0, "2", Some(0)), answer(1, "3", Some(1)), answer(2, "2.0", Some(0))];
        assert_eq!(found(&answers, |_| {}), Vec::<String>::new());
        let wrong = found(&answers, |row| row.majority_answer = Some("3".into()));
        assert_eq!(wrong, ["votes: majority_answer is Some(\"3\") and should be Some(\"2\")"]);
        assert!(found(&answers, |row| row.confidence = Some(0.5))[0].contains("confidence is 0.5 and should be 0.66"));
        assert!(found(&answers[..2], |_| {})[0].contains("samples are [0, 1] and should be 0 to 2"));
        let other = [answer(0, "2", Some(0)), answer(1, "3", Some(0)), answer(2, "2.0", Some(0))];
        assert!(found(&other, |_| {})[0].contains("vote_class is Some(0) and should be Some(1)"));
    }
}

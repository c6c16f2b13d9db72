//! Consistency of questions, answers, votes and predictions.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::report::ConsistencyReport;
use crate::grading::{compare, last_boxed, vote};
use crate::ids::{GroupId, ImageId, QuestionId};
use crate::reward::{Denominator, confidence, margin};
use crate::tables::{AnswerRow, PredictionRow, QuestionRow, VoteRow};

/// Checks that the samples of each group are numbered 0 to `samples` - 1.
fn check_sample_numbers(
    report: &mut ConsistencyReport,
    table: &str,
    rows: impl Iterator<Item = (GroupId, u32)>,
    samples: u32,
) {
    let mut groups: BTreeMap<GroupId, Vec<u32>> = BTreeMap::new();
    for (group, sample) in rows {
        groups.entry(group).or_default().push(sample);
    }
    for (group, mut numbers) in groups {
        numbers.sort_unstable();
        if numbers != (0..samples).collect::<Vec<u32>>() {
            let problem = format!("its samples are {numbers:?} and should be 0 to {}", samples.saturating_sub(1));
            report.add(table, format!("group {group}"), problem);
        }
    }
}

/// Checks questions: each appears once, about a known image, with `samples` to a group.
pub fn check_questions(rows: &[QuestionRow], images: &HashSet<ImageId>, samples: u32) -> ConsistencyReport {
    let mut report = ConsistencyReport::default();
    report.count_checked("questions", rows.len());
    let mut seen = HashSet::new();
    for row in rows {
        let id = row.question_id;
        if !seen.insert(id) {
            report.add("questions", id, "the id occurs twice");
        }
        if !images.contains(&row.image_id) {
            report.add("questions", id, format!("its image {} is not in the images table", row.image_id));
        }
        if row.token_ids.len() != row.logprobs.len() {
            let (tokens, logprobs) = (row.token_ids.len(), row.logprobs.len());
            report.add("questions", id, format!("it has {tokens} tokens and {logprobs} log-probabilities"));
        }
        if row.valid != row.question.is_some() || row.valid == row.invalid_reason.is_some() {
            report.add("questions", id, "valid, question and invalid_reason contradict each other");
        }
    }
    check_sample_numbers(&mut report, "questions", rows.iter().map(|row| (row.group_id, row.sample)), samples);
    report
}

/// How answers were sampled and counted.
#[derive(Debug, Clone, Copy)]
pub struct VotingSetup {
    /// Answers per question.
    pub samples: u32,
    /// Denominator of the confidence.
    pub denominator: Denominator,
    /// Whether a greedy answer was sampled too.
    pub greedy: bool,
}

/// Checks answers and votes: each vote must follow from the answers.
pub fn check_votes(
    answers: &[AnswerRow],
    votes: &[VoteRow],
    question_images: &HashMap<QuestionId, ImageId>,
    setup: VotingSetup,
) -> ConsistencyReport {
    let mut report = ConsistencyReport::default();
    report.count_checked("answers", answers.len());
    report.count_checked("votes", votes.len());
    let mut by_question: BTreeMap<QuestionId, Vec<&AnswerRow>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for row in answers {
        if !seen.insert(row.answer_id) {
            report.add("answers", row.answer_id, "the id occurs twice");
        }
        match question_images.get(&row.question_id) {
            None => report.add("answers", row.answer_id, format!("its question {} is unknown", row.question_id)),
            Some(image) => report.expect_equal(("answers", &row.answer_id, "image_id"), &row.image_id, image),
        }
        let boxed = last_boxed(&row.raw_text).filter(|answer| !answer.is_empty()).map(str::to_owned);
        report.expect_equal(("answers", &row.answer_id, "boxed_answer"), &row.boxed_answer, &boxed);
        by_question.entry(row.question_id).or_default().push(row);
    }
    check_sample_numbers(&mut report, "answers", answers.iter().map(|row| (row.group_id, row.sample)), setup.samples);
    let mut voted = HashSet::new();
    for row in votes {
        if !voted.insert(row.question_id) {
            report.add("votes", row.question_id, "the question occurs twice");
        }
        match by_question.get_mut(&row.question_id) {
            None => report.add("votes", row.question_id, "it has no answers"),
            Some(answers) => {
                answers.sort_by_key(|answer| answer.sample);
                check_vote(&mut report, row, answers, setup);
            }
        }
    }
    for question in by_question.keys().filter(|question| !voted.contains(question)) {
        report.add("answers", question, "the question has answers but no vote");
    }
    report
}

fn check_vote(report: &mut ConsistencyReport, row: &VoteRow, answers: &[&AnswerRow], setup: VotingSetup) {
    let boxed: Vec<Option<&str>> = answers.iter().map(|answer| answer.boxed_answer.as_deref()).collect();
    let vote = vote(&boxed);
    for (answer, class) in answers.iter().zip(&vote.class_of) {
        let class = class.map(|class| class as u32);
        report.expect_equal(("answers", &answer.answer_id, "vote_class"), &answer.vote_class, &class);
    }
    let id = &row.question_id;
    let counts: Vec<u32> = vote.counts.iter().map(|&count| count as u32).collect();
    report.expect_equal(("votes", id, "sampled"), &row.sampled, &(answers.len() as u32));
    report.expect_equal(("votes", id, "boxed"), &row.boxed, &(vote.answered() as u32));
    report.expect_equal(("votes", id, "class_answers"), &row.class_answers, &vote.classes);
    report.expect_equal(("votes", id, "class_counts"), &row.class_counts, &counts);
    report.expect_equal(("votes", id, "majority_answer"), &row.majority_answer.as_deref(), &vote.majority_answer());
    report.expect_equal(("votes", id, "majority_count"), &row.majority_count, &(vote.majority_count() as u32));
    report.expect_equal(("votes", id, "runner_up_count"), &row.runner_up_count, &(vote.runner_up_count() as u32));
    report.expect_near(("votes", id, "confidence"), row.confidence, confidence(&vote, setup.denominator));
    report.expect_near(("votes", id, "margin"), row.margin, margin(&vote, setup.denominator));
    let agrees = setup.greedy.then(|| match (&row.greedy_answer, &row.majority_answer) {
        (Some(greedy), Some(majority)) => compare(greedy, majority).equal,
        _ => false,
    });
    report.expect_equal(("votes", id, "greedy_agrees"), &row.greedy_agrees, &agrees);
}

/// Checks predictions: each must have the grader's verdict.
pub fn check_predictions(rows: &[PredictionRow]) -> ConsistencyReport {
    let mut report = ConsistencyReport::default();
    report.count_checked("predictions", rows.len());
    for row in rows.iter().filter(|row| row.judge == "grader") {
        let id = format!("{} {} {}", row.item_id, row.protocol, row.sample);
        let equal = match (&row.extracted_answer, &row.gold) {
            (Some(given), Some(gold)) => compare(given, gold).equal,
            _ => false,
        };
        report.expect_equal(("predictions", &id, "correct"), &row.correct, &Some(equal));
        report.expect_near(("predictions", &id, "mark"), Some(row.mark), Some(f64::from(u8::from(equal))));
    }
    report
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

    fn problems(answers: &[AnswerRow], change: impl Fn(&mut VoteRow)) -> Vec<String> {
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
        let question_images = HashMap::from([(row.question_id, row.image_id)]);
        let setup = VotingSetup { samples: 3, denominator: Denominator::Sampled, greedy: false };
        check_votes(answers, &[row], &question_images, setup)
            .inconsistencies
            .into_iter()
            .map(|m| format!("{}: {}", m.table, m.problem))
            .collect()
    }

    #[test]
    fn a_vote_must_follow_from_its_answers() {
        let answers = [answer(0, "2", Some(0)), answer(1, "3", Some(1)), answer(2, "2.0", Some(0))];
        assert_eq!(problems(&answers, |_| {}), Vec::<String>::new());
        let wrong = problems(&answers, |row| row.majority_answer = Some("3".into()));
        assert_eq!(wrong, ["votes: majority_answer is Some(\"3\") and should be Some(\"2\")"]);
        assert!(
            problems(&answers, |row| row.confidence = Some(0.5))[0].contains("confidence is 0.5 and should be 0.66")
        );
        assert!(problems(&answers[..2], |_| {})[0].contains("samples are [0, 1] and should be 0 to 2"));
        let other = [answer(0, "2", Some(0)), answer(1, "3", Some(0)), answer(2, "2.0", Some(0))];
        assert!(problems(&other, |_| {})[0].contains("vote_class is Some(0) and should be Some(1)"));
    }
}

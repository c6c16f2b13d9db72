//! Prompts for judges, in our words and the published structure.
//!
//! A judge is asked for one of five things: a verdict, the letter of an option, yes or no, the
//! answer of a response, or a grade.

use serde::{Deserialize, Serialize};

use crate::benchmarks::extract::Options;
use crate::benchmarks::item::BenchmarkItem;

/// Strictness of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strictness {
    /// An answer needs the same value or option; units must agree if both have them, and extra
    /// claims make it wrong.
    #[default]
    Strict,
    /// An answer needs the same meaning only, in the spirit of VisPlay's judge.
    Lenient,
}

/// Rules of a strict verdict.
const STRICT: &str = "You check an answer to a question about an image, which you do not see. The answer is right only if it gives the same value or the same option as the reference answer. Another way of writing the same value is fine. If both have units, the units must agree. An answer that claims more than the reference, hedges between several answers, or gives none is wrong.";
/// Rules of a lenient verdict.
const LENIENT: &str = "You check an answer against a reference answer. Ignore form, punctuation, case and how detailed they are. The answer is right if it means the same as the reference.";
/// Form of a verdict.
const VERDICT: &str = "Reply with 1 if the answer is right and with 0 if it is wrong, and with nothing else.";

/// Worked rows of the table of grades: question, truth, prediction, grade.
const GRADES: [[&str; 4]; 7] = [
    ["Which two digits are on the door?", "4 <AND> 7", "There is a 9.", "0.0"],
    ["Which two digits are on the door?", "4 <AND> 7", "There is a 4.", "0.5"],
    ["Which two digits are on the door?", "4 <AND> 7", "I can read a 7.", "0.5"],
    ["Which two digits are on the door?", "4 <AND> 7", "A 7 or maybe an 8.", "0.5"],
    ["Which two digits are on the door?", "4 <AND> 7", "It says 47.", "1.0"],
    [
        "Why is the sign funny?",
        "It forbids reading the sign, which one has to read to know that.",
        "It is a sign that tells people what not to do.",
        "0.3",
    ],
    [
        "Why is the sign funny?",
        "It forbids reading the sign, which one has to read to know that.",
        "You can only obey it if you never learn what it says, because it asks you not to read it.",
        "1.0",
    ],
];
/// Rules of grades.
const GRADE: &str = "Each row compares a prediction with the truth and ends with a grade from 0.0 (all wrong) to 1.0 (all right) in steps of 0.1. Parts of a truth that <AND> joins are all needed for 1.0; of parts that <OR> joins, any one is enough. Complete the last row with its grade, and write nothing else.";

/// Returns the request for a verdict on an answer.
pub fn verdict(item: &BenchmarkItem, answer: &str, strictness: Strictness) -> String {
    let rules = match strictness {
        Strictness::Strict => STRICT,
        Strictness::Lenient => LENIENT,
    };
    let golds = item.golds.join("\nor: ");
    format!(
        "{rules}\n\nQuestion: {}\n{}Reference answer: {golds}\nAnswer: {answer}\n\n{VERDICT}",
        item.question,
        options(&item.options)
    )
}

/// Returns the request for the option that a response means; Z stands for none.
pub fn letter(item: &BenchmarkItem, response: &str) -> String {
    format!(
        "Which of the options does the response choose? If it chooses none of them, or several, that is Z.\n\nQuestion: {}\n{}Response: {response}\n\nReply with one letter and nothing else.",
        item.question,
        options(&item.options)
    )
}

/// Returns the request for the yes or no that a response means.
pub fn yes_no(question: &str, response: &str) -> String {
    format!(
        "Does the response answer the question with yes or with no? If neither, that is Unknown.\n\nQuestion: {question}\nResponse: {response}\n\nReply with Yes, No or Unknown, and nothing else."
    )
}

/// Returns the request for the final answer of a response to a maths problem.
pub fn extraction(response: &str) -> String {
    format!(
        "Copy the final answer of the response, without units of text around it. If it is a choice, copy only its letter. If there is no final answer, reply null.\n\nResponse: {response}\n\nFinal answer:"
    )
}

/// Returns the request for a grade of MM-Vet: worked rows of a table, and one that ends before its
/// grade.
pub fn grade(question: &str, truth: &str, response: &str) -> String {
    let truth = truth.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ");
    let rows: String = GRADES.iter().map(|row| row.join(" | ") + "\n").collect();
    format!(
        "{GRADE}\n\nQuestion | Truth | Prediction | Grade\n--- | --- | --- | ---\n{rows}\n{}",
        [question, &truth, response, ""].join(" | ")
    )
}

fn options(options: &Options) -> String {
    options.iter().map(|(letter, text)| format!("{letter}. {text}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::{Benchmark, Labels, QuestionKind};

    #[test]
    fn requests_hold_what_a_judge_needs() {
        let item = BenchmarkItem {
            benchmark: Benchmark::MathVerse,
            official_id: None,
            kind: QuestionKind::MultipleChoice,
            question: "How long is BC?".into(),
            query: None,
            hint: None,
            options: Options::from_texts(["2", "3"]),
            has_options_in_question: false,
            golds: vec!["B".into()],
            gold_details: None,
            images: Vec::new(),
            labels: Labels::default(),
        };
        for strictness in [Strictness::Strict, Strictness::Lenient] {
            let text = verdict(&item, "it is 3", strictness);
            for part in ["How long is BC?", "B. 3\n", "Reference answer: B\n", "Answer: it is 3\n"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        assert_ne!(verdict(&item, "3", Strictness::Strict), verdict(&item, "3", Strictness::Lenient));
        assert!(letter(&item, "BC is 3").contains("A. 2\nB. 3\nResponse: BC is 3\n"));
        let row = grade("What?", "a<AND>b", "a");
        assert!(row.ends_with("\nWhat? | a <AND> b | a | "), "{row}");
        assert!(yes_no("Is it?", "no").contains("Is it?") && extraction("x = 3").ends_with("Final answer:"));
    }
}

//! VLMEvalKit's rule for MATH-Vision: a letter as for multiple choice, or a whole response that
//! equals the gold.

use super::Options;
use super::choice_vlmevalkit::{self, AnswerIs};
use crate::benchmarks::latex_value::{Dialect, value};
use crate::benchmarks::python::arithmetic::evaluate;
use crate::benchmarks::python::number::Number;
use crate::benchmarks::python::text::strip;

/// Distance below which two values are equal.
const TOLERANCE: f64 = 1e-6;
/// Value by which a lone variable is recognized.
const UNKNOWN: Number = Number::Float(0.739_085_133_215_160_6);

/// Returns the answer that needs no judge: a letter that the rule for choices finds, or a whole
/// response that equals the gold.
pub fn extract(response: &str, gold: &str, options: &Options) -> Option<String> {
    if options.is_empty() {
        return is_equal(response, gold).then(|| response.to_owned()).filter(|response| !response.is_empty());
    }
    choice_vlmevalkit::extract(response, options, AnswerIs::Searched).map(String::from)
}

/// Whether an answer, extracted by the rule or by a judge, is right.
pub fn is_right(answer: &str, gold: &str, options: &Options) -> bool {
    if options.is_empty() {
        return is_equal(answer, gold);
    }
    // Upstream compares the text "False" where no letter is found.
    let letter = choice_vlmevalkit::extract(answer, options, AnswerIs::Searched);
    is_equal(&letter.map_or_else(|| "False".to_owned(), String::from), gold)
}

/// Whether an answer is the gold in lower case, or has the same value as Python or as LaTeX.
pub fn is_equal(answer: &str, gold: &str) -> bool {
    let (answer, gold) = (answer.to_lowercase(), gold.to_lowercase());
    let (answer, gold) = (strip(&answer), strip(&gold));
    answer == gold || is_same_python(answer, gold) || is_same_latex(answer, gold)
}

/// Whether two texts have the same value as Python. The gold's value is upstream's variable `a`, so
/// that an answer "A" equals every number.
fn is_same_python(answer: &str, gold: &str) -> bool {
    let gold = evaluate(gold, None);
    is_near(evaluate(answer, gold.map(|gold| ('a', gold))), gold)
}

/// Whether two texts have the same value as LaTeX. Upstream's variables `a` and `b` are the gold
/// and the answer, so that a gold "B" equals every number, too.
fn is_same_latex(answer: &str, gold: &str) -> bool {
    let of = |text, binding| value(text, Dialect::VlmEvalKit, binding);
    // A lone variable equals itself.
    let is_alone = |text, letter| of(text, Some((letter, UNKNOWN))) == Some(UNKNOWN);
    if ['a', 'b'].iter().any(|&letter| is_alone(answer, letter) && is_alone(gold, letter)) {
        return true;
    }
    let (gold_value, answer_value) = (of(gold, None), of(answer, None));
    // sympy leaves a per cent sign as a product, from which no number is subtracted.
    let is_bound = |text: &str| !["%", "percent", "pct"].iter().any(|sign| text.contains(sign));
    let gold_value = gold_value.or_else(|| of(gold, answer_value.filter(|_| is_bound(answer)).map(|x| ('b', x))));
    let answer_value = answer_value.or_else(|| of(answer, gold_value.filter(|_| is_bound(gold)).map(|x| ('a', x))));
    is_near(answer_value, gold_value)
}

fn is_near(first: Option<Number>, second: Option<Number>) -> bool {
    let (Some(first), Some(second)) = (first, second) else { return false };
    first.minus(second).is_some_and(|difference| difference.to_f64().abs() < TOLERANCE)
}

//! Equality of two answers: the grader's rules in order, and the rule that decided.

use serde::Serialize;

use super::expression::{self, Budget, Difference};
use super::{characters, mathd_form, sympy_form, tuples};

/// Maximum length in bytes of an answer for which normal forms are computed. A longer answer equals
/// only its own text.
const MAX_ANSWER: usize = 16 * 1024;
/// Longest tuple that is compared element by element.
const MAX_ELEMENTS: usize = 256;

/// Rule that decided whether two answers are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchRule {
    /// Equal: the texts are the same.
    Text,
    /// Equal: the first normal forms, those of the MATH data set, are the same.
    #[serde(rename = "first-form")]
    MathdForm,
    /// Equal: the second normal forms, those for sympy, are the same.
    #[serde(rename = "second-form")]
    SympyForm,
    /// Different: one of the answers is empty.
    Empty,
    /// Different: the tuples or intervals have different brackets.
    Brackets,
    /// Different: the tuples have different numbers of elements.
    Length,
    /// Different: fractions are compared as written, so 2/4 is not 1/2.
    Fraction,
    /// Different: only one of the answers is an integer.
    Integer,
    /// Decided by symbolic equality, for each element of a tuple.
    Symbolic,
    /// Different: too many letters or too high powers for symbolic equality, and the texts differ.
    Words,
    /// Different: not an expression, undefined or too large, and the texts differ.
    Unreadable,
}

/// Outcome of comparing two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Whether the answers are equal.
    pub equal: bool,
    /// Rule that decided.
    #[serde(rename = "via")]
    pub rule: MatchRule,
}

/// An answer with its normal forms, computed once for many comparisons.
#[derive(Debug, Clone)]
pub struct Answer {
    text: String,
    first: String,
    second: String,
    elements: Vec<String>,
}

impl Answer {
    /// Computes the normal forms of an answer.
    pub fn new(text: &str) -> Self {
        if text.len() > MAX_ANSWER {
            let [first, second] = [String::new(), String::new()];
            return Self { text: text.to_owned(), first, second, elements: Vec::new() };
        }
        let second = sympy_form::sympy_form(text);
        let elements = tuples::elements(&second);
        Self { text: text.to_owned(), first: mathd_form::mathd_form(text), second, elements }
    }

    /// Returns the answer's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Compares two answers in both directions, as VisPlay does.
    pub fn compare(&self, other: &Self) -> Comparison {
        let forward = self.grade(other);
        // The directions differ only if a bracket opens in one answer and closes in the other.
        if forward.equal || (is_closed(&self.second) && is_closed(&other.second)) {
            return forward;
        }
        let backward = other.grade(self);
        if backward.equal { backward } else { forward }
    }

    /// Grades this answer against the truth: mathruler's `grade_answer(self, truth)`.
    pub fn grade(&self, truth: &Self) -> Comparison {
        self.grade_within(truth, &mut Budget::new())
    }

    fn is_too_long(&self) -> bool {
        self.text.len() > MAX_ANSWER
    }

    /// Grades as [`grade`](Self::grade) does; all elements of a tuple share the budget.
    fn grade_within(&self, truth: &Self, budget: &mut Budget) -> Comparison {
        let (equal, rule) = if self.text == truth.text {
            (true, MatchRule::Text)
        } else if self.is_too_long() || truth.is_too_long() {
            (false, MatchRule::Unreadable)
        } else if self.first == truth.first {
            (true, MatchRule::MathdForm)
        } else if self.second == truth.second {
            (true, MatchRule::SympyForm)
        } else if self.second.is_empty() || truth.elements.is_empty() {
            (false, MatchRule::Empty)
        } else if truth.elements.len() > 1 && first_and_last(&truth.second) != first_and_last(&self.second) {
            (false, MatchRule::Brackets)
        } else if truth.elements.len() != self.elements.len() {
            (false, MatchRule::Length)
        } else if self.elements.len() > MAX_ELEMENTS {
            (false, MatchRule::Unreadable)
        } else {
            let pairs = truth.elements.iter().zip(&self.elements);
            let mut verdicts = pairs.map(|(truth, given)| compare_elements(truth, given, budget));
            verdicts.find(|(equal, _)| !equal).unwrap_or((true, MatchRule::Symbolic))
        };
        Comparison { equal, rule }
    }
}

/// Compares two answers in both directions.
///
/// ```
/// use visplay::grading::compare;
/// assert!(compare(r"\frac{1}{2}", "0.5").equal);
/// assert!(compare("(B)", r"\text{B}").equal);
/// assert!(!compare("2/4", "1/2").equal);
/// ```
pub fn compare(given: &str, gold: &str) -> Comparison {
    Answer::new(given).compare(&Answer::new(gold))
}

fn first_and_last(form: &str) -> (Option<char>, Option<char>) {
    (form.chars().next(), form.chars().next_back())
}

/// Whether every bracket of a text is closed in it.
fn is_closed(text: &str) -> bool {
    let bracket = |byte| i64::from(byte == b'(') - i64::from(byte == b')');
    let depth = text.bytes().try_fold(0, |depth, byte| Some(depth + bracket(byte)).filter(|&depth| depth >= 0));
    depth == Some(0)
}

/// Returns whether two elements are equal, and the rule that decided.
fn compare_elements(truth: &str, given: &str, budget: &mut Budget) -> (bool, MatchRule) {
    let is_integer = |text| sympy_form::integer_value(text).is_some();
    if tuples::is_fraction(truth) && tuples::is_fraction(given) {
        return if truth == given { (true, MatchRule::Symbolic) } else { (false, MatchRule::Fraction) };
    } else if is_integer(truth) != is_integer(given) {
        return (false, MatchRule::Integer);
    } else if !may_be_mathematics(truth, given) {
        return (false, MatchRule::Words);
    }
    match expression::difference(truth, given, budget) {
        Difference::Zero => (true, MatchRule::Symbolic),
        Difference::NotZero => (false, MatchRule::Symbolic),
        Difference::Unknown => (false, MatchRule::Unreadable),
    }
}

/// Whether a pair has at most two different letters besides `sqrt` and `frac`, and no power that is
/// braced, bracketed, of two digits or itself raised to a power. The reference tests
/// `(truth)-(given)` as one text.
fn may_be_mathematics(truth: &str, given: &str) -> bool {
    let text = format!("({truth})-({given})");
    if text.contains("^{") || text.contains("^(") || has_high_power(text.as_bytes()) {
        return false;
    }
    let text = mathd_form::replace_each(text, &[("sqrt", ""), ("frac", "")]);
    let mut letters = text.chars().filter(|&c| characters::is_letter(c));
    let Some(first) = letters.next() else { return true };
    let mut others = letters.filter(|&c| c != first);
    let second = others.next();
    others.all(|c| Some(c) == second)
}

/// Matches `\^[0-9]+\^` or `\^[0-9][0-9]+`.
fn has_high_power(text: &[u8]) -> bool {
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let powers = text.iter().enumerate().filter(|&(_, &byte)| byte == b'^').map(|(at, _)| at);
    powers.into_iter().any(|at| digit(at + 1) && (digit(at + 2) || text.get(at + 2) == Some(&b'^')))
}

#[cfg(test)]
mod tests {
    use super::{Answer, Budget, MAX_ANSWER, MAX_ELEMENTS, MatchRule, compare};

    #[test]
    fn rules_are_tried_in_order() {
        let cases = [
            ("B", "B", true, MatchRule::Text),
            (r"\text{B}", "B", true, MatchRule::MathdForm),
            ("b", "B", true, MatchRule::SympyForm),
            ("(B)", "B", true, MatchRule::Symbolic),
            ("B.", "B", false, MatchRule::Unreadable),
            ("", "B", false, MatchRule::Empty),
            ("(1,2)", "[1,2]", false, MatchRule::Brackets),
            ("(1,2)", "(1,2,3)", false, MatchRule::Length),
            ("2/4", "1/2", false, MatchRule::Fraction),
            ("5", "5.5", false, MatchRule::Integer),
            ("1/2", "0.5", true, MatchRule::MathdForm),
            ("3/4", "0.75", true, MatchRule::Symbolic),
            ("(1/2, 0.5)", "(0.5, 1/2)", true, MatchRule::Symbolic),
            ("red", "blue", false, MatchRule::Words),
            ("9^9^9", "1/3", false, MatchRule::Words),
            ("(2", "2)", true, MatchRule::Symbolic),
            ("Yes", "yes", true, MatchRule::SympyForm),
        ];
        for (given, gold, equal, rule) in cases {
            let verdict = compare(given, gold);
            assert_eq!((verdict.equal, verdict.rule), (equal, rule), "{given} {gold}");
        }
    }

    fn tuple(element: &str, times: usize) -> String {
        format!("({})", vec![element; times].join(","))
    }

    #[test]
    fn the_elements_of_a_tuple_share_one_budget() {
        let sum = "x**y+".repeat(7);
        let pairs = [
            (tuple("x**y+1", 200), tuple("1+x**y", 200)),
            (tuple("e^x", 200), tuple("e*e^x/e", 200)),
            (tuple(&format!("+{sum}1"), 60), tuple(&format!("1+{}", sum.trim_end_matches('+')), 60)),
        ];
        for (given, gold) in pairs {
            let mut budget = Budget::new();
            let verdict = Answer::new(&given).grade_within(&Answer::new(&gold), &mut budget);
            assert!(budget.is_spent(), "{given}");
            assert_eq!((verdict.equal, verdict.rule), (false, MatchRule::Unreadable), "{given}");
        }
        assert!(compare(&tuple("x**y+1", 4), &tuple("1+x**y", 4)).equal);
        assert!(compare(&tuple("3/4", MAX_ELEMENTS), &tuple("0.75", MAX_ELEMENTS)).equal);
    }

    #[test]
    fn an_answer_that_is_too_long_equals_only_its_own_text() {
        let more = MAX_ELEMENTS + 1;
        assert_eq!(compare(&tuple("3/4", more), &tuple("0.75", more)).rule, MatchRule::Unreadable);
        assert_eq!(compare(&tuple("X", more), &tuple("x", more)).rule, MatchRule::SympyForm);
        let long = "1".repeat(MAX_ANSWER + 1);
        assert_eq!(compare(&long, &long).rule, MatchRule::Text);
        assert_eq!(compare(&long, &format!(" {long}")).rule, MatchRule::Unreadable);
        assert_eq!(compare(&long, "").rule, MatchRule::Unreadable);
    }

    /// Verdicts of mathruler 0.1.0, the same in both directions.
    #[test]
    fn line_ends_are_not_spaces() {
        let cases = [
            ("B\n0.5", r"\text{(B) 0.5}", false),
            ("(B)\n3", "B3", false),
            (r"A\\3", "A3", false),
            ("5\r\nx", "5*x", false),
            ("5\rx", "5*x", false),
            ("5\tx", "5*x", true),
            ("5\x0cx", "5*x", true),
            ("0.5\t!\t", "0.5!", false),
            ("2\n3/4", "2+3/4", false),
            ("x\n(x)", "x*x", false),
            ("x(\nx)", "x*x", true),
            ("x(x)\ny", "x*x*y", false),
            ("x+1\n\n", "1+x", true),
            ("x**834", "(x**834)", true),
            ("(x**834,3/4)", "(x**834,0.75)", true),
            ("(x/0,3/4)", "(x/0,0.75)", false),
            ("(a.,3/2)", "(a.,1.5)", false),
        ];
        for (given, gold, equal) in cases {
            assert_eq!(compare(given, gold).equal, equal, "{given:?} {gold:?}");
        }
    }
}

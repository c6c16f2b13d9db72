//! The outcome of an item: the extracted answer, whether it is right, and why there is none.

use serde::{Deserialize, Serialize};

use super::extract::Options;
use super::extract::choice_visplay::Choice;
use super::extract::choice_vlmevalkit::AnswerIs;
use super::extract::open_mmmu::Candidate;
use super::extract::pre_step::{AnswerPart, answer_part};
use super::extract::{
    choice_mmmu, choice_mmstar, choice_visplay, choice_vlmevalkit, math_vision, math_vlmevalkit, open_mmmu,
    realworldqa, yes_no,
};
use super::item::{BenchmarkItem, QuestionKind};
use super::name::Benchmark;
use super::protocol::{PreStep, Protocol, Rule};
use super::python::text::strip;
use super::random_letter;
use crate::grading::{MatchRule, compare};
use crate::random::Seed;

/// Second option that VLMEvalKit gives an open question of MMMU.
const OTHER_ANSWERS: &str = "Other Answers";
/// Beginnings of refusals in lower case, besides those that VLMEvalKit knows.
const REFUSALS: [&str; 5] = ["i'm sorry", "i am sorry", "sorry, ", "i cannot ", "i can't "];

/// Reason why sampling of a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended its response.
    #[default]
    Stop,
    /// The response reached the largest number of tokens.
    Length,
}

/// Reason why there is no answer, or why it is not the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The response is empty.
    NoResponse,
    /// The rule found nothing.
    NoAnswer,
    /// The rule found several answers.
    Ambiguous,
    /// The model refused.
    Refusal,
    /// The response was cut off before an answer.
    Cut,
    /// The letter was drawn at random, as the protocol prescribes.
    Random,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::NoResponse, Self::NoAnswer, Self::Ambiguous, Self::Refusal, Self::Cut, Self::Random];

    /// Returns the name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoResponse => "no_response",
            Self::NoAnswer => "no_answer",
            Self::Ambiguous => "ambiguous",
            Self::Refusal => "refusal",
            Self::Cut => "cut",
            Self::Random => "random",
        }
    }
}

/// Verdict of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The answer is right.
    Right,
    /// The answer is wrong.
    Wrong,
    /// The rule does not decide; a judge may. Without one it counts as wrong.
    Undecided,
}

impl Verdict {
    fn of(is_right: bool) -> Self {
        if is_right { Self::Right } else { Self::Wrong }
    }
}

/// Outcome of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Extracted answer.
    pub extracted: Option<String>,
    /// Verdict of the rule.
    pub verdict: Verdict,
    /// Reason why there is no answer, or why it is not the model's.
    pub reason: Option<Reason>,
    /// The rule.
    pub rule: Rule,
}

/// Settings of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleSettings {
    /// Step before the rule.
    pub pre_step: PreStep,
    /// Version of VLMEvalKit's rule for letters.
    pub answer_is: AnswerIs,
    /// Whether open questions of MMMU are scored as VLMEvalKit does: as a choice between the gold,
    /// A, and "Other Answers", so that the reply "A" is right.
    pub has_open_as_choice: bool,
}

/// Scores a response by a protocol's rule. A random letter is drawn from the seed, the protocol and
/// the item's id. `None` if the protocol is not defined for the item's benchmark.
pub fn score_response(
    item: &BenchmarkItem,
    response: &str,
    finish: Finish,
    protocol: Protocol,
    settings: RuleSettings,
    seed: Seed,
) -> Option<Outcome> {
    let is_as_choice = settings.has_open_as_choice && protocol == Protocol::VlmEvalKit;
    if is_as_choice && item.benchmark == Benchmark::Mmmu && item.options.is_empty() {
        let gold = item.golds.first().cloned().unwrap_or_default();
        let options = Options::from_texts([gold, OTHER_ANSWERS.to_owned()]);
        let kind = QuestionKind::MultipleChoice;
        let choice = BenchmarkItem { kind, options, golds: vec!["A".to_owned()], ..item.clone() };
        return score_response(&choice, response, finish, protocol, settings, seed);
    }
    let rule = protocol.rule(item)?;
    let part = match settings.pre_step {
        PreStep::Raw => Some(AnswerPart { text: response, is_marked: false }),
        PreStep::Answer => answer_part(response),
    };
    let found = part.map_or(Finding::NOTHING, |part| apply(rule, item, part, settings));
    let reason = found.extracted.is_none().then(|| match found.is_ambiguous {
        true => Reason::Ambiguous,
        false => why_nothing(response, finish),
    });
    let reason = if found.is_refusal { Some(Reason::Refusal) } else { reason };
    if rule == Rule::MmmuOfficialChoice && found.extracted.is_none() {
        let letter = random_letter::draw(seed, protocol.name(), &item.id().to_string(), &item.options);
        let verdict = Verdict::of(letter.is_some() && letter == item.gold_letter());
        return Some(Outcome { extracted: letter.map(String::from), verdict, reason: Some(Reason::Random), rule });
    }
    Some(Outcome { extracted: found.extracted, verdict: found.verdict, reason, rule })
}

/// Returns the reason why nothing was found in a response.
fn why_nothing(response: &str, finish: Finish) -> Reason {
    let text = strip(response);
    let lower = text.to_lowercase().replace('’', "'");
    if text.is_empty() {
        Reason::NoResponse
    } else if finish == Finish::Length {
        Reason::Cut
    } else if choice_vlmevalkit::is_refusal(response) || REFUSALS.iter().any(|refusal| lower.starts_with(refusal)) {
        Reason::Refusal
    } else {
        Reason::NoAnswer
    }
}

/// Finding of a rule.
struct Finding {
    extracted: Option<String>,
    verdict: Verdict,
    is_ambiguous: bool,
    is_refusal: bool,
}

impl Finding {
    const NOTHING: Self = Self { extracted: None, verdict: Verdict::Undecided, is_ambiguous: false, is_refusal: false };

    fn answer(extracted: impl Into<String>, verdict: Verdict) -> Self {
        Self { extracted: Some(extracted.into()), verdict, ..Self::NOTHING }
    }

    fn letter(letter: Option<char>, item: &BenchmarkItem) -> Self {
        let Some(letter) = letter else { return Self::NOTHING };
        // A gold that is no letter is a fault of the file, which a judge may see through.
        let verdict = item.gold_letter().map_or(Verdict::Undecided, |gold| Verdict::of(gold == letter));
        Self::answer(letter, verdict)
    }
}

fn apply(rule: Rule, item: &BenchmarkItem, part: AnswerPart<'_>, settings: RuleSettings) -> Finding {
    let gold = item.golds.first().map_or("", String::as_str);
    match rule {
        Rule::MmmuOfficialChoice => Finding::letter(choice_mmmu::extract(part.text, &item.options), item),
        Rule::MmmuOfficialOpen => {
            let candidates = open_mmmu::extract(part.text);
            if strip(part.text).is_empty() {
                return Finding { verdict: Verdict::Wrong, ..Finding::NOTHING };
            }
            let is_right = open_mmmu::is_right(&candidates, item.golds.iter().map(String::as_str));
            let texts: Vec<String> = candidates.iter().map(candidate_text).collect();
            Finding::answer(texts.join(" | "), Verdict::of(is_right))
        }
        Rule::VlmEvalKitChoice => match choice_vlmevalkit::extract(part.text, &item.options, settings.answer_is) {
            Some('Z') if !item.options.has('Z') => Finding { is_refusal: true, ..Finding::answer('Z', Verdict::Wrong) },
            letter => Finding::letter(letter, item),
        },
        Rule::VlmEvalKitYesNo => match yes_no::extract(part.text) {
            None => Finding::NOTHING,
            Some(yes) => {
                let is_right = gold_yes(gold).map_or(Verdict::Undecided, |gold| Verdict::of(gold == yes));
                Finding::answer(if yes { "Yes" } else { "No" }, is_right)
            }
        },
        Rule::VlmEvalKitMathVision => match math_vlmevalkit::extract(part.text, gold, &item.options) {
            Some(answer) => {
                let is_right = math_vlmevalkit::is_right(&answer, gold, &item.options);
                Finding::answer(answer, Verdict::of(is_right))
            }
            None => Finding::NOTHING,
        },
        Rule::LmmsEvalRealWorldQa => {
            let verdict = Verdict::of(realworldqa::is_right(part.text, gold));
            match realworldqa::extract(part.text, gold) {
                Some(letter) => Finding::answer(letter, verdict),
                None if verdict == Verdict::Right => Finding::answer(strip(part.text), verdict),
                None => Finding { verdict, ..Finding::NOTHING },
            }
        }
        Rule::MmStarOfficial => {
            let verdict = Verdict::of(choice_mmstar::is_right(part.text, gold));
            match choice_mmstar::first_letter(part.text) {
                Some(letter) => Finding::answer(letter, verdict),
                None => Finding { verdict, ..Finding::NOTHING },
            }
        }
        Rule::MathVisionOfficial => {
            let answer = math_vision::extract(part.text);
            let verdict = Verdict::of(math_vision::is_right(&answer, gold, &item.options));
            if answer.is_empty() { Finding { verdict, ..Finding::NOTHING } } else { Finding::answer(answer, verdict) }
        }
        Rule::VisplayChoice => match choice_visplay::extract(part, &item.options) {
            Choice::Letter(letter) => Finding::letter(Some(letter), item),
            Choice::Ambiguous => Finding { is_ambiguous: true, ..Finding::NOTHING },
            Choice::Nothing => Finding::NOTHING,
        },
        Rule::Grader => graded(item, part),
        Rule::Judge if strip(part.text).is_empty() => Finding::NOTHING,
        Rule::Judge => Finding::answer(part.text, Verdict::Undecided),
    }
}

/// Compares the answer's part with the golds. A part that is not marked and equals none is no
/// answer; words that differ may still mean the same.
fn graded(item: &BenchmarkItem, part: AnswerPart<'_>) -> Finding {
    let text = if part.is_marked { part.text } else { strip(part.text).trim_end_matches('.') };
    if text.is_empty() {
        return Finding::NOTHING;
    }
    let is_maths = matches!(item.benchmark, Benchmark::MathVision | Benchmark::MathVerse);
    let compare_with =
        |gold: &String| compare(text, &if is_maths { math_vision::clean_gold(gold) } else { gold.clone() });
    let comparisons: Vec<_> = item.golds.iter().map(compare_with).collect();
    if comparisons.iter().any(|comparison| comparison.equal) {
        return Finding::answer(text, Verdict::Right);
    }
    if !part.is_marked {
        return Finding::NOTHING;
    }
    let is_open =
        |rule| matches!(rule, MatchRule::Words | MatchRule::Unreadable | MatchRule::Brackets | MatchRule::Length);
    let is_undecided = comparisons.is_empty() || comparisons.iter().any(|comparison| is_open(comparison.rule));
    Finding::answer(text, if is_undecided { Verdict::Undecided } else { Verdict::Wrong })
}

/// Reads a gold yes or no, which files also write as 1 and 0.
fn gold_yes(gold: &str) -> Option<bool> {
    match strip(gold).to_lowercase().as_str() {
        "yes" | "1" => Some(true),
        "no" | "0" => Some(false),
        _ => None,
    }
}

fn candidate_text(candidate: &Candidate) -> String {
    match candidate {
        Candidate::Number(x) => x.to_string(),
        Candidate::Text(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::Labels;
    use super::*;

    fn item(benchmark: Benchmark, kind: QuestionKind, gold: &str) -> BenchmarkItem {
        let options = match kind {
            QuestionKind::MultipleChoice => {
                Options::from_texts(["a copper kettle", "two wooden spoons", "a blue ladder"])
            }
            _ => Options::default(),
        };
        BenchmarkItem {
            benchmark,
            official_id: None,
            kind,
            question: "q".into(),
            query: None,
            hint: None,
            options,
            has_options_in_question: false,
            golds: vec![gold.into()],
            gold_details: None,
            images: Vec::new(),
            labels: Labels::default(),
        }
    }

    fn outcome(
        item: &BenchmarkItem,
        response: &str,
        finish: Finish,
        protocol: Protocol,
    ) -> (Option<String>, Verdict, Option<Reason>) {
        let outcome = score_response(item, response, finish, protocol, RuleSettings::default(), Seed(1)).unwrap();
        (outcome.extracted, outcome.verdict, outcome.reason)
    }

    #[test]
    fn each_reason_for_no_answer_is_named() {
        use Verdict::{Right, Undecided, Wrong};
        let item = item(Benchmark::MmStar, QuestionKind::MultipleChoice, "B");
        let cases = [
            ("\\boxed{B}", Finish::Stop, Some("B"), Right, None),
            ("\\boxed{A}", Finish::Length, Some("A"), Wrong, None),
            ("", Finish::Stop, None, Undecided, Some(Reason::NoResponse)),
            ("<think>it is B", Finish::Length, None, Undecided, Some(Reason::Cut)),
            ("<think>it is B", Finish::Stop, None, Undecided, Some(Reason::NoAnswer)),
            ("\\boxed{A, B}", Finish::Stop, None, Undecided, Some(Reason::Ambiguous)),
            ("I’m sorry, I see nothing.", Finish::Stop, None, Undecided, Some(Reason::Refusal)),
            ("spoons", Finish::Stop, None, Undecided, Some(Reason::NoAnswer)),
        ];
        for (response, finish, extracted, verdict, reason) in cases {
            let expected = (extracted.map(str::to_owned), verdict, reason);
            assert_eq!(outcome(&item, response, finish, Protocol::Visplay), expected, "{response}");
        }
        assert_eq!(
            outcome(&item, "Cannot determine the answer", Finish::Stop, Protocol::VlmEvalKit).2,
            Some(Reason::Refusal)
        );
    }

    #[test]
    fn mmmu_draws_a_letter_where_it_finds_none() {
        let item = item(Benchmark::Mmmu, QuestionKind::MultipleChoice, "B");
        let drawn = outcome(&item, "spoons", Finish::Stop, Protocol::Official);
        assert_eq!(drawn.2, Some(Reason::Random));
        assert!(["A", "B", "C"].contains(&drawn.0.as_deref().unwrap()));
        assert_eq!(outcome(&item, "spoons", Finish::Stop, Protocol::Official), drawn);
        assert_eq!(outcome(&item, "two wooden spoons", Finish::Stop, Protocol::VlmEvalKit).0.as_deref(), Some("B"));
        assert_eq!(outcome(&item, "(B)", Finish::Stop, Protocol::Official), (Some("B".into()), Verdict::Right, None));
    }

    #[test]
    fn the_pre_step_can_be_left_out() {
        let item = item(Benchmark::Mmmu, QuestionKind::MultipleChoice, "B");
        let raw = RuleSettings { pre_step: PreStep::Raw, ..RuleSettings::default() };
        let of = |settings| {
            score_response(&item, "\\boxed{B}", Finish::Stop, Protocol::Official, settings, Seed(1)).unwrap().reason
        };
        assert_eq!((of(raw), of(RuleSettings::default())), (Some(Reason::Random), None));
    }

    #[test]
    fn vlmevalkit_takes_the_reply_a_to_an_open_question_for_right_if_asked_to() {
        let item = item(Benchmark::Mmmu, QuestionKind::Open, "15 cm");
        let as_choice = RuleSettings { has_open_as_choice: true, ..RuleSettings::default() };
        let of = |settings| {
            score_response(&item, "A", Finish::Stop, Protocol::VlmEvalKit, settings, Seed(1)).unwrap().verdict
        };
        assert_eq!((of(as_choice), of(RuleSettings::default())), (Verdict::Right, Verdict::Wrong));
    }

    #[test]
    fn the_grader_leaves_words_to_a_judge() {
        let item = item(Benchmark::MathVision, QuestionKind::Open, "$\\boxed{\\frac{17}{9}}$");
        let of = |response: &str| outcome(&item, response, Finish::Stop, Protocol::Visplay);
        assert_eq!(of("\\boxed{17/9}").1, Verdict::Right);
        assert_eq!(of("17/9.").1, Verdict::Right);
        assert_eq!(of("\\boxed{3}").1, Verdict::Wrong);
        assert_eq!(of("\\boxed{seventeen ninths}").1, Verdict::Undecided);
        assert_eq!(of("it is 3"), (None, Verdict::Undecided, Some(Reason::NoAnswer)));
    }

    #[test]
    fn every_protocol_scores_every_item_that_it_is_defined_for() {
        for benchmark in Benchmark::ALL {
            for kind in [QuestionKind::MultipleChoice, QuestionKind::Open, QuestionKind::YesNo] {
                for protocol in Protocol::ALL {
                    let item = item(benchmark, kind, "B");
                    let outcome = score_response(&item, "B", Finish::Stop, protocol, RuleSettings::default(), Seed(0));
                    assert_eq!(outcome.is_some(), protocol.is_defined_for(benchmark), "{benchmark:?} {protocol:?}");
                }
            }
        }
    }
}

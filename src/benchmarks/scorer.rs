//! Published scorers by name, applied to one case.
//!
//! A case is a JSON object with what a scorer needs: an item, a response and the replies of a
//! judge, if there is one. Everybody can so check our scorers against the published ones on the
//! same cases.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::extract::open_mmmu::Candidate;
use super::extract::{
    Options, boxed_visplay, choice_lmmseval, choice_mmmu, choice_mmstar, choice_vlmevalkit, math_vision,
    math_vlmevalkit, open_mmmu, realworldqa, yes_no,
};
use super::item::item_options;
use super::judge::{Calls, Reply, hallusion, math_verse, mm_vet, vis_num_bench, visplay};
use crate::random::Seed;

/// Reply that stands for a call which the rate limit refused.
const RATE_LIMIT: &str = "<429>";
/// Letters that lmms-eval looks for in MMStar.
const MMSTAR_LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

/// A published scorer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scorer {
    /// VLMEvalKit's letters; nothing found is wrong.
    #[serde(rename = "vlmevalkit-choice")]
    VlmEvalKitChoice,
    /// VLMEvalKit's yes and no.
    #[serde(rename = "vlmevalkit-yesno")]
    VlmEvalKitYesNo,
    /// VLMEvalKit's MATH-Vision.
    #[serde(rename = "vlmevalkit-mathv")]
    VlmEvalKitMathVision,
    /// VLMEvalKit's MathVerse before its judge.
    #[serde(rename = "vlmevalkit-prefetch")]
    VlmEvalKitPrefetch,
    /// VLMEvalKit's MathVerse: the judge's verdict.
    #[serde(rename = "vlmevalkit-score-replies")]
    VlmEvalKitScoreReplies,
    /// VLMEvalKit's MathVerse: the judge's extraction.
    #[serde(rename = "vlmevalkit-extract-replies")]
    VlmEvalKitExtractReplies,
    /// VLMEvalKit's MM-Vet.
    #[serde(rename = "vlmevalkit-mmvet")]
    VlmEvalKitMmVet,
    /// lmms-eval's letters.
    #[serde(rename = "lmmseval-choice")]
    LmmsEvalChoice,
    /// lmms-eval's RealWorldQA.
    #[serde(rename = "lmmseval-realworldqa")]
    LmmsEvalRealWorldQa,
    /// MMMU's letters.
    MmmuOfficialChoice,
    /// MMMU's open questions.
    MmmuOfficialOpen,
    /// MMStar's letters.
    #[serde(rename = "mmstar-official")]
    MmStarOfficial,
    /// HallusionBench's reading of its judge.
    HallusionOfficialVerdict,
    /// MathVerse without a judge.
    #[serde(rename = "mathverse-quick-match")]
    MathVerseQuickMatch,
    /// MathVerse's cleaning of its judge's extraction.
    #[serde(rename = "mathverse-official-extract-reply")]
    MathVerseExtractReply,
    /// MathVerse's last words of a response.
    #[serde(rename = "mathverse-truncate")]
    MathVerseTruncate,
    /// MATH-Vision's own.
    #[serde(rename = "mathv-official")]
    MathVisionOfficial,
    /// MM-Vet's own.
    #[serde(rename = "mmvet-official")]
    MmVetOfficial,
    /// VisNumBench's reading of its judge.
    #[serde(rename = "visnumbench-official")]
    VisNumBenchOfficial,
    /// VisPlay's without a judge.
    #[serde(rename = "visplay-rule")]
    VisPlayRule,
    /// VisPlay's reading of its judge.
    #[serde(rename = "visplay-judge-reply")]
    VisPlayJudgeReply,
}

/// A case that a scorer cannot use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CaseError {
    /// A key is missing or has another type.
    #[error("the scorer needs {key}, {expected}")]
    Key {
        /// The key.
        key: &'static str,
        /// Description of what it must be.
        expected: &'static str,
    },
    /// The item's options cannot be read.
    #[error("the options cannot be read: {0}")]
    Options(String),
    /// The judge gave fewer replies than the scorer asks for.
    #[error("the case has no reply of the judge")]
    NoReply,
}

impl Scorer {
    /// Every scorer.
    pub const ALL: [Self; 21] = [
        Self::VlmEvalKitChoice,
        Self::VlmEvalKitYesNo,
        Self::VlmEvalKitMathVision,
        Self::VlmEvalKitPrefetch,
        Self::VlmEvalKitScoreReplies,
        Self::VlmEvalKitExtractReplies,
        Self::VlmEvalKitMmVet,
        Self::LmmsEvalChoice,
        Self::LmmsEvalRealWorldQa,
        Self::MmmuOfficialChoice,
        Self::MmmuOfficialOpen,
        Self::MmStarOfficial,
        Self::HallusionOfficialVerdict,
        Self::MathVerseQuickMatch,
        Self::MathVerseExtractReply,
        Self::MathVerseTruncate,
        Self::MathVisionOfficial,
        Self::MmVetOfficial,
        Self::VisNumBenchOfficial,
        Self::VisPlayRule,
        Self::VisPlayJudgeReply,
    ];

    /// Returns the name.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
    }

    /// Returns the scorer of a name, as the golden files and `--help` spell it.
    pub fn by_name(name: &str) -> Option<Self> {
        serde_json::from_value(Value::from(name)).ok()
    }

    /// Scores a case: an object with `item` and, as the scorer needs them, `response`, `extracted`,
    /// `judge_reply` or `judge_replies`. Returns the keys `extracted`, `correct` or `score`, and
    /// where it applies `calls`, `temperatures` and `fallback`. Where the published code draws a
    /// letter at random, it is drawn from the seed, the scorer and the case.
    ///
    /// # Errors
    /// The case lacks something.
    pub fn score(self, case: &Map<String, Value>, seed: Seed) -> Result<Map<String, Value>, CaseError> {
        let case = Case(case);
        let verdict = |extracted: Value, correct: Value| Ok(object([("extracted", extracted), ("correct", correct)]));
        match self {
            Self::VlmEvalKitChoice => {
                let letter = choice_vlmevalkit::extract(case.response()?, &case.options()?, Default::default());
                verdict(letter_value(letter), case.is_gold(letter)?.into())
            }
            Self::VlmEvalKitYesNo => {
                let extracted = yes_no::extract(case.response()?).map(|yes| if yes { "Yes" } else { "No" });
                verdict(extracted.into(), (extracted == Some(case.gold()?.as_str())).into())
            }
            Self::VlmEvalKitMathVision => {
                let (gold, options) = (case.gold()?, case.options()?);
                let prefetched = math_vlmevalkit::extract(case.response()?, &gold, &options);
                let answer = prefetched.as_deref().or(case.reply_if_any());
                let correct = answer.map(|answer| math_vlmevalkit::is_right(answer, &gold, &options));
                verdict(prefetched.as_deref().into(), correct.into())
            }
            Self::VlmEvalKitPrefetch => {
                let extraction = case.extracted()?;
                verdict(extraction.into(), math_verse::is_prefetched(extraction, &case.gold()?).into())
            }
            Self::VlmEvalKitScoreReplies => {
                let extraction = case.extracted()?;
                let mut replies = case.replies()?;
                let (correct, calls) =
                    math_verse::score_vlmevalkit(extraction, &case.gold()?, |_| replies.next_reply());
                Ok(with_calls(&calls, true, [("extracted", extraction.into()), ("correct", correct.into())]))
            }
            Self::VlmEvalKitExtractReplies => {
                let mut replies = case.replies()?;
                let (extraction, calls) = math_verse::extract_vlmevalkit(|_| replies.next_reply());
                let correct = math_verse::is_prefetched(&extraction, &case.gold()?);
                Ok(with_calls(&calls, false, [("extracted", extraction.into()), ("correct", correct.into())]))
            }
            Self::VlmEvalKitMmVet | Self::MmVetOfficial => {
                let mut replies = case.replies()?;
                let ask = |_: f64| replies.next_reply();
                let (grade, calls) = match self {
                    Self::MmVetOfficial => mm_vet::grade_official(ask),
                    _ => mm_vet::grade_vlmevalkit(ask),
                };
                Ok(with_calls(&calls, true, [("score", float_value(grade))]))
            }
            Self::LmmsEvalChoice => {
                let letter = choice_lmmseval::extract(case.response()?, &MMSTAR_LETTERS);
                let correct = letter.is_some() && letter == case.gold_letter();
                verdict(letter_value(letter), correct.into())
            }
            Self::LmmsEvalRealWorldQa => {
                let (response, gold) = (case.response()?, case.gold()?);
                let letter = realworldqa::extract(response, &gold);
                verdict(letter_value(letter), realworldqa::is_right(response, &gold).into())
            }
            Self::MmmuOfficialChoice => {
                let options = case.options()?;
                match choice_mmmu::extract(case.response()?, &options) {
                    Some(letter) => verdict(letter_value(Some(letter)), case.is_gold(Some(letter))?.into()),
                    None => {
                        let text = Value::Object(case.0.clone()).to_string();
                        let letter = super::random_letter::draw(seed, "mmmu-official-choice", &text, &options);
                        let correct = case.is_gold(letter)?;
                        let mut outcome = object([("extracted", letter_value(letter)), ("correct", correct.into())]);
                        outcome.insert("fallback".into(), "random".into());
                        Ok(outcome)
                    }
                }
            }
            Self::MmmuOfficialOpen => {
                let candidates = open_mmmu::extract(case.response()?);
                let golds = case.golds()?;
                let correct = open_mmmu::is_right(&candidates, golds.iter().map(String::as_str));
                verdict(candidates.iter().map(candidate_value).collect(), correct.into())
            }
            Self::MmStarOfficial => {
                verdict(Value::Null, choice_mmstar::is_right(case.response()?, &case.gold()?).into())
            }
            Self::HallusionOfficialVerdict => {
                let reply = hallusion::Verdict::read(case.reply()?);
                let is_without_figure = case.has("category", "VS") && case.has("figure_id", "0");
                verdict(reply.digit().into(), reply.is_right(is_without_figure).into())
            }
            Self::MathVerseQuickMatch => {
                let extraction = case.extracted()?;
                verdict(extraction.into(), math_verse::is_quick_match(extraction, &case.gold()?).into())
            }
            Self::MathVerseExtractReply => {
                let extraction = math_verse::clean_extraction(case.reply()?);
                let correct = math_verse::is_quick_match(&extraction, &case.gold()?);
                verdict(extraction.into(), correct.into())
            }
            Self::MathVerseTruncate => {
                let words = case.item().and_then(|item| item.get("words")).and_then(Value::as_i64);
                let words = words.ok_or(CaseError::Key { key: "item.words", expected: "an integer" })?;
                verdict(math_verse::last_words(case.response()?, words).into(), Value::Null)
            }
            Self::MathVisionOfficial => {
                let answer = math_vision::extract(case.response()?);
                let correct = math_vision::is_right(&answer, &case.gold()?, &case.options()?);
                verdict(answer.into(), correct.into())
            }
            Self::VisNumBenchOfficial => {
                let reply = case.reply()?;
                verdict(reply.into(), vis_num_bench::is_right(reply, &case.gold()?).into())
            }
            Self::VisPlayRule => {
                let extracted = boxed_visplay::extract(case.response()?);
                verdict(extracted.into(), boxed_visplay::is_equal(extracted, &case.gold()?).into())
            }
            Self::VisPlayJudgeReply => Ok(object([("correct", visplay::is_right(case.reply()?).into())])),
        }
    }
}

/// The keys of a case.
struct Case<'a>(&'a Map<String, Value>);

impl<'a> Case<'a> {
    fn text(&self, key: &'static str) -> Result<&'a str, CaseError> {
        self.0.get(key).and_then(Value::as_str).ok_or(CaseError::Key { key, expected: "a text" })
    }

    fn response(&self) -> Result<&'a str, CaseError> {
        self.text("response")
    }

    fn extracted(&self) -> Result<&'a str, CaseError> {
        self.text("extracted")
    }

    fn item(&self) -> Option<&'a Map<String, Value>> {
        self.0.get("item").and_then(Value::as_object)
    }

    /// Whether a key of the item is a text, or a number that is written so.
    fn has(&self, key: &str, text: &str) -> bool {
        match self.item().and_then(|item| item.get(key)) {
            Some(Value::String(value)) => value == text,
            Some(Value::Number(number)) => number.to_string() == text,
            _ => false,
        }
    }

    fn golds(&self) -> Result<Vec<String>, CaseError> {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let golds = match self.item().and_then(|item| item.get("answer")) {
            Some(Value::Array(golds)) => golds.iter().map(text).collect(),
            Some(gold) => text(gold).map(|gold| vec![gold]),
            None => None,
        };
        golds.ok_or(CaseError::Key { key: "item.answer", expected: "a text, a number or a list of these" })
    }

    fn gold(&self) -> Result<String, CaseError> {
        self.golds()?.into_iter().next().ok_or(CaseError::Key { key: "item.answer", expected: "a text" })
    }

    /// Whether a letter is one of the golds, which must be spelled alike.
    fn is_gold(&self, letter: Option<char>) -> Result<bool, CaseError> {
        let golds = self.golds()?;
        Ok(letter.is_some_and(|letter| golds.iter().any(|gold| gold.chars().eq([letter]))))
    }

    fn gold_letter(&self) -> Option<char> {
        let gold = self.gold().ok()?;
        let mut chars = gold.trim().chars();
        chars.next().filter(|_| chars.next().is_none()).map(|letter| letter.to_ascii_uppercase())
    }

    fn options(&self) -> Result<Options, CaseError> {
        item_options(self.item().and_then(|item| item.get("options"))).map_err(CaseError::Options)
    }

    fn reply(&self) -> Result<&'a str, CaseError> {
        self.text("judge_reply")
    }

    fn reply_if_any(&self) -> Option<&'a str> {
        self.0.get("judge_reply").and_then(Value::as_str)
    }

    fn replies(&self) -> Result<Replies<'a>, CaseError> {
        let replies: Vec<&str> = match self.0.get("judge_replies") {
            Some(Value::Array(replies)) => replies.iter().filter_map(Value::as_str).collect(),
            _ => self.reply_if_any().into_iter().collect(),
        };
        // Calls that the rate limit refuses are repeated without end.
        match replies.last() {
            Some(&last) if last != RATE_LIMIT => Ok(Replies { replies, next: 0 }),
            _ => Err(CaseError::NoReply),
        }
    }
}

/// Replies of a judge, played back; the last one repeats.
struct Replies<'a> {
    replies: Vec<&'a str>,
    next: usize,
}

impl Replies<'_> {
    fn next_reply(&mut self) -> Reply {
        let text = self.replies[self.next.min(self.replies.len() - 1)];
        self.next += 1;
        if text == RATE_LIMIT { Reply::RateLimit } else { Reply::Text(text.to_owned()) }
    }
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Map<String, Value> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn with_calls<const N: usize>(
    calls: &Calls,
    has_temperatures: bool,
    entries: [(&str, Value); N],
) -> Map<String, Value> {
    let mut outcome = object(entries);
    outcome.insert("calls".into(), calls.temperatures.len().into());
    if has_temperatures {
        outcome.insert("temperatures".into(), json!(calls.temperatures));
    }
    outcome
}

fn letter_value(letter: Option<char>) -> Value {
    letter.map(String::from).into()
}

/// Returns a float; `"nan"` and `"inf"` for those that JSON does not have.
fn float_value(x: f64) -> Value {
    if x.is_nan() {
        "nan".into()
    } else if x.is_infinite() {
        "inf".into()
    } else {
        x.into()
    }
}

fn candidate_value(candidate: &Candidate) -> Value {
    match candidate {
        Candidate::Text(text) => text.as_str().into(),
        Candidate::Number(x) if !x.is_finite() => json!({ "float": float_value(*x) }),
        Candidate::Number(x) => (*x).into(),
    }
}

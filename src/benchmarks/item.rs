//! Items of a benchmark, and their ids.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::extract::Options;
use super::name::Benchmark;
use super::python::literal;
use crate::ids::{Digest, ImageId, ItemId};

/// Context of the digests that are ids of items.
const ID_CONTEXT: &str = "visplay 2026 published benchmark item id";

/// Kind of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuestionKind {
    /// One of several lettered options.
    MultipleChoice,
    /// A number, an expression or a text.
    Open,
    /// Yes or no.
    YesNo,
}

/// Labels of an item, by which figures are reported. Each benchmark has some of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Labels {
    /// Split, where a file holds several.
    pub split: Option<String>,
    /// Category: MMStar's six, VLMEvalKit's `category`, HallusionBench's VD or VS, VisNumBench's
    /// synthetic or real.
    pub category: Option<String>,
    /// Second category: MMStar's 18, HallusionBench's subcategory, VisNumBench's attribute,
    /// MathVerse's subfield.
    pub subcategory: Option<String>,
    /// Subject of MMMU, MathVerse and MATH-Vision.
    pub subject: Option<String>,
    /// Level of MATH-Vision, from 1 to 5.
    pub level: Option<u8>,
    /// Version of MathVerse.
    pub version: Option<String>,
    /// Class of tasks of VisNumBench.
    pub task_class: Option<String>,
    /// Capabilities of MM-Vet, in the order of the file.
    pub capabilities: Vec<String>,
    /// Set of HallusionBench.
    pub set: Option<String>,
    /// Figure of HallusionBench; "0" is the original one, or none for VS.
    pub figure: Option<String>,
    /// Number of the question in its set, for HallusionBench.
    pub question_number: Option<String>,
    /// HallusionBench: "0" without image, "1" with the original one, "2" with a changed one.
    pub visual_input: Option<String>,
    /// Problem of MathVerse, which several versions share.
    pub problem: Option<String>,
}

/// An item of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkItem {
    /// The benchmark.
    pub benchmark: Benchmark,
    /// Id in the published file, where it has one.
    pub official_id: Option<String>,
    /// Kind of the question.
    pub kind: QuestionKind,
    /// Question. For MathVerse it is the one that judges see.
    pub question: String,
    /// Text that the benchmark prescribes in place of the question, with instructions, as MathVerse
    /// does.
    pub query: Option<String>,
    /// Hint before the question.
    pub hint: Option<String>,
    /// Options; empty if there are none.
    pub options: Options,
    /// Whether the question holds the options already, so that a prompt does not repeat them.
    pub has_options_in_question: bool,
    /// Right answers, any of which will do; empty where the benchmark hides them.
    pub golds: Vec<String>,
    /// Explanation of the right answer, which HallusionBench's judge reads.
    pub gold_details: Option<String>,
    /// Images, in the order of their marks.
    pub images: Vec<ImageId>,
    /// Labels.
    pub labels: Labels,
}

impl BenchmarkItem {
    /// Returns the id: a digest of the benchmark, the official id, images, question, options and
    /// golds. It depends neither on the row nor on the protocol.
    pub fn id(&self) -> ItemId {
        let list = |texts: &mut dyn Iterator<Item = &str>| {
            let mut bytes = Vec::new();
            for text in texts {
                bytes.extend((text.len() as u64).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
            bytes
        };
        let images: Vec<u8> = self.images.iter().flat_map(|image| *image.0.as_bytes()).collect();
        let letters: String = self.options.letters().collect();
        let parts: [&[u8]; 8] = [
            self.benchmark.name().as_bytes(),
            self.official_id.as_deref().unwrap_or_default().as_bytes(),
            &images,
            self.question.as_bytes(),
            self.query.as_deref().unwrap_or_default().as_bytes(),
            letters.as_bytes(),
            &list(&mut self.options.texts()),
            &list(&mut self.golds.iter().map(String::as_str)),
        ];
        ItemId(Digest::derive(ID_CONTEXT, &parts))
    }

    /// Returns the letter of the right option; `None` if the gold is no option's letter.
    pub fn gold_letter(&self) -> Option<char> {
        let gold = self.golds.first()?.trim().trim_matches(['(', ')', '.']);
        let mut chars = gold.chars();
        let (letter, None) = (chars.next()?.to_ascii_uppercase(), chars.next()) else { return None };
        (self.options.has(letter) || (self.options.is_empty() && letter.is_ascii_uppercase())).then_some(letter)
    }
}

/// Reads options from a list, an object with letters as keys, or a text that holds a Python list.
/// No options are an empty list.
pub(super) fn item_options(value: Option<&Value>) -> Result<Options, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("an option is {other}, not a text")),
    };
    match value {
        None | Some(Value::Null) => Ok(Options::default()),
        Some(Value::Array(options)) => {
            Ok(Options::from_texts(options.iter().map(text).collect::<Result<Vec<_>, _>>()?))
        }
        Some(Value::Object(options)) => {
            let option = |(letter, option): (&String, &Value)| {
                let mut chars = letter.chars();
                match (chars.next(), chars.next()) {
                    (Some(letter), None) => Ok((letter, text(option)?)),
                    _ => Err(format!("{letter:?} is no letter")),
                }
            };
            let mut options = options.iter().map(option).collect::<Result<Vec<_>, _>>()?;
            options.sort_by_key(|&(letter, _)| letter);
            Ok(Options::new(options))
        }
        Some(Value::String(list)) => {
            let texts = literal::parse(list).map_err(|e| e.to_string())?.texts();
            texts.map(Options::from_texts).ok_or_else(|| "the text holds no list of texts".to_owned())
        }
        Some(other) => Err(format!("{other} is no list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> BenchmarkItem {
        BenchmarkItem {
            benchmark: Benchmark::Mmmu,
            official_id: Some("validation_Art_1".into()),
            kind: QuestionKind::MultipleChoice,
            question: "Which?".into(),
            query: None,
            hint: None,
            options: Options::from_texts(["a", "b"]),
            has_options_in_question: false,
            golds: vec!["B".into()],
            gold_details: None,
            images: vec![ImageId(Digest::of(b"image"))],
            labels: Labels::default(),
        }
    }

    #[test]
    fn an_id_depends_on_the_content_only() {
        let id = item().id();
        let mut other = item();
        other.labels.subject = Some("Art".into());
        other.hint = Some("look".into());
        assert_eq!(other.id(), id);
        let changes: [fn(&mut BenchmarkItem); 6] = [
            |item| item.question.push('!'),
            |item| item.official_id = None,
            |item| item.images.clear(),
            |item| item.options = Options::from_texts(["ab"]),
            |item| item.golds = vec!["A".into()],
            |item| item.benchmark = Benchmark::MmStar,
        ];
        for change in changes {
            let mut other = item();
            change(&mut other);
            assert_ne!(other.id(), id);
        }
    }

    #[test]
    fn options_come_in_several_forms() {
        let options = |json: Value| item_options(Some(&json));
        let expected = Ok(Options::from_texts(["a", "it's"]));
        assert_eq!(options(serde_json::json!(["a", "it's"])), expected);
        assert_eq!(options(serde_json::json!({"B": "it's", "A": "a"})), expected);
        assert_eq!(options(serde_json::json!("['a', \"it's\"]")), expected);
        assert_eq!(item_options(None), Ok(Options::default()));
        for bad in
            [serde_json::json!("[a]"), serde_json::json!({"AB": "x"}), serde_json::json!([null]), serde_json::json!(1)]
        {
            assert!(options(bad).is_err());
        }
    }

    #[test]
    fn gold_letters_may_have_brackets() {
        let with_gold = |gold: &str| BenchmarkItem { golds: vec![gold.into()], ..item() }.gold_letter();
        assert_eq!(
            (with_gold("B"), with_gold("(b)"), with_gold("C"), with_gold("BA")),
            (Some('B'), Some('B'), None, None)
        );
    }
}

//! Items of rows, for each benchmark and form.

use serde_json::Value;

use super::cell::{Row, RowError};
use super::columns::Layout;
use crate::benchmarks::extract::Options;
use crate::benchmarks::item::{BenchmarkItem, Labels, QuestionKind, item_options};
use crate::benchmarks::name::Benchmark;
use crate::benchmarks::python::literal::{self, Literal};
use crate::benchmarks::question_options::{bracketed, bracketed_letter, lettered_lines, listed};

/// Gold of items whose answers are hidden.
const HIDDEN: &str = "?";
/// Mark of an image in VisPlay's copies.
const IMAGE_TAG: &str = "<image>";

/// An item without its images, which the caller reads from columns or files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedItem {
    /// The item; its list of images is empty.
    pub item: BenchmarkItem,
    /// Path of the image beside the file, where the row names one.
    pub image_path: Option<String>,
}

/// A row that is no item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkippedRow {
    /// The row cannot be read.
    Damaged(RowError),
    /// The row has no question.
    NoQuestion,
}

impl From<RowError> for SkippedRow {
    fn from(error: RowError) -> Self {
        Self::Damaged(error)
    }
}

/// Reads the item of a row.
///
/// # Errors
/// A cell that the item needs is missing or cannot be read, or there is no question. Vision Only
/// items of MathVerse have none, and are items nevertheless.
pub fn parse_item(row: &Row, layout: Layout) -> Result<ParsedItem, SkippedRow> {
    let benchmark = layout.benchmark();
    let item = match layout {
        Layout::Official(_) => official(row, benchmark)?,
        Layout::VlmEvalKit(_) => vlmevalkit(row, benchmark)?,
        Layout::Copy(_) => copy(row, benchmark)?,
    };
    let has_text = item.query.as_deref().is_some_and(|query| !query.is_empty()) || !item.question.is_empty();
    if !has_text && benchmark != Benchmark::MathVerse {
        return Err(SkippedRow::NoQuestion);
    }
    let image_path = row.first_text(&["imagename", "filename", "image_path"])?;
    // MATH-Vision's `image` is a path, where other files hold an image.
    let image_path = match (benchmark, row.cells.get("image")) {
        (Benchmark::MathVision | Benchmark::MathVerse, Some(Value::String(path)))
            if matches!(layout, Layout::Official(_)) =>
        {
            Some(path.clone())
        }
        _ => image_path,
    };
    Ok(ParsedItem { item, image_path })
}

/// Returns an item with nothing but a question and golds.
fn plain(benchmark: Benchmark, kind: QuestionKind, question: String, golds: Vec<String>) -> BenchmarkItem {
    BenchmarkItem {
        benchmark,
        official_id: None,
        kind,
        question,
        query: None,
        hint: None,
        options: Options::default(),
        has_options_in_question: false,
        golds: golds.into_iter().filter(|gold| gold != HIDDEN).collect(),
        gold_details: None,
        images: Vec::new(),
        labels: Labels::default(),
    }
}

fn choice_or_open(options: &Options) -> QuestionKind {
    if options.is_empty() { QuestionKind::Open } else { QuestionKind::MultipleChoice }
}

fn official(row: &Row, benchmark: Benchmark) -> Result<BenchmarkItem, RowError> {
    let question = row.text("question")?.unwrap_or_default();
    let id = |columns: &[&str]| row.first_text(columns);
    match benchmark {
        Benchmark::Mmmu => {
            let official_id = id(&["id"])?;
            let options = options(row, "options")?;
            let is_choice = row.text("question_type")?.map_or(!options.is_empty(), |kind| kind == "multiple-choice");
            let kind = if is_choice { QuestionKind::MultipleChoice } else { QuestionKind::Open };
            let parts = official_id.as_deref().and_then(|id| id.split_once('_'));
            let split = parts.map(|(split, _)| split.to_owned());
            let subject = parts.and_then(|(_, rest)| rest.rsplit_once('_')).map(|(subject, _)| subject.to_owned());
            let labels = Labels { split, subject, subcategory: row.text("subfield")?, ..Labels::default() };
            let golds = golds(&row.required("answer")?);
            Ok(BenchmarkItem { official_id, options, labels, ..plain(benchmark, kind, question, golds) })
        }
        Benchmark::MmVet => {
            let labels = Labels { capabilities: capabilities(row, "capability")?, ..Labels::default() };
            let golds = vec![row.required("answer")?];
            let official_id = id(&["question_id", "id"])?;
            Ok(BenchmarkItem { official_id, labels, ..plain(benchmark, QuestionKind::Open, question, golds) })
        }
        Benchmark::VisNumBench => {
            let options = bracketed(&row.required("option")?);
            let gold = row.required("answer")?;
            let letter = bracketed_letter(&gold).filter(|&letter| options.has(letter));
            let letter = letter.ok_or_else(|| row.error("answer", format!("{gold:?} is none of the options")))?;
            let official_id = id(&["id"])?;
            let attribute = official_id.as_deref().and_then(|id| id.rsplit_once('_')).map(|(_, name)| name.to_owned());
            let labels = Labels {
                category: row.first_text(&["scenario", "source"])?,
                subcategory: row.first_text(&["Attributes", "attributes"])?.or(attribute),
                task_class: row.text("task_class")?,
                ..Labels::default()
            };
            let item = plain(benchmark, QuestionKind::MultipleChoice, question, vec![letter.to_string()]);
            Ok(BenchmarkItem { official_id, options, labels, ..item })
        }
        Benchmark::MathVerse => math_verse(row, benchmark),
        Benchmark::MathVision => {
            let options = options(row, "options")?;
            let labels = Labels { level: level(row)?, subject: row.text("subject")?, ..Labels::default() };
            let item = plain(benchmark, choice_or_open(&options), question, vec![row.required("answer")?]);
            Ok(BenchmarkItem { official_id: id(&["id"])?, options, labels, ..item })
        }
        Benchmark::HallusionBench => {
            let gold = match row.required("gt_answer")?.as_str() {
                "1" => "Yes",
                "0" => "No",
                other => return Err(row.error("gt_answer", format!("{other:?} is neither 0 nor 1"))),
            };
            let labels = Labels {
                category: Some(row.required("category")?),
                subcategory: Some(row.required("subcategory")?),
                set: Some(row.required("set_id")?),
                figure: Some(row.required("figure_id")?),
                question_number: Some(row.required("question_id")?),
                visual_input: Some(row.required("visual_input")?),
                ..Labels::default()
            };
            let gold_details = row.text("gt_answer_details")?;
            let item = plain(benchmark, QuestionKind::YesNo, question, vec![gold.to_owned()]);
            Ok(BenchmarkItem { official_id: Some(hallusion_index(&labels)), gold_details, labels, ..item })
        }
        Benchmark::MmStar => {
            let options = listed(&question);
            let labels =
                Labels { category: row.text("category")?, subcategory: row.text("l2_category")?, ..Labels::default() };
            let item = plain(benchmark, QuestionKind::MultipleChoice, question, vec![row.required("answer")?]);
            Ok(BenchmarkItem { official_id: id(&["index"])?, options, has_options_in_question: true, labels, ..item })
        }
        Benchmark::RealWorldQa => {
            let options = lettered_lines(&question);
            let gold = row.required("answer")?;
            let is_choice =
                gold.trim().len() == 1 && gold.trim().chars().all(|letter| options.has(letter.to_ascii_uppercase()));
            let (kind, options) = match is_choice {
                true => (QuestionKind::MultipleChoice, options),
                false => (QuestionKind::Open, Options::default()),
            };
            Ok(BenchmarkItem { options, has_options_in_question: true, ..plain(benchmark, kind, question, vec![gold]) })
        }
        Benchmark::Generic => {
            let labels = Labels { category: row.text("category")?, ..Labels::default() };
            let item = plain(benchmark, QuestionKind::Open, question, vec![row.required("answer")?]);
            Ok(BenchmarkItem { official_id: id(&["id"])?, labels, ..item })
        }
    }
}

/// Reads MathVerse's columns, which both forms share.
fn math_verse(row: &Row, benchmark: Benchmark) -> Result<BenchmarkItem, RowError> {
    let metadata = metadata(row)?;
    let field = |name: &str| metadata.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let for_judges = row.first_text(&["question_for_eval", "question"])?.unwrap_or_default();
    let is_choice = row.text("question_type")?.is_some_and(|kind| kind == "multi-choice");
    let options = if is_choice { lettered_lines(&for_judges) } else { Options::default() };
    let kind = if is_choice { QuestionKind::MultipleChoice } else { QuestionKind::Open };
    let labels = Labels {
        version: row.text("problem_version")?,
        problem: row.text("problem_index")?,
        subject: field("subject"),
        subcategory: field("subfield"),
        split: field("split"),
        ..Labels::default()
    };
    let official_id = row.first_text(&["sample_index", "index"])?;
    // VLMEvalKit's column `question` holds the query.
    let query = row.first_text(&["query_wo", "query_cot", "question"])?;
    let item = plain(benchmark, kind, for_judges, vec![row.required("answer")?]);
    Ok(BenchmarkItem { official_id, query, options, has_options_in_question: true, labels, ..item })
}

/// Reads metadata: an object, or the text of a Python dict.
fn metadata(row: &Row) -> Result<Vec<(String, String)>, RowError> {
    const COLUMN: &str = "metadata";
    match row.cells.get(COLUMN) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(fields)) => {
            Ok(fields.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect())
        }
        Some(Value::String(text)) => match literal::parse(text) {
            Ok(Literal::Dict(fields)) => {
                Ok(fields.into_iter().filter_map(|(key, value)| Some((key, value.text()?))).collect())
            }
            Ok(_) => Err(row.error(COLUMN, "it is no dict")),
            Err(e) => Err(row.error(COLUMN, e.to_string())),
        },
        Some(_) => Err(row.error(COLUMN, "it is no dict")),
    }
}

fn vlmevalkit(row: &Row, benchmark: Benchmark) -> Result<BenchmarkItem, RowError> {
    if benchmark == Benchmark::MathVerse {
        return math_verse(row, benchmark);
    }
    let question = row.text("question")?.unwrap_or_default();
    let index = Some(row.required("index")?);
    let gold = row.required("answer")?;
    let second = row.first_text(&["l2-category", "l2_category"])?;
    let labels =
        Labels { split: row.text("split")?, category: row.text("category")?, subcategory: second, ..Labels::default() };
    let options = match benchmark {
        Benchmark::MathVision => options(row, "choices")?,
        _ => option_columns(row)?,
    };
    let kind = choice_or_open(&options);
    let item =
        BenchmarkItem { official_id: index, hint: row.text("hint")?, ..plain(benchmark, kind, question, golds(&gold)) };
    Ok(match benchmark {
        // The index is VLMEvalKit's number; the subject is its category.
        Benchmark::Mmmu => {
            BenchmarkItem { options, labels: Labels { subject: labels.category.clone(), ..labels }, ..item }
        }
        Benchmark::MathVision => {
            let labels = Labels { subject: labels.category.clone(), level: level(row)?, ..labels };
            BenchmarkItem { options, has_options_in_question: true, golds: vec![gold], labels, ..item }
        }
        Benchmark::MmVet => {
            let labels = Labels { capabilities: capabilities(row, "category")?, ..Labels::default() };
            BenchmarkItem { golds: vec![gold], labels, ..item }
        }
        Benchmark::HallusionBench => {
            let labels = hallusion_labels(row, item.official_id.as_deref().unwrap_or_default())?;
            BenchmarkItem { kind: QuestionKind::YesNo, golds: vec![gold], labels, ..item }
        }
        _ => BenchmarkItem { options, golds: vec![gold], labels, ..item },
    })
}

/// Reads VisPlay's copies: one text with tags of images and options.
fn copy(row: &Row, benchmark: Benchmark) -> Result<BenchmarkItem, RowError> {
    let question = row.required("problem")?.replace(IMAGE_TAG, "").trim().to_owned();
    let gold = row.required("answer")?;
    let options = [lettered_lines(&question), listed(&question)].into_iter().find(|options| !options.is_empty());
    let is_letter = |options: &Options| {
        gold.trim().chars().eq(gold.trim().chars().next()) && gold.trim().chars().all(|c| options.has(c))
    };
    let options = options.filter(is_letter).unwrap_or_default();
    let kind = match benchmark {
        Benchmark::HallusionBench => QuestionKind::YesNo,
        _ => choice_or_open(&options),
    };
    let official_id = row.first_text(&["problem_id", "id"])?;
    let item = plain(benchmark, kind, question, vec![gold]);
    Ok(BenchmarkItem { official_id, options, has_options_in_question: true, ..item })
}

/// Reads options from a list, or from the text of a Python list.
fn options(row: &Row, column: &str) -> Result<Options, RowError> {
    match row.cells.get(column) {
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Options::default()),
        value => item_options(value).map_err(|problem| row.error(column, problem)),
    }
}

/// Reads options from the columns A, B and so on; a missing cell is no option.
fn option_columns(row: &Row) -> Result<Options, RowError> {
    let mut options = Vec::new();
    for letter in 'A'..='Z' {
        if let Some(text) = row.text(&letter.to_string())? {
            options.push((letter, text));
        }
    }
    Ok(Options::new(options))
}

/// Returns the alternatives of a gold that is a text with a Python list, or the gold itself.
fn golds(gold: &str) -> Vec<String> {
    let is_list = gold.trim_start().starts_with('[');
    let texts = if is_list { literal::parse(gold).ok().and_then(|list| list.texts()) } else { None };
    texts.filter(|texts| !texts.is_empty()).unwrap_or_else(|| vec![gold.to_owned()])
}

/// Reads capabilities from a list, or from a text with commas.
fn capabilities(row: &Row, column: &str) -> Result<Vec<String>, RowError> {
    match row.cells.get(column) {
        Some(Value::Array(list)) => Ok(list.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect()),
        _ => Ok(row.required(column)?.split(',').map(|name| name.trim().to_owned()).collect()),
    }
}

fn level(row: &Row) -> Result<Option<u8>, RowError> {
    let Some(level) = row.text("level")? else { return Ok(None) };
    let digits = level.trim().trim_end_matches(".0");
    digits.parse().map(Some).map_err(|_| row.error("level", format!("{level:?} is no level")))
}

fn hallusion_index(labels: &Labels) -> String {
    let parts = [
        &labels.category,
        &labels.subcategory,
        &labels.visual_input,
        &labels.set,
        &labels.figure,
        &labels.question_number,
    ];
    parts.map(|part| part.clone().unwrap_or_default()).join("_")
}

/// Reads the labels of VLMEvalKit's index, such as `VD_illusion_1_0_1_0`.
fn hallusion_labels(row: &Row, index: &str) -> Result<Labels, RowError> {
    let parts: Vec<&str> = index.split('_').collect();
    let [category, subcategory, visual_input, set, figure, question_number] = parts[..] else {
        return Err(row.error("index", format!("{index:?} does not have six parts")));
    };
    let text = |part: &str| Some(part.to_owned());
    Ok(Labels {
        category: text(category),
        subcategory: text(subcategory),
        visual_input: text(visual_input),
        set: text(set),
        figure: text(figure),
        question_number: text(question_number),
        ..Labels::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::files::{read_json, read_tsv};

    fn json_item(json: Value, benchmark: Benchmark) -> BenchmarkItem {
        let rows = read_json(Value::Array(vec![json]).to_string().as_bytes()).unwrap();
        parse_item(&rows[0], Layout::Official(benchmark)).unwrap().item
    }

    #[test]
    fn mmmu_rows_have_python_lists_in_texts() {
        let row = |answer: &str, kind: &str| {
            serde_json::json!({
                "id": "validation_Art_Theory_12", "question": "Which <image 1>?", "options": "['a', \"it's\"]",
                "answer": answer, "question_type": kind, "image_1": null, "subfield": "History",
            })
        };
        let item = json_item(row("B", "multiple-choice"), Benchmark::Mmmu);
        assert_eq!((item.options.text('B'), item.gold_letter()), (Some("it's"), Some('B')));
        assert_eq!(
            (item.labels.split.as_deref(), item.labels.subject.as_deref()),
            (Some("validation"), Some("Art_Theory"))
        );
        let item = json_item(row("['22/7', '3.14']", "open"), Benchmark::Mmmu);
        assert_eq!((item.kind, item.golds.len()), (QuestionKind::Open, 2));
        assert!(json_item(row("?", "open"), Benchmark::Mmmu).golds.is_empty());
    }

    #[test]
    fn the_same_item_in_two_forms_has_the_same_labels() {
        let official = json_item(
            serde_json::json!({"category": "VD", "subcategory": "illusion", "visual_input": "1", "set_id": "0", "figure_id": "2",
                "question_id": 3, "gt_answer": "1", "gt_answer_details": "They are.", "question": "Are they?", "filename": "x.png"}),
            Benchmark::HallusionBench,
        );
        let rows = read_tsv(
            b"index\tquestion\tanswer\tcategory\tl2-category\nVD_illusion_1_0_2_3\tAre they?\tYes\tVD\tVD_illusion\n",
        )
        .unwrap();
        let ours = parse_item(&rows[0], Layout::VlmEvalKit(Benchmark::HallusionBench)).unwrap().item;
        assert_eq!(
            (official.labels.clone(), official.official_id.clone()),
            (ours.labels.clone(), ours.official_id.clone())
        );
        assert_eq!(official.id(), ours.id());
    }

    #[test]
    fn options_come_from_columns_questions_and_ranges() {
        let rows =
            read_tsv(b"index\tquestion\tA\tB\tC\tD\tanswer\tcategory\n1\tWhich?\tx\tNone\ty\t\tC\tmath\n").unwrap();
        let item = parse_item(&rows[0], Layout::VlmEvalKit(Benchmark::MmStar)).unwrap().item;
        assert_eq!(item.options.letters().collect::<String>(), "AC");
        let item = json_item(
            serde_json::json!({"id": "synthetic_1_Angle", "question": "How large?", "option": "(a) (1, 2) (b) (2, 3)", "answer": "(b) (2, 3)", "task_class": "x"}),
            Benchmark::VisNumBench,
        );
        assert_eq!((item.gold_letter(), item.labels.subcategory.as_deref()), (Some('B'), Some("Angle")));
        let item = json_item(
            serde_json::json!({"sample_index": "1", "problem_index": "7", "problem_version": "Vision Only", "question": "", "answer": "C",
                "question_type": "multi-choice", "question_for_eval": "Find x.\nChoices:\nA:1\nB:2\nC:3", "query_wo": "Look.",
                "metadata": {"subject": "Plane Geometry", "subfield": "Angle", "split": "testmini", "source": "x"}}),
            Benchmark::MathVerse,
        );
        assert_eq!(
            (item.options.len(), item.query.as_deref(), item.labels.subject.as_deref()),
            (3, Some("Look."), Some("Plane Geometry"))
        );
        let item = json_item(
            serde_json::json!({"image": null, "image_path": "1.webp", "question": "Which lane?\n\nA. left\nB. right\nAnswer with the letter.", "answer": "B"}),
            Benchmark::RealWorldQa,
        );
        assert_eq!((item.kind, item.options.len()), (QuestionKind::MultipleChoice, 2));
        let row = Row {
            number: 1,
            cells: serde_json::json!({"problem": "<image>Which?\nA. x\nB. y", "answer": "B"})
                .as_object()
                .unwrap()
                .clone(),
        };
        let item = parse_item(&row, Layout::Copy(Benchmark::MmStar)).unwrap().item;
        assert_eq!((item.question.as_str(), item.options.len()), ("Which?\nA. x\nB. y", 2));
    }

    #[test]
    fn math_vision_and_mm_vet_rows() {
        let row = serde_json::json!({"id": "3", "question": "How many?", "options": [], "image": "images/3.jpg", "answer": "14 ", "level": 2, "subject": "counting"});
        let parsed = parse_item(
            &Row { number: 1, cells: row.as_object().unwrap().clone() },
            Layout::Official(Benchmark::MathVision),
        )
        .unwrap();
        assert_eq!((parsed.image_path.as_deref(), parsed.item.labels.level), (Some("images/3.jpg"), Some(2)));
        let item = json_item(
            serde_json::json!({"imagename": "a.png", "question": "q", "answer": "x<AND>y", "capability": ["ocr", "math"]}),
            Benchmark::MmVet,
        );
        assert_eq!(item.labels.capabilities, ["ocr", "math"]);
    }

    #[test]
    fn damage_names_row_and_column() {
        let error = |json: Value, benchmark| {
            let row = Row { number: 5, cells: json.as_object().unwrap().clone() };
            match parse_item(&row, Layout::Official(benchmark)) {
                Err(SkippedRow::Damaged(error)) => error.to_string(),
                other => panic!("{other:?}"),
            }
        };
        let json = serde_json::json!({"id": "x", "question": "q", "options": "[a]", "answer": "A"});
        assert_eq!(
            error(json, Benchmark::Mmmu),
            "row 5, column options: not a Python literal: a name is not read at character 1"
        );
        let json = serde_json::json!({"question": "q", "level": "high", "answer": "A", "options": []});
        assert_eq!(error(json, Benchmark::MathVision), "row 5, column level: \"high\" is no level");
        let json = serde_json::json!({"question": "q", "option": "(a) 1 (b) 2", "answer": "3"});
        assert_eq!(error(json, Benchmark::VisNumBench), "row 5, column answer: \"3\" is none of the options");
        let json = serde_json::json!({"question": ["q"], "answer": "A"});
        assert_eq!(error(json, Benchmark::Generic), "row 5, column question: it is a list or an object, not a text");
        let row = Row { number: 1, cells: serde_json::json!({"answer": "A"}).as_object().unwrap().clone() };
        assert_eq!(parse_item(&row, Layout::Official(Benchmark::Generic)), Err(SkippedRow::NoQuestion));
    }
}

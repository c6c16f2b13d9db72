//! Files of benchmarks: the same items from each form, and damage that is an error, never a panic.

use serde_json::{Map, Value, json};
use visplay::benchmarks::files::{Layout, Row, parse_item, read_json, read_tsv, recognize, tsv_images};
use visplay::benchmarks::{Benchmark, BenchmarkItem, Finish, Protocol, RuleSettings, Scorer, prompt, score_response};
use visplay::random::Seed;

/// An invented row of each benchmark's own form.
fn rows() -> Vec<(Benchmark, Value)> {
    vec![
        (
            Benchmark::Mmmu,
            json!({"id": "validation_Math_3", "question": "Which <image 1>\n\"is\" it?", "options": "['one', \"it's\\ttwo\", 'None']",
                "answer": "B", "question_type": "multiple-choice", "image_1": "x", "subfield": "Algebra"}),
        ),
        (
            Benchmark::MmVet,
            json!({"question_id": "v1_3", "question": "What?", "answer": "a<AND>b", "capability": "rec,ocr", "image_source": "x"}),
        ),
        (
            Benchmark::RealWorldQa,
            json!({"image": "x", "image_path": "0.webp", "question": "Which?\nA. left\nB. right\n", "answer": "B"}),
        ),
        (
            Benchmark::VisNumBench,
            json!({"class": "c", "id": "real_4_Depth", "question": "How far?", "option": "(a) (1, 2) m (b) 5 m", "answer": "(a) (1, 2) m", "task_class": "range estimation"}),
        ),
        (
            Benchmark::MathVerse,
            json!({"sample_index": "5", "problem_index": "1", "problem_version": "Vision Only", "question": "", "question_for_eval": "Find x.\nChoices:\nA:1\nB:2",
                "answer": "A", "question_type": "multi-choice", "metadata": "{'subject': 'Plane Geometry', 'subfield': \"Length\"}", "query_wo": "Answer directly."}),
        ),
        (
            Benchmark::MathVision,
            json!({"id": "9", "question": "How many?", "options": "[]", "answer": "$\\frac{1}{2}$", "level": "3", "subject": "logic", "image": "images/9.jpg"}),
        ),
        (
            Benchmark::HallusionBench,
            json!({"category": "VS", "subcategory": "map", "visual_input": "2", "set_id": "1", "figure_id": "1", "question_id": "0", "gt_answer": "0", "question": "Is it?", "filename": "a.png"}),
        ),
        (
            Benchmark::MmStar,
            json!({"index": "7", "question": "Which?\nOptions: A: x, y, B: z", "answer": "A", "category": "math", "l2_category": "geometry", "meta_info": "{}"}),
        ),
    ]
}

fn cells(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

/// Writes a row as a tab-separated file with quotes, as pandas does.
fn tsv(row: &Value) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let header: Vec<&str> = cells(row).keys().map(String::as_str).collect();
    let fields: Vec<String> = cells(row).values().map(|value| quoted(value.as_str().unwrap())).collect();
    format!("{}\n{}\n", header.join("\t"), fields.join("\t"))
}

fn item(row: &Row, layout: Layout) -> BenchmarkItem {
    parse_item(row, layout).unwrap_or_else(|e| panic!("{e:?}")).item
}

#[test]
fn each_form_of_a_file_has_the_same_items() {
    for (benchmark, row) in rows() {
        let columns: Vec<&str> = cells(&row).keys().map(String::as_str).collect();
        let layout = recognize(&columns, None).unwrap();
        assert_eq!(layout, Layout::Official(benchmark));
        let forms = [
            read_tsv(tsv(&row).as_bytes()).unwrap(),
            read_json(json!([row]).to_string().as_bytes()).unwrap(),
            read_json(format!("{row}\n").as_bytes()).unwrap(),
            read_json(json!({"key": row}).to_string().as_bytes()).unwrap(),
        ];
        let expected = item(&Row { number: 1, cells: cells(&row).clone() }, layout);
        for (form, rows) in forms.iter().enumerate() {
            let mut row = rows[0].clone();
            // The key of an object of rows is the id of those that have no column for it.
            if expected.official_id.is_none() {
                row.cells.remove("id");
            }
            assert_eq!(item(&row, layout), expected, "{benchmark:?}, form {form}");
        }
        for protocol in Protocol::ALL.into_iter().filter(|protocol| protocol.is_defined_for(benchmark)) {
            assert!(!prompt::build(&expected, protocol).unwrap().is_empty());
            let settings = RuleSettings::default();
            assert!(score_response(&expected, "(A)", Finish::Stop, protocol, settings, Seed(1)).is_some());
        }
    }
}

/// Damages bytes in one of several ways, decided by a stream of random numbers.
fn damaged(bytes: &[u8], round: u64) -> Vec<u8> {
    let stream = Seed(round).stream("damage", "", 0);
    let at = |n: u64, length: usize| stream.bits(n) as usize % length.max(1);
    let mut bytes = bytes.to_vec();
    for n in 0..=stream.bits(0) % 4 {
        let place = at(3 * n + 1, bytes.len());
        match stream.bits(3 * n + 2) % 4 {
            0 => bytes.truncate(place),
            1 => bytes.insert(place, b"\"\t\n\\{}[],'\xff0"[at(3 * n + 3, 12)]),
            2 if !bytes.is_empty() => drop(bytes.remove(place)),
            _ if !bytes.is_empty() => bytes[place] ^= 1 << (stream.bits(3 * n + 3) % 8),
            _ => {}
        }
    }
    bytes
}

#[test]
fn damaged_files_are_errors_with_a_row_or_items() {
    let (mut errors, mut items) = (0, 0);
    for (benchmark, row) in rows() {
        for round in 0..300 {
            for (bytes, is_tsv) in [(tsv(&row), true), (json!([row]).to_string(), false)] {
                let bytes = damaged(bytes.as_bytes(), round);
                let rows = if is_tsv { read_tsv(&bytes) } else { read_json(&bytes) };
                let Ok(rows) = rows else {
                    errors += 1;
                    continue;
                };
                let _ = tsv_images(&rows);
                for row in &rows {
                    match parse_item(row, Layout::Official(benchmark)) {
                        Ok(parsed) => {
                            parsed.item.id();
                            prompt::build(&parsed.item, Protocol::Generic).unwrap();
                            items += 1;
                        }
                        Err(_) => errors += 1,
                    }
                    for layout in [Layout::VlmEvalKit(benchmark), Layout::Copy(benchmark)] {
                        let _ = parse_item(row, layout);
                    }
                }
            }
        }
    }
    assert!(errors > 500 && items > 500, "{errors} {items}");
}

#[test]
fn scorers_answer_any_text() {
    let parts = [
        "\\boxed{",
        "}",
        "{",
        "(",
        ")",
        "answer is",
        " ",
        "\n",
        "A",
        "b",
        "1,000",
        "1e999",
        "9^9^9",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "\\frac",
        "\\sqrt[",
        "$",
        "é",
        "\u{200b}",
        "İ",
        "%",
        "-",
        "**",
        ".",
        "9".repeat(50).leak(),
        "yes",
        "no",
        "\\text{",
        "=",
        "\\approx",
        "!",
        "'",
        "[",
        "]",
        ",",
    ];
    for round in 0..3000 {
        let stream = Seed(round).stream("text", "", 0);
        let length = stream.bits(0) % 20;
        let text: String = (1..=length).map(|n| parts[stream.bits(n) as usize % parts.len()]).collect();
        let case = json!({"item": {"answer": text, "options": ["x", text], "words": 3, "category": "VS", "figure_id": "0"},
            "response": text, "extracted": text, "judge_reply": text});
        for scorer in Scorer::ALL {
            scorer.score(cells(&case), Seed(round)).unwrap();
        }
    }
}

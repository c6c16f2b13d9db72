//! Benchmarks in the shapes of several conventions (`tests/oracles/foreign_sources.py`).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::Field;
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use visplay::stages::evaluation::{Benchmark, BenchmarkColumns};
use visplay::tables;

use crate::foreign_sources::{assert_code, expected, folder};
use crate::rounds::{PIPELINE, evolve, place_in};
use crate::support::{Workspace, stderr_of, test_image};

#[test]
fn benchmarks_of_every_shape_have_the_same_items() {
    let structs = Benchmark::read(&folder("benchmarks/structs.parquet"), usize::MAX, &BenchmarkColumns::default());
    let images: Vec<_> = structs.unwrap().items().map(|item| item.image_id).collect();
    for (file, case) in expected("benchmarks") {
        let columns = case["columns"].as_str().map_or_else(BenchmarkColumns::default, |text| text.parse().unwrap());
        let read = Benchmark::read(&folder("benchmarks").join(&file), usize::MAX, &columns);
        let rows = case["rows"].as_array().unwrap();
        if rows.iter().all(Value::is_string) {
            let error = read.map(|read| read.rows).unwrap_err().to_string();
            let no_parts = vec![Value::from("the benchmark has no items: no row can be used; row 0: no_image: ")];
            for part in case["error"].as_array().unwrap_or(&no_parts) {
                assert!(error.contains(part.as_str().unwrap()), "{part}: {error}");
            }
            continue;
        }
        let benchmark = read.unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(benchmark.rows.len(), rows.len(), "{file}");
        for (n, (entry, wanted)) in benchmark.rows.iter().zip(rows).enumerate() {
            let found = match (entry.item(), entry.rejected()) {
                (Some(item), _) => {
                    let is_plain = rows.iter().all(Value::is_array);
                    assert_eq!(item.image_id, images[if is_plain { n } else { 0 }], "{file}, row {n}");
                    serde_json::json!([item.question, item.gold, item.category])
                }
                (None, rejected) => {
                    let rejected = rejected.unwrap();
                    assert_eq!(rejected.row, n as u64, "{file}");
                    Value::from(&*rejected.rejection.reason)
                }
            };
            assert_eq!(&found, wanted, "{file}, row {n}");
        }
    }
}

/// Writes a benchmark in the layout of verl's examples (`examples/data_preprocess/geo3k.py`), with
/// these fields of `extra_info` and with or without a reward.
fn write_verl(path: &Path, extra: &[(&str, [&str; 2])], ground_truth: Option<[&str; 2]>) {
    let texts = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
    let group = |fields: Vec<(&str, ArrayRef)>| {
        let fields = fields.into_iter().map(|(name, array)| (field(name, &array), array));
        Arc::new(StructArray::from(fields.collect::<Vec<_>>())) as ArrayRef
    };
    let list = |items: ArrayRef| {
        let offsets = OffsetBuffer::from_lengths([1, 1]);
        Arc::new(ListArray::new(field("item", &items), offsets, items, None)) as ArrayRef
    };
    let images: Vec<Vec<u8>> = (0..2).map(test_image).collect();
    let bytes = Arc::new(BinaryArray::from_iter_values(images)) as ArrayRef;
    let mut columns = vec![
        ("data_source", texts(["hiyouga/geometry3k"; 2])),
        ("prompt", list(group(vec![("role", texts(["user"; 2])), ("content", texts(["Think. <image>Find it."; 2]))]))),
        ("images", list(group(vec![("bytes", bytes), ("path", texts(["a.png", "b.png"]))]))),
        ("ability", texts(["math"; 2])),
    ];
    if let Some(ground_truth) = ground_truth {
        let fields = vec![("ground_truth", texts(ground_truth)), ("style", texts(["rule"; 2]))];
        columns.push(("reward_model", group(fields)));
    }
    columns.push(("extra_info", group(extra.iter().map(|(name, values)| (*name, texts(*values))).collect())));
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn files_of_verl_are_read() {
    let place = Workspace::in_memory();
    let file = place.path().join("geo3k.parquet");
    let questions = ("question", ["<image>Find x.", "<image>Find y."]);
    let read = || Benchmark::read(&file, usize::MAX, &BenchmarkColumns::default());
    let texts = |benchmark: &Benchmark| -> Vec<(String, String)> {
        benchmark.items().map(|item| (item.question.clone(), item.gold.clone())).collect()
    };
    let expected = [("Find x.", "1"), ("Find y.", "2")].map(|(question, gold)| (question.to_owned(), gold.to_owned()));
    // The checked answer is preferred to the one of the source.
    write_verl(&file, &[questions, ("answer", ["one", "two"])], Some(["1", "2"]));
    assert_eq!(texts(&read().unwrap()), expected);
    write_verl(&file, &[questions, ("answer", ["1", "2"])], None);
    assert_eq!(texts(&read().unwrap()), expected);
    write_verl(&file, &[("split", ["test"; 2])], Some(["1", "2"]));
    let error = read().unwrap_err().to_string();
    assert!(error.contains("no column of the question") && error.contains("`extra_info.question`"), "{error}");
}

#[test]
fn evaluate_reports_rows_of_a_benchmark_that_it_cannot_use() {
    let place = place_in(Workspace::in_memory());
    let evaluate = |file: &str, more: &[&str]| {
        let file = folder("benchmarks").join(file);
        let fixed = ["evaluate", "--model", "base", "--max-tokens", "1", "--sampled", "0", "--json", "--benchmark"];
        place.command(&[&fixed[..], &[file.to_str().unwrap()], more].concat()).output().unwrap()
    };
    let output = evaluate("bad-rows.parquet", &[]);
    assert_code(&output, 0, &["10 of 11 rows cannot be used and are not scored", "the first: row 0: no_image: "]);
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&done["left_out"], &done["scores"][0]["items"]), (&Value::from(10), &Value::from(1)));
    assert_code(&evaluate("verl.parquet", &[]), 0, &[]);
    assert_code(&evaluate("other-names.parquet", &[]), 2, &["no column of the question", "--columns question=NAME"]);
    let columns = ["--columns", "image=picture_b,question=ask,answer=meta.gold"];
    assert_code(&evaluate("other-names.parquet", &columns), 0, &[]);
    assert_code(&evaluate("verl.parquet", &["--columns", "picture=a"]), 2, &["`picture` is not image, question"]);
}

#[test]
fn the_labelled_baseline_reads_the_same_files_and_keeps_the_rejects() {
    let place = place_in(Workspace::in_memory());
    let file = folder("benchmarks/bad-rows.parquet");
    let settings = format!("labelled = \"{}\"\nimages = 0", file.display());
    let pipeline = PIPELINE.replace("images = 8", &settings);
    fs::write(place.path().join("p.toml"), pipeline).unwrap();
    let output = evolve(&place, "store", &["1", "--images", "source"]).output().unwrap();
    let why = "10 of 11 rows of bad-rows cannot be used; the first: row 0: no_image";
    assert!(stderr_of(&output).contains(why), "{}", stderr_of(&output));
    assert_code(&output, 0, &[]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["report"]["left_out"]["unreadable_path"], 2, "{report}");
    let rejects = place.files("views/t/round=1/rejects");
    let rejects: Vec<tables::RejectRow> = rejects.iter().flat_map(|f| tables::read_file(f).unwrap()).collect();
    let rows: Vec<Option<u64>> = rejects.iter().map(|reject| reject.subject_row).collect();
    assert_eq!(rows, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10].map(Some));
}

//! Benchmarks in the shapes of several conventions (`tests/oracles/foreign_sources.py`).

use std::fs;

use serde_json::Value;
use visplay::stages::evaluation::{Benchmark, BenchmarkColumns};
use visplay::tables;

use crate::foreign_sources::{assert_code, expected, folder};
use crate::rounds::{PIPELINE, evolve, place_in};
use crate::support::{Workspace, stderr_of};

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

#[test]
fn evaluate_reports_rows_of_a_benchmark_that_it_cannot_use() {
    let place = place_in(Workspace::in_memory());
    let evaluate = |file: &str, more: &[&str]| {
        let file = folder("benchmarks").join(file);
        let fixed = ["evaluate", "--model", "base", "--max-tokens", "1", "--sampled", "0", "--json", "--benchmark"];
        place.command(&[&fixed[..], &[file.to_str().unwrap()], more].concat()).output().unwrap()
    };
    let output = evaluate("bad-rows.parquet", &[]);
    assert_code(&output, 0, &["10 of 11 items could not be given to the model", "the first: row 0: no_image: "]);
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

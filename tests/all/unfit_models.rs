//! Unusable models, image limits and memory limits: each is an error that names its cause, not a
//! panic or an out-of-memory kill.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Workspace, stderr_of};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Copies the nano model into the place.
fn copy_nano_model(place: &Workspace) -> PathBuf {
    let to = place.path().join("model");
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(project("data/nano")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

/// Edits a JSON file.
fn change(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(file, value.to_string()).unwrap();
}

fn evaluate(place: &Workspace, more: &[&str]) -> Output {
    let benchmark = project("data/benchmarks/scenes.parquet");
    let arguments = ["evaluate", "--model", "model", "--items", "2", "--json", "--benchmark"];
    place.command(&arguments).arg(benchmark).args(more).output().unwrap()
}

fn generate(place: &Workspace, more: &[&str]) -> Output {
    place.command(&["model", "generate", "--model", "model", "--prompt", "How many?"]).args(more).output().unwrap()
}

fn assert_rejected(output: &Output, parts: &[&str]) {
    let stderr = stderr_of(output);
    assert!([Some(1), Some(2)].contains(&output.status.code()), "{:?}: {stderr}", output.status);
    assert!(parts.iter().all(|part| stderr.contains(part)), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Returns the scores without the id of the model.
fn scores(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr_of(output));
    let mut scores = serde_json::from_slice::<Value>(&output.stdout).unwrap()["scores"].take();
    scores.as_array_mut().unwrap().iter_mut().for_each(|score| score["model_id"] = Value::Null);
    scores
}

#[test]
fn a_processor_that_does_not_fit_the_model_is_not_imported() {
    let place = Workspace::new();
    let file = copy_nano_model(&place).join("preprocessor_config.json");
    for (key, value, part) in [("merge_size", 1, "merge_size is 1"), ("patch_size", 16, "patch_size is 16")] {
        std::fs::copy(project("data/nano/preprocessor_config.json"), &file).unwrap();
        change(&file, |processor| processor[key] = json!(value));
        assert_rejected(&evaluate(&place, &[]), &["preprocessor_config.json", part]);
        assert_rejected(&generate(&place, &[]), &["preprocessor_config.json", part]);
    }
    assert!(place.files("results").is_empty(), "nothing was imported");
}

#[test]
fn a_folder_saved_by_transformers_5_is_the_same_model() {
    let place = Workspace::new();
    let folder = copy_nano_model(&place);
    let own = scores(&evaluate(&place, &[]));
    let file = folder.join("preprocessor_config.json");
    let processor: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(file).unwrap();
    let saved = json!({"image_processor": processor, "processor_class": "Qwen2_5_VLProcessor"});
    std::fs::write(folder.join("processor_config.json"), saved.to_string()).unwrap();
    assert_eq!(scores(&evaluate(&place, &[])), own);
    assert!(generate(&place, &["--max-tokens", "2"]).status.success());
    // After an import, a changed section is recognised as another model.
    change(&folder.join("processor_config.json"), |saved| saved["image_processor"]["merge_size"] = json!(1));
    assert_rejected(&evaluate(&place, &[]), &["processor_config.json", "merge_size is 1"]);
}

#[test]
fn a_request_for_too_much_memory_ends_in_a_message() {
    let place = Workspace::new();
    let folder = copy_nano_model(&place);
    assert_rejected(&evaluate(&place, &["--cache-bytes", "4398046511104"]), &["4398046511104 bytes", "--cache-bytes"]);

    let image = place.add(0);
    let image = ["--image", image.to_str().unwrap()];
    let absurd = ["--min-pixels", "1000000000000000", "--max-pixels", "18446744073709551615"];
    assert_rejected(&generate(&place, &[&image[..], &absurd[..]].concat()), &["min_pixels", "67108864"]);
    let processor = folder.join("preprocessor_config.json");
    change(&processor, |processor| {
        processor["min_pixels"] = json!(1e14);
        processor["max_pixels"] = json!(1e15);
    });
    assert_rejected(&generate(&place, &image), &["preprocessor_config.json", "min_pixels", "67108864"]);
    assert_rejected(&evaluate(&place, &[]), &["preprocessor_config.json", "min_pixels", "67108864"]);
    std::fs::copy(project("data/nano/preprocessor_config.json"), processor).unwrap();

    change(&folder.join("tokenizer.json"), |tokenizer| {
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        let last = vocabulary.iter().max_by_key(|(_, id)| id.as_u64()).unwrap().0.clone();
        vocabulary.insert(last, json!(u32::MAX));
    });
    assert_rejected(&generate(&place, &[]), &["tokenizer.json", "4294967295"]);
    assert_rejected(&evaluate(&place, &[]), &["tokenizer.json", "4294967295"]);
}

#[test]
fn sampling_limits_are_part_of_actions_where_results_depend_on_them() {
    let place = Workspace::new();
    copy_nano_model(&place);
    let actions = |more: &[&str]| {
        scores(&evaluate(&place, more));
        place.files("actions").len()
    };
    let f32 = actions(&["--max-sequences", "8"]);
    assert_eq!(actions(&["--max-sequences", "1"]), f32);
    assert_eq!(actions(&["--cache-bytes", "100000000"]), f32);
    let bf16 = actions(&["--dtype", "bf16", "--max-sequences", "8"]);
    assert!(bf16 > f32);
    assert_eq!(actions(&["--dtype", "bf16", "--max-sequences", "8"]), bf16);
    let one_sequence = actions(&["--dtype", "bf16", "--max-sequences", "1"]);
    assert!(one_sequence > bf16);
    assert!(actions(&["--dtype", "bf16", "--max-sequences", "8", "--cache-bytes", "100000000"]) > one_sequence);
}

#[test]
fn a_pipeline_with_too_large_images_is_rejected_before_it_starts() {
    let place = Workspace::new();
    copy_nano_model(&place);
    place.fill(2);
    let pipeline = "evolution = \"t\"\n[model]\nbase = \"model\"\nmin_pixels = 100000000\nmax_pixels = 1000000000\n";
    std::fs::write(place.path().join("p.toml"), pipeline).unwrap();
    let output = place.command(&["evolve-round", "1", "--pipeline", "p.toml", "--images", "source"]).output().unwrap();
    assert_rejected(&output, &["model.min_pixels", "67108864"]);
}

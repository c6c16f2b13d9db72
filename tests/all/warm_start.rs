//! Tests of `visplay warm-start`: an interrupted run resumes to the same bytes, and bad input is
//! reported or skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, BinaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use candle_core::Device;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use visplay::tables::{BenchmarkRow, DemonstrationRow, MetricRow, RejectRow, TableRow, read_file, to_bytes};

use crate::support::{Workspace, interrupt, stderr_of};

/// Returns the number of kills, which `VISPLAY_KILLS` overrides.
fn kills() -> u64 {
    std::env::var("VISPLAY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns a place with a tiny random `model` and 48 demonstrations in `data`, eight for each
/// image.
fn place() -> Workspace {
    let place = Workspace::in_memory();
    let mut config: Value = serde_json::from_slice(&std::fs::read(project("data/nano/config.json")).unwrap()).unwrap();
    let text = json!({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2});
    let vision = json!({"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32, "depth": 1, "fullatt_block_indexes": [0]});
    let enter = |to: &mut Value, from: Value| {
        from.as_object().unwrap().iter().for_each(|(key, value)| to[key] = value.clone());
    };
    enter(&mut config, text);
    enter(&mut config["vision_config"], vision);
    config["rope_scaling"]["mrope_section"] = json!([1, 1, 2]);
    std::fs::write(place.path().join("config.json"), config.to_string()).unwrap();
    let nano = project("data/nano");
    let nano = nano.to_str().unwrap();
    let model =
        ["model", "random", "--config", "config.json", "--seed", "1", "--dtype", "f32", "--files-from", nano, "model"];
    let scenes = ["scenes", "--count", "6", "--seed", "3", "--demonstrations", "--answers", "6", "--out", "data"];
    for command in [&model[..], &scenes] {
        let output = place.command(command).output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
    }
    place
}

const TABLE: &str = "data/demonstrations.parquet";

/// Returns the command with `more` arguments.
fn plain(place: &Workspace, more: &[&str]) -> Command {
    let fixed = ["warm-start", "--model", "model", "--learning-rate", "1e-2", "--warmup", "2", "--rows", "6"];
    let mut command = place.command(&[&fixed[..], more].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Returns the command with 8 steps in 4 segments.
fn warm_start(place: &Workspace, more: &[&str]) -> Command {
    plain(place, &[&["--checkpoint-every", "2"], more].concat())
}

fn train(place: &Workspace, more: &[&str]) -> Output {
    warm_start(place, &[&["--data", TABLE, "--out", "out"], more].concat()).output().unwrap()
}

fn train_to_the_end(place: &Workspace, more: &[&str]) -> TrainingOutput {
    let output = train(place, more);
    assert!(output.status.success(), "{}", stderr_of(&output));
    TrainingOutput::of(place)
}

/// The exported files of a warm start, and the results and objects in the store.
#[derive(Debug, PartialEq)]
struct TrainingOutput {
    files: BTreeMap<PathBuf, Vec<u8>>,
    results: BTreeMap<PathBuf, Value>,
    objects: BTreeSet<PathBuf>,
}

/// Returns the files of a folder by relative path.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let walk = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file());
    walk.map(|e| (e.path().strip_prefix(folder).unwrap().to_owned(), std::fs::read(e.path()).unwrap())).collect()
}

impl TrainingOutput {
    fn of(place: &Workspace) -> Self {
        let relative = |path: &Path, to: &Path| path.strip_prefix(to).unwrap().to_owned();
        let outputs = |path: &Path| -> Value {
            let result: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            assert!(result["outputs"].is_array(), "{result}");
            result["outputs"].clone()
        };
        let results = place.files("results");
        Self {
            files: files(&place.path().join("out")),
            results: results.iter().map(|path| (relative(path, &place.store()), outputs(path))).collect(),
            objects: place.files("objects").iter().map(|path| relative(path, &place.store())).collect(),
        }
    }
}

fn clear(place: &Workspace) {
    std::fs::remove_dir_all(place.store()).unwrap();
    std::fs::remove_dir_all(place.path().join("out")).unwrap();
}

fn rows_of<R: TableRow>(place: &Workspace, table: &str) -> Vec<R> {
    let files = place.files("results");
    let mut rows = Vec::new();
    for file in files {
        let result: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        for output in result["outputs"].as_array().unwrap().iter().filter(|output| output["role"] == table) {
            let object = output["object"]["digest"].as_str().unwrap();
            let found = place
                .files("objects")
                .into_iter()
                .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(object)));
            rows.extend(read_file::<R>(&found.unwrap()).unwrap());
        }
    }
    rows
}

#[test]
fn a_run_killed_half_way_resumes_to_the_same_bytes() {
    let place = place();
    let uninterrupted = train_to_the_end(&place, &["--threads", "1"]);
    assert_eq!(uninterrupted.results.len(), 5, "the model and four segments");
    let losses: Vec<f64> = rows_of::<MetricRow>(&place, "metrics").iter().filter_map(|row| row.loss).collect();
    assert_eq!(losses.len(), 8);
    clear(&place);
    let mut child = warm_start(&place, &["--data", TABLE, "--out", "out"]).spawn().unwrap();
    let begun = Instant::now();
    // The model and two segments: half of the steps are stored.
    let results = || if place.store().join("results").exists() { place.files("results").len() } else { 0 };
    while results() < 3 {
        assert!(
            begun.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(),
            "the command ended before half of its steps"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place.files("results").len() < 5, "the command ended before it was killed");
    assert_eq!(train_to_the_end(&place, &["--threads", "2"]), uninterrupted, "resumed with another number of threads");
    clear(&place);
    assert_eq!(train_to_the_end(&place, &["--threads", "2"]), uninterrupted, "with another number of threads");
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn a_run_killed_at_any_moment_resumes_to_the_same_bytes() {
    let place = place();
    let clock = Instant::now();
    let uninterrupted = train_to_the_end(&place, &[]);
    let full_run = clock.elapsed();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut killed, mut tries) = (0, 0);
    while killed < kills() {
        tries += 1;
        assert!(tries < 40 * kills(), "the command ends before it can be killed");
        clear(&place);
        // Several kills in a row, then a complete run.
        for _ in 0..1 + tries % 4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let mut child = warm_start(&place, &["--data", TABLE, "--out", "out"]).spawn().unwrap();
            std::thread::sleep(full_run.mul_f64((state % 1000) as f64 / 1000.0));
            child.kill().unwrap();
            killed += u64::from(!child.wait().unwrap().success());
            if place.path().join("out").exists() {
                break;
            }
        }
        let output =
            if place.path().join("out").exists() { TrainingOutput::of(&place) } else { train_to_the_end(&place, &[]) };
        assert_eq!(output.files, uninterrupted.files);
        assert_eq!(output.results, uninterrupted.results);
        assert!(output.objects.is_superset(&uninterrupted.objects));
    }
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn the_checkpoint_interval_changes_no_weight() {
    let place = place();
    let uninterrupted = {
        let output = plain(&place, &["--data", TABLE, "--out", "out", "--checkpoint-every", "100"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
        TrainingOutput::of(&place)
    };
    assert_eq!(uninterrupted.results.len(), 2, "the model and one segment");
    clear(&place);
    for every in ["1", "4"] {
        let out = format!("out-{every}");
        let output = plain(&place, &["--data", TABLE, "--out", &out, "--checkpoint-every", every]).output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
        assert_eq!(files(&place.path().join(out)), uninterrupted.files);
    }
}

#[test]
fn ctrl_c_stops_a_run_soon_and_the_same_command_continues() {
    let place = place();
    let many = ["--data", TABLE, "--out", "out", "--epochs", "40"];
    let uninterrupted = {
        let output = plain(&place, &[&many[..], &["--checkpoint-every", "10"]].concat()).output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
        TrainingOutput::of(&place)
    };
    clear(&place);
    // The thread that prepares batches is ahead of the training whenever the signal comes.
    let mut child = plain(&place, &[&many[..], &["--checkpoint-every", "10"]].concat()).spawn().unwrap();
    let begun = Instant::now();
    while !place.store().join("results").exists() || place.files("results").len() < 3 {
        assert!(
            begun.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(),
            "the command ended before half of its steps"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let asked = Instant::now();
    interrupt(&child);
    while child.try_wait().unwrap().is_none() {
        assert!(asked.elapsed() < Duration::from_secs(20), "the command does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(130), "{}", stderr_of(&stopped));
    assert!(stderr_of(&stopped).contains("run the same command again to continue"), "{}", stderr_of(&stopped));
    assert!(!place.path().join("out").exists());
    let output = plain(&place, &[&many[..], &["--checkpoint-every", "10"]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert_eq!(TrainingOutput::of(&place), uninterrupted);
    assert_eq!(place.verify(), (0, vec![]));
}

/// Reads the tensors of a file.
fn tensors(place: &Workspace, folder: &str, file: &str) -> BTreeMap<String, Vec<f32>> {
    let tensors = candle_core::safetensors::load(place.path().join(folder).join(file), &Device::Cpu).unwrap();
    let flat = |t: candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, flat(tensor))).collect()
}

#[test]
fn every_trained_tensor_changes_and_no_frozen_one_does() {
    let place = place();
    let base = tensors(&place, "model", "model.safetensors");
    let in_vision = |name: &str| name.starts_with("visual.");
    let in_maps = |name: &str| !in_vision(name) && name.contains("_proj.weight");
    /// Name of a run, its options, and a predicate of the tensors that it changes.
    type Case<'a> = (&'a str, &'a [&'a str], &'a dyn Fn(&str) -> bool);
    let cases: [Case<'_>; 3] = [
        ("all", &[], &|_| true),
        ("text", &["--freeze-vision"], &|name| !in_vision(name)),
        ("maps", &["--lora-rank", "4"], &in_maps),
    ];
    for (out, more, moves) in cases {
        let output = warm_start(&place, &[&["--data", TABLE, "--out", out], more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
        let trained = tensors(&place, out, "model.safetensors");
        assert_eq!(trained.len(), base.len());
        for (name, values) in &trained {
            assert_eq!(values != &base[name], moves(name), "{out}: {name}");
            assert!(values.iter().all(|value| value.is_finite()), "{out}: {name}");
        }
    }
}

#[test]
fn the_written_model_loads_and_has_a_lower_loss() {
    let place = place();
    let output = train(&place, &["--epochs", "20", "--json"]);
    assert!(output.status.success(), "{}", stderr_of(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["steps"], &report["rows"], &report["rejects"]), (&json!(160), &json!(48), &json!(0)));
    let [first, last] = ["first_loss", "last_loss"].map(|loss| report[loss].as_f64().unwrap());
    assert!(last < 0.7 * first, "{first} -> {last}");
    let inspect = place.json(&["model", "inspect", "out"]);
    assert!(inspect.is_object(), "{inspect}");
    let image = format!("data/{}", demonstrations(&place)[0].image.path);
    let question = ["model", "generate", "--model", "out", "--image", &image, "--prompt", "How many?"];
    let generated = place.json(&[&question[..], &["--temperature", "0", "--max-tokens", "4"]].concat());
    assert!(!generated["samples"][0]["token_ids"].as_array().unwrap().is_empty(), "{generated}");
    // It can be the base of another warm start.
    let again = ["warm-start", "--model", "out", "--data", TABLE, "--out", "further", "--rows", "48"];
    let output = place.command(&again).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
}

#[test]
fn one_image_may_have_several_system_prompts() {
    let place = place();
    let mut rows = demonstrations(&place);
    rows.iter_mut().skip(1).step_by(2).for_each(|row| row.system = format!("Answer shortly. {}", row.system));
    rows[0].system = "Speak.".to_owned();
    let output = train_on(&place, rows, &[]);
    assert!(output.status.success(), "{}", stderr_of(&output));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("(0 skipped)"), "{shown}");
    let metrics: Vec<MetricRow> = rows_of(&place, "metrics");
    assert_eq!(metrics.iter().map(|row| row.samples).sum::<u32>(), 48);
}

#[test]
fn an_adapter_merged_into_the_base_equals_the_trained_model() {
    let place = place();
    let lora = ["--lora-rank", "4", "--lora-alpha", "8", "--adapter-out", "adapter"];
    train_to_the_end(&place, &lora);
    let export = place.command(&["model", "export", "model", "merged", "--adapter", "adapter"]).output().unwrap();
    assert!(export.status.success(), "{}", stderr_of(&export));
    let [out, merged, base] = ["out", "merged", "model"].map(|folder| tensors(&place, folder, "model.safetensors"));
    assert_eq!(out, merged);
    let changed = out.iter().filter(|(name, values)| **values != base[*name]).count();
    let adapter = tensors(&place, "adapter", "adapter_model.safetensors");
    assert_eq!((changed, adapter.len()), (14, 28), "seven linear layers in each of two blocks");
    std::fs::remove_dir_all(place.path().join("out")).unwrap();
    let again = train(&place, &lora);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr_of(&again).contains("adapter already exists"), "{}", stderr_of(&again));
    let without = train(&place, &["--adapter-out", "other"]);
    assert_eq!(without.status.code(), Some(2));
    assert!(stderr_of(&without).contains("--lora-rank"), "{}", stderr_of(&without));
}

#[test]
fn no_adapter_is_left_behind_if_the_model_cannot_be_written() {
    let place = place();
    std::fs::write(place.path().join("file"), b"in the way").unwrap();
    let fixed = ["--data", TABLE, "--lora-rank", "4", "--adapter-out", "adapter"];
    let output = warm_start(&place, &[&fixed[..], &["--out", "file/out"]].concat()).output().unwrap();
    assert!(!output.status.success() && stderr_of(&output).contains("file"), "{}", stderr_of(&output));
    let left = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains("adapter")));
    let output = warm_start(&place, &[&fixed[..], &["--out", "out"]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
}

fn demonstrations(place: &Workspace) -> Vec<DemonstrationRow> {
    read_file(&place.path().join(TABLE)).unwrap()
}

/// Trains on rows that are written to `data/bad.parquet`.
fn train_on(place: &Workspace, rows: Vec<DemonstrationRow>, more: &[&str]) -> Output {
    std::fs::write(place.path().join("data/bad.parquet"), to_bytes(rows).unwrap()).unwrap();
    warm_start(place, &[&["--data", "data/bad.parquet", "--out", "out"], more].concat()).output().unwrap()
}

#[test]
fn unusable_tables_are_reported() {
    let place = place();
    let assert_rejected = |output: Output, parts: &[&str]| {
        assert_eq!(output.status.code(), Some(2), "{}", stderr_of(&output));
        parts.iter().for_each(|part| assert!(stderr_of(&output).contains(part), "{part}: {}", stderr_of(&output)));
        assert!(!place.path().join("out").exists());
    };
    assert_rejected(train_on(&place, Vec::new(), &[]), &["bad.parquet", "the table has no rows to train on"]);
    let mut rows = demonstrations(&place);
    rows[9].image.path = "images/nowhere.png".to_owned();
    assert_rejected(train_on(&place, rows, &[]), &["images/nowhere.png"]);
    let with = |arguments: &[&str]| warm_start(&place, &[arguments, &["--out", "out"]].concat()).output().unwrap();
    assert_rejected(with(&["--data", "nowhere.parquet"]), &["nowhere.parquet"]);
    std::fs::write(place.path().join("data/text.parquet"), "image,prompt\n").unwrap();
    assert_rejected(with(&["--data", "data/text.parquet"]), &["text.parquet"]);
    // A benchmark has images, but neither prompts nor responses.
    let benchmark: Vec<BenchmarkRow> = read_file(&project("data/benchmarks/scenes.parquet")).unwrap();
    let benchmark = to_bytes(benchmark.into_iter().take(3)).unwrap();
    std::fs::write(place.path().join("data/benchmark.parquet"), benchmark).unwrap();
    assert_rejected(with(&["--data", "data/benchmark.parquet"]), &["benchmark.parquet", "prompt"]);
    assert_rejected(train(&place, &["--max-tokens", "20"]), &["none of its 48 rows", "too_long", "more than 20"]);
}

#[test]
fn a_column_of_another_type_and_a_missing_value_are_reported() {
    let place = place();
    let rows = demonstrations(&place);
    let assert_rejected = |batch: RecordBatch, parts: &[&str]| {
        let file = std::fs::File::create(place.path().join("data/bad.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let output = warm_start(&place, &["--data", "data/bad.parquet", "--out", "out"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr_of(&output));
        parts.iter().for_each(|part| assert!(stderr_of(&output).contains(part), "{part}: {}", stderr_of(&output)));
    };
    let whole = DemonstrationRow::to_batch(&rows).unwrap();
    let schema = whole.schema();
    let with = |name: &str, array: ArrayRef| {
        let columns = schema.fields().iter().zip(whole.columns()).map(|(field, column)| {
            let same = || (field.name().clone(), column.clone());
            if field.name() == name { (name.to_owned(), array.clone()) } else { same() }
        });
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
    };
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..48));
    assert_rejected(with("response", numbers), &["bad.parquet", "column `response`", "must be string", "int64"]);
    let texts: ArrayRef = Arc::new(StringArray::from_iter((0..48).map(|n| (n != 7).then_some("how many?"))));
    assert_rejected(with("prompt", texts), &["bad.parquet", "row 7", "column `prompt`", "null"]);
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values((0..48).map(|_| "images/000000.png")));
    assert_rejected(with("image", paths), &["bad.parquet", "column `image`", "must be struct"]);
}

#[test]
fn images_of_other_writers_need_no_path() {
    let place = place();
    let mut rows = demonstrations(&place);
    rows.truncate(6);
    for row in &mut rows {
        row.image.bytes = Some(std::fs::read(place.path().join("data").join(&row.image.path)).unwrap());
    }
    let texts = |of: &dyn Fn(&DemonstrationRow) -> String| -> ArrayRef {
        Arc::new(LargeStringArray::from_iter_values(rows.iter().map(of)))
    };
    let bytes: ArrayRef =
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| row.image.bytes.clone().unwrap())));
    let nowhere: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|_| None::<&str>)));
    let field = |name: &str, kind| Arc::new(Field::new(name, kind, true));
    let image: ArrayRef = Arc::new(StructArray::from(vec![
        (field("path", DataType::Utf8), nowhere),
        (field("bytes", DataType::Binary), bytes),
    ]));
    let columns = [
        ("response", texts(&|row| row.response.clone())),
        ("image", image),
        ("prompt", texts(&|row| row.prompt.clone())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(place.path().join("data/other.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let output = warm_start(&place, &["--data", "data/other.parquet", "--out", "out", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["rows"], &report["rejects"]), (&json!(6), &json!(0)));
}

#[test]
fn options_out_of_range_are_reported() {
    let place = place();
    let cases: [(&[&str], &str); 19] = [
        (&["--learning-rate", "0"], "--learning-rate is 0"),
        (&["--learning-rate", "-0.001"], "--learning-rate is -0.001"),
        (&["--learning-rate", "NaN"], "--learning-rate is NaN"),
        (&["--learning-rate", "inf"], "--learning-rate is inf"),
        (&["--learning-rate", "50"], "--learning-rate is 50"),
        (&["--learning-rate", "fast"], "fast"),
        (&["--final-share", "1.5"], "--final-share is 1.5"),
        (&["--beta1", "1"], "--beta1 is 1"),
        (&["--beta2", "-0.5"], "--beta2 is -0.5"),
        (&["--weight-decay", "-1"], "--weight-decay is -1"),
        (&["--lora-rank", "4", "--lora-alpha", "0"], "--lora-alpha is 0"),
        (&["--lora-rank", "4000000000"], "lora_rank: 4000000000 is not within 1 to 32"),
        (&["--rows", "0"], "--rows"),
        (&["--epochs", "0"], "--epochs"),
        (&["--rows", "6", "--epochs", "4294967295"], "the number of steps does not fit in 32 bits"),
        (&["--checkpoint-every", "0"], "--checkpoint-every"),
        (&["--micro-batch-tokens", "0"], "--micro-batch-tokens"),
        (&["--layers-per-checkpoint", "0"], "--layers-per-checkpoint"),
        (&["--lora-rank", "4", "--adapter-out", "out/adapter"], "neither may contain the other"),
    ];
    for (options, part) in cases {
        let least = ["warm-start", "--model", "model", "--data", TABLE, "--out", "out"];
        let output = place.command(&[&least[..], options].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}: {}", stderr_of(&output));
        assert!(stderr_of(&output).contains(part), "{options:?}: {}", stderr_of(&output));
        assert!(!place.path().join("out").exists());
    }
    std::fs::create_dir(place.path().join("out")).unwrap();
    let there = train(&place, &[]);
    assert_eq!(there.status.code(), Some(2), "{}", stderr_of(&there));
    assert!(stderr_of(&there).contains("out already exists"), "{}", stderr_of(&there));
}

#[test]
fn rows_that_cannot_be_trained_on_are_skipped_and_counted() {
    let place = place();
    let mut rows = demonstrations(&place);
    rows[3].response = "red ".repeat(300);
    // A broken image, shared by eight rows.
    for row in &mut rows[16..24] {
        row.image.path = "images/broken.png".to_owned();
    }
    std::fs::write(place.path().join("data/images/broken.png"), b"\x89PNG\r\n\x1a\n and no more").unwrap();
    let output = train_on(&place, rows, &["--max-tokens", "250"]);
    assert!(output.status.success(), "{}", stderr_of(&output));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("9 skipped"), "{shown}");
    let rejects: Vec<RejectRow> = rows_of(&place, "rejects");
    let found: BTreeSet<(u64, &str)> =
        rejects.iter().map(|row| (row.subject_row.unwrap(), row.reason.as_str())).collect();
    let expected = (16..24).map(|row| (row, "image")).chain([(3, "too_long")]).collect();
    assert_eq!(found, expected);
    assert!(rejects.iter().all(|row| row.reason != "image" || row.detail.contains("broken.png")), "{rejects:?}");
    let metrics: Vec<MetricRow> = rows_of(&place, "metrics");
    assert_eq!(metrics.iter().map(|row| row.samples).sum::<u32>(), 39);
}

#[test]
fn unusable_models_are_reported() {
    let place = place();
    let copy = |to: &str, change: &dyn Fn(&Path)| {
        let to = place.path().join(to);
        std::fs::create_dir(&to).unwrap();
        for (name, bytes) in files(&place.path().join("model")) {
            std::fs::write(to.join(name), bytes).unwrap();
        }
        change(&to);
    };
    std::fs::create_dir(place.path().join("empty")).unwrap();
    copy("cut", &|to| {
        let weights = to.join("model.safetensors");
        let bytes = std::fs::read(&weights).unwrap();
        std::fs::write(weights, &bytes[..bytes.len() / 2]).unwrap();
    });
    copy("without-weights", &|to| std::fs::remove_file(to.join("model.safetensors")).unwrap());
    copy("without-tokenizer", &|to| std::fs::remove_file(to.join("tokenizer.json")).unwrap());
    copy("without-processor", &|to| std::fs::remove_file(to.join("preprocessor_config.json")).unwrap());
    let cases = [
        ("nowhere", "nowhere"),
        (TABLE, "demonstrations.parquet"),
        ("empty", "config.json"),
        ("data", "config.json"),
        ("cut", "model.safetensors"),
        ("without-weights", "safetensors"),
        ("without-tokenizer", "tokenizer.json"),
        ("without-processor", "preprocessor_config.json"),
    ];
    for (model, part) in cases {
        let arguments = ["warm-start", "--model", model, "--data", TABLE, "--out", "out"];
        let output = place.command(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{model}: {}", stderr_of(&output));
        assert!(
            stderr_of(&output).contains(part) && stderr_of(&output).contains(model),
            "{model}: {}",
            stderr_of(&output)
        );
        assert!(!place.path().join("out").exists());
    }
}

#[test]
fn nan_weights_are_not_exported() {
    let place = place();
    let file = place.path().join("model/model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    // The last tensor, whichever it is, now ends in NaNs.
    bytes[end - 256..].copy_from_slice(&f32::NAN.to_le_bytes().repeat(64));
    std::fs::write(&file, bytes).unwrap();
    let output = train(&place, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains("every update was skipped"), "{}", stderr_of(&output));
    assert!(!place.path().join("out").exists());
}

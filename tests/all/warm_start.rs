//! `visplay warm-start`: stopped and killed it goes on to the same bytes, and bad input is said or left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use candle_core::Device;
use serde_json::{Value, json};
use visplay::tables::{BenchmarkRow, DemonstrationRow, MetricRow, RejectRow, TableRow, read_file, to_bytes};

use crate::support::{Place, said};

/// How often to kill; `VISPLAY_KILLS` says otherwise.
fn kills() -> u64 {
    std::env::var("VISPLAY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A place with a tiny random `model` and 48 demonstrations in `data`.
fn place() -> Place {
    let place = Place::new();
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
        ["model", "random", "--config", "config.json", "--seed", "1", "--type", "f32", "--files-from", nano, "model"];
    let scenes = ["scenes", "--count", "6", "--seed", "3", "--demonstrations", "--out", "data"];
    for command in [&model[..], &scenes] {
        let output = place.command(command).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    place
}

const TABLE: &str = "data/demonstrations.parquet";

/// The command: 8 steps in 4 pieces.
fn warm_start(place: &Place, more: &[&str]) -> Command {
    let fixed = ["warm-start", "--model", "model", "--learning-rate", "1e-2", "--warmup", "2", "--rows", "6"];
    let mut command = place.command(&[&fixed[..], &["--checkpoint-every", "2"], more].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn train(place: &Place, more: &[&str]) -> Output {
    warm_start(place, &[&["--data", TABLE, "--out", "out"], more].concat()).output().unwrap()
}

fn train_whole(place: &Place, more: &[&str]) -> Made {
    let output = train(place, more);
    assert!(output.status.success(), "{}", said(&output));
    Made::of(place)
}

/// What a warm start leaves: the exported files, and what each action came to.
#[derive(Debug, PartialEq)]
struct Made {
    files: BTreeMap<PathBuf, Vec<u8>>,
    results: BTreeMap<PathBuf, Value>,
    objects: BTreeSet<PathBuf>,
}

impl Made {
    fn of(place: &Place) -> Self {
        let out = place.path().join("out");
        let walk = walkdir::WalkDir::new(&out).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file());
        let relative = |path: &Path, to: &Path| path.strip_prefix(to).unwrap().to_owned();
        let outputs = |path: &Path| -> Value {
            let result: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            assert!(result["outputs"].is_array(), "{result}");
            result["outputs"].clone()
        };
        let results = place.files("results");
        Self {
            files: walk.map(|e| (relative(e.path(), &out), std::fs::read(e.path()).unwrap())).collect(),
            results: results.iter().map(|path| (relative(path, &place.store()), outputs(path))).collect(),
            objects: place.files("objects").iter().map(|path| relative(path, &place.store())).collect(),
        }
    }
}

fn clear(place: &Place) {
    std::fs::remove_dir_all(place.store()).unwrap();
    std::fs::remove_dir_all(place.path().join("out")).unwrap();
}

fn rows_of<R: TableRow>(place: &Place, table: &str) -> Vec<R> {
    let files = place.files("results");
    let mut rows = Vec::new();
    for file in files {
        let result: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        for output in result["outputs"].as_array().unwrap().iter().filter(|output| output["role"] == table) {
            let object = output["object"].as_str().unwrap();
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
fn stopped_half_way_it_goes_on_to_the_same_bytes() {
    let place = place();
    let straight = train_whole(&place, &["--threads", "1"]);
    assert_eq!(straight.results.len(), 5, "the model and four pieces");
    let losses: Vec<f64> = rows_of::<MetricRow>(&place, "metrics").iter().filter_map(|row| row.loss).collect();
    assert_eq!(losses.len(), 8);
    clear(&place);
    let mut child = warm_start(&place, &["--data", TABLE, "--out", "out"]).spawn().unwrap();
    let begun = Instant::now();
    // The model and two pieces: half of the steps are kept.
    while place.store().join("results").exists().then(|| place.files("results").len()).unwrap_or(0) < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place.files("results").len() < 5, "it was quicker than the kill");
    assert_eq!(train_whole(&place, &["--threads", "2"]), straight, "resumed, and by another number of threads");
    clear(&place);
    assert_eq!(train_whole(&place, &["--threads", "2"]), straight, "by another number of threads");
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_bytes() {
    let place = place();
    let whole = Instant::now();
    let straight = train_whole(&place, &[]);
    let whole = whole.elapsed();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut killed, mut tries) = (0, 0);
    while killed < kills() {
        tries += 1;
        assert!(tries < 40 * kills(), "the command ends before it can be killed");
        clear(&place);
        // Several kills in a row, then a run to the end.
        for _ in 0..1 + tries % 4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let mut child = warm_start(&place, &["--data", TABLE, "--out", "out"]).spawn().unwrap();
            std::thread::sleep(whole.mul_f64((state % 1000) as f64 / 1000.0));
            child.kill().unwrap();
            killed += u64::from(!child.wait().unwrap().success());
            if place.path().join("out").exists() {
                break;
            }
        }
        let made = if place.path().join("out").exists() { Made::of(&place) } else { train_whole(&place, &[]) };
        assert_eq!(made.files, straight.files);
        assert_eq!(made.results, straight.results);
        assert!(made.objects.is_superset(&straight.objects));
    }
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn an_adapter_and_the_merged_model_are_one() {
    let place = place();
    let lora = ["--lora-rank", "4", "--lora-alpha", "8", "--adapter-out", "adapter"];
    train_whole(&place, &lora);
    let export = place.command(&["model", "export", "model", "merged", "--adapter", "adapter"]).output().unwrap();
    assert!(export.status.success(), "{}", said(&export));
    let tensors = |folder: &str, file: &str| {
        candle_core::safetensors::load(place.path().join(folder).join(file), &Device::Cpu).unwrap()
    };
    let flat = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (out, merged, base) = (
        tensors("out", "model.safetensors"),
        tensors("merged", "model.safetensors"),
        tensors("model", "model.safetensors"),
    );
    let mut changed = 0;
    for (name, tensor) in &out {
        assert_eq!(flat(tensor), flat(&merged[name]), "{name}");
        changed += usize::from(flat(tensor) != flat(&base[name]));
    }
    let adapter = tensors("adapter", "adapter_model.safetensors");
    assert_eq!((changed, adapter.len()), (14, 28), "seven maps of two layers");
    std::fs::remove_dir_all(place.path().join("out")).unwrap();
    let again = train(&place, &lora);
    assert_eq!(again.status.code(), Some(2));
    assert!(said(&again).contains("adapter exists already"), "{}", said(&again));
    let without = train(&place, &["--adapter-out", "other"]);
    assert_eq!(without.status.code(), Some(2));
    assert!(said(&without).contains("--lora-rank"), "{}", said(&without));
}

fn demonstrations(place: &Place) -> Vec<DemonstrationRow> {
    read_file(&place.path().join(TABLE)).unwrap()
}

/// Trains on rows written as `data/bad.parquet`.
fn train_on(place: &Place, rows: Vec<DemonstrationRow>, more: &[&str]) -> Output {
    std::fs::write(place.path().join("data/bad.parquet"), to_bytes(rows).unwrap()).unwrap();
    warm_start(place, &[&["--data", "data/bad.parquet", "--out", "out"], more].concat()).output().unwrap()
}

#[test]
fn tables_that_cannot_be_used_are_named() {
    let place = place();
    let refused = |output: Output, parts: &[&str]| {
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        parts.iter().for_each(|part| assert!(said(&output).contains(part), "{part}: {}", said(&output)));
        assert!(!place.path().join("out").exists());
    };
    refused(train_on(&place, Vec::new(), &[]), &["bad.parquet", "no rows to learn from"]);
    let mut rows = demonstrations(&place);
    rows[9].image.path = "images/nowhere.png".to_owned();
    refused(train_on(&place, rows, &[]), &["images/nowhere.png"]);
    let with = |arguments: &[&str]| warm_start(&place, &[arguments, &["--out", "out"]].concat()).output().unwrap();
    refused(with(&["--data", "nowhere.parquet"]), &["nowhere.parquet"]);
    std::fs::write(place.path().join("data/text.parquet"), "image,prompt\n").unwrap();
    refused(with(&["--data", "data/text.parquet"]), &["text.parquet"]);
    // A benchmark has images, but neither prompts nor responses.
    let benchmark: Vec<BenchmarkRow> = read_file(&project("data/benchmarks/scenes.parquet")).unwrap();
    let benchmark = to_bytes(benchmark.into_iter().take(3)).unwrap();
    std::fs::write(place.path().join("data/benchmark.parquet"), benchmark).unwrap();
    refused(with(&["--data", "data/benchmark.parquet"]), &["benchmark.parquet", "prompt"]);
    refused(train(&place, &["--max-tokens", "20"]), &["none of its 48 rows", "too_long", "more than 20"]);
}

#[test]
fn rows_that_cannot_be_learnt_from_are_left_out_and_said() {
    let place = place();
    let mut rows = demonstrations(&place);
    rows[3].response = "red ".repeat(300);
    // An image that is none, for its eight rows.
    for row in &mut rows[16..24] {
        row.image.path = "images/broken.png".to_owned();
    }
    std::fs::write(place.path().join("data/images/broken.png"), b"\x89PNG\r\n\x1a\n and no more").unwrap();
    let output = train_on(&place, rows, &["--max-tokens", "250"]);
    assert!(output.status.success(), "{}", said(&output));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("9 left out"), "{shown}");
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
fn models_that_cannot_be_used_are_named() {
    let place = place();
    std::fs::create_dir(place.path().join("empty")).unwrap();
    for (model, part) in [("nowhere", "nowhere"), ("empty", "config.json"), ("data", "config.json")] {
        let arguments = ["warm-start", "--model", model, "--data", TABLE, "--out", "out"];
        let output = place.command(&arguments).output().unwrap();
        assert!(!output.status.success(), "{model}");
        assert!(said(&output).contains(part) && said(&output).contains(model), "{model}: {}", said(&output));
        assert!(!place.path().join("out").exists());
    }
}

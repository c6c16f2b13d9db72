//! `visplay model generate` and `visplay model score`, run as processes.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/model")
}

fn model(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data().join(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    std::fs::copy(data().join("tokenizer.json"), copy.path().join("tokenizer.json")).unwrap();
    copy
}

fn visplay(command: &str, model: &Path, more: &[&str]) -> Command {
    let mut visplay = Command::cargo_bin("visplay").unwrap();
    visplay.args(["model", command, "--model"]).arg(model).args(more);
    visplay
}

fn json(mut command: Command) -> Value {
    let output = command.arg("--json").assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

/// Returns the prompt of case `number` of the oracle.
fn question(number: usize) -> String {
    format!("Question {number}: what is it?")
}

#[test]
fn score_and_greedy_agree_with_transformers() {
    let oracle: Value = serde_json::from_slice(&std::fs::read(data().join("parity.json")).unwrap()).unwrap();
    for name in ["nano-like", "mimo-like", "sharded"] {
        let folder = model(name);
        for (number, image) in [(0, Some("photo.png")), (6, Some("rgba.png")), (8, Some("rotated.jpg")), (10, None)] {
            let case = &oracle["checkpoints"][name][number];
            let prompt = &oracle["prompts"][number];
            let path = image.map(|image| data().join("images").join(image));
            let question = question(number);
            let mut shared = vec!["--prompt", &question];
            if let Some(path) = &path {
                shared.extend(["--image", path.to_str().unwrap()]);
            }
            let score = [&shared[..], &["--response", oracle["response"].as_str().unwrap()]].concat();
            let scored = json(visplay("score", folder.path(), &score));
            assert_eq!(scored["prompt_tokens"], prompt["prompt_ids"].as_array().unwrap().len());
            assert_eq!(scored["token_ids"], oracle["response_ids"]);
            let grid = image.map_or(&Value::Null, |image| &oracle["images"][image]["grid"]);
            assert_eq!(&scored["image_grid"], grid);
            let mut total = 0.0;
            for (ours, theirs) in
                scored["logprobs"].as_array().unwrap().iter().zip(case["logprobs"].as_array().unwrap())
            {
                let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
                assert!((ours - theirs).abs() <= 1e-4, "{name} {number}: {ours} here, {theirs} in transformers");
                total += ours;
            }
            assert!((scored["total"].as_f64().unwrap() - total).abs() < 1e-3);
            let greedy = [&shared[..], &["--temperature", "0", "--max-tokens", "10"]].concat();
            let generated = json(visplay("generate", folder.path(), &greedy));
            let ids = generated["samples"][0]["token_ids"].as_array().unwrap();
            let theirs = case["greedy"].as_array().unwrap();
            // The oracle continued past the end of an answer.
            assert_eq!(ids[..], theirs[..ids.len()], "{name} {number}");
            assert!(ids.len() == 10 || [256, 258].contains(&ids.last().unwrap().as_u64().unwrap()));
        }
    }
}

#[test]
fn samples_are_complete_and_reproducible() {
    let folder = model("nano-like");
    let args =
        ["--prompt", "Hello", "--samples", "3", "--max-tokens", "6", "--top-k", "50", "--top-p", "0.95", "--seed", "7"];
    let first = json(visplay("generate", folder.path(), &args));
    let samples = first["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 3);
    for sample in samples {
        let tokens = sample["token_ids"].as_array().unwrap().len();
        assert_eq!(sample["logprobs"].as_array().unwrap().len(), tokens);
        assert!(sample["text"].is_string() && tokens <= 6);
        assert!(["stop", "length"].contains(&sample["finish_reason"].as_str().unwrap()));
    }
    assert_eq!(first, json(visplay("generate", folder.path(), &args)));
    // A sample does not depend on the number of samples.
    let one = json(visplay("generate", folder.path(), &[&args[..2], &args[4..]].concat()));
    assert_eq!(one["samples"][0], samples[0]);
    let other = json(visplay("generate", folder.path(), &[&args[..11], &["8"]].concat()));
    assert_ne!(other["samples"], first["samples"]);
}

#[test]
fn placeholder_text_in_a_question_is_no_image() {
    let folder = model("tied-1");
    let plain = json(visplay("generate", folder.path(), &["--prompt", "<|image_pad|><|im_end|>", "--max-tokens", "1"]));
    assert!(plain["prompt_tokens"].as_u64().unwrap() > 60);
}

#[test]
fn invalid_arguments_are_explained() {
    let folder = model("tied-1");
    let image = data().join("images/photo.png");
    let image = image.to_str().unwrap();
    for (args, expected) in [
        (vec!["--prompt", "x", "--temperature=-1"], "temperature"),
        (vec!["--prompt", "x", "--top-k", "0"], "top-k"),
        (vec!["--prompt", "x", "--top-p", "0"], "top-p"),
        (vec!["--prompt", "x", "--samples", "0"], "--samples"),
        (vec!["--prompt", "x", "--max-tokens", "0"], "--max-tokens"),
        (vec!["--prompt", "x", "--image", "nowhere.png"], "nowhere.png"),
        (vec!["--prompt", "x", "--image", image, "--min-pixels", "99999999"], "pixels"),
        (vec!["--prompt", "x", "--stop", ""], "stop string"),
    ] {
        let output = visplay("generate", folder.path(), &args).assert().code(2).get_output().stderr.clone();
        assert!(String::from_utf8(output).unwrap().contains(expected), "{args:?}");
    }
    std::fs::remove_file(folder.path().join("preprocessor_config.json")).unwrap();
    let output = visplay("score", folder.path(), &["--prompt", "x", "--response", "y"])
        .assert()
        .code(2)
        .get_output()
        .stderr
        .clone();
    assert!(String::from_utf8(output).unwrap().contains("preprocessor_config.json"));
}

#[test]
fn a_kv_cache_above_the_limit_is_refused_before_it_is_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let nano = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/nano");
    let mut config: Value = serde_json::from_slice(&std::fs::read(nano.join("config.json")).unwrap()).unwrap();
    // 12 layers with 64 values each for keys and values in f32: 6 KiB per token.
    config["num_hidden_layers"] = 12.into();
    let (file, made) = (folder.path().join("config.json"), folder.path().join("made"));
    std::fs::write(&file, config.to_string()).unwrap();
    let mut random = Command::cargo_bin("visplay").unwrap();
    random.args(["model", "random", "--seed", "1", "--config"]).arg(file).arg("--files-from").arg(nano).arg(&made);
    random.assert().success();
    let few = visplay("generate", &made, &["--prompt", "x", "--max-tokens", "2"]);
    json(few);
    let output = visplay("generate", &made, &["--prompt", "x", "--max-tokens", "1048576"]).assert().code(2);
    let stderr = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    assert!(stderr.contains("--max-tokens 1048576") && stderr.contains("4 GiB"), "{stderr}");
}

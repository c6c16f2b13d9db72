//! Trained models taken out of the store: every command that takes a checkpoint takes a ref, and an
//! export is a complete Hugging Face folder without the folder of the base model.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::rounds::{PIPELINE, evolve, place_in, report};
use crate::support::{VISPLAY, Workspace, stderr_of};

/// The files of the base model besides configuration and weights, with bytes that no program would
/// write in this form.
const FILES: [(&str, &str); 8] = [
    ("tokenizer_config.json", "{\"tokenizer_class\":   \"Qwen2Tokenizer\", \"chat_template\": \"{{ 'é' }}\"}\r\n"),
    ("special_tokens_map.json", "{ \"eos_token\": \"<|im_end|>\" }"),
    ("added_tokens.json", "{}\n\n"),
    ("vocab.json", "{\"a\": 0}"),
    ("merges.txt", "#version: 0.2\r\nĠ t\n\"\\ x\n"),
    ("video_preprocessor_config.json", "{}"),
    ("chat_template.json", "{\"chat_template\": \"x\"}"),
    ("chat_template.jinja", "{# a template #}\n{{ messages }}"),
];

/// The smallest pipeline that trains both roles.
pub fn tiny_pipeline() -> String {
    let smaller = [
        ("steps = 3", "steps = 1"),
        ("prompts_per_step = 4", "prompts_per_step = 2"),
        ("prompts_per_update = 4", "prompts_per_update = 2"),
        ("group_size = 4", "group_size = 2"),
        ("reward_samples = 4", "reward_samples = 2"),
        ("label_samples = 6", "label_samples = 4"),
        ("low = 0.1", "low = 0.0\nhigh = 1.0"),
        ("images = 8", "images = 2"),
        ("questions_per_image = 8", "questions_per_image = 24"),
        ("keep_best = true", "keep_best = false"),
    ];
    smaller.iter().fold(PIPELINE.to_owned(), |file, (from, to)| {
        assert!(file.contains(from), "{from}");
        file.replace(from, to)
    })
}

/// Returns a folder with a base model that has all kinds of files, and a tiny pipeline.
pub fn tiny_place() -> Workspace {
    let place = place_in(Workspace::in_memory());
    std::fs::write(place.path().join("p.toml"), tiny_pipeline()).unwrap();
    for (name, text) in FILES {
        std::fs::write(place.path().join("base").join(name), text).unwrap();
    }
    // A byte that is no UTF-8.
    let merges = [FILES[4].1.as_bytes(), b"\xff"].concat();
    std::fs::write(place.path().join("base/merges.txt"), merges).unwrap();
    place
}

fn place_with_round() -> Workspace {
    let place = tiny_place();
    report(&evolve(&place, "store", &["1", "--images", "source"]).output().unwrap());
    place
}

/// Runs a command without a store in its environment.
fn run(place: &Workspace, arguments: &[&str]) -> Output {
    Command::new(VISPLAY).args(arguments).env_remove("VISPLAY_STORE").current_dir(place.path()).output().unwrap()
}

fn json_of(place: &Workspace, arguments: &[&str]) -> Value {
    let output = run(place, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", stderr_of(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn assert_fails(place: &Workspace, arguments: &[&str], code: i32, parts: &[&str]) {
    let output = run(place, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr_of(&output));
    for part in parts {
        assert!(stderr_of(&output).contains(part), "{arguments:?}: {part} is not in {}", stderr_of(&output));
    }
    assert!(!place.path().join("out").exists(), "{arguments:?}");
}

fn bytes(place: &Workspace, path: &str) -> Vec<u8> {
    std::fs::read(place.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Deletes what an earlier version of this program did not store.
pub fn forget_companions(place: &Workspace) {
    let _ = std::fs::remove_dir_all(place.store().join("refs/t/base"));
    for action in place.files("actions") {
        if std::fs::read_to_string(&action).unwrap().contains("\"model.checkpoint\"") {
            let result = action.display().to_string().replace("/actions/", "/results/");
            std::fs::remove_file(result).unwrap();
        }
    }
}

#[test]
fn a_trained_model_is_exported_as_a_complete_checkpoint() {
    let place = place_with_round();
    std::fs::rename(place.path().join("base"), place.path().join("elsewhere")).unwrap();
    let reasoner = "t/round-0001/reasoner";
    json_of(&place, &["model", "export", reasoner, "out", "--store", "store"]);
    for (name, _) in FILES {
        assert_eq!(bytes(&place, &format!("out/{name}")), bytes(&place, &format!("elsewhere/{name}")), "{name}");
    }
    for name in ["tokenizer.json", "preprocessor_config.json", "generation_config.json", "config.json"] {
        assert_eq!(bytes(&place, &format!("out/{name}")), bytes(&place, &format!("elsewhere/{name}")), "{name}");
    }
    let weights = bytes(&place, "out/model.safetensors");
    assert!(String::from_utf8_lossy(&weights[..4096]).contains("\"format\":\"pt\""));
    assert_ne!(weights, bytes(&place, "elsewhere/model.safetensors"));

    // The ref and the exported folder are the same model for every command.
    let by = |model: &str, more: &[&str]| {
        let start: &[&str] = if model == reasoner { &["--store", "store"] } else { &[] };
        json_of(&place, &[more, start].concat())
    };
    let mut inspected = [reasoner, "out"].map(|model| by(model, &["model", "inspect", model]));
    assert_eq!(inspected[0]["model"], json!(reasoner));
    for inspection in &mut inspected {
        let inspection = inspection.as_object_mut().unwrap();
        inspection.remove("model");
        inspection.remove("files");
    }
    assert_eq!(inspected[0], inspected[1]);
    let image = std::fs::read_dir(place.source().join("folder-0")).unwrap().next().unwrap().unwrap().path();
    let image = ["--image", image.to_str().unwrap(), "--prompt", "How many?"];
    let generate = |model| {
        let options = ["--samples", "2", "--max-tokens", "3", "--seed", "5"];
        by(model, &[&["model", "generate", "--model", model][..], &image, &options].concat())
    };
    assert_eq!(generate(reasoner), generate("out"));
    let score = |model| by(model, &[&["model", "score", "--model", model, "--response", "2"][..], &image].concat());
    assert_eq!(score(reasoner), score("out"));
    assert_ne!(score("out"), score("elsewhere"));

    // Shards, another dtype, the other role, an older way to write the round, a version, the base.
    json_of(&place, &["model", "export", reasoner, "shards", "--shard-size", "1000000", "--store", "store"]);
    let index: Value = serde_json::from_slice(&bytes(&place, "shards/model.safetensors.index.json")).unwrap();
    assert!(index["weight_map"].as_object().unwrap().len() > 20);
    json_of(&place, &["model", "export", "t/round-1/questioner@1", "half", "--dtype", "bf16", "--store", "store"]);
    assert_eq!(json_of(&place, &["model", "inspect", "half"])["stored"].as_object().unwrap().len(), 1);
    json_of(&place, &["model", "export", "t/base", "base-again", "--store", "store"]);
    assert_eq!(bytes(&place, "base-again/model.safetensors"), bytes(&place, "elsewhere/model.safetensors"));
    // The exported model is a base model like any other.
    std::fs::rename(place.path().join("out"), place.path().join("base")).unwrap();
    report(&evolve(&place, "store-2", &["1", "--images", "source"]).output().unwrap());
}

#[test]
fn a_processor_section_and_a_missing_template_are_exported_as_they_are() {
    let place = tiny_place();
    let base = place.path().join("base");
    let settings: Value = serde_json::from_slice(&bytes(&place, "base/preprocessor_config.json")).unwrap();
    let section = json!({ "processor_class": "Qwen2_5_VLProcessor", "image_processor": settings }).to_string();
    std::fs::write(base.join("processor_config.json"), &section).unwrap();
    for name in ["preprocessor_config.json", "tokenizer_config.json", "chat_template.json", "chat_template.jinja"] {
        std::fs::remove_file(base.join(name)).unwrap();
    }
    report(&evolve(&place, "store", &["1", "--images", "source"]).output().unwrap());
    let output = run(&place, &["model", "export", "t/round-0001/reasoner", "out", "--store", "store"]);
    assert!(output.status.success() && stderr_of(&output).contains("no chat template"), "{}", stderr_of(&output));
    assert_eq!(bytes(&place, "out/processor_config.json"), section.as_bytes());
    assert!(!place.path().join("out/preprocessor_config.json").exists());
    json_of(&place, &["model", "score", "--model", "out", "--prompt", "x", "--response", "y"]);
}

#[test]
fn files_that_an_old_store_lacks_are_named_and_taken_from_the_base_folder() {
    let place = place_with_round();
    forget_companions(&place);
    let export = ["model", "export", "t/round-0001/reasoner", "out", "--store", "store"];
    assert_fails(&place, &export, 2, &["tokenizer_config.json", "chat template", "--base"]);
    let made = run(&place, &["scenes", "--count", "2", "--seed", "1", "--out", "drawn", "--demonstrations"]);
    assert!(made.status.success(), "{}", stderr_of(&made));
    let warm_start =
        ["warm-start", "--model", "t/round-0001/reasoner", "--data", "drawn/demonstrations.parquet", "--out"];
    let output = [&warm_start[..], &["out", "--store", "store"]].concat();
    assert_fails(&place, &output, 2, &["tokenizer_config.json", "then pass DIR as --model"]);
    let with_base = |base| [&export[..], &["--base", base]].concat();
    assert_fails(&place, &with_base("nowhere"), 2, &["nowhere"]);
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/nano");
    assert_fails(&place, &with_base(other.to_str().unwrap()), 2, &["tokenizer.json differs"]);
    // Sampling, scores and sizes need none of them.
    let model = ["--model", "t/round-0001/reasoner", "--store", "store", "--prompt", "x"];
    json_of(&place, &[&["model", "score", "--response", "y"], &model[..]].concat());
    json_of(&place, &["model", "inspect", "t/round-0001/reasoner", "--store", "store"]);
    json_of(&place, &with_base("base"));
    for (name, _) in FILES {
        assert_eq!(bytes(&place, &format!("out/{name}")), bytes(&place, &format!("base/{name}")), "{name}");
    }
    // The next run of the evolution stores them.
    std::fs::remove_dir_all(place.path().join("out")).unwrap();
    report(&evolve(&place, "store", &["1"]).output().unwrap());
    json_of(&place, &export);
}

#[test]
fn a_round_is_exported_with_the_files_that_it_ran_with() {
    let place = place_with_round();
    let template = place.path().join("base/chat_template.jinja");
    let old = std::fs::read(&template).unwrap();
    std::fs::write(&template, "{# another #}").unwrap();
    // Other programs write byte order marks, and files that are no JSON.
    let marked = "\u{feff}{\"tokenizer_class\": \"Qwen2Tokenizer\", \"chat_template\": \"{{ 1 }}\"}";
    std::fs::write(place.path().join("base/tokenizer_config.json"), marked).unwrap();
    std::fs::write(place.path().join("base/added_tokens.json"), "{not JSON").unwrap();
    report(&evolve(&place, "store", &["2"]).output().unwrap());
    let export = |model: &str, out: &str| {
        json_of(&place, &["model", "export", model, out, "--store", "store"]);
        bytes(&place, &format!("{out}/chat_template.jinja"))
    };
    assert_eq!(export("t/round-1/reasoner", "first"), old);
    assert_eq!(export("t/round-2/reasoner", "second"), b"{# another #}");
    assert_eq!(export("t/base", "newest"), b"{# another #}");
    // `show` takes the short name too, and shows every file.
    let shown = place.json(&["show", "t/round-1/reasoner"]);
    assert_eq!(shown, place.json(&["show", "t/round-0001/reasoner"]));
    let base = place.json(&["show", "t/base"]);
    for output in base["result"]["outputs"].as_array().unwrap() {
        let digest = output["object"]["digest"].as_str().unwrap();
        let shown = place.json(&["show", digest]);
        match output["role"].as_str().unwrap() {
            "checkpoint/added_tokens.json" => assert_eq!(shown, json!("{not JSON")),
            "checkpoint/tokenizer_config.json" => assert_eq!(shown["chat_template"], "{{ 1 }}"),
            _ => {}
        }
        let text = place.command(&["show", digest]).output().unwrap();
        assert!(text.status.success(), "{}", stderr_of(&text));
    }
    // A lost action of one candidate leaves the others.
    let key = base["key"].as_str().unwrap();
    std::fs::remove_file(place.store().join(format!("actions/{}/{key}.json", &key[..2]))).unwrap();
    assert_eq!(export("t/round-1/reasoner", "again"), old);
}

#[test]
fn a_chat_template_behind_a_byte_order_mark_is_found() {
    let place = tiny_place();
    let base = place.path().join("base");
    for name in ["chat_template.json", "chat_template.jinja"] {
        std::fs::remove_file(base.join(name)).unwrap();
    }
    std::fs::write(base.join("tokenizer_config.json"), "\u{feff}{\"chat_template\": \"x\"}").unwrap();
    let output = run(&place, &["model", "export", "base", "out"]);
    assert!(output.status.success() && !stderr_of(&output).contains("no chat template"), "{}", stderr_of(&output));
}

#[test]
fn what_names_no_model_is_explained() {
    let place = place_with_round();
    let path = |name: &str| place.path().join(name);
    std::fs::write(path("file"), "x").unwrap();
    std::fs::create_dir(path("not-a-store")).unwrap();
    let neither = &["neither a folder nor a ref"][..];
    for (model, parts) in [
        ("nowhere", neither),
        ("t/round-0002/reasoner", neither),
        ("u/round-0001/reasoner", neither),
        ("t/round-0001/reasoner@7", neither),
        ("t/round-0001/reasoner@x", neither),
        ("t/round-0001/", neither),
        ("../t/base", neither),
        ("/t/round-0001/reasoner", neither),
        ("file", neither),
        ("t/images", &["t/images@1", "ingest", "no model", "EVOLUTION/round-0003/reasoner"]),
        ("t/round-0001/round", &["evolution.round", "no model"]),
    ] {
        for command in [
            &["model", "export", model, "out"][..],
            &["model", "inspect", model],
            &["model", "generate", "--prompt", "x", "--model", model],
            &["model", "score", "--prompt", "x", "--response", "y", "--model", model],
        ] {
            assert_fails(&place, &[command, &["--store", "store"]].concat(), 2, parts);
        }
    }
    let export = ["model", "export", "t/round-0001/reasoner", "out"];
    assert_fails(&place, &export, 2, &["there is no store in data/store", "--store"]);
    assert_fails(&place, &[&export[..], &["--store", "not-a-store"]].concat(), 2, &["no store in not-a-store"]);
    assert!(!path("data").exists());
    assert_fails(&place, &["model", "export", "base", "out", "--base", "base"], 2, &["--base", "folder"]);

    // A folder goes before a ref of the same name.
    std::fs::create_dir_all(path("t/round-0001")).unwrap();
    std::os::unix::fs::symlink("../../base", path("t/round-0001/reasoner")).unwrap();
    json_of(&place, &[&export[..], &["--store", "store"]].concat());
    assert_eq!(bytes(&place, "out/model.safetensors"), bytes(&place, "base/model.safetensors"));
    std::fs::remove_dir_all(path("t")).unwrap();
    std::fs::remove_dir_all(path("out")).unwrap();

    // Damaged and missing weights are named, and nothing is written.
    let shown = place.json(&["show", "t/round-0001/reasoner"]);
    let outputs = shown["result"]["outputs"].as_array().unwrap();
    let weights = outputs.iter().rfind(|output| output["role"] == "weights").unwrap();
    let digest = weights["object"]["digest"].as_str().unwrap();
    let object: PathBuf = place.store().join(format!("objects/{}/{digest}.safetensors", &digest[..2]));
    let mut damaged = std::fs::read(&object).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, &damaged).unwrap();
    let export = [&export[..], &["--store", "store"]].concat();
    assert_fails(&place, &export, 4, &[digest, "visplay verify"]);
    std::fs::remove_file(&object).unwrap();
    assert_fails(&place, &export, 4, &["t/round-0001/reasoner", "visplay verify"]);
}

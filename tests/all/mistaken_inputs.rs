//! Paths that hold something else than what a command reads: the message says what it is, and what
//! to run instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::rounds::{PIPELINE, evolve, place, report};
use crate::support::{Workspace, stderr_of, test_image};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
/// The head of an Arrow file.
const ARROW: &[u8] = b"ARROW1\0\0\xff\xff\xff\xff\x10\0\0\0rest of the schema";
/// The head of a safetensors file.
const SAFETENSORS: &[u8] = b"\x10\0\0\0\0\0\0\0{\"a\":{}}        ";
const GGUF: &[u8] = b"GGUF\x03\0\0\0";

/// Writes files of these names and contents, and their folders.
fn write(place: &Workspace, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn copy_nano_model(to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(project("data/nano")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn assert_says(output: &Output, parts: &[&str]) {
    let stderr = stderr_of(output);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    parts.iter().for_each(|part| assert!(stderr.contains(part), "no {part}: {stderr}"));
}

/// Checks the message of a source that exists and has no usable image.
fn assert_no_image(output: &Output, parts: &[&str]) {
    let stderr = stderr_of(output);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    parts.iter().chain(&["no usable image"]).for_each(|part| assert!(stderr.contains(part), "no {part}: {stderr}"));
}

/// Checks the message of every command that reads a model.
fn assert_no_model(place: &Workspace, model: &str, parts: &[&str]) {
    let benchmark = project("data/benchmarks/scenes.parquet").display().to_string();
    let commands: [&[&str]; 5] = [
        &["model", "inspect", model],
        &["model", "export", model, "out"],
        &["model", "generate", "--model", model, "--prompt", "x"],
        &["model", "score", "--model", model, "--prompt", "x", "--response", "y"],
        &["evaluate", "--model", model, "--benchmark", &benchmark, "--items", "1"],
    ];
    for command in commands {
        let output = place.command(command).output().unwrap();
        let shown = [&[model], parts].concat();
        assert_says(&output, &shown);
    }
}

#[test]
fn an_adapter_is_not_a_model() {
    let place = Workspace::in_memory();
    let config = br#"{"base_model_name_or_path": "Qwen/Qwen2.5-VL-3B-Instruct", "peft_type": "LORA", "r": 8}"#;
    write(&place, &[("adapter/adapter_config.json", config), ("adapter/adapter_model.safetensors", SAFETENSORS)]);
    let merge = "`visplay model export BASE merged --adapter adapter`";
    assert_no_model(&place, "adapter", &["LoRA adapter of Qwen/Qwen2.5-VL-3B-Instruct", merge]);
    // Some trainers copy the base model's configuration and tokenizer too.
    for name in ["config.json", "tokenizer.json", "preprocessor_config.json"] {
        fs::copy(project("data/nano").join(name), place.path().join("adapter").join(name)).unwrap();
    }
    assert_no_model(&place, "adapter", &["LoRA adapter", merge]);
    // Nor is a model an adapter.
    copy_nano_model(&place.path().join("model"));
    let swapped = ["model", "export", "model", "out", "--adapter", "model"];
    assert_says(&place.command(&swapped).output().unwrap(), &["the folder is a checkpoint, not an adapter"]);
    let missing = ["model", "export", "model", "out", "--adapter", "me/my-adapter"];
    assert_says(&place.command(&missing).output().unwrap(), &["hf download me/my-adapter"]);
    write(&place, &[("adapter/adapter_model.safetensors", POINTER.as_bytes())]);
    let pointer = ["model", "export", "model", "out", "--adapter", "adapter"];
    let config = br#"{"peft_type": "LORA", "r": 8, "lora_alpha": 8}"#;
    write(&place, &[("adapter/adapter_config.json", config)]);
    assert_says(&place.command(&pointer).output().unwrap(), &["git lfs pull"]);
}

#[test]
fn a_name_on_the_hub_is_not_a_path() {
    let place = Workspace::in_memory();
    for name in ["Qwen/Qwen2.5-VL-3B-Instruct", "XiaomiMiMo/MiMo-VL-7B-SFT"] {
        let folder = name.rsplit('/').next().unwrap();
        let download = format!("`hf download {name} --local-dir models/{folder}`");
        assert_no_model(&place, name, &["Hugging Face Hub", &download, "snapshots/*"]);
    }
    let address = "https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct";
    assert_says(&place.command(&["model", "inspect", address]).output().unwrap(), &["hf download Qwen/Qwen2.5-VL-7B"]);
    let model = project("data/nano").display().to_string();
    let evaluate = ["evaluate", "--model", &model, "--benchmark", "MMMU/MMMU"];
    let dataset = "`hf download MMMU/MMMU --repo-type dataset --local-dir data/MMMU`";
    assert_says(&place.command(&evaluate).output().unwrap(), &[dataset]);
    let ingest = place.command(&["ingest", "ethz/food101"]).output().unwrap();
    assert_says(&ingest, &["hf download ethz/food101 --repo-type dataset"]);
    // In a pipeline file too, where paths are relative to the file.
    fs::create_dir(place.path().join("p")).unwrap();
    let text = "evolution = \"a\"\n[model]\nbase = \"Qwen/Qwen2.5-VL-3B-Instruct\"\n";
    fs::write(place.path().join("p/p.toml"), text).unwrap();
    place.fill(1);
    let evolve = ["evolve-round", "1", "--pipeline", "p/p.toml", "--images", "source"];
    let output = place.command(&evolve).output().unwrap();
    assert_says(&output, &["p/p.toml:3: `model.base`", "hf download Qwen/Qwen2.5-VL-3B-Instruct"]);
    // A path of one part, or of more than two, is a path.
    let plain = place.command(&["model", "inspect", "nowhere"]).output().unwrap();
    assert!(!stderr_of(&plain).contains("Hub"), "{}", stderr_of(&plain));
}

#[test]
fn a_folder_of_the_hub_cache_holds_snapshots() {
    let place = Workspace::in_memory();
    let repository = "hub/models--Qwen--Qwen2.5-VL-3B-Instruct";
    let snapshot = place.path().join(repository).join("snapshots/66285546d2");
    copy_nano_model(&snapshot);
    copy_nano_model(&place.path().join(repository).join("snapshots/0000000000"));
    write(&place, &[("hub/models--Qwen--Qwen2.5-VL-3B-Instruct/refs/main", b"66285546d2")]);
    let pass = format!("pass its snapshot, {repository}/snapshots/66285546d2");
    assert_no_model(&place, repository, &[&pass]);
    assert_no_model(&place, "hub", &[&format!("{repository}/snapshots/66285546d2")]);
    let inner = format!("{repository}/snapshots");
    assert_no_model(&place, &inner, &["pass the snapshot of one repository", "snapshots/0000000000"]);
    assert!(place.command(&["model", "inspect", &snapshot.display().to_string()]).status().unwrap().success());
    // A dataset in the cache, as a source and as a benchmark.
    write(&place, &[("hub/datasets--a--b/snapshots/abc/data/x.parquet", b"x"), ("hub/datasets--a--b/blobs/x", b"x")]);
    let ingest = place.command(&["ingest", "hub/datasets--a--b"]).output().unwrap();
    assert_no_image(&ingest, &["pass its snapshot, hub/datasets--a--b/snapshots/abc"]);
}

#[test]
fn a_dataset_saved_to_disk_is_not_a_source() {
    let place = Workspace::in_memory();
    write(
        &place,
        &[
            ("saved/dataset_info.json", b"{}"),
            ("saved/state.json", b"{}"),
            ("saved/data-00000-of-00001.arrow", ARROW),
            ("splits/dataset_dict.json", b"{\"splits\": [\"test\"]}"),
            ("splits/test/dataset_info.json", b"{}"),
            ("splits/test/state.json", b"{}"),
            ("splits/test/data-00000-of-00001.arrow", ARROW),
            ("cached/dataset_info.json", b"{}"),
            ("cached/food-train.arrow", ARROW),
        ],
    );
    let model = project("data/nano").display().to_string();
    for (path, load) in [
        ("saved", "load_from_disk('saved').to_parquet("),
        ("splits", "load_from_disk('splits/test').to_parquet("),
        ("splits/test", "load_from_disk('splits/test').to_parquet("),
        ("cached", "Dataset.from_file('cached/food-train.arrow').to_parquet("),
        ("saved/data-00000-of-00001.arrow", "Dataset.from_file('saved/data-00000-of-00001.arrow').to_parquet("),
    ] {
        assert_no_image(&place.command(&["ingest", path]).output().unwrap(), &[path, "Arrow", load]);
        let evaluate = ["evaluate", "--model", &model, "--benchmark", path];
        assert_says(&place.command(&evaluate).output().unwrap(), &[path, "Arrow", load]);
        let warm_start = ["warm-start", "--model", &model, "--out", "out", "--data", path];
        assert_says(&place.command(&warm_start).output().unwrap(), &[path, "Arrow", load]);
    }
    assert_no_model(&place, "saved", &["it is a dataset, not a checkpoint"]);
    // A folder of Parquet files is no benchmark either, but names one.
    write(&place, &[("mmmu/data/test-0.parquet", b"PAR1"), ("mmmu/README.md", b"x")]);
    let evaluate = ["evaluate", "--model", &model, "--benchmark", "mmmu"];
    assert_says(&place.command(&evaluate).output().unwrap(), &["such as mmmu/data/test-0.parquet"]);
}

#[test]
fn photos_beside_a_file_of_another_kind_are_ingested() {
    let config = fs::read(project("data/nano/config.json")).unwrap();
    let others: [(&str, &[u8]); 9] = [
        ("model.gguf", GGUF),
        ("zero_to_fp32.py", b"#"),
        ("adapter_config.json", b"{}"),
        ("model.safetensors", SAFETENSORS),
        ("pytorch_model.bin", b"PK\x03\x04"),
        ("state.json", b"{}"),
        ("food-train.arrow", ARROW),
        ("snapshots/a.txt", b"x"),
        ("refs/a.txt", b"x"),
    ];
    for (name, bytes) in others {
        let place = Workspace::in_memory();
        place.fill(2);
        write(&place, &[(&format!("source/{name}"), bytes), ("source/config.json", &config)]);
        let output = place.command(&["ingest", "source"]).output().unwrap();
        assert!(output.status.success(), "{name}: {}", stderr_of(&output));
    }
    let place = Workspace::in_memory();
    place.fill(2);
    for (name, bytes) in others {
        write(&place, &[(&format!("source/{name}"), bytes)]);
    }
    let images = place.json(&["ingest", "source"]);
    assert_eq!(images["images"], 2, "{images}");
    // Without any image, the kind of the folder is named.
    let place = Workspace::in_memory();
    let folders: [(&str, &[u8]); 2] = [("gguf/model.gguf", GGUF), ("adapter/adapter_config.json", b"{}")];
    for (name, bytes) in folders {
        write(&place, &[(name, bytes)]);
        let folder = name.split('/').next().unwrap();
        let output = place.command(&["ingest", folder]).output().unwrap();
        assert_no_image(&output, &[folder, "it holds the weights of a model, not images"]);
    }
}

#[test]
fn files_of_other_kinds_are_named() {
    let place = Workspace::in_memory();
    write(
        &place,
        &[
            ("w/model.safetensors", SAFETENSORS),
            ("w/model.gguf", GGUF),
            ("w/pytorch_model.bin", b"PK\x03\x04\0\0archive/data.pkl"),
            ("w/old.bin", b"\x80\x02\x8a"),
            ("w/x.zip", b"PK\x03\x04\0\0photo.png"),
            ("w/x.tar.gz", b"\x1f\x8b\x08\0"),
            ("w/page.parquet", b"<!DOCTYPE html><html>"),
            ("w/rows.jsonl", b"{\"question\": \"a\"}\n"),
            ("w/pointer.parquet", POINTER.as_bytes()),
            ("w/stream.arrow", b"\xff\xff\xff\xff\xb8\x01\0\0\x10\0"),
        ],
    );
    for (file, part) in [
        (
            "w/model.safetensors",
            "it is a file of weights; pass the folder that holds config.json and the weights, such as w",
        ),
        ("w/model.gguf", "GGUF"),
        ("w/pytorch_model.bin", "save_pretrained"),
        ("w/old.bin", "save_pretrained"),
        ("w/x.zip", "unpack it"),
        ("w/pointer.parquet", "git lfs pull"),
    ] {
        assert_no_model(&place, file, &[part]);
    }
    let model = project("data/nano").display().to_string();
    for (file, part) in [
        ("w/model.safetensors", "safetensors"),
        ("w/model.gguf", "GGUF"),
        ("w/old.bin", "pickle"),
        ("w/x.zip", "unpack it"),
        ("w/x.tar.gz", "unpack it"),
        ("w/page.parquet", "a web page, not the file itself"),
        ("w/rows.jsonl", "Dataset.from_json('w/rows.jsonl').to_parquet("),
        ("w/pointer.parquet", "git lfs pull"),
        ("w/stream.arrow", "Dataset.from_file("),
    ] {
        let evaluate = ["evaluate", "--model", &model, "--benchmark", file];
        assert_says(&place.command(&evaluate).output().unwrap(), &[file, part]);
        // Archives of images are read.
        let ingest_part = if part == "unpack it" { "rejected" } else { part };
        assert_no_image(&place.command(&["ingest", file]).output().unwrap(), &[file, ingest_part]);
        let warm_start = ["warm-start", "--model", &model, "--out", "out", "--data", file];
        assert_says(&place.command(&warm_start).output().unwrap(), &[file, part]);
    }
}

#[test]
fn a_folder_with_other_weights_says_how_to_convert_them() {
    let place = Workspace::in_memory();
    let config = fs::read(project("data/nano/config.json")).unwrap();
    write(
        &place,
        &[
            ("pickles/config.json", &config),
            ("pickles/pytorch_model-00001-of-00002.bin", b"PK\x03\x04"),
            ("pth/consolidated.00.pth", b"PK\x03\x04"),
            ("gguf/model-q4.gguf", GGUF),
            ("shards/model_world_size_8_rank_0.pt", b"PK\x03\x04"),
            ("shards/huggingface/config.json", &config),
            ("deepspeed/zero_to_fp32.py", b"#"),
            ("output/runs/x", b"x"),
        ],
    );
    copy_nano_model(&place.path().join("output/checkpoint-500"));
    let inspect = |folder: &str| place.command(&["model", "inspect", folder]).output().unwrap();
    assert_says(
        &inspect("pickles"),
        &["pytorch_model-00001-of-00002.bin", "save_pretrained", "from_pretrained('pickles'"],
    );
    assert_no_model(&place, "pth", &["consolidated.00.pth", "save_pretrained"]);
    assert_no_model(&place, "gguf", &["model-q4.gguf", "llama.cpp"]);
    assert_no_model(&place, "shards", &["model_merger"]);
    assert_no_model(&place, "deepspeed", &["zero_to_fp32.py"]);
    assert_no_model(&place, "output", &["output/checkpoint-500 may be one; pass that"]);
    // A checkpoint may come with a script or a folder of another program.
    write(
        &place,
        &[("output/checkpoint-500/zero_to_fp32.py", b"#"), ("output/checkpoint-500/global_step500/x.pt", b"x")],
    );
    assert!(inspect("output/checkpoint-500").status.success(), "{}", stderr_of(&inspect("output/checkpoint-500")));
}

#[test]
fn a_pointer_of_git_lfs_is_named_wherever_it_is() {
    let place = Workspace::in_memory();
    let model = place.path().join("model");
    copy_nano_model(&model);
    for name in ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"] {
        let whole = fs::read(model.join(name)).unwrap();
        fs::write(model.join(name), POINTER).unwrap();
        let output = place.command(&["model", "generate", "--model", "model", "--prompt", "x"]).output().unwrap();
        assert_says(&output, &[name, "Git LFS pointer", "git lfs pull"]);
        fs::write(model.join(name), whole).unwrap();
    }
    write(&place, &[("a.png", POINTER.as_bytes())]);
    let generate = ["model", "generate", "--model", "model", "--prompt", "x", "--image", "a.png"];
    assert_says(&place.command(&generate).output().unwrap(), &["a.png", "Git LFS pointer", "git lfs pull"]);
    assert_no_image(
        &place.command(&["ingest", "a.png"]).output().unwrap(),
        &["a.png", "Git LFS pointer", "git lfs pull"],
    );
    // Among images, they are rejected as before, and counted.
    place.fill(2);
    write(&place, &[("source/b.jpg", POINTER.as_bytes()), ("source/c.parquet", POINTER.as_bytes())]);
    write(&place, &[("source/d.arrow", ARROW)]);
    let output = place.command(&["ingest", "source"]).output().unwrap();
    let stderr = stderr_of(&output);
    assert!(output.status.success(), "{stderr}");
    let note =
        "note: 2 of the rejected files are of this kind: a Git LFS pointer, not the file itself; run `git lfs pull`";
    assert!(stderr.contains(note) && stderr.contains("such as b.jpg"), "{stderr}");
    assert!(stderr.contains("1 of the rejected files are of this kind: an Arrow file"), "{stderr}");
    // A file of images that is no mistake is read without a note.
    fs::write(place.path().join("one.png"), test_image(0)).unwrap();
    let output = place.command(&["ingest", "one.png"]).output().unwrap();
    assert!(output.status.success() && !stderr_of(&output).contains("note"), "{}", stderr_of(&output));
}

#[test]
fn a_table_of_a_round_and_a_missing_truth_are_found() {
    let place = place();
    let text = format!("{PIPELINE}[evaluation]\ntruth = \"scenes/scenes.parquet\"\n");
    fs::write(place.path().join("p.toml"), text).unwrap();
    let show = |what: &str| place.command(&["show", what]).output().unwrap();
    report(&evolve(&place, "store", &["1", "--images", "source"]).output().unwrap());
    for (what, view) in [
        ("t/curriculum", "views/t/round=1/curriculum"),
        ("t/votes", "views/t/round=1/votes"),
        ("t/round-0001/curriculum", "views/t/round=1/curriculum"),
        ("t/round=1/predictions", "views/t/round=1/predictions"),
        ("t/rejects", "views/t/rejects"),
        ("t/round=7/votes", "views/t/round=N/votes once round N is finished"),
    ] {
        let output = show(what);
        assert_says(&output, &["there is no ref", view]);
        assert!(!stderr_of(&output).contains("did you mean"), "{}", stderr_of(&output));
    }
    assert_says(&show("t/image"), &["did you mean `t/images`?"]);
    // The truth that the pipeline file names does not exist.
    let audit = |arguments: &[&str]| {
        let output = place.command(&[&["audit", "1", "--pipeline", "p.toml"], arguments].concat()).output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr_of(&output))
    };
    let missing = place.path().join("scenes/scenes.parquet").display().to_string();
    let (stdout, _) = audit(&[]);
    let labels = stdout.lines().find(|line| line.starts_with("labels:")).unwrap();
    assert!(labels.contains(&missing) && labels.contains("--truth FILE"), "{labels}");
    assert!(audit(&["--json"]).1.contains(&missing));
    // From another folder, with the built-in pipeline: the path that was tried is named.
    let mut other = place.command(&["audit", "1", "--evolution", "t"]);
    let output = other.current_dir(place.source()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let tried = place.source().join("data/scenes.parquet").display().to_string();
    assert!(stdout.contains(&tried) && stdout.contains("--truth FILE"), "{stdout}");
    // A pipeline that names no truth says so.
    fs::write(place.path().join("p.toml"), PIPELINE).unwrap();
    assert!(audit(&[]).0.contains("the pipeline file sets no evaluation.truth"), "{}", audit(&[]).0);
    // A table whose images are elsewhere.
    let scenes = ["scenes", "--count", "3", "--seed", "5", "--out", "scenes"];
    assert!(place.command(&scenes).output().unwrap().status.success());
    fs::remove_dir_all(place.path().join("scenes/images")).unwrap();
    fs::write(place.path().join("p.toml"), format!("{PIPELINE}[evaluation]\ntruth = \"scenes/scenes.parquet\"\n"))
        .unwrap();
    assert!(audit(&[]).0.contains("none of the images of"), "{}", audit(&[]).0);
}

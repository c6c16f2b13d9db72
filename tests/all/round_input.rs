//! Inputs of a round: folders of ordinary files, prompts, benchmarks, paths and options. Unusable
//! ones are named at once.

use std::process::{Command, Output};

use serde_json::Value;

use crate::rounds::{PIPELINE, evolve, place_in, report};
use crate::support::{VISPLAY, Workspace, stderr_of, test_image};

fn run(place: &Workspace, arguments: &[&str]) -> Output {
    evolve(place, "store", arguments).output().unwrap()
}

fn assert_rejected(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr_of(output));
    parts.iter().for_each(|part| assert!(stderr_of(output).contains(part), "{part}: {}", stderr_of(output)));
}

/// Creates a folder of pictures, broken pictures and other files.
fn photos(place: &Workspace, name: &str, pictures: std::ops::Range<u32>) {
    let folder = place.path().join(name);
    std::fs::create_dir_all(folder.join("sub folder")).unwrap();
    for i in pictures {
        let ending = ["png", "jpg", "bmp"][i as usize % 3];
        std::fs::write(folder.join(format!("sub folder/picture {i}.{ending}")), test_image(i)).unwrap();
    }
    let whole = test_image(1000);
    std::fs::write(folder.join("broken.jpg"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(folder.join("notes.txt"), "not a picture").unwrap();
    std::fs::write(folder.join("empty.png"), "").unwrap();
    let long = image::RgbImage::from_fn(2100, 7, |x, y| image::Rgb([x as u8, y as u8, 9]));
    long.save(folder.join("panorama.png")).unwrap();
}

#[test]
fn every_file_of_an_ordinary_folder_is_ingested_or_rejected() {
    let place = place_in(Workspace::in_memory());
    photos(&place, "photos", 0..10);
    let dry = run(&place, &["1", "--images", "photos", "--dry-run"]);
    assert_eq!(report(&dry)["next"], "measuring images");
    assert!(!place.path().join("store/refs").exists());
    let first = run(&place, &["1", "--images", "photos"]);
    assert_eq!(report(&first)["report"]["images"], 8);
    for part in
        ["14 files read: 10 new images; rejected: ", "1 aspect ratio", "1 empty", "1 not an image", "1 truncated"]
    {
        assert!(stderr_of(&first).contains(part), "{part}: {}", stderr_of(&first));
    }
    assert!(stderr_of(&first).contains("8 of 10 images"), "{}", stderr_of(&first));
    // More images are added; the finished round stays.
    photos(&place, "more", 20..24);
    let repeated = run(&place, &["1", "--images", "more"]);
    assert_eq!(report(&repeated)["found"], true);
    assert!(stderr_of(&repeated).contains("4 new images, 14 in total"), "{}", stderr_of(&repeated));
    assert!(
        stderr_of(&repeated).contains("rounds up to 1 finished before the 4 new images were added"),
        "{}",
        stderr_of(&repeated)
    );
    let next = run(&place, &["next"]);
    assert!(stderr_of(&next).contains("8 of 14 images"), "{}", stderr_of(&next));
    assert_eq!(report(&next)["round"], 2);
}

#[test]
fn a_folder_without_images_is_reported() {
    let place = place_in(Workspace::in_memory());
    photos(&place, "photos", 0..0);
    assert_rejected(
        &run(&place, &["1", "--images", "photos"]),
        7,
        &["0 new images; rejected: ", "photos: no usable image (rejected: ", "1 not an image"],
    );
    assert_rejected(&run(&place, &["1", "--images", "nowhere"]), 2, &["nowhere"]);
    // The evolution is still usable.
    assert_eq!(report(&run(&place, &["1", "--images", "source"]))["round"], 1);
}

#[test]
fn unusable_prompts_and_benchmarks_are_named_before_the_round_starts() {
    let place = place_in(Workspace::in_memory());
    let with = |change: &str, by: &str| {
        let file = format!("{PIPELINE}{change}");
        std::fs::write(place.path().join("p.toml"), file).unwrap();
        std::fs::write(place.path().join("prompt.txt"), by).unwrap();
        let output = run(&place, &["1", "--images", "source"]);
        let views = place.path().join("store/views/t/round=1");
        assert!(!views.exists(), "{}", stderr_of(&output));
        output
    };
    let (reasoner, questioner) = ("[prompts]\nreasoner = \"prompt.txt\"\n", "[prompts]\nquestioner = \"prompt.txt\"\n");
    for (change, prompt, part) in [
        (reasoner, "{{image}}", "`prompts.reasoner`: prompt.txt has no {{question}}"),
        (reasoner, "{{question}}", "`prompts.reasoner`: prompt.txt has no {{image}}"),
        (questioner, "", "`prompts.questioner`: prompt.txt has no {{image}}"),
        (
            reasoner,
            "{{image}}\n{{qestion}}",
            "prompt.txt:2: there is no variable {{qestion}}; did you mean {{question}}?",
        ),
        (reasoner, "{{image", "prompt.txt:1: {{ is not followed by a name"),
        (questioner, "{{image}}", "`prompts.questioner`: prompt.txt: the template has no role header"),
        (
            questioner,
            "<|im_strat|>{{image}}<|im_start|>assistant\n",
            "`prompts.questioner`: prompt.txt does not fit the base model",
        ),
        (
            "[evaluation]\nbenchmarks = [\"gone.parquet\"]\n",
            "",
            "`evaluation.benchmarks`: `gone.parquet` does not exist",
        ),
    ] {
        assert_rejected(&with(change, prompt), 2, &[part]);
    }
    let base = PIPELINE.replace("base = \"base\"", "base = \"nowhere\"");
    std::fs::write(place.path().join("p.toml"), base).unwrap();
    assert_rejected(
        &run(&place, &["1", "--images", "source"]),
        2,
        &["p.toml:4: `model.base`: `nowhere` does not exist", "relative to its folder, here"],
    );
}

#[test]
fn paths_in_a_pipeline_file_are_relative_to_the_file() {
    let place = place_in(Workspace::in_memory());
    let arguments = ["scenes", "--count", "6", "--seed", "7", "--benchmark", "bench.parquet"];
    assert!(Command::new(VISPLAY).args(arguments).current_dir(place.path()).output().unwrap().status.success());
    let project = place.path().join("project");
    std::fs::create_dir_all(project.join("pipelines")).unwrap();
    for name in ["base", "source", "bench.parquet"] {
        std::fs::rename(place.path().join(name), project.join(name)).unwrap();
    }
    std::fs::write(project.join("pipelines/prompt.txt"), "{{image}} {{question}}<|im_start|>assistant\n").unwrap();
    let text = PIPELINE.replace("base = \"base\"", "base = \"../base\"")
        + "[ingest]\nsources = [\"../source\"]\n[prompts]\nreasoner = \"prompt.txt\"\n\
           [evaluation]\nbenchmarks = [\"../bench.parquet\"]\nprotocols = { greedy = true, max_tokens = 1 }\n";
    std::fs::write(project.join("pipelines/mine.toml"), text).unwrap();
    let run_in = |folder: &str, pipeline: &str, store: &str| {
        let mut command = Command::new(VISPLAY);
        command.args(["evolve-round", "1", "--json", "--pipeline", pipeline, "--store"]).arg(place.path().join(store));
        command.current_dir(place.path().join(folder)).output().unwrap()
    };
    let beside_it = report(&run_in("project/pipelines", "mine.toml", "a"));
    assert_eq!(report(&run_in(".", "project/pipelines/mine.toml", "b"))["result"], beside_it["result"]);
    assert_eq!(report(&run_in("project/base", "../pipelines/mine.toml", "a"))["found"], true);
    // A branch whose file is in another folder has absolute paths.
    let branch = ["branch", "other", "--from", "base", "--set", "round.seed=1", "--pipeline"];
    let output = Command::new(VISPLAY)
        .args(branch)
        .args(["project/pipelines/mine.toml", "--out", "other.toml", "--store", "a"])
        .current_dir(place.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert_eq!(report(&run_in("project", "../other.toml", "a"))["found"], false);
    // A missing source is named with its key.
    std::fs::rename(project.join("source"), project.join("moved")).unwrap();
    assert_rejected(
        &run_in(".", "project/pipelines/mine.toml", "c"),
        2,
        &["project/pipelines/mine.toml:", "`ingest.sources`: `project/source` does not exist", "project/pipelines"],
    );
}

#[test]
fn the_built_in_pipeline_names_what_it_needs_outside_a_checkout() {
    let place = Workspace::in_memory();
    let arguments = ["evolve-round", "1", "--store", "store"];
    let output = Command::new(VISPLAY).args(arguments).current_dir(place.path()).output().unwrap();
    assert_rejected(&output, 2, &["pipelines/nano.toml (built in):", "`ingest.sources`: `data/images` does not exist"]);
    assert_rejected(&output, 2, &["name a pipeline file with --pipeline"]);
}

#[test]
fn groups_of_one_are_reported() {
    let place = place_in(Workspace::in_memory());
    let file = PIPELINE.replace("group_size = 4", "group_size = 1");
    std::fs::write(place.path().join("p.toml"), file).unwrap();
    let output = run(&place, &["1", "--images", "source"]);
    report(&output);
    assert!(stderr_of(&output).contains("note: questioner.group_size is 1"), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains("note: reasoner.group_size is 1"), "{}", stderr_of(&output));
}

#[test]
fn evaluate_names_what_it_cannot_use() {
    let place = place_in(Workspace::in_memory());
    let arguments = ["scenes", "--count", "3", "--seed", "7", "--benchmark", "bench.parquet"];
    assert!(Command::new(VISPLAY).args(arguments).current_dir(place.path()).output().unwrap().status.success());
    std::fs::write(place.path().join("no-question.txt"), "{{image}}").unwrap();
    std::fs::write(place.path().join("no-image.txt"), "{{question}}").unwrap();
    let evaluate = |more: &[&str]| {
        let fixed = ["evaluate", "--model", "base", "--benchmark", "bench.parquet", "--max-tokens", "2", "--json"];
        place.command(&[&fixed[..], more].concat()).output().unwrap()
    };
    for (more, part) in [
        (&["--temperature", "-1"][..], "the temperature must be 0"),
        (&["--temperature", "1e-300"], "the temperature must be 0"),
        (&["--no-greedy", "--sampled", "0"], "no protocol is selected"),
        (&["--items", "0"], "--items"),
        (&["--cache-bytes", "99999999999999999"], "--cache-bytes"),
        (&["--cache-bytes", "5000"], "raise cache_bytes"),
        (&["--prompt", "no-question.txt"], "no-question.txt: the template has no {{question}}"),
        (&["--prompt", "no-image.txt"], "no-image.txt: the template has no {{image}}"),
        (&["--prompt", "nowhere.txt"], "nowhere.txt"),
    ] {
        assert_rejected(&evaluate(more), 2, &[part]);
    }
    let done = evaluate(&[]);
    assert!(done.status.success(), "{}", stderr_of(&done));
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done["left_out"], 0);
    // An unreadable image is left out and reported; if all are unreadable, that is an error.
    let mut rows: Vec<visplay::tables::BenchmarkRow> =
        visplay::tables::read_file(&place.path().join("bench.parquet")).unwrap();
    rows[1].image.bytes = b"no picture".to_vec();
    std::fs::write(place.path().join("bench.parquet"), visplay::tables::to_bytes(rows.clone()).unwrap()).unwrap();
    let one = evaluate(&[]);
    assert!(one.status.success() && stderr_of(&one).contains("1 of 3 rows cannot be used"), "{}", stderr_of(&one));
    rows.iter_mut().for_each(|row| row.image.bytes = b"no picture".to_vec());
    std::fs::write(place.path().join("bench.parquet"), visplay::tables::to_bytes(rows.clone()).unwrap()).unwrap();
    assert_rejected(&evaluate(&[]), 2, &["3 of 3 rows", "none of the items could be given to the model"]);
    rows.clear();
    std::fs::write(place.path().join("bench.parquet"), visplay::tables::to_bytes(rows).unwrap()).unwrap();
    assert_rejected(&evaluate(&[]), 2, &["bench.parquet", "the benchmark has no items"]);
}

//! Whole rounds through the command. The model has random weights and a vocabulary with whole
//! questions and answers as tokens: it asks and answers at random, and all other parts are real.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use visplay::tables::{BenchmarkRow, SceneObjectRow, SceneQuestionRow, TableRow, read_file, to_bytes};

use crate::support::{VISPLAY, Workspace, stderr_of};

pub const PIPELINE: &str = r#"
evolution = "t"
[model]
base = "base"
min_pixels = 3136
max_pixels = 3136
[questioner]
group_size = 4
reward_samples = 4
[reasoner]
group_size = 4
[sampling]
cache_bytes = 16777216
questioner = { max_tokens = 1 }
reasoner = { max_tokens = 1, top_k = 0 }
[curriculum]
label_samples = 6
low = 0.1
deduplicate = true
[update.questioner]
steps = 3
prompts_per_step = 4
prompts_per_update = 4
learning_rate = 1e-3
checkpoint_every = 2
[update.reasoner]
steps = 3
prompts_per_step = 4
prompts_per_update = 2
learning_rate = 1e-3
checkpoint_every = 2
[round]
images = 8
questions_per_image = 8
shard_rows = 5
keep_best = true
keep_best_questions = 16
keep_best_samples = 3
"#;

/// Returns a folder with a base model, images and a pipeline file.
pub fn place() -> Workspace {
    place_in(Workspace::new())
}

/// Writes the files of [`place`] to an existing folder.
pub fn place_in(place: Workspace) -> Workspace {
    fill(place, &(0..60).map(|n| format!("How many of {n}?")).collect::<Vec<_>>())
}

/// Returns a folder as [`place`] does, with a model that asks these questions.
pub fn place_of(questions: &[String]) -> Workspace {
    fill(Workspace::new(), questions)
}

fn fill(place: Workspace, questions: &[String]) -> Workspace {
    place.fill(12);
    let (project, files) = (Path::new(env!("CARGO_MANIFEST_DIR")), place.path().join("files"));
    std::fs::create_dir_all(&files).unwrap();
    for name in ["preprocessor_config.json", "generation_config.json"] {
        std::fs::copy(project.join("tests/data/model/nano-like").join(name), files.join(name)).unwrap();
    }
    std::fs::write(files.join("tokenizer.json"), tokenizer(project, questions)).unwrap();
    let config = project.join("bench/configs/nano.json");
    let arguments = ["model", "random", "--seed", "1", "--dtype", "f32", "--files-from", "files", "base", "--config"];
    let output = Command::new(VISPLAY).args(arguments).arg(config).current_dir(place.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    std::fs::write(place.path().join("p.toml"), PIPELINE).unwrap();
    place
}

/// Adds questions and 60 answers as tokens to the tests' tokenizer.
fn tokenizer(project: &Path, questions: &[String]) -> String {
    let text = std::fs::read_to_string(project.join("tests/data/model/tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&text).unwrap();
    let tokens = tokenizer["added_tokens"].as_array_mut().unwrap();
    let first = tokens.iter().map(|token| token["id"].as_u64().unwrap()).max().unwrap() + 1;
    let questions = questions.iter().map(|text| format!("<question>{text}</question>"));
    let answers = (0..60).map(|n| format!("{n}: \\boxed{{{}}}", n % 4));
    for (id, content) in (first..).zip(questions.chain(answers)) {
        let mut token = tokens[0].clone();
        token["id"] = json!(id);
        token["content"] = json!(content);
        token["special"] = json!(false);
        tokens.push(token);
    }
    tokenizer.to_string()
}

pub fn evolve(place: &Workspace, store: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(VISPLAY);
    command.args(["evolve-round", "--pipeline", "p.toml", "--store", store, "--json"]).args(arguments);
    command.current_dir(place.path());
    command
}

pub fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr_of(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_round_has_the_same_bytes_at_any_thread_count_and_after_any_kill() {
    let place = place();
    let once = |store: &str, threads: &str| {
        report(&evolve(&place, store, &["2", "--images", "source", "--threads", threads]).output().unwrap())
    };
    let (two, one) = (once("two", "2"), once("one", "1"));
    assert_eq!(two["result"], one["result"]);
    assert_eq!(two["report"], one["report"]);
    let counted = &two["report"];
    assert_eq!(counted["questions"]["asked"], 64);
    assert!(counted["votes"]["kept"].as_u64().unwrap() > 0, "{counted}");
    assert_eq!(counted["reasoner"]["steps"], 3);
    assert!(counted["kept"]["score"].is_number(), "{counted}");
    assert_ne!(counted["questioner_model"], counted["reasoner_model"]);

    // Killed after growing times until a run succeeds.
    let mut patience = Duration::from_millis(30);
    let survived = loop {
        let mut command = evolve(&place, "killed", &["2", "--images", "source", "--threads", "2"]);
        let mut running = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while began.elapsed() < patience && running.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if running.try_wait().unwrap().is_some() {
            break report(&running.wait_with_output().unwrap());
        }
        running.kill().unwrap();
        running.wait().unwrap();
        patience = patience * 3 / 2;
    };
    assert_eq!(survived["result"], two["result"]);

    // A finished round is looked up, not recomputed, and its tables are in the views.
    let began = Instant::now();
    let repeated = report(&evolve(&place, "two", &["2"]).output().unwrap());
    assert_eq!(repeated["found"], true);
    assert!(began.elapsed() < Duration::from_secs(1));
    let view = place.path().join("two/views/t/round=2/curriculum");
    assert_eq!(std::fs::read_dir(view).unwrap().count(), 1);
    let checked = Command::new(VISPLAY).args(["verify", "--full", "--store", "two"]).current_dir(place.path()).output();
    assert!(checked.unwrap().status.success());
}

#[test]
fn images_beyond_the_memory_limit_do_not_change_results() {
    let place = place();
    let round = |store: &str| report(&evolve(&place, store, &["1", "--images", "source"]).output().unwrap());
    let held = round("held");
    std::fs::write(place.path().join("p.toml"), PIPELINE.replace("[model]\n", "[model]\nimage_memory = 1\n")).unwrap();
    assert_eq!(round("cut again")["result"], held["result"]);
}

#[test]
fn of_two_processes_with_different_images_the_first_to_finish_is_kept() {
    let place = place();
    let arguments = ["scenes", "--count", "12", "--seed", "3", "--out", "drawn"];
    let output = Command::new(VISPLAY).args(arguments).current_dir(place.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let long = PIPELINE.replace("steps = 3", "steps = 12");
    std::fs::write(place.path().join("p.toml"), long).unwrap();
    let start = |images: &str| {
        let mut command = evolve(&place, "store", &["1", "--images", images]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // The second starts after the first has fixed its images.
    let mut first = start("source");
    let mut said_first = BufReader::new(first.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("Questioner step 1 ") {
        line.clear();
        assert_ne!(said_first.read_line(&mut line).unwrap(), 0, "it ended before its first step");
    }
    let second = start("drawn/images");
    let mut rest = String::new();
    said_first.read_to_string(&mut rest).unwrap();
    let ended = [first, second].map(|running| running.wait_with_output().unwrap());
    let (won, lost): (Vec<&Output>, Vec<&Output>) = ended.iter().partition(|output| output.status.success());
    assert_eq!((won.len(), lost.len()), (1, 1), "{rest}{}, {}", stderr_of(&ended[0]), stderr_of(&ended[1]));
    assert!(
        format!("{rest}{}", stderr_of(lost[0])).contains("finished round 1 with other"),
        "{rest}{}",
        stderr_of(lost[0])
    );
    assert_eq!(report(&evolve(&place, "store", &["1"]).output().unwrap())["result"], report(won[0])["result"]);
}

#[test]
fn a_gate_stops_the_round_and_names_its_value() {
    let place = place();
    let strict = format!("{PIPELINE}[gates.valid_share]\nstop = 0.99\n");
    std::fs::write(place.path().join("p.toml"), strict).unwrap();
    let stopped = evolve(&place, "store", &["next", "--images", "source"]).output().unwrap();
    assert_eq!(stopped.status.code(), Some(3), "{}", stderr_of(&stopped));
    assert!(stderr_of(&stopped).contains("gates.valid_share: 0."), "{}", stderr_of(&stopped));
    // The round is unfinished: it is still the next one, and resumes with another threshold.
    std::fs::write(place.path().join("p.toml"), PIPELINE).unwrap();
    let dry = report(&evolve(&place, "store", &["next", "--dry-run"]).output().unwrap());
    assert_eq!((&dry["round"], &dry["next"]), (&json!(1), &json!("answering questions")));
    assert_eq!(report(&evolve(&place, "store", &["next"]).output().unwrap())["round"], 1);
}

#[test]
fn the_labelled_baseline_trains_on_given_answers_and_is_measured() {
    let place = place();
    for (file, seed) in [("labelled.parquet", "101"), ("bench.parquet", "7")] {
        let arguments = ["scenes", "--count", "24", "--seed", seed, "--benchmark", file];
        let output = Command::new(VISPLAY).args(arguments).current_dir(place.path()).output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
    }
    let evaluation = "[evaluation]\nbenchmarks = [\"bench.parquet\"]\n\
                      protocols = { greedy = true, sampled = 2, majority = 3, max_tokens = 1 }\n";
    let labelled = PIPELINE.replace("images = 8", "labelled = \"labelled.parquet\"\nimages = 0") + evaluation;
    std::fs::write(place.path().join("p.toml"), labelled).unwrap();
    let report = report(&evolve(&place, "store", &["1", "--images", "source"]).output().unwrap());
    let report = &report["report"];
    assert_eq!((&report["votes"]["kept"], &report["questions"]["asked"]), (&json!(24), &json!(0)));
    assert_eq!((&report["questioner"], &report["reasoner"]["steps"]), (&Value::Null, &json!(3)));
    let scores = report["scores"].as_array().unwrap();
    let protocols: Vec<&str> = scores.iter().map(|score| score["protocol"].as_str().unwrap()).collect();
    assert_eq!(protocols, ["greedy", "majority", "sampled"]);
    for score in scores {
        let [value, low, high] = [0, 1, 2].map(|i| score["after"][i].as_f64().unwrap());
        assert!(low <= value && value <= high && score["items"] == 24, "{score}");
    }
}

/// Returns the bytes of each file of a round's table.
fn table(place: &Workspace, store: &str, round: u32, table: &str) -> Vec<Vec<u8>> {
    let folder = place.path().join(store).join(format!("views/t/round={round}/{table}"));
    let mut files: Vec<Vec<u8>> =
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    files.sort();
    files
}

/// Changes all rows of a Parquet file.
fn change<R: TableRow>(file: &Path, change: impl FnMut(&mut R)) {
    let mut rows: Vec<R> = read_file(file).unwrap();
    assert!(!rows.is_empty());
    rows.iter_mut().for_each(change);
    std::fs::write(file, to_bytes(rows).unwrap()).unwrap();
}

#[test]
fn truth_replaced_with_noise_gives_the_same_weights() {
    let place = place();
    let drawn: [&[&str]; 2] = [
        &["scenes", "--count", "12", "--seed", "3", "--out", "drawn"],
        &["scenes", "--count", "24", "--seed", "7", "--benchmark", "bench.parquet"],
    ];
    for arguments in drawn {
        let output = Command::new(VISPLAY).args(arguments).current_dir(place.path()).output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
    }
    let evaluation = "[evaluation]\nbenchmarks = [\"bench.parquet\"]\n\
                      protocols = { greedy = true, sampled = 4, majority = 4, max_tokens = 1 }\n";
    std::fs::write(place.path().join("p.toml"), format!("{PIPELINE}{evaluation}")).unwrap();
    let run_rounds = |store: &str| report(&evolve(&place, store, &["2", "--images", "drawn/images"]).output().unwrap());
    let true_ones = run_rounds("true");

    // Replace all truth: the answers of the benchmark, the objects of the scenes, and the answers
    // to their questions.
    let mut noise = (0..).map(|n: u32| n.wrapping_mul(2_654_435_761) >> 29);
    let mut word = || noise.next().unwrap().to_string();
    change(&place.path().join("bench.parquet"), |row: &mut BenchmarkRow| row.answer = word());
    change(&place.path().join("drawn/questions.parquet"), |row: &mut SceneQuestionRow| row.answer = word());
    change(&place.path().join("drawn/scenes.parquet"), |row: &mut SceneObjectRow| {
        row.colour = ["red", "green", "blue", "yellow"][row.object as usize % 4].to_owned();
        row.shape = ["circle", "square", "triangle"][row.object as usize % 3].to_owned();
    });
    let noisy = run_rounds("noisy");

    assert_ne!(true_ones["report"]["scores"], noisy["report"]["scores"], "the benchmark was not read again");
    for model in ["questioner_model", "reasoner_model", "kept"] {
        assert_eq!(true_ones["report"][model], noisy["report"][model], "{model}");
    }
    for round in [1, 2] {
        for name in ["questions", "answers", "votes", "curriculum", "rewards", "metrics"] {
            let [a, b] = ["true", "noisy"].map(|store| table(&place, store, round, name));
            assert!(!a.is_empty() && a == b, "{name} of round {round}");
        }
    }
}

#[test]
fn missing_images_and_an_invalid_round_number_are_reported() {
    let place = place();
    let none = evolve(&place, "store", &["1"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr_of(&none).contains("has no images yet"), "{}", stderr_of(&none));
    let odd = evolve(&place, "store", &["0"]).output().unwrap();
    assert!(stderr_of(&odd).contains("expected a number from 1"), "{}", stderr_of(&odd));
}

#[test]
fn a_round_that_cannot_pass_its_gates_is_not_started() {
    let place = place();
    std::fs::write(place.path().join("p.toml"), format!("{PIPELINE}[gates.kept_rows]\nstop = 65\n")).unwrap();
    let hopeless = evolve(&place, "store", &["1", "--images", "source"]).output().unwrap();
    assert_eq!(hopeless.status.code(), Some(3), "{}", stderr_of(&hopeless));
    for part in ["round 1 was not started: 8 images with 8 questions each", "at most 64 rows", "below 65", "[gates]"] {
        assert!(stderr_of(&hopeless).contains(part), "{part} is not in {}", stderr_of(&hopeless));
    }
    assert!(!place.store().join("views/t/stopped").exists() && place.files("refs/t/round-0001").is_empty());
}

#[test]
fn an_empty_curriculum_is_reported_and_its_tables_are_kept() {
    let place = place();
    // Six answers of a random model are never all the same.
    let nothing = PIPELINE.replace("low = 0.1", "low = 0.99\nhigh = 1.0");
    std::fs::write(place.path().join("p.toml"), nothing).unwrap();
    let empty = evolve(&place, "store", &["1", "--images", "source"]).output().unwrap();
    assert_eq!(empty.status.code(), Some(1), "{}", stderr_of(&empty));
    for part in ["round 1: the curriculum is empty", "tables of the round: store/views/t/stopped/round=1"] {
        assert!(stderr_of(&empty).contains(part), "{part} is not in {}", stderr_of(&empty));
    }
    assert!(!place.files("views/t/stopped/round=1/votes").is_empty());
    assert_eq!(place.files("refs/t/round-0001/stopped").len(), 1);
}

#[test]
fn a_round_with_a_missing_result_is_reported_as_lost() {
    let place = place();
    let done = report(&evolve(&place, "store", &["1", "--images", "source"]).output().unwrap());
    let current = || place.json(&["status"])["current"]["t"].clone();
    let before = current();
    assert!(before == json!(1) || before.is_null(), "{before}");
    let action = done["action"].as_str().unwrap();
    let (fan, rest) = action.split_at(2);
    let results = place.files("results").into_iter();
    let lost = results.filter(|file| file.to_string_lossy().replace('/', "").contains(&format!("{fan}{rest}")));
    let lost: Vec<_> = lost.collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    std::fs::remove_file(&lost[0]).unwrap();
    assert_eq!(current(), json!({"lost": 1}));
    let text = place.command(&["status"]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&text.stdout)
            .contains("t: parts of round 1 are missing; run `visplay verify --full`, then")
    );
    report(&evolve(&place, "store", &["1"]).output().unwrap());
    assert_eq!(current(), before);
}

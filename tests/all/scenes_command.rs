//! `visplay scenes`: its tables and images, and the files of the nano model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use visplay::grading::last_boxed;
use visplay::imaging::{Limits, decode};
use visplay::random::Seed;
use visplay::reward::{OutputForm, ParsingMode, parse_output};
use visplay::scenes::truth::{SceneJudgement, Truth, judge};
use visplay::scenes::{QuestionFamily, Scene, ScenePurpose, tokenizer_json};
use visplay::tables::{BenchmarkRow, DemonstrationRow, SceneObjectRow, SceneQuestionRow, read_file};
use visplay::vlm::config::Config;
use visplay::vlm::image_processor::ImageProcessor;
use visplay::vlm::prompt::{Fill, Prompt, Template};
use visplay::vlm::tokenizer::Tokenizer;

use crate::support::{VISPLAY, stderr_of};

fn run(arguments: &[&str], folder: &Path) -> Output {
    Command::new(VISPLAY).arg("scenes").args(arguments).current_dir(folder).output().unwrap()
}

fn write(arguments: &[&str], folder: &Path) {
    let output = run(arguments, folder);
    assert!(output.status.success(), "{arguments:?}: {}", stderr_of(&output));
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn nano_tokenizer() -> Tokenizer {
    let config = Config::load(&project("data/nano")).unwrap();
    Tokenizer::load(&project("data/nano"), &config).unwrap()
}

/// Reads every file below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file());
    entries.map(|e| (e.path().strip_prefix(folder).unwrap().to_owned(), std::fs::read(e.path()).unwrap())).collect()
}

#[test]
fn images_objects_and_questions_agree_with_the_library() {
    let place = tempfile::tempdir().unwrap();
    write(&["--count", "30", "--seed", "5", "--first", "1010", "--out", "a", "--threads", "1"], place.path());
    write(&["--count", "30", "--seed", "5", "--first", "1010", "--out", "b", "--threads", "3"], place.path());
    let written = files(&place.path().join("a"));
    assert_eq!(written, files(&place.path().join("b")), "the same bytes at any number of threads");
    assert_eq!(written.len(), 32);
    let objects: Vec<SceneObjectRow> = read_file(&place.path().join("a/scenes.parquet")).unwrap();
    let questions: Vec<SceneQuestionRow> = read_file(&place.path().join("a/questions.parquet")).unwrap();
    assert_eq!(questions.len(), 30 * QuestionFamily::ALL.len());
    for index in 1010..1040 {
        let scene = Scene::draw(ScenePurpose::Images, Seed(5), index);
        assert_eq!(written[Path::new(&format!("images/{index:06}.png"))], scene.to_png());
        let of_scene: Vec<_> = objects.iter().filter(|row| row.scene == index).collect();
        assert_eq!(of_scene.len(), scene.objects().len());
        for (row, object) in of_scene.iter().zip(scene.objects()) {
            assert_eq!((row.colour.as_str(), row.shape.as_str()), (object.colour.as_str(), object.shape.as_str()));
            assert_eq!((row.row, row.column), (u32::from(object.row), u32::from(object.column)));
        }
        let of_scene: Vec<_> = questions.iter().filter(|row| row.scene == index).collect();
        for (row, family) in of_scene.iter().zip(QuestionFamily::ALL) {
            assert_eq!((row.family.as_str(), row.hard), (family.as_str(), family.is_hard()));
            let SceneJudgement::Known(question, truth) = judge(&row.question, &scene) else {
                panic!("{}", row.question)
            };
            assert_eq!((question.family(), truth.text()), (family, row.answer.as_str()));
        }
    }
    // A part of a longer range has the same scenes.
    write(&["--count", "5", "--seed", "5", "--first", "1020", "--out", "c"], place.path());
    let part = files(&place.path().join("c"));
    assert_eq!(part[Path::new("images/001022.png")], written[Path::new("images/001022.png")]);
}

#[test]
fn demonstrations_have_right_answers() {
    let place = tempfile::tempdir().unwrap();
    write(&["--count", "400", "--seed", "5", "--out", "d", "--demonstrations"], place.path());
    let rows: Vec<DemonstrationRow> = read_file(&place.path().join("d/demonstrations.parquet")).unwrap();
    assert_eq!(rows.len(), 400 * 5);
    let styles = |rows: &[DemonstrationRow]| -> Vec<String> { rows.iter().map(|row| row.style.clone()).collect() };
    let mut looks = 0;
    let mut easy = 0;
    for (index, rows) in rows.chunks_exact(5).enumerate() {
        let scene = Scene::draw(ScenePurpose::WarmStart, Seed(5), index as u64);
        assert!(place.path().join("d").join(&rows[0].image.path).is_file());
        assert!(rows.iter().all(|row| row.scene == index as u64 && row.image == rows[0].image && !row.wrong));
        let styles = styles(rows);
        assert_eq!((styles[0].as_str(), styles[4].as_str()), ("describe", "ask"));
        let objects = rows[0].response.split_whitespace().filter(|word| *word != "no").count();
        assert_eq!(objects, 2 * scene.objects().len(), "{}", rows[0].response);
        for row in &rows[1..4] {
            let SceneJudgement::Known(question, truth) = judge(&row.prompt, &scene) else { panic!("{}", row.prompt) };
            assert_eq!(row.family.as_deref(), Some(question.family().as_str()));
            assert_eq!(last_boxed(&row.response), Some(truth.text()), "{row:?}");
            looks += u32::from(row.style == "look-first");
            assert_eq!(row.style == "straight", row.response.starts_with("\\boxed{"));
        }
        let families: BTreeSet<_> = rows[1..4].iter().map(|row| &row.family).collect();
        assert_eq!(families.len(), 3);
        let asked = parse_output(&rows[4].response, OutputForm::TypeQuestion, ParsingMode::Strict).unwrap();
        let SceneJudgement::Known(question, _) = judge(&asked.question, &scene) else { panic!("{}", asked.question) };
        assert_eq!(asked.kind.as_deref(), Some(question.family().question_type().as_str()));
        easy += u32::from(!question.family().is_hard());
    }
    assert!((420..540).contains(&looks), "{looks} of 1200 look first");
    assert!((270..350).contains(&easy), "{easy} of 400 asked questions are easy");
}

#[test]
fn wrong_answers_and_family_weights_are_as_requested() {
    let place = tempfile::tempdir().unwrap();
    let weighted = ["--weight", "share=4", "--weight", "exists=0"];
    let arguments =
        [&["--count", "400", "--seed", "6", "--out", "w", "--demonstrations", "--wrong", "0.35"][..], &weighted];
    write(&arguments.concat(), place.path());
    let rows: Vec<DemonstrationRow> = read_file(&place.path().join("w/demonstrations.parquet")).unwrap();
    let (mut wrong, mut straight, mut shares) = (0, 0, 0);
    for row in rows.iter().filter(|row| matches!(row.style.as_str(), "straight" | "look-first")) {
        let scene = Scene::draw(ScenePurpose::WarmStart, Seed(6), row.scene);
        let SceneJudgement::Known(_, truth) = judge(&row.prompt, &scene) else { panic!("{}", row.prompt) };
        assert_eq!(last_boxed(&row.response) != Some(truth.text()), row.wrong, "{row:?}");
        assert!(!row.wrong || row.style == "straight");
        wrong += u32::from(row.wrong);
        straight += u32::from(row.style == "straight");
        shares += u32::from(row.family.as_deref() == Some("share"));
        assert_ne!(row.family.as_deref(), Some("exists"));
    }
    let part = f64::from(wrong) / f64::from(straight);
    assert!((0.29..0.41).contains(&part), "{wrong} of {straight}");
    // Weight 4 against thirteen families of weight 1, three draws without replacement.
    assert!((190..290).contains(&shares), "{shares} of 400 images have a share");
    for (arguments, part) in [
        (&["--wrong", "1.5"][..], "--wrong"),
        (&["--weight", "share=x"], "weight"),
        (&["--weight", "shares=2"], "most-colour"),
        (&["--weight", "share"], "FAMILY=N"),
    ] {
        let arguments = [&["--count", "1", "--out", "x", "--demonstrations"][..], arguments].concat();
        let output = run(&arguments, place.path());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr_of(&output).contains(part), "{arguments:?}: {}", stderr_of(&output));
    }
}

#[test]
fn the_benchmark_is_balanced_and_its_scenes_are_held_out() {
    let place = tempfile::tempdir().unwrap();
    write(&["--count", "600", "--seed", "1", "--benchmark", "b/scenes.parquet"], place.path());
    let rows: Vec<BenchmarkRow> = read_file(&place.path().join("b/scenes.parquet")).unwrap();
    assert_eq!(rows.len(), 600);
    let mut families: BTreeMap<String, u32> = BTreeMap::new();
    let mut nones = 0;
    for (index, row) in rows.iter().enumerate() {
        let scene = Scene::draw(ScenePurpose::Benchmark, Seed(1), index as u64);
        assert_eq!(row.image.bytes, scene.to_png());
        let SceneJudgement::Known(question, truth) = judge(&row.question, &scene) else { panic!("{}", row.question) };
        assert_eq!(row.answer, truth.text());
        assert_eq!(row.category.as_deref(), Some(question.family().as_str()));
        *families.entry(question.family().as_str().to_owned()).or_default() += 1;
        nones += u32::from(!matches!(truth, Truth::Answer(_)));
    }
    assert!(families.values().all(|&n| n == 40) && families.len() == 15, "{families:?}");
    assert!(nones < 90, "{nones} of 600 have no answer");
    let ids: BTreeSet<_> = rows.iter().map(|row| row.item_id).collect();
    assert_eq!(ids.len(), 600);
    // Images and demonstrations of the same seed have different scenes.
    let held_out: BTreeSet<Vec<u8>> = rows.iter().map(|row| row.image.bytes.clone()).collect();
    for purpose in [ScenePurpose::Images, ScenePurpose::WarmStart] {
        assert!((0..600).all(|index| !held_out.contains(&Scene::draw(purpose, Seed(1), index).to_png())));
    }
    let shipped = std::fs::read(project("data/benchmarks/scenes.parquet")).unwrap();
    assert_eq!(
        shipped,
        std::fs::read(place.path().join("b/scenes.parquet")).unwrap(),
        "the file that ships is this one"
    );
}

#[test]
fn the_nano_tokenizer_is_generated_by_this_program() {
    let place = tempfile::tempdir().unwrap();
    write(&["--tokenizer", "t/tokenizer.json"], place.path());
    let made = std::fs::read_to_string(place.path().join("t/tokenizer.json")).unwrap();
    assert_eq!(made, tokenizer_json().unwrap());
    assert_eq!(made, std::fs::read_to_string(project("data/nano/tokenizer.json")).unwrap());
    let tokenizer = nano_tokenizer();
    assert!((400..=600).contains(&tokenizer.id_count()), "{} tokens", tokenizer.id_count());
}

#[test]
fn every_word_of_a_template_is_one_token() {
    let tokenizer = nano_tokenizer();
    let words = "How many more red green blue yellow circles squares triangles shapes circle square triangle shape are there \
                 in the top bottom left right half row column total than not different colours do have Is a A B C D yes no \
                 Which What colour is most common among of only share to one decimal and multiple choice regression";
    for word in words.split_whitespace() {
        let starts = matches!(word, "How" | "Is" | "Which" | "What" | "regression" | "multiple");
        let text = if starts { word.to_owned() } else { format!(" {word}") };
        let ids = tokenizer.encode_plain(&text).unwrap();
        let after_mark = tokenizer.encode_plain(&format!(">{word}")).unwrap();
        assert!(ids.len() == 1 || (starts && after_mark.len() == 1), "{text:?} is {} tokens", ids.len());
    }
    let lengths = |text: &str| tokenizer.encode_plain(text).unwrap().len();
    assert_eq!(lengths("How many red circles are there?"), 7);
    assert_eq!(lengths("\\boxed{3}"), 4);
    assert_eq!(lengths("\\boxed{none}"), 3);
    assert_eq!(lengths("Ask a question."), 4);
    assert_eq!(lengths("You are a helpful assistant."), 6);
    assert_eq!(lengths("1+0+2+0\n\\boxed{3}"), 12);
    let asked = "<type>numerical</type><question>How many red circles are there?</question>";
    assert_eq!(lengths(asked), 15);
}

#[test]
fn prompts_have_the_chat_format() {
    let template = |name: &str, known: &[&str]| {
        let file = project(&format!("pipelines/prompts/nano-{name}.txt"));
        Template::parse(&file, &std::fs::read_to_string(&file).unwrap(), known).unwrap()
    };
    let reasoner = template("reasoner", &["image", "question"]);
    let question = "How many red circles are there?";
    let filled = reasoner.prompt(&[("image", Fill::Image(16)), ("question", Fill::Text(question))]).unwrap();
    assert_eq!(filled, Prompt::chat(visplay::scenes::SYSTEM, Some(16), question));
    let questioner = template("questioner", &["image"]).prompt(&[("image", Fill::Image(16))]).unwrap();
    assert_eq!(questioner, Prompt::chat(visplay::scenes::SYSTEM, Some(16), visplay::scenes::ASK_PROMPT));
    assert_eq!(nano_tokenizer().encode_prompt(&questioner).unwrap().len(), 41);
}

#[test]
fn images_have_at_most_sixteen_tokens() {
    let processor = ImageProcessor::from_file(&project("data/nano/preprocessor_config.json")).unwrap();
    assert_eq!(processor.grid(112, 112).unwrap(), [1, 8, 8]);
    for (width, height) in [(4000, 3000), (640, 480), (224, 224), (1000, 100), (30, 40), (56, 56)] {
        let [_, h, w] = processor.grid(width, height).unwrap();
        assert!((8..=24).contains(&(h * w / 4)), "{width} x {height}: {} tokens", h * w / 4);
    }
    let png = Scene::draw(ScenePurpose::Images, Seed(1), 0).to_png();
    let pixels = decode(&png, &Limits::default()).unwrap().pixels;
    assert_eq!(processor.process(&pixels).unwrap().grid, [1, 8, 8]);
}

#[test]
fn transformers_tokenizes_alike() {
    let frozen = std::fs::read_to_string(project("tests/oracles/nano-tokenizer.json")).unwrap();
    let frozen: Value = serde_json::from_str(&frozen).unwrap();
    let tokenizer = nano_tokenizer();
    let cases = frozen["texts"].as_array().unwrap();
    assert!(cases.len() >= 200);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
    }
    for chat in frozen["chats"].as_array().unwrap() {
        let (system, question) = (chat["system"].as_str().unwrap(), chat["question"].as_str().unwrap());
        let ids: Vec<u32> = serde_json::from_value(chat["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode_prompt(&Prompt::chat(system, Some(16), question)).unwrap(), ids, "{question:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_comes_back_from_its_tokens(text in "\\PC*|[a-zA-Z0-9 \\n\\t?{}\\\\<>|/]*") {
        let tokenizer = nano_tokenizer();
        // The normalizer is NFC, as Qwen's: text that it does not change decodes to the same bytes.
        let ids = tokenizer.encode_plain(&text).unwrap();
        let back = tokenizer.decode(&ids, false);
        proptest::prop_assert_eq!(tokenizer.encode_plain(&back).unwrap(), ids);
        if text.is_ascii() {
            proptest::prop_assert_eq!(back, text);
        }
    }
}

#[test]
fn only_regular_files_are_replaced() {
    let place = tempfile::tempdir().unwrap();
    let pipe = place.path().join("pipe.parquet");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::create_dir(place.path().join("folder.parquet")).unwrap();
    std::os::unix::fs::symlink(&pipe, place.path().join("link.parquet")).unwrap();
    for name in ["pipe.parquet", "folder.parquet", "link.parquet"] {
        let output = run(&["--count", "1", "--seed", "1", "--benchmark", name], place.path());
        assert!(!output.status.success());
        let message = stderr_of(&output);
        assert!(message.contains(name) && message.contains("not a regular file"), "{message}");
    }
    assert!(!std::fs::symlink_metadata(&pipe).unwrap().is_file());
}

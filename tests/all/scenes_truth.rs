//! `visplay scenes truth`: right answers of generated questions about drawn scenes.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use visplay::ids::{Digest, GroupId, ImageId, ModelId, PromptId, QuestionId};
use visplay::tables::{
    Finish, QuestionRow, QuestionVerdict, SceneObjectRow, SceneQuestionRow, SceneTruthRow, read_file, to_bytes,
};

use crate::support::{VISPLAY, stderr_of};

fn question(number: usize, image_id: ImageId, text: &str) -> QuestionRow {
    let id = Digest::of(&number.to_le_bytes());
    QuestionRow {
        question_id: QuestionId(id),
        image_id,
        group_id: GroupId(id),
        sample: 0,
        seed: 0,
        prompt_id: PromptId(id),
        model_id: ModelId(id),
        prompt_tokens: 1,
        raw_text: text.to_owned(),
        token_ids: vec![1],
        logprobs: vec![-0.5],
        finish: Finish::Stop,
        valid: true,
        invalid_reason: None,
        question_type: None,
        question: Some(text.to_owned()),
        claimed_answer: None,
    }
}

fn truth(folder: &Path, arguments: &[&str]) -> std::process::Output {
    Command::new(VISPLAY).args(["scenes", "truth"]).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn every_question_of_a_scene_gets_the_generators_answer() {
    let place = tempfile::tempdir().unwrap();
    let drawn = Command::new(VISPLAY)
        .args(["scenes", "--count", "12", "--seed", "8", "--out", "drawn"])
        .current_dir(place.path())
        .output()
        .unwrap();
    assert!(drawn.status.success(), "{}", stderr_of(&drawn));
    let asked: Vec<SceneQuestionRow> = read_file(&place.path().join("drawn/questions.parquet")).unwrap();
    let id = |image: &str| ImageId(Digest::of(&std::fs::read(place.path().join("drawn").join(image)).unwrap()));
    let mut rows: Vec<QuestionRow> =
        asked.iter().enumerate().map(|(n, row)| question(n, id(&row.image), &row.question)).collect();
    let image = id(&asked[0].image);
    let others = [
        (image, "How many red circles and circles are there in total?", QuestionVerdict::Ambiguous),
        (image, "What is the weather?", QuestionVerdict::Unknown),
        (ImageId(Digest::of(b"a photograph")), "How many circles are there?", QuestionVerdict::NoScene),
    ];
    for (image, text, _) in others {
        rows.push(question(rows.len(), image, text));
    }
    let invalid = QuestionRow { valid: false, question: None, ..question(rows.len(), image, "?") };
    rows.push(invalid);
    std::fs::create_dir(place.path().join("q")).unwrap();
    std::fs::write(place.path().join("q/1.parquet"), to_bytes(rows).unwrap()).unwrap();

    let arguments = ["q", "--scenes", "drawn/scenes.parquet", "--out", "made/truth.parquet", "--json"];
    let output = truth(place.path(), &arguments);
    assert!(output.status.success(), "{}", stderr_of(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["rows"], &report["not_valid"]), (&json!(12 * 15 + 3), &json!(1)));
    let truths: Vec<SceneTruthRow> = read_file(&place.path().join("made/truth.parquet")).unwrap();
    for (row, asked) in truths.iter().zip(&asked) {
        assert_eq!(row.answer.as_ref(), Some(&asked.answer), "{}", asked.question);
        assert_eq!(row.family.as_ref(), Some(&asked.family));
        assert_eq!((row.hard, row.image.as_ref()), (Some(asked.hard), Some(&asked.image)));
        let void = matches!(row.verdict, QuestionVerdict::Tie | QuestionVerdict::FalsePremise);
        assert_eq!(void, asked.answer == "none", "{}", asked.question);
    }
    for (row, (_, text, verdict)) in truths[asked.len()..].iter().zip(others) {
        assert_eq!((row.verdict, &row.answer, row.question.as_str()), (verdict, &None, text));
    }
}

#[test]
fn an_invalid_scene_is_reported_with_its_row() {
    let place = tempfile::tempdir().unwrap();
    let object = SceneObjectRow {
        scene: 0,
        image: "images/000000.png".to_owned(),
        object: 0,
        colour: "mauve".to_owned(),
        shape: "circle".to_owned(),
        row: 1,
        column: 1,
        x: 14,
        y: 14,
        size: 6,
    };
    let write = |row: SceneObjectRow| std::fs::write(place.path().join("s.parquet"), to_bytes([row]).unwrap()).unwrap();
    std::fs::write(place.path().join("q.parquet"), to_bytes::<QuestionRow>([]).unwrap()).unwrap();
    let error_message = || {
        let output = truth(place.path(), &["q.parquet", "--scenes", "s.parquet", "--out", "t.parquet"]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr_of(&output));
        stderr_of(&output)
    };
    write(object.clone());
    assert!(error_message().contains("s.parquet: row 0 does not describe an object of a scene"), "{}", error_message());
    write(SceneObjectRow { colour: "red".to_owned(), ..object });
    assert!(error_message().contains("images/000000.png: the image of a scene cannot be read"), "{}", error_message());
    assert!(!place.path().join("t.parquet").exists());
}

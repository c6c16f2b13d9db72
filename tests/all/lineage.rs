//! Lineage of every kind of id, in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use visplay::tables::{self, AnswerRow, CurriculumRow, QuestionRow, RejectRow, RewardRow, Role, TableRow, VoteRow};

use crate::rounds::{PIPELINE, evolve, place, report};
use crate::support::{Workspace, stderr_of};

/// Returns the rows of a table of round 1.
fn rows<R: TableRow>(place: &Workspace) -> Vec<R> {
    let files = place.files(&format!("views/t/round=1/{}", R::TABLE));
    files.iter().flat_map(|file| tables::read_file::<R>(file).unwrap()).collect()
}

fn place_with_round() -> Workspace {
    let place = place();
    // The lineage of a sample leads to the next checkpoint, so none of them is dropped.
    std::fs::write(place.path().join("p.toml"), format!("{PIPELINE}[retention]\ncheckpoints = \"weights\"\n")).unwrap();
    report(&evolve(&place, "store", &["1", "--images", "source"]).output().unwrap());
    place
}

fn lineage(place: &Workspace, id: &str) -> Value {
    place.json(&["lineage", id])
}

#[test]
fn a_curriculum_row_leads_from_its_image_to_its_checkpoint() {
    let place = place_with_round();
    let (curriculum, answers): (Vec<CurriculumRow>, Vec<AnswerRow>) = (rows(&place), rows(&place));
    let rewards: Vec<RewardRow> = rows(&place);
    let trained: BTreeSet<_> =
        rewards.iter().filter(|row| row.role == Role::Reasoner).map(|row| row.subject_id).collect();
    let is_trained = |row: &&CurriculumRow| {
        answers.iter().any(|answer| answer.question_id == row.question_id && trained.contains(&answer.answer_id.0))
    };
    let row = curriculum.iter().find(is_trained).unwrap();
    let id = row.question_id.to_string();
    let clock = Instant::now();
    let entity = lineage(&place, &id);
    assert!(clock.elapsed() < Duration::from_secs(2), "{:?}", clock.elapsed());
    assert_eq!((&entity["kind"], &entity["what"]["question"]), (&json!("question"), &json!(row.problem)));

    // Upstream: the image file, the prompt's text, the weights and the step that produced them.
    let up = &entity["up"];
    assert_eq!(up["image"]["id"], json!(row.image_id));
    let source = up["image"]["source"].as_str().unwrap();
    assert!(place.source().join(source).exists(), "{source}");
    assert_eq!(up["image"]["table"], json!(["t/images"]));
    assert!(up["prompt"]["text"].as_str().unwrap().contains("{{image}}"), "{up}");
    assert_eq!(up["weights"]["names"], json!(["t/round-0001/questioner"]));
    assert!(up["weights"]["is"].as_str().unwrap().contains("after step 2 of the questioner"), "{up}");
    assert_eq!(up["made by"]["in"], json!(["t round 1, asking"]));

    // Downstream: the vote with every sample and its rule, as in the tables.
    let votes: Vec<VoteRow> = rows(&place);
    let down = &entity["down"];
    let in_round = |vote: &&Value| vote["in"] == json!(["t round 1, voting"]);
    let vote = down["votes"].as_array().unwrap().iter().find(in_round).unwrap();
    let stored = votes.iter().find(|vote| vote.question_id == row.question_id).unwrap();
    assert_eq!((&vote["majority"], &vote["confidence"]), (&json!(row.pseudo_label), &json!(row.confidence)));
    assert_eq!(vote["samples"].as_array().unwrap().len(), stored.sampled as usize);
    let counts: Vec<u64> =
        vote["classes"].as_array().unwrap().iter().map(|class| class["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, stored.class_counts.iter().map(|&n| u64::from(n)).collect::<Vec<_>>());
    let mut rules = BTreeMap::<&str, usize>::new();
    for sample in vote["samples"].as_array().unwrap() {
        *rules.entry(sample["rule"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(rules["first of its class"], counts.len());
    assert_eq!(rules.get("text").copied().unwrap_or(0), counts.iter().sum::<u64>() as usize - counts.len());
    assert_eq!((&down["fate"][0]["kept"], &down["fate"][0]["label"]), (&json!(true), &json!(row.pseudo_label)));
    let gates: Vec<&str> =
        down["gates"].as_array().unwrap().iter().map(|gate| gate["gate"].as_str().unwrap()).collect();
    assert!(gates.contains(&"kept_rows") && gates.contains(&"valid_share"), "{gates:?}");

    // Training: rewards of its samples, the step that used them, and the checkpoint after it.
    let subject_rewards: Vec<&RewardRow> = rewards
        .iter()
        .filter(|reward| answers.iter().any(|a| a.answer_id.0 == reward.subject_id && a.question_id == row.question_id))
        .collect();
    let shown = down["rewards"].as_array().unwrap();
    assert_eq!(shown.len(), subject_rewards.len());
    for reward in &subject_rewards {
        let one = shown.iter().find(|one| one["subject"] == json!(reward.subject_id)).unwrap();
        assert_eq!((&one["reward"], &one["advantage"]), (&json!(reward.reward), &json!(reward.advantage)));
    }
    let steps: BTreeSet<u64> =
        down["updates"].as_array().unwrap().iter().map(|update| update["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, subject_rewards.iter().map(|reward| u64::from(reward.step)).collect());
    for update in down["updates"].as_array().unwrap() {
        let at = update["checkpoint"]["kept at"]["step"].as_u64().unwrap();
        // Checkpoints are kept for every second step and for the last of three.
        assert_eq!(at, if update["step"] == 2 { 2 } else { 1 });
        assert_eq!(update["checkpoint"]["model"], json!(["t/round-0001/reasoner"]));
    }

    // The first digits suffice, and each direction can be requested alone.
    assert_eq!(lineage(&place, &id[..20]), entity);
    let up = place.json(&["lineage", &id, "--up"]);
    assert_eq!((&up["up"], &up["down"]), (&entity["up"], &Value::Null));
    let text = String::from_utf8(place.command(&["lineage", &id[..20]]).output().unwrap().stdout).unwrap();
    for part in [source, &row.problem, "first of its class", "t/round-0001/reasoner", "kept_rows"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn every_kind_of_id_has_its_lineage() {
    let place = place_with_round();
    let kind = |id: &str, kind: &str| {
        let entity = lineage(&place, id);
        assert_eq!(entity["kind"], kind, "{id}");
        entity
    };
    // A rejected question has its reason.
    let rejects: Vec<RejectRow> = rows(&place);
    let reject = rejects.iter().find(|row| row.stage == "curriculum").unwrap();
    let entity = kind(&reject.subject_id.unwrap().to_string(), "question");
    assert_eq!(
        (&entity["down"]["fate"][0]["kept"], &entity["down"]["fate"][0]["reason"]),
        (&json!(false), &json!(reject.reason))
    );
    // A sample of the Questioner's training has its own reward and update.
    let rewards: Vec<RewardRow> = rows(&place);
    let sample = rewards.iter().find(|row| row.role == Role::Questioner && row.step == 1).unwrap();
    let entity = kind(&sample.subject_id.to_string(), "question");
    assert_eq!(
        (&entity["down"]["rewards"][0]["reward"], &entity["down"]["updates"][0]["step"]),
        (&json!(sample.reward), &json!(1))
    );
    assert!(entity["up"]["made by"]["in"][0].as_str().unwrap().contains("Questioner's training, step 1"), "{entity}");
    assert!(entity["up"]["weights"]["is"].as_str().unwrap().contains("after step 0 of the questioner"), "{entity}");
    // An answer in the Reasoner's training.
    let sample = rewards.iter().find(|row| row.role == Role::Reasoner && row.step == 2).unwrap();
    let entity = kind(&sample.subject_id.to_string(), "answer");
    assert_eq!(
        (&entity["down"]["rewards"][0]["advantage"], &entity["down"]["updates"][0]["step"]),
        (&json!(sample.advantage), &json!(2))
    );
    assert!(entity["up"]["question"]["label"].is_string(), "{entity}");
    // An image, with every question about it.
    let questions: Vec<QuestionRow> = rows(&place);
    let image = questions[0].image_id;
    let entity = kind(&image.to_string(), "image");
    let listed = entity["down"]["questions"].as_array().unwrap();
    let ids: BTreeSet<&str> = listed.iter().map(|question| question["id"].as_str().unwrap()).collect();
    for row in questions.iter().filter(|row| row.image_id == image) {
        assert!(ids.contains(row.question_id.to_string().as_str()));
    }
    // Models: one between checkpoints, a named one and the base model.
    let model = rewards_model(&place, &questions);
    let entity = kind(&model, "model");
    assert_eq!(entity["up"]["steps"].as_array().unwrap().len(), 1);
    let named = place.json(&["show", "t/round-0001/reasoner"])["action"]["model"].as_str().unwrap().to_owned();
    let entity = kind(&named, "model");
    assert_eq!(entity["up"]["steps"].as_array().unwrap().len(), 3);
    assert_eq!(entity["up"]["trained from"]["is"], "the base model");
    let base = entity["up"]["trained from"]["id"].as_str().unwrap().to_owned();
    let entity = kind(&base, "model");
    assert!(entity["down"]["drew"].as_array().unwrap().len() > 2, "{entity}");
    // A result, an object and a prompt.
    let shown = place.json(&["show", "t/round-0001/round"]);
    let entity = kind(shown["key"].as_str().unwrap(), "result");
    assert_eq!(entity["what"]["names"], json!(["t/round-0001/round"]));
    let object =
        shown["result"]["outputs"].as_array().unwrap().iter().find(|output| output["role"] == "curriculum").unwrap();
    let entity = kind(object["object"]["digest"].as_str().unwrap(), "object");
    assert_eq!(entity["up"]["made by"]["stage"], "curriculum");
    let entity = kind(&questions[0].prompt_id.to_string(), "prompt");
    assert!(entity["what"]["text"].is_string());
}

/// Returns a model between two checkpoints, which sampled questions after the first step of the
/// Questioner's training.
fn rewards_model(place: &Workspace, questions: &[QuestionRow]) -> String {
    let rewards: Vec<RewardRow> = rows(place);
    let second: BTreeSet<_> =
        rewards.iter().filter(|row| row.role == Role::Questioner && row.step == 1).map(|row| row.subject_id).collect();
    questions.iter().find(|row| second.contains(&row.question_id.0)).unwrap().model_id.to_string()
}

#[test]
fn an_invalid_unknown_or_ambiguous_id_is_an_error() {
    let place = place_with_round();
    let fails = |id: &str, parts: &[&str]| {
        let output = place.command(&["lineage", id]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{id}: {}", stderr_of(&output));
        for part in parts {
            assert!(stderr_of(&output).contains(part), "{id}: {} lacks {part}", stderr_of(&output));
        }
    };
    fails("abc", &["not an id", "4 to 64 hexadecimal digits"]);
    fails("not an id", &["not an id"]);
    fails("../../etc", &["not an id"]);
    fails(&"0".repeat(65), &["not an id"]);
    fails(&"0".repeat(64), &["no id in the store"]);
    // Some ids share their first four digits, which have only 65,536 values.
    let answers = rows::<AnswerRow>(&place).into_iter().map(|row| row.answer_id.to_string());
    let questions = rows::<QuestionRow>(&place).into_iter().map(|row| row.question_id.to_string());
    let files = ["objects", "results"].into_iter().flat_map(|folder| place.files(folder));
    let digests = files.map(|file| file.file_stem().unwrap().to_string_lossy().into_owned());
    let mut of_prefix: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for id in answers.chain(questions).chain(digests) {
        of_prefix.entry(id[..4].to_owned()).or_default().insert(id);
    }
    let (prefix, ids) = of_prefix.iter().find(|(_, ids)| ids.len() > 1).unwrap();
    let ids: Vec<&String> = ids.iter().collect();
    fails(prefix, &["is ambiguous", ids[0], ids[1], "pass more digits"]);
    assert_eq!(lineage(&place, ids[0])["id"], json!(ids[0]));
}

//! Files that look the same in an editor give the same prompt, settings and rows: line ends, byte
//! order marks, and white space at the end of a template.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use visplay::evolution::pipeline::Pipeline;
use visplay::ids::{Digest, PromptId};
use visplay::stages::role_prompt::RolePrompt;
use visplay::tables::Role;
use visplay::vlm::prompt::{Piece, Prompt};

use crate::support::{Workspace, stderr_of};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const TEMPLATE: &str = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n\
                        {{image}}{{question}}<|im_end|>\n<|im_start|>assistant\n";

/// Files that look like a template in an editor.
fn look_alikes(template: &str) -> Vec<(&'static str, Vec<u8>)> {
    let end = template.trim_end();
    let mixed = template.replacen('\n', "\r\n", 2);
    vec![
        ("crlf", template.replace('\n', "\r\n").into()),
        ("cr", template.replace('\n', "\r").into()),
        ("mixed", mixed.into()),
        ("mark", format!("\u{feff}{template}").into()),
        ("mark and crlf", format!("\u{feff}{}", template.replace('\n', "\r\n")).into()),
        ("two marks", format!("\u{feff}\u{feff}{template}").into()),
        ("no last newline", end.into()),
        ("two last newlines", format!("{template}\n").into()),
        ("blank lines at the end", format!("{template}\n \t\n\r\n").into()),
        ("spaces at the end", format!("{end}  \t").into()),
        ("spaces and a newline at the end", format!("{end} \n").into()),
        ("a mark at the end", format!("{template}\u{feff}").into()),
        ("crlf but for the end", end.replace('\n', "\r\n").into()),
        ("an ideographic space at the end", format!("{end}\u{3000}\n").into()),
        ("a blank first line", format!("\n{template}").into()),
        ("spaces after every header", template.replace("system\n", "system \n").replace("user\n", "user\t\n").into()),
    ]
}

#[test]
fn look_alikes_of_a_template_are_one_prompt() {
    let file = Path::new("t.txt");
    let prompt = RolePrompt::read(file, TEMPLATE.as_bytes()).unwrap();
    assert_eq!(prompt.text, TEMPLATE);
    for (name, bytes) in look_alikes(TEMPLATE) {
        let other = RolePrompt::read(file, &bytes).unwrap();
        assert_eq!((&other.id, other.text.as_str()), (&prompt.id, TEMPLATE), "{name}");
        other.check_end().unwrap();
    }
}

#[test]
fn a_well_formed_template_keeps_its_id() {
    let mut seen = 0;
    for entry in std::fs::read_dir(project("pipelines/prompts")).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("chat.txt") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let prompt = RolePrompt::read(&path, &bytes).unwrap();
        assert_eq!(prompt.id, PromptId(Digest::of(&bytes)), "{}", path.display());
        prompt.check_end().unwrap();
        seen += 1;
    }
    assert_eq!(seen, 6);
    // The chat format, which is compiled in, ends in the same way.
    let chat = Prompt::chat("s", None, "q");
    assert_eq!(chat.pieces().last(), Some(&Piece::Text("assistant\n".to_owned())));
}

#[test]
fn a_begun_answer_is_kept_without_invisible_characters_at_its_end() {
    let file = Path::new("t.txt");
    let begun = format!("{TEMPLATE}<think>\nLet me look.\n\n  First,");
    let prompt = RolePrompt::read(file, begun.as_bytes()).unwrap();
    assert_eq!(prompt.text, begun);
    prompt.check_end().unwrap();
    for (name, bytes) in look_alikes(&format!("{begun}\n")) {
        assert_eq!(RolePrompt::read(file, &bytes).unwrap().id, prompt.id, "{name}");
    }
}

#[test]
fn a_template_without_the_models_turn_at_its_end_is_refused() {
    let place = Workspace::in_memory();
    let benchmark = project("data/benchmarks/scenes.parquet").display().to_string();
    let base = project("data/nano").display().to_string();
    let utf16: Vec<u8> = TEMPLATE.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let turn = "must end with `<|im_start|>assistant`";
    let user = TEMPLATE.replace("assistant\n", "user\n");
    let typo = TEMPLATE.replace("assistant\n", "asistant\n");
    let same_line = TEMPLATE.replace("assistant\n", "assistant: ");
    let closed = format!("{TEMPLATE}Sure.<|im_end|>\n");
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), "it is a binary file"),
        ("no-header", b"{{image}}{{question}}\n".to_vec(), turn),
        ("closed", closed.into(), turn),
        ("user", user.into(), "the last role header of the template is `<|im_start|>user`"),
        ("typo", typo.into(), "the last role header of the template is `<|im_start|>asistant`"),
        ("same-line", same_line.into(), turn),
        ("utf-16", [b"\xff\xfe".as_slice(), &utf16].concat(), "save it as UTF-8"),
        ("utf-16-without-mark", utf16, "save it as UTF-8"),
        ("latin-1", [TEMPLATE.as_bytes(), b"caf\xe9"].concat(), "line 6 is not UTF-8"),
        ("end-of-file-mark", format!("{TEMPLATE}\u{1a}").into(), "the control character U+001A"),
    ];
    for (name, bytes, part) in cases {
        let prompt = format!("{name}.txt");
        std::fs::write(place.path().join(&prompt), &bytes).unwrap();
        let arguments = ["evaluate", "--model", &base, "--benchmark", &benchmark, "--items", "1", "--max-tokens", "1"];
        let output = place.command(&arguments).args(["--prompt", &prompt]).output().unwrap();
        let stderr = stderr_of(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.contains(&prompt) && stderr.contains(part), "{name}: {stderr}");
        // The same rule holds for the prompts of a pipeline.
        let text = format!("evolution = \"a\"\n[prompts]\nreasoner = \"{prompt}\"\n");
        let pipeline = Pipeline::parse(&place.path().join("p.toml"), &text).unwrap();
        let read = pipeline.prompt(Role::Reasoner);
        let message = match read.and_then(|prompt| pipeline.check_prompt(Role::Reasoner, &prompt)) {
            Err(e) => e.to_string(),
            Ok(()) => panic!("{name} is accepted"),
        };
        assert!(message.contains(&prompt) && message.contains(part), "{name}: {message}");
    }
}

#[test]
fn look_alikes_of_a_prompt_share_their_predictions() {
    let place = Workspace::in_memory();
    let benchmark = project("data/benchmarks/scenes.parquet").display().to_string();
    let base = project("data/nano").display().to_string();
    let evaluate = |prompt: &str| {
        let arguments = ["evaluate", "--model", &base, "--benchmark", &benchmark, "--items", "2", "--max-tokens", "4"];
        place.json(&[&arguments[..], &["--sampled", "0", "--prompt", prompt]].concat())
    };
    std::fs::write(place.path().join("lf.txt"), TEMPLATE).unwrap();
    let expected = evaluate("lf.txt");
    let results = place.files("results").len();
    for (name, bytes) in look_alikes(TEMPLATE).into_iter().take(8) {
        std::fs::write(place.path().join("other.txt"), bytes).unwrap();
        assert_eq!(evaluate("other.txt"), expected, "{name}");
        assert_eq!(place.files("results").len(), results, "{name}");
    }
}

#[test]
fn look_alikes_of_a_pipeline_file_are_one_pipeline() {
    let place = Workspace::in_memory();
    let file = place.path().join("p.toml");
    std::fs::write(place.path().join("lf.txt"), TEMPLATE).unwrap();
    let text = "# mine\nevolution = \"a\"\n\n[prompts]\nreasoner = \"crlf.txt\"\n[curriculum]\nlow = 0.3\n\
                drop_question_contains = [\n  \"\"\"x\ny\"\"\",\n]\n";
    std::fs::write(place.path().join("crlf.txt"), TEMPLATE.replace('\n', "\r\n")).unwrap();
    std::fs::write(&file, text).unwrap();
    let pipeline = Pipeline::load(Some(&file)).unwrap();
    let prompt = pipeline.prompt(Role::Reasoner).unwrap();
    assert_eq!(prompt.text, TEMPLATE);
    let look_alikes = [
        text.replace('\n', "\r\n"),
        text.replace('\n', "\r"),
        format!("\u{feff}{text}"),
        format!("\u{feff}{}", text.replace('\n', "\r\n")),
    ];
    for look_alike in look_alikes {
        std::fs::write(&file, &look_alike).unwrap();
        assert_eq!(Pipeline::load(Some(&file)).unwrap(), pipeline, "{look_alike:?}");
    }
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    std::fs::write(&file, [b"\xfe\xff".as_slice(), &utf16].concat()).unwrap();
    let message = Pipeline::load(Some(&file)).unwrap_err().to_string();
    assert!(message.contains("p.toml") && message.contains("save it as UTF-8"), "{message}");
}

#[test]
fn look_alikes_of_json_lines_give_the_same_rows() {
    let place = Workspace::in_memory();
    let grade = |bytes: &[u8]| {
        let file = place.path().join("pairs.jsonl");
        std::fs::write(&file, bytes).unwrap();
        place.command(&["grade", "pairs.jsonl"]).stdin(Stdio::null()).output().unwrap()
    };
    let line = "{\"given\":\"1\",\"gold\":\"1\"}";
    let text = format!("{line}\n{line}\n");
    let expected = grade(text.as_bytes());
    assert!(expected.status.success(), "{}", stderr_of(&expected));
    let marked = format!("\u{feff}{line}\r\n");
    let crlf = text.replace('\n', "\r\n");
    for other in [crlf, format!("\u{feff}{text}"), format!("{marked}{marked}"), format!("{line}\n{line}")] {
        assert_eq!(grade(other.as_bytes()).stdout, expected.stdout, "{other:?}");
    }
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let refused = grade(&utf16);
    assert!(stderr_of(&refused).contains("save it as UTF-8"), "{}", stderr_of(&refused));
}

#[test]
fn the_texts_of_the_tree_have_lf_line_ends_in_every_checkout() {
    let attributes = std::fs::read_to_string(project(".gitattributes")).unwrap();
    assert!(attributes.lines().any(|line| line == "* text=auto eol=lf"), "{attributes}");
    let mut folders = vec![project("pipelines")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            assert!(!std::fs::read(&path).unwrap().contains(&b'\r'), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 7, "{seen} files");
}

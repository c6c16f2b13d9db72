//! The pipeline file: every knob of an evolution, in TOML. An unknown key, a wrong type or a value out of range is an error that
//! names the file, the line and the key.
//!
//! A file names a preset and says what is otherwise; what neither says has the default that the section's type documents.

mod edit;
mod error;
mod gates;
mod ingest;
mod lints;
mod model;
mod presets;
mod roles;
mod round;
mod update;
mod validate;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::edit::Setting;
pub use self::error::PipelineError;
use self::error::{explain, line_of_key};
pub use self::gates::{Gates, Thresholds};
pub use self::ingest::Ingest;
pub use self::model::{ComputeDtype, Model, Prompts};
pub use self::roles::{Questioner, Reasoner, SamplingSection};
pub use self::round::{EvaluationSection, Round};
pub use self::update::Updates;
use self::validate::first_invalid_value;
use crate::stages::curriculum::CurriculumSettings;
use crate::stages::role_prompt::RolePrompt;

/// The bundled pipeline, used where no file is named and `pipelines/nano.toml` is not at hand.
const NANO: &str = include_str!("../../../pipelines/nano.toml");

/// Where the default pipeline file lies in a checkout.
pub const DEFAULT_FILE: &str = "pipelines/nano.toml";

/// The bundled prompts, used where the pipeline file's folder has none of that name.
const BUNDLED_PROMPTS: [(&str, &str); 2] = [
    ("prompts/nano-questioner.txt", include_str!("../../../pipelines/prompts/nano-questioner.txt")),
    ("prompts/nano-reasoner.txt", include_str!("../../../pipelines/prompts/nano-reasoner.txt")),
];

/// A pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The evolution that results are named under, unless the command line says otherwise.
    pub evolution: String,
    /// What every key is that the file does not name: paper or released-code.
    #[serde(default = "paper")]
    pub preset: String,
    /// What becomes an image.
    #[serde(default)]
    pub ingest: Ingest,
    /// The base model.
    #[serde(default)]
    pub model: Model,
    /// The prompts of both roles.
    #[serde(default)]
    pub prompts: Prompts,
    /// The Questioner.
    #[serde(default)]
    pub questioner: Questioner,
    /// The Reasoner.
    #[serde(default)]
    pub reasoner: Reasoner,
    /// How both draw.
    #[serde(default)]
    pub sampling: SamplingSection,
    /// What the Reasoner learns from.
    #[serde(default)]
    pub curriculum: CurriculumSettings,
    /// How both are trained.
    #[serde(default)]
    pub update: Updates,
    /// What measures the Reasoner.
    #[serde(default)]
    pub evaluation: EvaluationSection,
    /// What stops a round.
    #[serde(default)]
    pub gates: Gates,
    /// How much a round does.
    #[serde(default)]
    pub round: Round,
    /// The folder of the pipeline file, which its prompts are relative to.
    #[serde(skip)]
    pub folder: PathBuf,
}

fn paper() -> String {
    "paper".to_owned()
}

impl Pipeline {
    /// Reads a pipeline file; without one, `pipelines/nano.toml`, or the bundled copy of it.
    ///
    /// # Errors
    /// See [`PipelineError`].
    pub fn load(file: Option<&Path>) -> Result<Self, PipelineError> {
        let (name, text) = Self::text(file)?;
        Self::parse(&name, &text)
    }

    /// The text of a pipeline file, and the name that errors give it; without one as [`load`](Self::load) finds it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn text(file: Option<&Path>) -> Result<(PathBuf, String), PipelineError> {
        let name = file.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
        let failed = |problem| PipelineError { file: name.clone(), line: None, problem, nearest: None };
        let text = match std::fs::read_to_string(&name) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => match file {
                None => NANO.to_owned(),
                Some(_) => return Err(failed("there is no such file".into())),
            },
            Err(e) => return Err(failed(format!("cannot be read: {e}"))),
        };
        Ok((name, text))
    }

    /// A pipeline that says nothing but its preset.
    ///
    /// # Errors
    /// There is no such preset.
    pub fn of_preset(preset: &str) -> Result<Self, PipelineError> {
        let text = format!("evolution = \"preset\"\npreset = {}\n", toml::Value::from(preset));
        Self::parse(Path::new(preset), &text)
    }

    /// Reads the text of a pipeline file.
    ///
    /// # Errors
    /// See [`PipelineError`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, PipelineError> {
        // Read by itself first: only so an error knows its place in the text.
        let said: Self = toml::from_str(text).map_err(|e| explain(file, text, &e))?;
        let wrong = |key: &str, problem: String| PipelineError {
            file: file.to_owned(),
            line: line_of_key(text, key),
            problem: format!("`{key}`: {problem}"),
            nearest: None,
        };
        let mut table = presets::table(&said.preset).map_err(|e| wrong("preset", e.to_string()))?;
        presets::merge(&mut table, toml::from_str(text).map_err(|e| explain(file, text, &e))?);
        let mut pipeline: Self =
            toml::Value::Table(table).try_into().map_err(|e: toml::de::Error| explain(file, text, &e))?;
        pipeline.folder = file.parent().map(Path::to_owned).unwrap_or_default();
        if pipeline.gates.label_accuracy.stop.is_some() {
            let problem = "this gate can only warn, since no truth steers a round; take the line out";
            return Err(wrong("gates.label_accuracy.stop", problem.to_owned()));
        }
        match first_invalid_value(&pipeline) {
            None => Ok(pipeline),
            Some((key, problem)) => Err(wrong(&key, problem)),
        }
    }

    /// What the bundled pipeline file says above a key: where its values come from.
    pub fn bundled_comment(key: &str) -> Option<String> {
        edit::comment_of(NANO, key)
    }

    /// The prompt template of a key of `[prompts]`.
    ///
    /// # Errors
    /// The file cannot be read or is no template.
    pub fn prompt(&self, name: &str) -> Result<RolePrompt, PipelineError> {
        let file = self.folder.join(name);
        let failed = |problem: String| PipelineError { file: file.clone(), line: None, problem, nearest: None };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) => match BUNDLED_PROMPTS.iter().find(|(bundled, _)| *bundled == name) {
                Some((_, text)) if e.kind() == std::io::ErrorKind::NotFound => (*text).to_owned(),
                _ => return Err(failed(format!("the prompt cannot be read: {e}"))),
            },
        };
        RolePrompt::parse(&file, &text).map_err(|e| {
            // The error names the file itself.
            let (said, name) = (e.to_string(), file.display().to_string());
            let rest = said.strip_prefix(&name).and_then(|rest| rest.strip_prefix(':'));
            match rest.and_then(|rest| rest.split_once(": ")) {
                Some((line, problem)) => PipelineError { line: line.parse().ok(), ..failed(problem.to_owned()) },
                None => failed(said),
            }
        })
    }
}

/// The text of a pipeline file with a key set, and everything else as it is written.
///
/// # Errors
/// The text is no TOML.
pub fn with_setting(file: &Path, text: &str, setting: &Setting) -> Result<String, PipelineError> {
    edit::with(text, setting).map_err(|e| explain(file, text, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> PipelineError {
        Pipeline::parse(Path::new("p.toml"), text).expect_err("must not parse")
    }

    /// Every key of a table by its dotted path; a table's own is not one.
    fn keys(table: &toml::Table, path: &str, found: &mut Vec<String>) {
        for (key, value) in table {
            let dotted = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match value {
                toml::Value::Table(inner) => keys(inner, &dotted, found),
                _ => found.push(dotted),
            }
        }
    }

    #[test]
    fn the_pipelines_that_ship_are_usable_and_list_every_key() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
        let mut seen = 0;
        for entry in std::fs::read_dir(&folder).expect("the folder of pipelines") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|ending| ending != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("readable");
            let pipeline = Pipeline::parse(&path, &text).expect("usable");
            let mut all = Vec::new();
            keys(&toml::Table::try_from(&pipeline).expect("a table"), "", &mut all);
            for key in all {
                assert!(line_of_key(&text, &key).is_some(), "{key} is not in {}", path.display());
            }
            for prompt in [&pipeline.prompts.questioner, &pipeline.prompts.reasoner] {
                pipeline.prompt(prompt).expect("a prompt");
            }
            seen += 1;
        }
        assert!(seen >= 7, "{seen} pipelines");
    }

    #[test]
    fn a_preset_sets_what_the_file_does_not() {
        let of = |text: &str| Pipeline::parse(Path::new("p.toml"), text).expect("usable");
        let paper = of("evolution = \"a\"\n");
        assert_eq!((paper.curriculum.low, paper.questioner.scope), (0.25, crate::reward::DiversityScope::Group));
        assert_eq!(paper.sampling.reasoner.top_k, 40);
        let code = of("evolution = \"a\"\npreset = \"released-code\"\n[curriculum]\nlow = 0.4\n");
        assert_eq!((code.curriculum.low, code.curriculum.high, code.curriculum.label_samples), (0.4, 0.8, 9));
        assert_eq!((code.reasoner.form, code.update.reasoner.steps), (0.1, 40));
        let e = error("evolution = \"a\"\npreset = \"papr\"\n");
        assert_eq!(
            e.to_string(),
            "p.toml:2: `preset`: there is no preset \"papr\"; the presets are paper, released-code"
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest() {
        let e = error("evolution = \"a\"\n[ingest]\nmax_byte = 3\n");
        assert_eq!(e.to_string(), "p.toml:3: unknown key `max_byte`; did you mean `max_bytes`?");
        let e = error("evolution = \"a\"\n[ingets]\nmax_bytes = 3\n");
        assert_eq!((e.line, e.nearest.as_deref()), (Some(2), Some("ingest")));
        assert_eq!(error("evolution = \"a\"\nzzzzzzzzzz = 1\n").nearest, None);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        let e = error("evolution = \"a\"\n[ingest]\n\nshard_rows = 0\n");
        assert_eq!(e.to_string(), "p.toml:4: `ingest.shard_rows`: 0 is not within 1 to 1048576");
        let e = error("evolution = \"a\"\n[ingest]\nmax_bytes = \"x\"\n");
        assert_eq!(e.line, Some(3));
        assert!(e.problem.contains("max_bytes"), "{e}");
        let e = error("evolution = \"../x\"\n");
        assert_eq!(e.line, Some(1));
        let e = error("evolution = \"a\"\n[ingest]\nnear_duplicate_bits = 17\n");
        assert!(e.to_string().contains("ingest.near_duplicate_bits"), "{e}");
        assert!(error("evolution = \"a\"\n[ingest\n").line.is_some());
        assert!(error("").problem.contains("evolution"));
    }
}

//! The pipeline file: every setting of an evolution, in TOML.
//!
//! A file names a preset and sets the keys that differ from it. A key that neither sets has the
//! default that its section's type documents. An unknown key, a wrong type or a value out of range
//! is an error that names the file, the line and the key. Paths are relative to the file's folder.

mod edit;
mod error;
mod gates;
mod ingest;
mod lints;
mod model;
mod paths;
mod presets;
mod retention;
mod roles;
mod round;
pub(crate) mod section;
mod validate;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::edit::{Setting, current_name};
pub use self::error::PipelineError;
pub(crate) use self::error::PipelineSource;
pub use self::gates::{Gates, Thresholds};
pub use self::ingest::Ingest;
pub use self::model::{ComputeDtype, Model, Prompts};
use self::paths::resolve;
pub use self::retention::{CheckpointRetention, ModelRetention, Retention};
pub use self::roles::{Questioner, Reasoner, SamplingSection, Updates};
pub use self::round::{EvaluationSection, Round};
use self::validate::first_invalid_value;
use crate::stages::curriculum::CurriculumSettings;
use crate::stages::role_prompt::RolePrompt;
use crate::tables::Role;
use crate::text_file;
use crate::vlm::prompt::PromptError;

/// Location of the default pipeline file in a checkout.
const DEFAULT_FILE: &str = "pipelines/nano.toml";

/// The default pipeline, built in for working directories without a [`DEFAULT_FILE`], and the name
/// that errors give it.
const NANO: &str = include_str!("../../../pipelines/nano.toml");
const BUILT_IN: &str = "pipelines/nano.toml (built in)";

/// The prompts of the default pipeline, used where the pipeline file's folder has none of these
/// names.
const BUILT_IN_PROMPTS: [(&str, &str); 2] = [
    ("prompts/nano-questioner.txt", include_str!("../../../pipelines/prompts/nano-questioner.txt")),
    ("prompts/nano-reasoner.txt", include_str!("../../../pipelines/prompts/nano-reasoner.txt")),
];

/// A pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Name of the evolution, unless the command line names another.
    pub evolution: String,
    /// Preset that sets the keys which the file leaves out: paper or released-code.
    #[serde(default = "paper")]
    pub preset: String,
    /// Sources, limits and shards of ingest.
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
    /// Sampling of both roles and its memory limits.
    #[serde(default)]
    pub sampling: SamplingSection,
    /// Selection of the questions that the Reasoner is trained on.
    #[serde(default)]
    pub curriculum: CurriculumSettings,
    /// Training settings of both roles.
    #[serde(default)]
    pub update: Updates,
    /// Benchmarks and protocols that measure the Reasoner.
    #[serde(default)]
    pub evaluation: EvaluationSection,
    /// Thresholds that warn or stop a round.
    #[serde(default)]
    pub gates: Gates,
    /// Size and seed of a round.
    #[serde(default)]
    pub round: Round,
    /// Models and checkpoints that finished rounds keep.
    #[serde(default)]
    pub retention: Retention,
    #[serde(skip)]
    pub(super) source: PipelineSource,
}

fn paper() -> String {
    "paper".to_owned()
}

impl Pipeline {
    /// Reads a pipeline file; without one, `pipelines/nano.toml` or the built-in copy of it.
    ///
    /// # Errors
    /// See [`PipelineError`].
    pub fn load(file: Option<&Path>) -> Result<Self, PipelineError> {
        let (name, text) = Self::text(file)?;
        Self::parse(&name, &text)
    }

    /// Reads the text of a pipeline file that [`load`](Self::load) would read, and the name that
    /// errors give it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn text(file: Option<&Path>) -> Result<(PathBuf, String), PipelineError> {
        let name = file.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
        let problem = match std::fs::read(&name) {
            Ok(bytes) => match text_file::decode(&bytes) {
                Ok(text) => return Ok((name, text)),
                Err(e) => e.to_string(),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => match file {
                None => return Ok((BUILT_IN.into(), NANO.to_owned())),
                Some(_) => "there is no such pipeline file; check --pipeline".to_owned(),
            },
            Err(e) => format!("cannot be read: {e}"),
        };
        Err(PipelineError::of_file(name, problem))
    }

    /// Returns a pipeline that sets nothing but its preset.
    ///
    /// # Errors
    /// The preset does not exist.
    pub fn of_preset(preset: &str) -> Result<Self, PipelineError> {
        let text = format!("evolution = \"preset\"\npreset = {}\n", toml::Value::from(preset));
        Self::parse(Path::new(preset), &text)
    }

    /// Reads the text of a pipeline file.
    ///
    /// # Errors
    /// See [`PipelineError`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, PipelineError> {
        let source = PipelineSource::new(file, text);
        if source.folder().to_str().is_none() {
            let problem = "the folder's name is not UTF-8; rename it, or run the command inside it";
            return Err(PipelineError::of_file(file, problem));
        }
        let explain = |e: toml::de::Error| source.explain(e.message(), e.span());
        // Parsed by itself first: an error of the merged table would not have a line in the text.
        let unmerged: Self = toml::from_str(text).map_err(explain)?;
        let mut table = presets::read(&unmerged.preset).map_err(|e| source.error("preset", e))?;
        presets::merge(&mut table, toml::from_str(text).map_err(explain)?);
        let mut pipeline: Self = toml::Value::Table(table).try_into().map_err(explain)?;
        if pipeline.gates.label_accuracy.stop.is_some() {
            let problem = "this gate can only warn, since no truth steers a round; remove the key";
            return Err(source.error("gates.label_accuracy.stop", problem));
        }
        if let Some((key, problem)) = first_invalid_value(&pipeline) {
            return Err(source.error(&key, problem));
        }
        pipeline.source = source;
        pipeline.resolve_paths();
        Ok(pipeline)
    }

    /// Returns the comment above a key in the default pipeline file, which says where its values
    /// come from.
    pub fn default_comment(key: &str) -> Option<String> {
        edit::comment_of(NANO, key)
    }

    /// Reads the prompt template of a role.
    ///
    /// # Errors
    /// The file cannot be read or is not a template.
    pub fn prompt(&self, role: Role) -> Result<RolePrompt, PipelineError> {
        let (key, file) = self.prompt_path(role);
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(e) => match self.built_in_prompt(file) {
                Some(text) if e.kind() == std::io::ErrorKind::NotFound => text.as_bytes().to_owned(),
                _ => return Err(self.path_error(key, file, &e)),
            },
        };
        RolePrompt::read(file, &bytes).map_err(|e| prompt_error(file, &e))
    }

    /// Checks that the prompt of a role has the variables that the role needs and ends where the
    /// model's turn begins.
    ///
    /// # Errors
    /// It does not.
    pub fn check_prompt(&self, role: Role, prompt: &RolePrompt) -> Result<(), PipelineError> {
        let (key, file) = self.prompt_path(role);
        let variables: &[&str] = match role {
            Role::Questioner => &["image"],
            Role::Reasoner => &["image", "question"],
        };
        if let Some(variable) = variables.iter().find(|variable| !prompt.has(variable)) {
            let problem = format!("{} has no {{{{{variable}}}}}; add it to the template", file.display());
            return Err(self.source.error(key, problem));
        }
        prompt.check_end().map_err(|e| self.source.error(key, e))
    }

    /// Returns the key and the path of a role's prompt template.
    pub(crate) fn prompt_path(&self, role: Role) -> (&'static str, &Path) {
        match role {
            Role::Questioner => ("prompts.questioner", &self.prompts.questioner),
            Role::Reasoner => ("prompts.reasoner", &self.prompts.reasoner),
        }
    }

    /// Returns the built-in prompt that replaces a missing prompt file.
    pub(crate) fn built_in_prompt(&self, file: &Path) -> Option<&'static str> {
        let folder = self.source.folder();
        BUILT_IN_PROMPTS.iter().find(|(name, _)| resolve(folder, Path::new(name)) == file).map(|(_, text)| *text)
    }
}

/// Returns the error of a prompt's file, with the line that it names.
fn prompt_error(file: &Path, e: &PromptError) -> PipelineError {
    let failed = |problem: String| PipelineError { file: file.to_owned(), line: None, problem, nearest: None };
    // The error names the file itself.
    let (message, name) = (e.to_string(), file.display().to_string());
    let Some(rest) = message.strip_prefix(&name).and_then(|rest| rest.strip_prefix(':')) else {
        return failed(message);
    };
    match rest.split_once(": ").map(|(line, problem)| (line.parse().ok(), problem)) {
        Some((Some(line), problem)) => PipelineError { line: Some(line), ..failed(problem.to_owned()) },
        _ => failed(rest.trim_start().to_owned()),
    }
}

/// Returns the text of a pipeline file with a key set; comments and layout stay.
///
/// # Errors
/// The text is not valid TOML.
pub fn with_setting(file: &Path, text: &str, setting: &Setting) -> Result<String, PipelineError> {
    let source = PipelineSource::new(file, text);
    edit::set_key(text, setting).map_err(|e| source.explain(e.message(), e.span()))
}

#[cfg(test)]
impl Pipeline {
    /// Reads a pipeline file `p.toml` that has these keys after the evolution's name.
    pub(super) fn parse_keys(text: &str) -> Result<Self, PipelineError> {
        Self::parse(Path::new("p.toml"), &format!("evolution = \"a\"\n{text}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::error::line_of_key;
    use super::*;

    fn error(text: &str) -> PipelineError {
        Pipeline::parse(Path::new("p.toml"), text).expect_err("must not parse")
    }

    /// Collects the dotted paths of all values of a table; nested tables are not listed themselves.
    fn collect_keys(table: &toml::Table, path: &str, keys: &mut Vec<String>) {
        for (key, value) in table {
            let dotted = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match value {
                toml::Value::Table(inner) => collect_keys(inner, &dotted, keys),
                _ => keys.push(dotted),
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
            collect_keys(&toml::Table::try_from(&pipeline).expect("a table"), "", &mut all);
            for key in all {
                assert!(line_of_key(&text, &key).is_some(), "{key} is not in {}", path.display());
            }
            for role in [Role::Questioner, Role::Reasoner] {
                pipeline.prompt(role).expect("a prompt");
            }
            // The labelled file is drawn by the user, as the pipeline file says.
            if pipeline.model.base.ends_with("data/nano") && pipeline.round.labelled.as_os_str().is_empty() {
                pipeline.check_path("model.base", &pipeline.model.base).expect("the nano model of the checkout");
                pipeline.check_files().expect("files of the checkout");
                pipeline.ingest_sources().expect("images of the checkout");
            }
            seen += 1;
        }
        assert!(seen >= 7, "{seen} pipelines");
    }

    #[test]
    fn a_preset_sets_what_the_file_does_not() {
        let parse_text = |text: &str| Pipeline::parse_keys(text).expect("usable");
        let paper = parse_text("");
        assert_eq!((paper.curriculum.low, paper.questioner.scope), (0.25, crate::reward::DiversityScope::Group));
        assert_eq!(paper.sampling.reasoner.top_k, 40);
        let code = parse_text("preset = \"released-code\"\n[curriculum]\nlow = 0.4");
        assert_eq!((code.curriculum.low, code.curriculum.high, code.curriculum.label_samples), (0.4, 0.8, 9));
        assert_eq!((code.reasoner.form, code.update.reasoner.steps), (0.1, 40));
        let e = error("evolution = \"a\"\npreset = \"papr\"\n");
        let expected = "p.toml:2: `preset`: there is no preset \"papr\"; the presets are paper, released-code";
        assert_eq!(e.to_string(), expected);
    }

    #[test]
    fn a_renamed_key_is_set_and_reported_under_either_name() {
        let names = ["layers_at_once", "layers_per_checkpoint"];
        for (name, in_file) in names.into_iter().flat_map(|name| names.map(|in_file| (name, in_file))) {
            for text in [
                format!("[update.reasoner]\n# why\n{in_file} = 7\n"),
                format!("[update]\nreasoner = {{ {in_file} = 7 }}\n"),
                format!("update.reasoner.{in_file} = 7\n"),
                "[update.reasoner]\n".to_owned(),
            ] {
                let (file, text) = (Path::new("p.toml"), format!("evolution = \"a\"\n{text}"));
                let setting = Setting::parse(&format!("update.reasoner.{name}=3")).expect("a setting");
                let changed = with_setting(file, &text, &setting).expect("TOML");
                let pipeline = Pipeline::parse(file, &changed).expect(&changed);
                assert_eq!(pipeline.update.reasoner.layers_per_checkpoint, 3, "{changed}");
                let expected = if text.contains(in_file) { in_file } else { names[1] };
                assert!(changed.contains(&format!("{expected} = 3")), "{changed}");
            }
            let e = error(&format!("evolution = \"a\"\n[update.reasoner]\n{in_file} = 0\n"));
            assert_eq!(e.line, Some(3), "{e}");
        }
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

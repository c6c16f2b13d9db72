//! Branch: a new evolution that shares another's first rounds and continues with other settings.
//!
//! The shared rounds are the same results under other refs; nothing is copied. The settings are a
//! new pipeline file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::finished::{self, STOPPED, ref_name};
use super::pipeline::{Pipeline, PipelineError, Setting, with_setting};
use super::settings::{changes, settings_of};
use super::{EvolutionError, Result};
use crate::stages::StageError;
use crate::stages::ingest::{self, IMAGES};
use crate::stages::model::BASE;
use crate::store::{Ref, RefUpdate, Store, is_name};

/// The parameters of a branch.
pub struct BranchRequest<'a> {
    /// The store.
    pub store: &'a Store,
    /// Name of the new evolution.
    pub name: &'a str,
    /// The last round to share; 0 shares only the images and the base model.
    pub from: u32,
    /// Name of the evolution to branch from.
    pub evolution: &'a str,
    /// The original pipeline file: its path and its text.
    pub pipeline: (&'a Path, &'a str),
    /// The settings to change.
    pub settings: &'a [Setting],
    /// The path of the new pipeline file.
    pub out: &'a Path,
}

/// A branch.
#[derive(Debug, Clone, Serialize)]
pub struct BranchResult {
    /// The evolution.
    pub evolution: String,
    /// Its pipeline file.
    pub pipeline: PathBuf,
    /// Number of shared refs.
    pub shared: usize,
    /// Whether the branch existed before.
    #[serde(rename = "found")]
    pub already_existed: bool,
}

/// Creates a branch. Creating the same one again changes nothing.
///
/// # Errors
/// The name is taken, a shared round is not finished, or the settings are invalid.
pub fn branch(request: &BranchRequest<'_>) -> Result<BranchResult> {
    let BranchRequest { store, name, from, evolution, .. } = *request;
    if !is_name(name) {
        let rule = "use 1 to 64 letters, digits, `.`, `_` and `-`, the first one a letter, digit or `_`";
        return Err(parameter_error("NAME", format!("`{name}` cannot name an evolution: {rule}")));
    }
    if name == evolution {
        let problem = format!("`{name}` is the evolution to branch from; the branch needs a name of its own");
        return Err(parameter_error("NAME", problem));
    }
    let text = build_text(request)?;
    let all = store.refs()?;
    let shared = shared_refs(&all, evolution, from)?;
    check_name(&all, request, &text, &shared)?;
    let is_new_file = write(request.out, &text)?;
    let mut advanced = 0;
    for r in &shared {
        let before = store.head(name, &r.name)?;
        if before.as_ref().is_some_and(|before| before.sequence >= r.sequence) {
            continue;
        }
        match store.advance(name, &r.name, before.as_ref(), r.result)? {
            RefUpdate::Applied(_) => advanced += 1,
            RefUpdate::Conflict(_) => return Err(name_taken(name)),
        }
    }
    write_views(store, name, &shared)?;
    let (evolution, pipeline) = (name.to_owned(), request.out.to_owned());
    Ok(BranchResult { evolution, pipeline, shared: shared.len(), already_existed: !is_new_file && advanced == 0 })
}

fn parameter_error(key: &'static str, problem: String) -> EvolutionError {
    StageError::Parameter { key, problem }.into()
}

fn name_taken(name: &str) -> EvolutionError {
    let problem = format!("the evolution `{name}` already exists and is not this branch; choose another name");
    parameter_error("NAME", problem)
}

/// Returns the refs to share, oldest of each name first: the images, the base model and the rounds
/// up to `from`.
fn shared_refs(all: &[Ref], evolution: &str, from: u32) -> Result<Vec<Ref>> {
    let refs: Vec<&Ref> = all.iter().filter(|r| r.evolution == evolution).collect();
    if refs.is_empty() {
        let mut names: Vec<&str> = all.iter().map(|r| r.evolution.as_str()).collect();
        names.dedup();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let problem = format!("the store has no evolution `{evolution}`; its evolutions: {there}");
        return Err(parameter_error("--evolution", problem));
    }
    let is_done = |number: u32| refs.iter().any(|r| r.name == ref_name(number, "round"));
    if let Some(missing) = (1..=from).find(|number| !is_done(*number)) {
        let last = match missing {
            1 => "no round is finished".to_owned(),
            n => format!("the last finished round is round-{}", n - 1),
        };
        return Err(parameter_error("--from", format!("round {missing} of `{evolution}` is not finished; {last}")));
    }
    // Rounds that a gate stopped are not shared.
    let is_shared = |r: &&&Ref| match r.round_part() {
        Some((number, part)) => (1..=from).contains(&number) && part != STOPPED,
        None => [IMAGES, BASE].contains(&r.name.as_str()),
    };
    let mut shared: Vec<Ref> = refs.into_iter().filter(|r| is_shared(&r)).cloned().collect();
    shared.sort_by(|a, b| (&a.name, a.sequence).cmp(&(&b.name, b.sequence)));
    Ok(shared)
}

/// Checks that the name is free or is this very branch: its pipeline file, which is written before
/// any ref, has the same text, and none of its refs names another result.
fn check_name(all: &[Ref], request: &BranchRequest<'_>, text: &str, shared: &[Ref]) -> Result<()> {
    let mut existing = all.iter().filter(|r| r.evolution == request.name).peekable();
    if existing.peek().is_none() {
        return Ok(());
    }
    let is_same_file = fs::read_to_string(request.out).is_ok_and(|there| there == text);
    let differs =
        |r: &Ref| shared.iter().any(|s| (&s.name, s.sequence) == (&r.name, r.sequence) && s.result != r.result);
    if !is_same_file || existing.any(differs) { Err(name_taken(request.name)) } else { Ok(()) }
}

/// Returns the checked text of the branch's pipeline file.
fn build_text(request: &BranchRequest<'_>) -> Result<String> {
    let (file, original) = request.pipeline;
    // Errors of the file itself must not be blamed on the settings.
    let base = Pipeline::parse(file, original)?;
    if request.settings.iter().any(|setting| setting.key == "evolution") {
        return Err(parameter_error("--set", "`evolution` is set by NAME; remove it from --set".to_owned()));
    }
    if let [setting] = request.settings
        && setting.key == "preset"
    {
        check_preset(file, original, setting)?;
    }
    let named = Setting { key: "evolution".into(), value: toml::Value::from(request.name).to_string() };
    let mut settings = vec![named];
    settings.extend(absolute_paths(request, &base));
    settings.extend(request.settings.iter().cloned());
    apply_settings(request.out, original, &settings).map_err(|all| {
        // Each setting is tried alone to find the wrong one; they may be wrong only together.
        let error_alone = |setting: &Setting| {
            let e = apply_settings(request.out, original, std::slice::from_ref(setting)).err()?;
            Some((format!("{}={}", setting.key, setting.value), e))
        };
        let wrong = request.settings.iter().find_map(error_alone);
        let (source, e) = wrong.unwrap_or(("these settings together".to_owned(), all));
        parameter_error("--set", format!("{source}: {}", e.problem))
    })
}

/// Checks that another preset changes something: it applies only to keys that the file leaves out.
fn check_preset(file: &Path, text: &str, setting: &Setting) -> Result<()> {
    // An unknown preset is reported with the other settings.
    let Ok(changed) = apply_settings(file, text, std::slice::from_ref(setting)) else { return Ok(()) };
    let settings_in = |text: &str| Pipeline::parse(file, text).map(|pipeline| settings_of(&pipeline, true));
    let differs = changes(&settings_in(text)?, &settings_in(&changed)?).iter().any(|change| change.key != "preset");
    if differs || changed == text {
        return Ok(());
    }
    let problem = format!(
        "preset={}: {} sets every key itself, so the preset changes nothing; branch from a file of that preset with \
         --pipeline, or set single keys",
        setting.value,
        file.display()
    );
    Err(parameter_error("--set", problem))
}

fn apply_settings(file: &Path, text: &str, settings: &[Setting]) -> Result<String, PipelineError> {
    let mut text = text.to_owned();
    for setting in settings {
        text = with_setting(file, &text, setting)?;
    }
    Pipeline::parse(file, &text)?;
    Ok(text)
}

/// Returns the settings that make every path absolute if the branch's file is in another folder
/// than the original, which its paths are relative to. Built-in prompts are found from anywhere.
fn absolute_paths(request: &BranchRequest<'_>, base: &Pipeline) -> Vec<Setting> {
    let folder = |file: &Path| {
        let folder = file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
    };
    if folder(request.pipeline.0) == folder(request.out) {
        return Vec::new();
    }
    let mut paths = BTreeMap::<&str, Vec<toml::Value>>::new();
    for (key, path) in base.clone().paths_mut() {
        if !path.exists() && base.built_in_prompt(path).is_some() {
            continue;
        }
        let absolute = path.canonicalize().or_else(|_| std::path::absolute(&*path)).unwrap_or_else(|_| path.clone());
        paths.entry(key).or_default().push(absolute.to_string_lossy().into_owned().into());
    }
    let setting = |(key, mut values): (&str, Vec<toml::Value>)| {
        let is_list = matches!(key, "ingest.sources" | "evaluation.benchmarks");
        let value = if is_list { toml::Value::Array(values) } else { values.remove(0) };
        Setting { key: key.to_owned(), value: value.to_string() }
    };
    paths.into_iter().map(setting).collect()
}

/// Writes a new file atomically; `false` if it exists already with this text.
fn write(path: &Path, text: &str) -> Result<bool> {
    let source_error =
        |problem: String| -> EvolutionError { StageError::Source { path: path.to_owned(), problem }.into() };
    let failed = |e: std::io::Error| source_error(format!("cannot be written: {e}"));
    match fs::read_to_string(path) {
        Ok(there) if there == text => return Ok(false),
        Ok(_) => {
            let problem = "another file of this name exists; choose another path with --out, or remove it";
            return Err(source_error(problem.into()));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let written = fs::File::create(&partial).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    });
    if written.is_err() {
        // Removal is best effort: the write error is what counts.
        let _ = fs::remove_file(&partial);
    }
    written.map_err(failed).map(|()| true)
}

/// Writes the views of the shared results under the new name.
fn write_views(store: &Store, name: &str, shared: &[Ref]) -> Result<()> {
    for r in shared {
        let Some(result) = store.result(r.result)? else { continue };
        if r.name == IMAGES {
            ingest::write_views(store, name, &result)?;
        }
        if let Some((number, "round")) = r.round_part() {
            finished::write_round_view(store, name, number, &result)?;
        }
    }
    Ok(())
}

//! Inputs of a round whose files are gone: the base model and the prompts, taken from the store.
//!
//! A file that exists is always used, so that a changed one is noticed. Only where it is missing,
//! such as after a move or in another working directory, does the evolution continue with what its
//! earlier rounds stored.

use std::io::ErrorKind;
use std::path::Path;

use super::Result;
use super::finished::{PROMPTS, STOPPED, none_if_damaged, ref_name};
use super::pipeline::Pipeline;
use crate::ids::Digest;
use crate::stages::model::{BASE, CHECKPOINT, IMPORT, import, is_emptied, store_companions};
use crate::stages::role_prompt::RolePrompt;
use crate::stages::{Runner, StageError};
use crate::store::{ActionKey, StageResult, Store};
use crate::tables::Role;

/// The base model of an evolution in the store.
pub(super) struct BaseModel {
    /// The result of its import.
    pub(super) imported: StageResult,
    /// The result with the other files of its folder; `None` if an earlier version imported it.
    pub(super) companions: Option<StageResult>,
}

impl BaseModel {
    /// Imports the folder of the base model; if the folder is gone, finds the model that the
    /// evolution imported before. `round` is the round to be run or rebuilt.
    ///
    /// # Errors
    /// The folder is no checkpoint, or it is gone and the store does not have the model.
    pub(super) fn find(pipeline: &Pipeline, runner: &Runner<'_>, round: u32) -> Result<Self> {
        let folder = &pipeline.model.base;
        let missing = match std::fs::read_dir(folder) {
            Err(e) if e.kind() == ErrorKind::NotADirectory => None,
            Err(e) => Some(pipeline.path_error("model.base", folder, &e)),
            Ok(_) => None,
        };
        let is_readable = missing.is_none();
        if let Some(stored) = Self::stored(&pipeline.evolution, runner.store, round)?
            && (!is_readable || folder.is_dir() && is_emptied(folder, &stored.imported, runner.store)?)
        {
            let problem = if is_readable { "has lost files" } else { "cannot be opened" };
            let message =
                format!("model.base: {} {problem}; continuing with the base model in the store", folder.display());
            runner.progress.say(&message);
            return Ok(stored);
        }
        if let Some(e) = missing {
            return Err(e.into());
        }
        let (imported, _) = import(folder, runner)?;
        let companions = match store_companions(folder, &imported, runner) {
            // A dry run shows the next part of the round instead.
            Err(StageError::WouldRun { .. }) => None,
            companions => Some(companions?),
        };
        Ok(Self { imported, companions })
    }

    /// Finds the model that an evolution imported before.
    fn stored(evolution: &str, store: &Store, round: u32) -> Result<Option<Self>> {
        if let Some(found) = Self::of_round(evolution, store, round)? {
            return Ok(Some(found));
        }
        if let Some(head) = none_if_damaged(store.head(evolution, BASE))?.flatten()
            && let Some(companions) = store.result_with_outputs(head.result)?
            && let Some(imported) = upstream_result(store, &companions, IMPORT)?
        {
            return Ok(Some(Self { imported, companions: Some(companions) }));
        }
        for number in (1..round).rev() {
            if let Some(found) = Self::of_round(evolution, store, number)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Finds the base model of a finished or stopped round.
    fn of_round(evolution: &str, store: &Store, round: u32) -> Result<Option<Self>> {
        for part in ["round", STOPPED] {
            let Some(result) = round_result(evolution, store, round, part)? else { continue };
            if let Some(imported) = upstream_result(store, &result, IMPORT)? {
                return Ok(Some(Self { imported, companions: upstream_result(store, &result, CHECKPOINT)? }));
            }
        }
        Ok(None)
    }
}

/// Names the files of a base model `EVOLUTION/base`, unless its newest version names them.
pub(super) fn name_base(evolution: &str, store: &Store, key: ActionKey) -> Result<()> {
    let head = store.head(evolution, BASE)?;
    if head.as_ref().is_some_and(|head| head.result == key) {
        return Ok(());
    }
    // In a conflict, another process has just named its base model; the next run names the newest.
    store.advance(evolution, BASE, head.as_ref(), key)?;
    Ok(())
}

/// Restores the name of the base model of a finished round if it was lost.
pub(super) fn restore_base_name(evolution: &str, store: &Store, round: &StageResult) -> Result<()> {
    if store.head(evolution, BASE)?.is_some() {
        return Ok(());
    }
    match upstream_result(store, round, CHECKPOINT)? {
        Some(companions) => name_base(evolution, store, companions.action),
        None => Ok(()),
    }
}

/// Reads and checks a role's prompt: its file, or, where the file is gone, the prompt of the newest
/// round up to `round`, and only then the built-in one.
///
/// An earlier version stored the text of a file as it was. A round that is rebuilt keeps that text
/// if the file differs only in invisible white space; a later round takes the normalised one.
pub(super) fn find_prompt(pipeline: &Pipeline, runner: &Runner<'_>, role: Role, round: u32) -> Result<RolePrompt> {
    let (key, file) = pipeline.prompt_path(role);
    let own = prompt_of_round(pipeline, runner.store, role, round)?;
    if !file.exists()
        && let Some((number, prompt)) = newest_prompt(pipeline, runner.store, role, round)?
    {
        if pipeline.built_in_prompt(file) != Some(prompt.text.as_str()) {
            let file = file.display();
            let message = format!("{key}: {file} does not exist; continuing with the prompt of round {number}");
            runner.progress.say(&message);
        }
        if number == round {
            return Ok(prompt);
        }
        let prompt = prompt.normalised().unwrap_or(prompt);
        pipeline.check_prompt(role, &prompt)?;
        return Ok(prompt);
    }
    let prompt = pipeline.prompt(role)?;
    if let Some(own) = own
        && (own.id == prompt.id || own.normalised().is_ok_and(|own| own.id == prompt.id))
    {
        return Ok(own);
    }
    pipeline.check_prompt(role, &prompt)?;
    if let Some((number, before)) = newest_prompt(pipeline, runner.store, role, round.saturating_sub(1))?
        && before.id != prompt.id
        && before.normalised().is_ok_and(|before| before.id == prompt.id)
    {
        let message = format!(
            "{key}: round {number} used this template with its line ends and white space as they were in the file; round \
             {round} uses it normalised, so its prompt has another id"
        );
        runner.progress.say(&message);
    }
    Ok(prompt)
}

/// Finds the prompt of the newest of the rounds up to `last` that stored one, and its round.
fn newest_prompt(pipeline: &Pipeline, store: &Store, role: Role, last: u32) -> Result<Option<(u32, RolePrompt)>> {
    for number in (1..=last).rev() {
        let Some(result) = round_result(&pipeline.evolution, store, number, "round")? else { continue };
        if let Some(prompt) = none_if_damaged(stored_prompt(store, &result, role))?.flatten() {
            return Ok(Some((number, prompt)));
        }
    }
    Ok(None)
}

/// Returns the prompt of a finished or damaged round: the stored one, or else the text of the file
/// as it is, if the round used that.
fn prompt_of_round(pipeline: &Pipeline, store: &Store, role: Role, round: u32) -> Result<Option<RolePrompt>> {
    let Some(result) = round_result(&pipeline.evolution, store, round, "round")? else { return Ok(None) };
    match none_if_damaged(stored_prompt(store, &result, role))?.flatten() {
        Some(prompt) => Ok(Some(prompt)),
        None => raw_prompt(pipeline, store, &result, role),
    }
}

/// Returns the text of a role's file as it is, if the samples of a round were drawn with it.
///
/// # Errors
/// The store cannot be read.
pub(super) fn raw_prompt(
    pipeline: &Pipeline,
    store: &Store,
    round: &StageResult,
    role: Role,
) -> Result<Option<RolePrompt>> {
    let (_, file) = pipeline.prompt_path(role);
    let text = std::fs::read(file).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(prompt) = text.and_then(|text| RolePrompt::from_stored(file, &text).ok()) else { return Ok(None) };
    Ok(has_used(store, round, &prompt)?.then_some(prompt))
}

/// Whether a round's samples were drawn with a prompt.
///
/// # Errors
/// The store cannot be read.
pub(super) fn has_used(store: &Store, round: &StageResult, prompt: &RolePrompt) -> Result<bool> {
    for &key in &round.upstream {
        let used = none_if_damaged(store.action(key))?.and_then(|mut action| action.parameters.remove("prompt"));
        if used.and_then(|id| id.as_str()?.parse::<Digest>().ok()) == Some(prompt.id.0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the prompt of a role that a round stored; `None` for a round that stored none.
///
/// # Errors
/// The object is missing, damaged or malformed.
pub(super) fn stored_prompt(store: &Store, round: &StageResult, role: Role) -> Result<Option<RolePrompt>, StageError> {
    let output_role = PROMPTS[usize::from(role == Role::Reasoner)];
    let Some(output) = round.outputs_of(output_role).next() else { return Ok(None) };
    let bytes = store.read_object(output.object)?;
    let record = || format!("{output_role} {}", output.object);
    let text: String = serde_json::from_slice(&bytes).map_err(|e| StageError::malformed(record(), e))?;
    let prompt = RolePrompt::from_stored(Path::new(output_role), &text);
    prompt.map(Some).map_err(|e| StageError::malformed(record(), e))
}

/// Returns the result that a part of a round names, if it can be read.
fn round_result(evolution: &str, store: &Store, round: u32, part: &str) -> Result<Option<StageResult>> {
    let Some(head) = none_if_damaged(store.head(evolution, &ref_name(round, part)))?.flatten() else {
        return Ok(None);
    };
    Ok(none_if_damaged(store.result(head.result))?.flatten())
}

/// Returns the first upstream result of a stage whose outputs are there.
pub(super) fn upstream_result(store: &Store, result: &StageResult, stage: &str) -> Result<Option<StageResult>> {
    for &key in &result.upstream {
        if none_if_damaged(store.action(key))?.is_some_and(|action| action.stage == stage)
            && let Some(upstream) = store.result_with_outputs(key)?
        {
            return Ok(Some(upstream));
        }
    }
    Ok(None)
}

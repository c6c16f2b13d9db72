//! The files of a checkpoint folder that other programs need besides the weights: the tokenizer's
//! settings, the chat template, the processors.
//!
//! They do not belong to the model's id. The stage `model.checkpoint` stores them once for each
//! base model, and the evolution's ref `base` names its result, so that a trained model can be
//! exported without the folder of its base model.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{IMPORT, NamedModel, StoredModel};
use crate::canonical::to_canonical;
use crate::ids::Digest;
use crate::stages::{Result, Runner, ShardOutput, Stage, StageError, new_action};
use crate::store::{Action, ActionKey, ObjectKind, Output, Ref, StageResult, Store, StoreError};
use crate::vlm::export::{SideFiles, read_side_files};

/// The name of the stage.
pub const CHECKPOINT: &str = "model.checkpoint";
/// The name, in every evolution, of the ref to the files of its base model.
pub const BASE: &str = "base";
/// Prefix of the roles of the files among the outputs.
const ROLE: &str = "checkpoint/";

/// Stores the files of a base model's folder. `imported` is the result of the model's import.
///
/// # Errors
/// A file cannot be read, or the store cannot be written to.
pub fn store_companions(folder: &Path, imported: &StageResult, runner: &Runner<'_>) -> Result<StageResult> {
    let files = read_side_files(folder).map_err(StageError::model)?;
    let stage = CompanionsStage { files, model: StoredModel::from_result(imported)?, imported };
    Ok(runner.run(&stage, &[()])?.results.remove(0))
}

/// Reads the files that [`store_companions`] stored.
///
/// # Errors
/// An object is missing, damaged or malformed.
pub fn read_companions(result: &StageResult, store: &Store) -> Result<SideFiles> {
    let mut files = SideFiles::new();
    for output in &result.outputs {
        let Some(name) = output.role.strip_prefix(ROLE) else { continue };
        let mut bytes = store.read_object(output.object)?;
        if !is_json(name) {
            let text: Text =
                serde_json::from_slice(&bytes).map_err(|e| StageError::malformed(output.object.name(), e))?;
            bytes = match text {
                Text::Unicode(text) => text.into_bytes(),
                Text::Bytes(bytes) => bytes,
            };
        }
        files.insert(name.to_owned(), bytes);
    }
    Ok(files)
}

/// Returns the import of the base model that the result of [`store_companions`] belongs to.
///
/// # Errors
/// The store is damaged.
pub(super) fn import_of(result: &StageResult, store: &Store) -> Result<Option<StageResult>> {
    for &key in &result.upstream {
        if store.action(key)?.stage == IMPORT {
            return Ok(store.result_with_outputs(key)?);
        }
    }
    Ok(None)
}

/// Finds the files that belong to a model that a ref names: those that its own round ran with, or
/// else those of the evolution's newest base model. The base model must have the same
/// configuration, tokenizer and processor.
///
/// # Errors
/// The store is damaged, and no other files fit.
pub fn find_companions(named: &NamedModel, store: &Store) -> Result<Option<SideFiles>> {
    let refs = store.refs()?;
    let Ref { evolution, result, .. } = &named.reference;
    let refs: Vec<&Ref> = refs.iter().filter(|r| r.evolution == *evolution).collect();
    let is_checkpoint = |key: &ActionKey| store.action(*key).is_ok_and(|action| action.stage == CHECKPOINT);
    let (mut own, mut others) = (vec![*result], Vec::new());
    // The refs to the base model may be lost; the rounds list the result too.
    others.extend(refs.iter().filter(|r| r.name == BASE).map(|r| r.result));
    let own_number = named.reference.round_part().map(|(number, _)| number);
    for r in &refs {
        let Some((number, "round")) = r.round_part() else { continue };
        let Ok(Some(round)) = store.result(r.result) else { continue };
        let is_own = Some(number) == own_number && round.upstream.contains(result);
        if is_own { &mut own } else { &mut others }.extend(round.upstream.iter().copied());
    }
    let mut problem = None;
    for key in own.into_iter().chain(others.into_iter().rev()).filter(is_checkpoint) {
        match fitting_result(key, &named.model, store) {
            Ok(Some(companions)) => return read_companions(&companions, store).map(Some),
            Ok(None) => {}
            Err(e) => problem = problem.or(Some(e)),
        }
    }
    problem.map_or(Ok(None), Err)
}

/// Returns a result of [`store_companions`] if its base model fits to a model.
fn fitting_result(key: ActionKey, model: &StoredModel, store: &Store) -> Result<Option<StageResult>> {
    let Some(result) = store.result(key)? else { return Ok(None) };
    let Some(import) = import_of(&result, store)? else { return Ok(None) };
    let fits = StoredModel::from_result(&import)?.side == model.side;
    Ok(fits.then_some(result))
}

/// Whether a file is JSON, which is stored byte for byte. Other files are stored as JSON strings.
fn is_json(name: &str) -> bool {
    name.ends_with(".json")
}

/// The contents of a file that is not JSON, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Unicode(String),
    Bytes(Vec<u8>),
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Unicode(text.to_owned()),
            Err(_) => Self::Bytes(bytes.to_owned()),
        }
    }
}

struct CompanionsStage<'a> {
    files: SideFiles,
    model: StoredModel,
    imported: &'a StageResult,
}

impl Stage for CompanionsStage<'_> {
    type Shard = ();
    const PHASE: &'static str = "storing the model's other files";

    fn action(&self, _shard: &()) -> Action {
        let digests = self.files.iter().map(|(name, bytes)| (name.clone(), Value::from(Digest::of(bytes).to_string())));
        Action {
            parameters: BTreeMap::from([("files".to_owned(), Value::Object(digests.collect()))]),
            model: Some(self.model.id.0),
            writer_profile: 0,
            ..new_action(CHECKPOINT, 1, [])
        }
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput> {
        let mut outputs = Vec::new();
        for (name, bytes) in &self.files {
            let stored =
                if is_json(name) { bytes.clone() } else { to_canonical(&Text::of(bytes)).map_err(StoreError::from)? };
            let object = runner.store.put_object(&stored, ObjectKind::Json)?;
            outputs.push(Output { role: format!("{ROLE}{name}"), object, rows: 0, bytes: stored.len() as u64 });
        }
        runner.progress.advance(1);
        Ok(ShardOutput { outputs, upstream: vec![self.imported.action], ..ShardOutput::default() })
    }
}

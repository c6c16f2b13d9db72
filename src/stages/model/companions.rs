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

use super::{IMPORT, StoredModel};
use crate::canonical::to_canonical;
use crate::ids::Digest;
use crate::stages::{Result, Runner, ShardOutput, Stage, StageError, new_action};
use crate::store::{Action, ActionKey, ObjectKind, Output, StageResult, Store, StoreError};
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
pub fn import_of(result: &StageResult, store: &Store) -> Result<Option<StageResult>> {
    for &key in &result.upstream {
        if store.action(key)?.stage == IMPORT {
            return Ok(store.result_with_outputs(key)?);
        }
    }
    Ok(None)
}

/// Finds the files that belong to a model of an evolution: those of a base model with the same
/// configuration, tokenizer and processor, the newest first.
///
/// # Errors
/// The store is damaged.
pub fn find_companions(evolution: &str, model: &StoredModel, store: &Store) -> Result<Option<SideFiles>> {
    let refs = store.refs()?;
    let mut keys: Vec<ActionKey> =
        refs.iter().filter(|r| r.evolution == evolution && r.name == BASE).map(|r| r.result).collect();
    // A ref may be lost; the rounds list the result too.
    for r in refs.iter().filter(|r| r.evolution == evolution && r.round_part().is_some_and(|(_, part)| part == "round"))
    {
        let Ok(Some(round)) = store.result(r.result) else { continue };
        let is_checkpoint = |key: &ActionKey| store.action(*key).is_ok_and(|action| action.stage == CHECKPOINT);
        keys.extend(round.upstream.into_iter().filter(is_checkpoint));
    }
    for key in keys.into_iter().rev() {
        let Some(result) = store.result(key)? else { continue };
        let same = import_of(&result, store)?.map(|import| StoredModel::from_result(&import)).transpose()?;
        if same.is_some_and(|base| base.side == model.side) {
            return Ok(Some(read_companions(&result, store)?));
        }
    }
    Ok(None)
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

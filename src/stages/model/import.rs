//! The import of a checkpoint folder into the store.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{IMPORT, SIDE_FILES, StoredModel, store_weights};
use crate::ids::Digest;
use crate::stages::{Result, Runner, ShardOutput, Stage, StageError, new_action};
use crate::store::{Action, ObjectId, ObjectKind, Output, StageResult, Store};
use crate::vlm::checkpoint::{GENERATION_FILE, PROCESSOR_FILE, check_patches};
use crate::vlm::config::{Config, check_is_checkpoint};
use crate::vlm::image_processor::{PROCESSORS_FILE, ProcessorText};
use crate::vlm::tokenizer::Tokenizer;
use crate::vlm::weights::Weights;

/// Imports a checkpoint folder into the store.
///
/// # Errors
/// The folder is not a usable checkpoint, or the store cannot be written to.
pub fn import(folder: &Path, runner: &Runner<'_>) -> Result<(StageResult, StoredModel)> {
    check_is_checkpoint(folder).map_err(StageError::model)?;
    let files = CheckpointFiles::of(folder)?;
    let result = runner.run(&ImportStage { folder }, &[files])?.results.remove(0);
    let model = StoredModel::from_result(&result)?;
    Ok((result, model))
}

/// Whether every file of a checkpoint in a folder is one of those that `imported` was imported
/// from, and one that a checkpoint needs is missing: then the folder was emptied, in whole or in
/// part.
///
/// # Errors
/// The folder exists but a file cannot be read, or the store is damaged.
pub fn is_emptied(folder: &Path, imported: &StageResult, store: &Store) -> Result<bool> {
    let original = store.action(imported.action)?.parameters;
    let mut needed = original.keys().filter(|name| *name != GENERATION_FILE);
    if needed.all(|name| folder.join(name).exists()) {
        return Ok(false);
    }
    let files = CheckpointFiles::of(folder)?.0;
    Ok(files.iter().all(|(name, digest)| original.get(name).is_some_and(|other| *other == digest.to_string())))
}

/// Digests of a checkpoint's files by name.
struct CheckpointFiles(BTreeMap<String, Digest>);

impl CheckpointFiles {
    fn of(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        // Hashed only where the processor is a section of it. Reading it reports a malformed file.
        let section = ProcessorText::find(folder).is_ok_and(|processor| processor.is_section);
        for entry in std::fs::read_dir(folder).map_err(StageError::read(folder))? {
            let path = entry.map_err(StageError::read(folder))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let is_section = section && name == PROCESSORS_FILE;
            if is_section || SIDE_FILES.contains(&name.as_str()) || name.ends_with(".safetensors") {
                let mut hasher = blake3::Hasher::new();
                let file = std::fs::File::open(&path).map_err(StageError::read(&path))?;
                hasher.update_reader(file).map_err(StageError::read(&path))?;
                files.insert(name, Digest::from(hasher.finalize()));
            }
        }
        Ok(Self(files))
    }
}

struct ImportStage<'a> {
    folder: &'a Path,
}

impl Stage for ImportStage<'_> {
    type Shard = CheckpointFiles;
    const PHASE: &'static str = "importing the model";

    fn action(&self, files: &CheckpointFiles) -> Action {
        let digests = files.0.iter().map(|(name, digest)| (name.clone(), Value::from(digest.to_string())));
        Action { parameters: digests.collect(), writer_profile: 0, ..new_action(IMPORT, 1, []) }
    }

    fn run_shard(&self, _files: &CheckpointFiles, runner: &Runner<'_>) -> Result<ShardOutput> {
        let config = Config::load(self.folder).map_err(StageError::model)?;
        Tokenizer::load(self.folder, &config).map_err(StageError::model)?;
        let processor = ProcessorText::find(self.folder).map_err(StageError::model)?;
        let image_processor = processor.processor().map_err(StageError::model)?;
        check_patches(&processor.path, &image_processor, &config).map_err(StageError::model)?;
        let weights = Weights::open(self.folder, &config).map_err(StageError::model)?;
        let mut outputs = Vec::new();
        for name in SIDE_FILES {
            let read = match name {
                // A section of another file becomes a separate file.
                PROCESSOR_FILE => Ok(processor.text.clone().into_bytes()),
                _ => std::fs::read(self.folder.join(name)),
            };
            match read {
                Ok(bytes) => {
                    let object: ObjectId = runner.store.put_object(&bytes, ObjectKind::Json)?;
                    outputs.push(Output { role: name.to_owned(), object, rows: 0, bytes: bytes.len() as u64 });
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && name == GENERATION_FILE => {}
                Err(e) => return Err(StageError::read(&self.folder.join(name))(e)),
            }
        }
        outputs.extend(store_weights(runner.store, &config, &weights)?);
        runner.progress.advance(1);
        Ok(ShardOutput { outputs, ..ShardOutput::default() })
    }
}

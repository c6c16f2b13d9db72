//! The import of a checkpoint folder into the store.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use serde_json::Value;

use super::{IMPORT, SIDE_FILES, StoredModel, store_weights};
use crate::ids::Digest;
use crate::stages::{Result, Runner, ShardOutput, Stage, StageError, new_action};
use crate::store::{Action, ActionKey, ClaimOutcome, ObjectId, ObjectKind, Output, ShardState, StageResult, Store};
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
    let files = CheckpointFiles::of(folder, runner)?;
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
    let files = CheckpointFiles::compute(&list_files(folder)?)?.0;
    Ok(files.iter().all(|(name, digest)| original.get(name).is_some_and(|other| *other == digest.to_string())))
}

/// Digests of a checkpoint's files by name.
struct CheckpointFiles(BTreeMap<String, Digest>);

impl CheckpointFiles {
    /// Returns the digests of a checkpoint's files.
    ///
    /// A checkpoint is many gigabytes, so the digests are noted in the store's cache under the
    /// files' names, sizes, times and inodes, and of several processes that start together one
    /// computes them.
    fn of(folder: &Path, runner: &Runner<'_>) -> Result<Self> {
        let files = list_files(folder)?;
        let store = runner.store;
        let Some(key) = identity(folder, &files) else { return Self::compute(&files) };
        let noted = || -> Result<Option<Self>> {
            let noted = store.read_cache(key)?;
            Ok(noted.and_then(|note| serde_json::from_slice(&note).ok()).map(Self))
        };
        loop {
            if let Some(noted) = noted()? {
                return Ok(noted);
            }
            let lease = ActionKey::of_lease("visplay 2026 digests of a checkpoint", &[key.as_bytes()]);
            if store.shard_state(lease)? == ShardState::Free
                && let ClaimOutcome::Acquired(_claim) = store.claim(lease, true)?
            {
                if let Some(noted) = noted()? {
                    return Ok(noted);
                }
                let digests = Self::compute(&files)?;
                // Files that were changed meanwhile have another identity.
                if identity(folder, &files) == Some(key) {
                    store.write_cache(key, &serde_json::to_vec(&digests.0).map_err(StageError::model)?)?;
                }
                return Ok(digests);
            }
            runner.interrupt.check_new_shard()?;
            std::thread::sleep(WAIT);
        }
    }

    /// Reads the files and computes their digests.
    fn compute(files: &[(String, PathBuf)]) -> Result<Self> {
        let digest = |(name, path): &(String, PathBuf)| {
            let mut hasher = blake3::Hasher::new();
            let file = std::fs::File::open(path).map_err(StageError::read(path))?;
            hasher.update_reader(file).map_err(StageError::read(path))?;
            Ok((name.clone(), Digest::from(hasher.finalize())))
        };
        Ok(Self(files.par_iter().map(digest).collect::<Result<_>>()?))
    }
}

/// Pause between two looks for the digests that another process computes.
const WAIT: Duration = Duration::from_millis(250);
/// Least age of files whose digests are noted: a file that is written to twice within the clock's
/// resolution keeps its time.
const SETTLED: Duration = Duration::from_secs(2);

/// Lists the files of a checkpoint that determine the model, by name.
fn list_files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    // Hashed only where the processor is a section of it. Reading it reports a malformed file.
    let section = ProcessorText::find(folder).is_ok_and(|processor| processor.is_section);
    for entry in std::fs::read_dir(folder).map_err(StageError::read(folder))? {
        let path = entry.map_err(StageError::read(folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_section = section && name == PROCESSORS_FILE;
        if is_section || SIDE_FILES.contains(&name.as_str()) || name.ends_with(".safetensors") {
            files.push((name, path));
        }
    }
    files.sort();
    Ok(files)
}

/// Returns a digest of what the file system says of files; `None` if it does not tell or one of
/// them has just been written.
fn identity(folder: &Path, files: &[(String, PathBuf)]) -> Option<Digest> {
    let mut facts = vec![folder.canonicalize().ok()?.to_str()?.to_owned()];
    for (name, path) in files {
        let meta = std::fs::metadata(path).ok()?;
        let age = SystemTime::now().duration_since(meta.modified().ok()?).unwrap_or_default();
        if age < SETTLED {
            return None;
        }
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        facts.push(format!("{name} {} {times:?} {}", meta.len(), meta.ino()));
    }
    let parts: Vec<&[u8]> = facts.iter().map(String::as_bytes).collect();
    Some(Digest::derive("visplay 2026 files of a checkpoint", &parts))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::{Interrupt, NoProgress};

    #[test]
    fn digests_are_noted_until_a_file_changes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(&folder.path().join("store")).expect("a store");
        let interrupt = Interrupt::default();
        let runner = Runner::new(&store, &NoProgress, &interrupt);
        let base = folder.path().join("base");
        std::fs::create_dir(&base).expect("a folder");
        let file = base.join("model.safetensors");
        let write = |text: &str| {
            std::fs::write(&file, text).expect("written");
            // A file that has just been written is not noted.
            let earlier = SystemTime::now() - 2 * SETTLED;
            std::fs::File::open(&file).and_then(|file| file.set_modified(earlier)).expect("a time");
        };
        write("one");
        let digests = || CheckpointFiles::of(&base, &runner).expect("readable").0;
        assert_eq!(digests()["model.safetensors"], Digest::of(b"one"));
        // The note is used: another one in its place is believed.
        let files = list_files(&base).expect("readable");
        let key = identity(&base, &files).expect("settled");
        let planted = BTreeMap::from([("model.safetensors".to_owned(), Digest::of(b"planted"))]);
        store.write_cache(key, &serde_json::to_vec(&planted).expect("json")).expect("written");
        assert_eq!(digests(), planted);
        write("two");
        assert_eq!(digests()["model.safetensors"], Digest::of(b"two"));
        std::fs::write(&file, "now").expect("written");
        assert_eq!(identity(&base, &list_files(&base).expect("readable")), None);
        assert_eq!(digests()["model.safetensors"], Digest::of(b"now"));
    }
}

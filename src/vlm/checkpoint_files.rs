//! The weight files of a checkpoint folder, and the index that names them.
//!
//! The weights are, in the order of transformers' search, `model.safetensors` or the shards that
//! `model.safetensors.index.json` names. In a folder with neither, all `*.safetensors` files are
//! weights, such as those of a checkpoint stored with a file per layer; transformers does not read
//! such folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json_file::read_object;
use super::json_section::abbreviated;
use super::weights_error::{WeightProblem, WeightsError};

/// File name of weights in one file.
pub const SINGLE_FILE: &str = "model.safetensors";
/// File name of the index of weights in several files.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// The weight files of a checkpoint.
#[derive(Debug)]
pub(crate) struct CheckpointFiles {
    /// The files, sorted by name.
    pub(crate) files: Vec<PathBuf>,
    /// The index, if it named the files.
    pub(crate) index: Option<Index>,
}

/// The index: the shard that holds each tensor.
#[derive(Debug)]
pub(crate) struct Index {
    /// The index file.
    pub(crate) file: PathBuf,
    /// Shard name by tensor name.
    pub(crate) weight_map: BTreeMap<String, String>,
}

impl CheckpointFiles {
    /// Finds the weight files of a folder.
    pub(crate) fn find(folder: &Path) -> Result<Self, WeightsError> {
        let single = folder.join(SINGLE_FILE);
        if single.exists() {
            return Ok(Self { files: vec![single], index: None });
        }
        if let Some(index) = Index::read(&folder.join(INDEX_FILE))? {
            let mut files: Vec<PathBuf> = index.weight_map.values().map(|name| folder.join(name)).collect();
            files.sort();
            files.dedup();
            return Ok(Self { files, index: Some(index) });
        }
        let names = file_names(folder)?;
        let with = |extensions: &[&str]| -> Vec<PathBuf> {
            let wanted = |name: &&PathBuf| name.extension().is_some_and(|e| extensions.iter().any(|x| e == *x));
            names.iter().filter(wanted).cloned().collect()
        };
        let files = with(&["safetensors"]);
        if files.is_empty() {
            let pickles = with(&["bin", "pt", "pth", "ckpt"]);
            return Err(WeightsError::NoWeights { folder: folder.to_owned(), pickles });
        }
        Ok(Self { files, index: None })
    }
}

impl Index {
    fn read(file: &Path) -> Result<Option<Self>, WeightsError> {
        let keys = match read_object(file) {
            Ok(keys) => keys,
            Err(e) if e.is_absent() => return Ok(None),
            Err(e) => return Err(WeightsError::Json(e)),
        };
        let unusable =
            |problem: &str| WeightsError::Damaged { problems: vec![WeightProblem::new(file, None, problem)] };
        let Some(Value::Object(map)) = keys.get("weight_map") else {
            return Err(unusable("has no object weight_map, which names the file of each tensor"));
        };
        let mut weight_map = BTreeMap::new();
        for (tensor, shard) in map {
            // A shard is in the folder of the index: a path elsewhere is an attack or a mistake.
            let plain = shard.as_str().filter(|name| {
                Path::new(name).file_name().is_some_and(|file_name| file_name == *name)
                    && name.ends_with(".safetensors")
            });
            let Some(name) = plain else {
                let problem = format!(
                    "says that tensor {tensor:?} is in {}, which is not the name of a safetensors file",
                    abbreviated(shard)
                );
                return Err(unusable(&problem));
            };
            weight_map.insert(tensor.clone(), name.to_owned());
        }
        if weight_map.is_empty() {
            return Err(unusable("names no tensor"));
        }
        Ok(Some(Self { file: file.to_owned(), weight_map }))
    }
}

/// Returns the files of a folder, sorted.
fn file_names(folder: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let read = |source| WeightsError::Read { file: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.is_file() {
            names.push(path);
        }
    }
    names.sort();
    Ok(names)
}

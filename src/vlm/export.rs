//! Export of a checkpoint as a Hugging Face folder: `config.json` in the flat layout, safetensors
//! under the published names, split into shards with an index above a size limit, and copies of the
//! tokenizer's and the processor's files.
//!
//! The folder appears complete or not at all: it is written under a temporary name in the same
//! parent folder and renamed. Equal models give equal bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use tempfile::TempDir;

use super::checkpoint_files::{INDEX_FILE, SINGLE_FILE};
use super::config::{CONFIG_FILE, Config};
pub use super::export_error::ExportError;
use super::parameters::{Parameter, parameters};
use super::safetensors_header::StoredType;
use super::safetensors_writer::{PlannedTensor, write_safetensors};
use super::tensor_source::TensorSource;
use crate::store::sync_folder;

/// Files of a checkpoint other than configuration and weights; those that exist are copied.
pub const SIDE_FILES: [&str; 11] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "generation_config.json",
    "chat_template.json",
];
/// The newer of the two file names of the chat template.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Settings of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportOptions {
    /// Dtype of all tensors; `None` keeps the dtype of each.
    pub dtype: Option<StoredType>,
    /// Maximum number of tensor bytes per file; a single larger tensor gets its own file.
    pub shard_bytes: u64,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { dtype: None, shard_bytes: 5_000_000_000 }
    }
}

/// The files and the size of an exported checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    /// File names, sorted.
    pub files: Vec<String>,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
}

/// The files of a checkpoint other than configuration and weights: their bytes by name.
pub type SideFiles = BTreeMap<String, Vec<u8>>;

/// Reads the files of a checkpoint folder other than configuration and weights.
///
/// # Errors
/// A file exists but cannot be read.
pub fn read_side_files(folder: &Path) -> Result<SideFiles, ExportError> {
    let mut files = SideFiles::new();
    for name in SIDE_FILES.into_iter().chain([CHAT_TEMPLATE]) {
        match fs::read(folder.join(name)) {
            Ok(bytes) => {
                files.insert(name.to_owned(), bytes);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ExportError::SideFile { file: folder.join(name), source }),
        }
    }
    Ok(files)
}

/// Whether one of the files has a chat template.
pub fn has_chat_template(files: &SideFiles) -> bool {
    let has_key = |name: &str| {
        let text = files.get(name).map(|bytes| bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
        let value: Option<serde_json::Value> = text.and_then(|text| serde_json::from_slice(text).ok());
        value.is_some_and(|value| value.get("chat_template").is_some_and(|template| !template.is_null()))
    };
    files.contains_key(CHAT_TEMPLATE) || ["chat_template.json", "tokenizer_config.json"].into_iter().any(has_key)
}

/// Writes a checkpoint to the new folder `out`. The tokenizer's and processor's files are copied
/// from the folder `side_files`.
pub fn export(
    out: &Path,
    config: &Config,
    source: &dyn TensorSource,
    side_files: Option<&Path>,
    options: ExportOptions,
) -> Result<ExportSummary, ExportError> {
    check_new(out)?;
    let side_files = side_files.map(read_side_files).transpose()?.unwrap_or_default();
    export_with(out, config, source, &side_files, options)
}

/// Writes a checkpoint with these other files to the new folder `out`.
///
/// # Errors
/// The folder exists or cannot be written, or a tensor cannot be read.
pub fn export_with(
    out: &Path,
    config: &Config,
    source: &dyn TensorSource,
    side_files: &SideFiles,
    options: ExportOptions,
) -> Result<ExportSummary, ExportError> {
    check_new(out)?;
    let folder = temp_dir_next_to(out)?;
    let tensor_bytes = write_weights(folder.path(), config, source, options).map_err(|e| match e {
        ExportError::Io(source) => ExportError::File { file: out.to_owned(), source },
        e => e,
    })?;
    for (name, bytes) in side_files {
        // Written, not copied as files: they get ordinary permissions, whatever the originals have.
        write_bytes(&folder.path().join(name), bytes)?;
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.path())? {
        files.push(entry?.file_name().to_string_lossy().into_owned());
    }
    files.sort();
    publish(folder, out)?;
    Ok(ExportSummary { files, tensor_bytes })
}

/// Writes `config.json`, the weight files and any index. Returns the bytes of all tensors.
fn write_weights(
    folder: &Path,
    config: &Config,
    source: &dyn TensorSource,
    options: ExportOptions,
) -> Result<u64, ExportError> {
    let model = parameters(config);
    let by_name: BTreeMap<&str, &Parameter> = model.iter().map(|p| (p.name.as_str(), p)).collect();
    let mut bytes_of = BTreeMap::<StoredType, u64>::new();
    let mut planned = Vec::with_capacity(model.len());
    for parameter in &model {
        let dtype = options.dtype.map_or_else(|| source.stored_type(parameter), Ok)?;
        let tensor = PlannedTensor { name: parameter.name.clone(), dtype, shape: parameter.shape.clone() };
        *bytes_of.entry(dtype).or_default() += tensor.bytes();
        planned.push(tensor);
    }
    let main_type = bytes_of.iter().max_by_key(|(_, bytes)| **bytes).map_or(StoredType::F32, |(dtype, _)| *dtype);
    write_text(&folder.join(CONFIG_FILE), &config.to_flat_json(main_type))?;
    let shards = split(planned, options.shard_bytes);
    let mut weight_map = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => SINGLE_FILE.to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), name.clone())));
        write_safetensors(&folder.join(name), shard, |tensor, out| match by_name.get(tensor.name.as_str()) {
            Some(parameter) => source.write(parameter, tensor.dtype, out),
            None => Err(ExportError::Tensor(tensor.name.clone(), "is not part of the model".to_owned())),
        })?;
    }
    let total = bytes_of.values().sum();
    if shards.len() > 1 {
        let index = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        write_text(&folder.join(INDEX_FILE), &format!("{index:#}\n"))?;
    }
    Ok(total)
}

/// Splits the tensors, in order, into files of at most `limit` bytes or of one tensor.
fn split(tensors: Vec<PlannedTensor>, limit: u64) -> Vec<Vec<PlannedTensor>> {
    let mut shards: Vec<Vec<PlannedTensor>> = Vec::new();
    let mut filled = 0;
    for tensor in tensors {
        let bytes = tensor.bytes();
        match shards.last_mut().filter(|_| filled + bytes <= limit) {
            Some(shard) => {
                filled += bytes;
                shard.push(tensor);
            }
            None => {
                filled = bytes;
                shards.push(vec![tensor]);
            }
        }
    }
    shards
}

fn check_new(out: &Path) -> Result<(), ExportError> {
    if out.symlink_metadata().is_ok() { Err(ExportError::Exists(out.to_owned())) } else { Ok(()) }
}

pub(crate) fn write_text(file: &Path, text: &str) -> Result<(), ExportError> {
    write_bytes(file, text.as_bytes())
}

fn write_bytes(file: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let write = || {
        let mut opened = fs::File::create_new(file)?;
        io::Write::write_all(&mut opened, bytes)?;
        opened.sync_all()
    };
    write().map_err(|source| ExportError::File { file: file.to_owned(), source })
}

/// Creates a hidden folder in the parent of `out`, to be filled and then published as `out`. It is
/// removed unless it is published.
pub(crate) fn temp_dir_next_to(out: &Path) -> Result<TempDir, ExportError> {
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let at = |source| ExportError::File { file: parent.to_owned(), source };
    fs::create_dir_all(parent).map_err(at)?;
    let name = out.file_name().ok_or_else(|| ExportError::Exists(out.to_owned()))?;
    let prefix = format!(".{}.unfinished-", name.display());
    // The published folder gets the permissions of an ordinary one, those that the umask leaves.
    let permissions = fs::Permissions::from_mode(0o777);
    tempfile::Builder::new().prefix(&prefix).permissions(permissions).tempdir_in(parent).map_err(at)
}

/// Moves a filled temporary folder to `out`, synced to disk.
pub(crate) fn publish(folder: TempDir, out: &Path) -> Result<(), ExportError> {
    sync_folder(folder.path())?;
    fs::rename(folder.path(), out).map_err(|source| ExportError::File { file: out.to_owned(), source })?;
    // Its old path is free again, so there is nothing to remove there.
    let _ = folder.keep();
    if let Some(parent) = out.parent().filter(|p| !p.as_os_str().is_empty()) {
        sync_folder(parent)?;
    }
    Ok(())
}

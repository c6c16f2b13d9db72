//! Kinds of folders, recognized by the names in them.

use std::fs;
use std::path::Path;

use super::file::to_parquet;

/// A kind of folder that is often passed by mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderKind {
    /// A PEFT adapter without its base model, whose name it may give.
    Adapter(Option<String>),
    /// A dataset of `datasets.Dataset.save_to_disk`.
    SavedDataset,
    /// Several splits, by `datasets.DatasetDict.save_to_disk`.
    SavedSplits,
    /// A dataset in the cache of `datasets`.
    CachedDataset,
    /// A repository in the cache of the Hugging Face Hub, with the folder of its newest snapshot.
    HubCache(String),
    /// The cache of the Hugging Face Hub itself, or the folder of a repository's snapshots.
    HubCacheRoot,
    /// Parts of an FSDP or a DeepSpeed run.
    TrainingShards,
    /// GGUF files.
    Gguf(String),
    /// Weights in pickles or in other formats, without `config.json`.
    OtherWeights(String),
    /// A checkpoint.
    Checkpoint,
    /// A folder of folders of which one is a checkpoint.
    ParentOfCheckpoint(String),
}

impl FolderKind {
    /// Returns the kind of a folder; `None` if it is unknown or cannot be listed.
    pub fn of(folder: &Path) -> Option<Self> {
        let names = names_in(folder);
        let has = |name: &str| names.iter().any(|other| other == name);
        let first = |ends: &[&str]| names.iter().find(|name| ends.iter().any(|end| name.ends_with(end))).cloned();
        let is_weights = first(&[".safetensors"]).is_some_and(|_| has("config.json"));
        if has("adapter_config.json") && !(has("model.safetensors") || has("model.safetensors.index.json")) {
            return Some(Self::Adapter(base_of_adapter(folder)));
        }
        if is_weights {
            return Some(Self::Checkpoint);
        }
        if has("dataset_dict.json") {
            return Some(Self::SavedSplits);
        }
        if let (true, Some(_)) = (has("dataset_info.json"), first(&[".arrow"])) {
            return Some(if has("state.json") { Self::SavedDataset } else { Self::CachedDataset });
        }
        if has("state.json") && first(&[".arrow"]).is_some() {
            return Some(Self::SavedDataset);
        }
        if has("snapshots") && (has("blobs") || has("refs") || is_cached_repository(folder)) {
            return Some(Self::HubCache(snapshot_in(folder)));
        }
        let repositories = |name: &String| name.starts_with("models--") || name.starts_with("datasets--");
        if names.iter().any(repositories) || folder.file_name().is_some_and(|name| name == "snapshots") {
            return Some(Self::HubCacheRoot);
        }
        if names.iter().any(|name| name.starts_with("model_world_size_") || name == "zero_to_fp32.py") {
            return Some(Self::TrainingShards);
        }
        if let Some(name) = first(&[".gguf"]) {
            return Some(Self::Gguf(name));
        }
        if has("config.json") {
            return None;
        }
        if let Some(name) = first(&[".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".distcp"]) {
            return Some(Self::OtherWeights(name));
        }
        let inner = names.iter().find(|name| folder.join(name).join("config.json").is_file());
        inner.map(|name| Self::ParentOfCheckpoint(name.clone()))
    }

    pub(super) fn instead_of_model(&self, folder: &Path) -> Option<String> {
        let path = folder.display();
        Some(match self {
            Self::Checkpoint => return None,
            Self::Adapter(base) => {
                let of = base.as_ref().map_or_else(String::new, |base| format!(" of {base}"));
                let base = base.as_deref().filter(|base| Path::new(base).is_dir()).unwrap_or("BASE");
                format!(
                    "it is a LoRA adapter{of}, not a whole checkpoint; merge it into the folder of its base model with \
                     `visplay model export {base} merged --adapter {path}`, then pass merged"
                )
            }
            Self::SavedDataset | Self::SavedSplits | Self::CachedDataset => {
                "it is a dataset, not a checkpoint; pass the folder that holds config.json and the weights".to_owned()
            }
            Self::HubCache(snapshot) => {
                format!("it is a repository in the cache of the Hugging Face Hub; pass its snapshot, {path}/{snapshot}")
            }
            Self::HubCacheRoot => cache_root(folder),
            Self::TrainingShards => {
                "it holds the shards of a training run (FSDP or DeepSpeed), not a checkpoint; merge \
                                     them with the tool of the training program (`zero_to_fp32.py` of DeepSpeed, \
                                     `model_merger` of verl), then pass the folder that it writes"
                    .to_owned()
            }
            Self::Gguf(name) => format!(
                "its weights are a GGUF file of llama.cpp ({name}); pass the folder of the original checkpoint, with \
                 config.json and safetensors files"
            ),
            Self::OtherWeights(name) => format!(
                "it has weights that are not safetensors ({name}) and no config.json; {}",
                convert_weights("DIR")
            ),
            Self::ParentOfCheckpoint(name) => {
                format!("it is not a checkpoint, but {path}/{name} may be one; pass that")
            }
        })
    }

    /// Returns what to do with a folder that cannot hold images; `None` for every other one, since
    /// a file of another kind may lie among thousands of photos.
    pub(super) fn instead_of_images(&self, folder: &Path) -> Option<String> {
        let is_saved =
            |folder: &Path| ["state.json", "dataset_info.json"].iter().all(|name| folder.join(name).is_file());
        let names = names_in(folder);
        let has = |name: &str| names.iter().any(|other| other == name);
        let cannot_hold_images = match self {
            Self::SavedDataset => is_saved(folder),
            Self::SavedSplits => names.iter().any(|name| is_saved(&folder.join(name))),
            Self::HubCache(_) => is_cached_repository(folder) || has("blobs") && has("refs"),
            Self::HubCacheRoot => names.iter().any(|name| name.starts_with("datasets--")),
            _ => false,
        };
        if cannot_hold_images { self.instead_of_table(folder) } else { None }
    }

    /// Returns what to do with a folder in which no image was found.
    pub(super) fn without_images(&self, folder: &Path) -> Option<String> {
        match self {
            Self::Adapter(_) | Self::Gguf(_) | Self::TrainingShards | Self::Checkpoint | Self::OtherWeights(_) => Some(
                "it holds the weights of a model, not images; pass a folder of images or a Parquet file".to_owned(),
            ),
            Self::HubCacheRoot => self.instead_of_images(folder),
            _ => self.instead_of_table(folder),
        }
    }

    pub(super) fn instead_of_table(&self, folder: &Path) -> Option<String> {
        let path = folder.display();
        Some(match self {
            Self::SavedDataset => format!(
                "it is a dataset that `datasets` saved with save_to_disk, in Arrow files; write it as Parquet and pass \
                 that: `{}`",
                to_parquet("load_from_disk", "load_from_disk", &path)
            ),
            Self::SavedSplits => {
                let split = names_in(folder).into_iter().find(|name| folder.join(name).is_dir());
                let split = folder.join(split.unwrap_or_else(|| "train".to_owned()));
                format!(
                    "it holds the splits of a dataset that `datasets` saved with save_to_disk, in Arrow files; write a \
                     split as Parquet and pass that: `{}`",
                    to_parquet("load_from_disk", "load_from_disk", &split.display())
                )
            }
            Self::CachedDataset => {
                let file = names_in(folder).into_iter().find(|name| name.ends_with(".arrow")).unwrap_or_default();
                format!(
                    "it is a dataset in the cache of `datasets`, in Arrow files; write it as Parquet and pass that: `{}`",
                    to_parquet("Dataset", "Dataset.from_file", &folder.join(file).display())
                )
            }
            Self::HubCache(snapshot) => {
                format!("it is a repository in the cache of the Hugging Face Hub; pass its snapshot, {path}/{snapshot}")
            }
            Self::HubCacheRoot => cache_root(folder),
            _ => return None,
        })
    }
}

/// Returns what to do with weights that are not safetensors, in a folder with `config.json`.
pub(crate) fn convert_weights(folder: &str) -> String {
    format!(
        "convert them: `python -c \"from transformers import AutoModelForImageTextToText as M; \
         M.from_pretrained('{folder}', dtype='auto').save_pretrained('converted')\"`, copy the files of the tokenizer \
         and the processor to converted, then pass that"
    )
}

fn cache_root(folder: &Path) -> String {
    let inner = names_in(folder).into_iter().find(|name| {
        let path = folder.join(name);
        path.is_dir() && (is_cached_repository(&path) || path.join("config.json").is_file())
    });
    let shown = match inner {
        Some(name) if folder.join(&name).join("snapshots").is_dir() => {
            let snapshot = snapshot_in(&folder.join(&name));
            format!("{}/{name}/{snapshot}", folder.display())
        }
        Some(name) => format!("{}/{name}", folder.display()),
        None => format!("{}/models--OWNER--NAME/snapshots/*", folder.display()),
    };
    format!("it is the cache of the Hugging Face Hub; pass the snapshot of one repository, such as {shown}")
}

fn is_cached_repository(folder: &Path) -> bool {
    let name = folder.canonicalize().ok();
    let name = name.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.is_some_and(|name| ["models--", "datasets--", "spaces--"].iter().any(|start| name.starts_with(start)))
}

/// Returns the folder, relative to a repository in the cache, of the snapshot that `main` names, or
/// else of any snapshot.
fn snapshot_in(repository: &Path) -> String {
    let main = fs::read_to_string(repository.join("refs/main")).unwrap_or_default();
    let snapshots = names_in(&repository.join("snapshots"));
    let named = snapshots.iter().find(|name| *name == main.trim()).or(snapshots.first());
    format!("snapshots/{}", named.map_or("*", String::as_str))
}

/// Returns the name of the base model in `adapter_config.json`.
fn base_of_adapter(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("adapter_config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()?;
    let base = config.get("base_model_name_or_path")?.as_str()?;
    let is_plain = base.chars().all(|c| !c.is_control() && !matches!(c, '`' | '\'' | '"'));
    (!base.is_empty() && is_plain && base.len() <= 200).then(|| base.to_owned())
}

/// Returns the names in a folder, sorted.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Returns the paths in a folder and, to this depth, in its folders.
pub(super) fn paths_in(folder: &Path, depth: usize) -> Vec<String> {
    let mut paths = Vec::new();
    for name in names_in(folder) {
        let path = folder.join(&name);
        if depth > 1 && path.is_dir() {
            paths.extend(paths_in(&path, depth - 1));
        } else {
            paths.push(path.display().to_string());
        }
    }
    paths
}

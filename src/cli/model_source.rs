//! A model on the command line: the folder of a checkpoint, or a ref of the store.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use crate::cli::args::StoreArgs;
use crate::cli::output::progress::TerminalProgress;
use crate::cli::{CommandError, Result, Ui};
use crate::evolution::pipeline::Pipeline;
use crate::evolution::restore_weights;
use crate::input_kind::describe_instead_of_model;
use crate::stages::model::{NamedModel, StoredModel, find_by_ref, find_companions, import};
use crate::stages::{Interrupt, Runner, StageError};
use crate::store::{Store, StoreError, VerifyDepth};
use crate::vlm::checkpoint::Checkpoint;
use crate::vlm::config::Config;
use crate::vlm::export::{SideFiles, read_side_files};
use crate::vlm::model::Model;
use crate::vlm::named_tensors::{CheckpointTensors, Purpose};
use crate::vlm::ops::Ops;
use crate::vlm::tokenizer::TOKENIZER_FILE;
use crate::vlm::weights::Weights;

/// A model that a command reads.
pub enum ModelSource {
    /// The folder of a checkpoint.
    Folder(PathBuf),
    /// A model in the store.
    Stored(Box<StoredSource>),
}

/// A model in the store.
pub struct StoredSource {
    store: Store,
    named: NamedModel,
    /// The ref as given.
    text: String,
}

impl ModelSource {
    /// Finds the model of a command that needs the store only for a ref.
    pub fn open(model: &Path, store: &StoreArgs) -> Result<Self> {
        if model.is_dir() {
            return Ok(Self::Folder(model.to_owned()));
        }
        match Store::open(&store.store) {
            Ok(store) => Self::find(model, &store),
            Err(StoreError::NotAStore { path }) => {
                let place = format!("there is no store in {}", path.display());
                Err(not_found(model, &format!("neither a folder nor a ref: {place}")))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Finds the model: a folder if there is one of this name, else the ref of an open store.
    pub fn find(model: &Path, store: &Store) -> Result<Self> {
        if model.is_dir() {
            return Ok(Self::Folder(model.to_owned()));
        }
        let text = model.to_string_lossy().into_owned();
        match find_by_ref(&text, store)? {
            Some(named) => Ok(Self::Stored(Box::new(StoredSource { store: store.clone(), named, text }))),
            None => {
                let place = store.root().display();
                Err(not_found(model, &format!("neither a folder nor a ref of the store {place}")))
            }
        }
    }

    /// Returns the model in the store, importing a folder first. Weights that were dropped are
    /// recomputed.
    pub fn into_stored(self, runner: &Runner<'_>) -> Result<StoredModel> {
        match self {
            Self::Folder(folder) => Ok(import(&folder, runner)?.1),
            Self::Stored(stored) => {
                restore(&stored.named.model, runner)?;
                Ok(stored.named.model)
            }
        }
    }

    /// Reads the configuration.
    pub fn config(&self) -> Result<Config> {
        match self {
            Self::Folder(folder) => Config::load(folder).map_err(CommandError::from_input),
            Self::Stored(stored) => Ok(stored.named.model.config(&stored.store)?),
        }
    }

    /// Opens the weights. `depth` says whether those in the store are verified first.
    pub fn weights(&self, config: &Config, depth: VerifyDepth) -> Result<Weights> {
        match self {
            Self::Folder(folder) => Weights::open(folder, config).map_err(CommandError::from_input),
            Self::Stored(stored) => stored.open_weights(config, depth),
        }
    }

    /// Loads the model for sampling.
    pub fn checkpoint(&self, dtype: DType, device: &Device) -> Result<Checkpoint> {
        let (ops, purpose) = (Ops::Kernels, Purpose::Sampling);
        let stored = match self {
            Self::Folder(folder) => {
                return Checkpoint::load(folder, dtype, device, ops, purpose).map_err(CommandError::from_input);
            }
            Self::Stored(stored) => stored,
        };
        let assets = stored.named.model.assets(&stored.store, None)?;
        let weights = stored.open_weights(&assets.config, VerifyDepth::Full)?;
        let tensors = CheckpointTensors { weights: &weights, dtype, device, ops };
        let model = Model::new(assets.config, &tensors, purpose).map_err(StageError::model)?;
        let (tokenizer, processor, stop_tokens) = (assets.tokenizer, assets.processor, assets.stop_tokens);
        Ok(Checkpoint { model, tokenizer, processor, stop_tokens })
    }

    /// Reads the files other than configuration and weights. `base` is the folder of the base model
    /// of a model in the store, for those that the store does not have; `advice` says what to do
    /// where there is none.
    pub fn side_files(&self, base: Option<&Path>, advice: &str) -> Result<SideFiles> {
        let stored = match (self, base) {
            (Self::Folder(folder), None) => return Ok(read_side_files(folder)?),
            (Self::Folder(folder), Some(_)) => {
                let message = format!("--base is for models in the store, and {} is a folder", folder.display());
                return Err(CommandError::usage(message).with_hint("drop --base; the folder has its own files"));
            }
            (Self::Stored(stored), _) => stored,
        };
        let StoredSource { store, named, text } = &**stored;
        let own_files = named.model.side_files(store)?;
        let companions = find_companions(named, store)?;
        let Some(base) = base else {
            return companions.ok_or_else(|| {
                let names = own_files.keys().map(String::as_str);
                let has: Vec<&str> = ["config.json"].into_iter().chain(names).collect();
                let message = format!(
                    "of the files of {text} the store has only {}; tokenizer_config.json with the chat \
                     template, special_tokens_map.json, processor_config.json and the like are missing, because the base \
                     model was imported by an earlier version",
                    has.join(", ")
                );
                CommandError::usage(message).with_hint(advice)
            });
        };
        let mut files = read_side_files(base)?;
        if files.get(TOKENIZER_FILE) != own_files.get(TOKENIZER_FILE) {
            let message = format!("{} is not the base model of {text}: its tokenizer.json differs", base.display());
            return Err(CommandError::usage(message));
        }
        files.extend(companions.unwrap_or(own_files));
        Ok(files)
    }
}

impl StoredSource {
    /// Opens the weights, recomputing them first if they were dropped.
    fn open_weights(&self, config: &Config, depth: VerifyDepth) -> Result<Weights> {
        let progress = TerminalProgress::new(&Ui { json: false, quiet: false });
        let interrupt = Interrupt::default();
        restore(&self.named.model, &Runner::new(&self.store, &progress, &interrupt))?;
        Ok(self.named.model.open_weights(&self.store, config, depth)?)
    }
}

/// Recomputes the weights of a model if they were dropped.
fn restore(model: &StoredModel, runner: &Runner<'_>) -> Result<()> {
    // The round that trained the model has its own settings. They leave out only files and names
    // that training does not need.
    Ok(restore_weights(model, &Pipeline::of_preset("paper")?, runner)?)
}

fn not_found(model: &Path, problem: &str) -> CommandError {
    let what = describe_instead_of_model(model).map_or(String::new(), |what| format!(": {what}"));
    CommandError::usage(format!("{} is {problem}{what}", model.display())).with_hint(
        "pass the folder of a checkpoint, or a ref such as EVOLUTION/round-0003/reasoner with --store; `visplay \
         status` lists the refs",
    )
}

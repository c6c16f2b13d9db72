//! An account of the space that a store takes: how many bytes each kind of file has.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use serde::Serialize;

use super::Result;
use super::finished::{CurrentRound, current_round, none_if_damaged, ref_name};
use super::retention::find_droppable;
use crate::stages::OPTIMIZER;
use crate::stages::model::{ASSEMBLE, IMPORT, WEIGHTS};
use crate::stages::update::UPDATE;
use crate::store::{ActionKey, FileEntry, ObjectId, ObjectKind, Output, Store, StoreFile};
use crate::tables::{ImageRow, TableRow};

/// Number and size of files of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SpaceUse {
    /// Number of files.
    pub files: u64,
    /// Their total size in bytes.
    pub bytes: u64,
}

impl SpaceUse {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// The space that a store takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SpaceAccount {
    /// All files, by what they are used for.
    pub uses: BTreeMap<String, SpaceUse>,
    /// The part of them that retention does not keep, which `gc` drops.
    pub droppable: SpaceUse,
    /// Objects that were dropped, and take no space until they are recomputed.
    pub dropped: SpaceUse,
}

/// The uses of objects, most important first: an object with several uses counts for the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum ObjectUse {
    BaseModel,
    CurrentModel,
    EarlierModel,
    Checkpoint,
    Optimizer,
    Images,
    Table(String),
    Listing,
}

impl ObjectUse {
    fn name(&self) -> String {
        match self {
            Self::BaseModel => "base models".to_owned(),
            Self::CurrentModel => "models of the current rounds".to_owned(),
            Self::EarlierModel => "models of other rounds".to_owned(),
            Self::Checkpoint => "checkpoints within trainings".to_owned(),
            Self::Optimizer => "optimizer states".to_owned(),
            Self::Images => "images".to_owned(),
            Self::Table(table) => format!("table {table}"),
            Self::Listing => "reports, prompts and lists".to_owned(),
        }
    }

    /// Returns the use of an output of a result of a stage.
    fn of(output: &Output, stage: &str, is_current: bool) -> Self {
        match (stage, output.role.as_str(), output.object.kind) {
            (IMPORT, WEIGHTS, _) => Self::BaseModel,
            (ASSEMBLE, WEIGHTS, _) if is_current => Self::CurrentModel,
            (ASSEMBLE, WEIGHTS, _) => Self::EarlierModel,
            (UPDATE, WEIGHTS, _) => Self::Checkpoint,
            (UPDATE, OPTIMIZER, _) => Self::Optimizer,
            (_, ImageRow::TABLE, _) => Self::Images,
            (_, role, ObjectKind::Parquet) => Self::Table(role.to_owned()),
            // Of a training outside of an evolution (`visplay warm-start`).
            (_, OPTIMIZER, _) => Self::Optimizer,
            (_, _, ObjectKind::Safetensors) => Self::Checkpoint,
            (_, _, ObjectKind::Json) => Self::Listing,
        }
    }
}

/// Adds up the files of a store by their use. It reads every result, and takes a while on a large
/// store.
///
/// # Errors
/// The store cannot be read.
pub fn space_account(store: &Store) -> Result<SpaceAccount> {
    let uses = object_uses(store)?;
    let mut account = SpaceAccount::default();
    let mut notes = Vec::new();
    let mut existing = BTreeMap::new();
    for entry in store.files()? {
        let name = match StoreFile::of(&entry.name) {
            StoreFile::Object(object) => {
                existing.insert(object, entry.len);
                uses.get(&object).map_or_else(|| "objects of no result".to_owned(), ObjectUse::name)
            }
            StoreFile::Dropped(object) => {
                notes.push(object);
                "notes on dropped objects".to_owned()
            }
            file => match name_of(&file, &entry) {
                Some(name) => name.to_owned(),
                None => continue,
            },
        };
        account.uses.entry(name).or_default().add(entry.len);
    }
    for object in notes.into_iter().filter(|object| !existing.contains_key(object)) {
        if let Some(note) = none_if_damaged(store.drop_note(object))?.flatten() {
            account.dropped.add(note.bytes);
        }
    }
    for droppable in find_droppable(store, None)? {
        if let Some(&bytes) = existing.get(&droppable.object) {
            account.droppable.add(bytes);
        }
    }
    Ok(account)
}

/// Returns the use of a file that is no object; `None` if it takes no space of its own.
fn name_of(file: &StoreFile, entry: &FileEntry) -> Option<&'static str> {
    Some(match file {
        StoreFile::Action(_) | StoreFile::Result(_) => "actions and results",
        StoreFile::Cache => "cache",
        StoreFile::Claim(_) => "claims",
        StoreFile::Worker | StoreFile::Job | StoreFile::Log => "notes and logs",
        StoreFile::StepWeights => "weights of steps",
        StoreFile::Temporary => "temporary files",
        StoreFile::Quarantined => "quarantine",
        // A hard link to an object takes no space of its own, a copy does.
        StoreFile::View if std::fs::symlink_metadata(&entry.path).is_ok_and(|meta| meta.nlink() > 1) => return None,
        StoreFile::View => "copies in views",
        StoreFile::Foreign => "foreign files",
        _ => "refs and settings",
    })
}

/// Returns the use of every object that a result or an action lists.
fn object_uses(store: &Store) -> Result<BTreeMap<ObjectId, ObjectUse>> {
    let current = current_models(store)?;
    let mut uses = BTreeMap::new();
    let mut add = |object: ObjectId, new: ObjectUse| {
        let known = uses.entry(object).or_insert_with(|| new.clone());
        if new < *known {
            *known = new;
        }
    };
    for result in store.results()? {
        let Some(action) = none_if_damaged(store.action(result.action))? else { continue };
        for output in &result.outputs {
            add(output.object, ObjectUse::of(output, &action.stage, current.contains(&result.action)));
        }
        for input in action.inputs.iter().filter(|input| input.object.kind == ObjectKind::Json) {
            add(input.object, ObjectUse::Listing);
        }
    }
    Ok(uses)
}

/// Returns the results of the models that the next rounds start from.
fn current_models(store: &Store) -> Result<BTreeSet<ActionKey>> {
    let first = ref_name(1, "round");
    let mut models = BTreeSet::new();
    for r in store.refs()?.into_iter().filter(|r| r.name == first) {
        let CurrentRound::Round(round) = current_round(store, &r.evolution)? else { continue };
        for part in ["questioner", "reasoner"] {
            models.extend(store.head(&r.evolution, &ref_name(round, part))?.map(|head| head.result));
        }
    }
    Ok(models)
}

//! File names within a store.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::key::ActionKey;
use super::process::Owner;
use crate::ids::Digest;

/// File that marks a folder as a store.
pub const FORMAT: &str = "FORMAT";
/// Files being written.
pub const TMP: &str = "tmp";
/// Immutable stage outputs.
pub const OBJECTS: &str = "objects";
/// Descriptions of stage runs.
pub const ACTIONS: &str = "actions";
/// Results of actions.
pub const RESULTS: &str = "results";
/// Names for results.
pub const REFS: &str = "refs";
/// Leases of work in progress.
pub const CLAIMS: &str = "claims";
/// Hard links to objects (or copies), for people and their tools.
pub const VIEWS: &str = "views";
/// Beginning of the names of files being written next to their final names.
pub const HIDDEN: &str = ".";
/// Cache entries, which may be lost at any time, such as fingerprints of source files.
pub const CACHE: &str = "cache";
/// Notes of the processes that work on the store, and requests to them.
pub const WORKERS: &str = "workers";
/// Rounds under way: copies of their pipeline files, and records of submissions.
pub const JOBS: &str = "jobs";
/// Logs of workers.
pub const LOGS: &str = "logs";
/// Weights after single training steps, for processes that did not make the update; they may be
/// lost at any time.
pub const STEPS: &str = "steps";
/// Files that `verify` moved out of the way.
pub const QUARANTINE: &str = "quarantine";

/// File format of an object, which is also the extension of its file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// A table.
    Parquet,
    /// Tensors of a model or optimizer.
    Safetensors,
    /// Canonical JSON.
    Json,
}

impl ObjectKind {
    /// Returns the file extension.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Safetensors => "safetensors",
            Self::Json => "json",
        }
    }
}

impl FromStr for ObjectKind {
    type Err = ();

    fn from_str(extension: &str) -> Result<Self, ()> {
        match extension {
            "parquet" => Ok(Self::Parquet),
            "safetensors" => Ok(Self::Safetensors),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// Address of an object: the digest of its bytes, and their format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId {
    /// blake3 of the bytes.
    pub digest: Digest,
    /// Format of the bytes.
    pub kind: ObjectKind,
}

impl ObjectId {
    /// Returns the file's name within the store.
    pub fn name(&self) -> String {
        fanned_out(OBJECTS, &self.digest.to_string(), self.kind.extension())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.digest, self.kind.extension())
    }
}

/// Returns `folder/ab/<hex>.<extension>`; 256 subfolders keep each of them small.
fn fanned_out(folder: &str, hex: &str, extension: &str) -> String {
    format!("{folder}/{}/{hex}.{extension}", &hex[..2])
}

/// Returns the name of an action's file.
pub fn action(key: ActionKey) -> String {
    fanned_out(ACTIONS, &key.to_string(), "json")
}

/// Returns the name of a result's file.
pub fn result(key: ActionKey) -> String {
    fanned_out(RESULTS, &key.to_string(), "json")
}

/// Returns the name of a lease file.
pub fn claim(key: ActionKey) -> String {
    format!("{CLAIMS}/{key}.lease")
}

/// Returns the name of the folder by which processes take turns to create a file.
pub fn turn(name: &str) -> String {
    format!("{TMP}/{}.turn", Digest::of(name.as_bytes()))
}

/// Returns the name of a ref's file.
pub fn reference(evolution: &str, name: &str, sequence: u32) -> String {
    format!("{REFS}/{evolution}/{name}/{sequence:06}.json")
}

/// Returns the object of a view, `<anything>-<digest>.<extension>`.
pub fn viewed_object(view: &str) -> Option<ObjectId> {
    let (hex, extension) = view.rsplit(['-', '/']).next()?.split_once('.')?;
    Some(ObjectId { digest: hex.parse().ok()?, kind: extension.parse().ok()? })
}

/// Kind of a store file, derived from its name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreFile {
    /// `FORMAT`.
    Format,
    /// An object.
    Object(ObjectId),
    /// An action.
    Action(ActionKey),
    /// A result.
    Result(ActionKey),
    /// A ref: evolution, name, sequence number.
    Ref(String, String, u32),
    /// A lease.
    Claim(ActionKey),
    /// A hard link to an object, or a copy of it.
    View,
    /// A cache entry.
    Cache,
    /// A worker's note, or a request to it.
    Worker,
    /// A file about a round under way.
    Job,
    /// A log of a worker.
    Log,
    /// Weights after a training step.
    StepWeights,
    /// A file being written, or left behind by a dead process.
    Temporary,
    /// A file in the quarantine.
    Quarantined,
    /// Not a file of the store.
    Foreign,
}

impl StoreFile {
    /// Classifies a file name.
    pub fn of(name: &str) -> Self {
        if name == FORMAT {
            return Self::Format;
        }
        let Some((folder, rest)) = name.split_once('/') else { return Self::Foreign };
        let file = match folder {
            OBJECTS => hex_and_extension(rest)
                .and_then(|(digest, extension)| Some(Self::Object(ObjectId { digest, kind: extension.parse().ok()? }))),
            ACTIONS => hex_and_extension(rest).filter(|(_, e)| *e == "json").map(|(d, _)| Self::Action(ActionKey(d))),
            RESULTS => hex_and_extension(rest).filter(|(_, e)| *e == "json").map(|(d, _)| Self::Result(ActionKey(d))),
            REFS => parse_ref(rest),
            CLAIMS => rest.strip_suffix(".lease").and_then(|hex| hex.parse().ok()).map(|d| Self::Claim(ActionKey(d))),
            VIEWS if is_being_written(rest) => Some(Self::Temporary),
            VIEWS => Some(Self::View),
            CACHE => rest.ends_with(".sealed").then_some(Self::Cache),
            WORKERS | JOBS | STEPS if is_being_written(rest) => Some(Self::Temporary),
            WORKERS => Some(Self::Worker),
            JOBS => Some(Self::Job),
            LOGS => Some(Self::Log),
            STEPS => rest.ends_with(".safetensors").then_some(Self::StepWeights),
            TMP => Owner::parse_prefix(rest).map(|_| Self::Temporary),
            QUARANTINE => Some(Self::Quarantined),
            _ => None,
        };
        file.unwrap_or(Self::Foreign)
    }
}

/// Whether a file is being written next to its final name.
fn is_being_written(name: &str) -> bool {
    let hidden = name.rsplit('/').next().and_then(|name| name.strip_prefix(HIDDEN));
    hidden.is_some_and(|name| Owner::parse_prefix(name).is_some())
}

fn hex_and_extension(rest: &str) -> Option<(Digest, &str)> {
    let (fan, file) = rest.split_once('/')?;
    let (hex, extension) = file.split_once('.')?;
    (hex.len() == 64 && hex.starts_with(fan) && fan.len() == 2).then_some(())?;
    Some((hex.parse().ok()?, extension))
}

fn parse_ref(rest: &str) -> Option<StoreFile> {
    let (path, file) = rest.rsplit_once('/')?;
    let (evolution, name) = path.split_once('/')?;
    let digits = file.strip_suffix(".json")?;
    let sequence: u32 = digits.parse().ok()?;
    (format!("{sequence:06}") == digits).then_some(())?;
    Some(StoreFile::Ref(evolution.to_owned(), name.to_owned(), sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_classified_as_what_it_was_made_for() {
        let digest = Digest::of(b"x");
        let object = ObjectId { digest, kind: ObjectKind::Parquet };
        let key = ActionKey(digest);
        assert_eq!(StoreFile::of(&object.name()), StoreFile::Object(object));
        assert_eq!(StoreFile::of(&action(key)), StoreFile::Action(key));
        assert_eq!(StoreFile::of(&result(key)), StoreFile::Result(key));
        assert_eq!(StoreFile::of(&claim(key)), StoreFile::Claim(key));
        let written = format!("{}-0", Owner::current().prefix());
        assert_eq!(StoreFile::of(&format!("{TMP}/{written}")), StoreFile::Temporary);
        assert_eq!(StoreFile::of(&format!("{VIEWS}/main/images/{HIDDEN}{written}")), StoreFile::Temporary);
        assert_eq!(StoreFile::of(&format!("{VIEWS}/main/images/part-0-{object}")), StoreFile::View);
        let r = reference("main", "round-0003/reasoner", 12);
        assert_eq!(StoreFile::of(&r), StoreFile::Ref("main".into(), "round-0003/reasoner".into(), 12));
    }

    #[test]
    fn any_other_name_is_foreign() {
        let hex = Digest::of(b"x").to_string();
        let wrong_fan = format!("objects/zz/{hex}.parquet");
        let no_fan = format!("objects/{hex}.parquet");
        let wrong_extension = format!("objects/{}/{hex}.exe", &hex[..2]);
        for name in ["x", "objects/x", &wrong_fan, &no_fan, &wrong_extension, "refs/main/1.json", "refs/main/a/01.json"]
        {
            assert_eq!(StoreFile::of(name), StoreFile::Foreign, "{name}");
        }
    }
}

//! Rounds under way: how workers learn which round to work on, and by which pipeline file.
//!
//! A process that runs a round first stores a copy of its pipeline file, whose paths are absolute.
//! It removes the copy when the round is finished, or has failed in a way that working on would
//! not repair. The copy of a process that was interrupted or killed stays, so that workers can
//! finish the round.

use std::path::Path;

use super::finished::ref_name;
use super::pipeline::Pipeline;
use super::{EvolutionError, Result};
use crate::device::{DeviceChoice, DeviceClass};
use crate::stages::StageError;
use crate::store::{ActionKey, Claim, ClaimOutcome, Store, WorkerNote, WorkerRole};

/// Name of the copy in the folder of a round.
const PIPELINE: &str = "pipeline.toml";

/// A round that processes work on.
#[derive(Debug, Clone)]
pub struct RoundUnderWay {
    /// The evolution.
    pub evolution: String,
    /// Number of the round.
    pub round: u32,
}

impl RoundUnderWay {
    /// Reads its pipeline file; `None` if the round has ended meanwhile.
    ///
    /// # Errors
    /// The copy cannot be read or is not valid.
    pub fn pipeline(&self, store: &Store) -> Result<Option<Pipeline>> {
        let name = copy_name(&self.evolution, self.round);
        let Some(bytes) = store.read_job_file(&name)? else { return Ok(None) };
        let path = store.root().join("jobs").join(name);
        Ok(Some(Pipeline::parse(&path, &String::from_utf8_lossy(&bytes))?))
    }
}

/// The announcement of the rounds that a process runs, one after the other.
pub struct Announcement<'a> {
    store: &'a Store,
    pipeline: &'a Pipeline,
    round: Option<u32>,
}

impl<'a> Announcement<'a> {
    /// Returns the announcement of a process that has begun no round yet.
    pub fn new(store: &'a Store, pipeline: &'a Pipeline) -> Self {
        Self { store, pipeline, round: None }
    }

    /// Announces a round; the one before it has ended.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn begin(&mut self, round: u32) -> Result<()> {
        self.withdraw()?;
        let name = copy_name(&self.pipeline.evolution, round);
        // The copy of a process that already works on the round stays.
        if self.store.read_job_file(&name)?.is_some() && self.has_others(round)? {
            return Ok(());
        }
        self.store.put_job_file(&name, self.text()?.as_bytes(), false)?;
        self.round = Some(round);
        Ok(())
    }

    /// Returns the pipeline file of the announcement. Its device is a class: `auto` may be another
    /// one on the node of a worker, whose shards would then have other keys.
    fn text(&self) -> Result<String> {
        let mut pipeline = self.pipeline.clone();
        let device = pipeline.model.device.open().map_err(StageError::from)?;
        pipeline.model.device = match DeviceClass::from_device(&device) {
            DeviceClass::Cpu => DeviceChoice::Cpu,
            DeviceClass::Cuda => DeviceChoice::Cuda(None),
        };
        pipeline.portable_text()
    }

    /// Withdraws the announcement, unless `outcome` is that of a process that was asked to end:
    /// then others can go on with the round.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn end<T>(mut self, outcome: &Result<T>) -> Result<()> {
        match (outcome, self.round) {
            (Err(EvolutionError::Stage(StageError::Interrupted | StageError::Drained)), _) => Ok(()),
            (Ok(_) | Err(EvolutionError::Gate { .. } | EvolutionError::MissingData { .. }), _) => self.withdraw(),
            // This process may fail for a reason of its own, such as a device that it cannot open.
            (Err(_), Some(round)) if self.has_others(round)? => Ok(()),
            (Err(_), _) => self.withdraw(),
        }
    }

    /// Whether other processes work on a round.
    fn has_others(&self, round: u32) -> Result<bool> {
        let others = self.store.other_workers(&self.pipeline.evolution)?;
        Ok(others.iter().any(|note| note.round == round && note.role == WorkerRole::Any))
    }

    fn withdraw(&mut self) -> Result<()> {
        let Some(round) = self.round.take() else { return Ok(()) };
        Ok(self.store.remove_job_file(&copy_name(&self.pipeline.evolution, round))?)
    }
}

/// Lists the rounds that are under way, of one evolution or of all: announced and not finished.
///
/// # Errors
/// The store cannot be read.
pub fn rounds_under_way(store: &Store, evolution: Option<&str>) -> Result<Vec<RoundUnderWay>> {
    let mut found = Vec::new();
    for entry in store.job_files(evolution.unwrap_or_default())? {
        let parts: Vec<&str> = entry.name.split('/').collect();
        let [_, evolution, round, PIPELINE] = parts[..] else { continue };
        let Some(round) = round.strip_prefix("round-").and_then(|n| n.parse().ok()) else { continue };
        if store.head(evolution, &ref_name(round, "round"))?.is_none() {
            found.push(RoundUnderWay { evolution: evolution.to_owned(), round });
        }
    }
    Ok(found)
}

/// Requests to be the only process that runs rounds of an evolution. Returns the right to it, or
/// the worker that has it or works on the evolution anyway.
///
/// # Errors
/// The store cannot be read or written to.
pub fn claim_evolution(store: &Store, evolution: &str) -> Result<Result<Claim, Box<Option<WorkerNote>>>> {
    let busy = |store: &Store| -> Result<Option<WorkerNote>> {
        Ok(store.other_workers(evolution)?.into_iter().find(|note| note.role == WorkerRole::Any))
    };
    let key = ActionKey::of_lease("visplay 2026 only process of an evolution", &[evolution.as_bytes()]);
    match store.claim(key, true)? {
        ClaimOutcome::Acquired(claim) => match busy(store)? {
            Some(note) => Ok(Err(Box::new(Some(note)))),
            None => Ok(Ok(claim)),
        },
        _ => Ok(Err(Box::new(busy(store)?))),
    }
}

fn copy_name(evolution: &str, round: u32) -> String {
    format!("{evolution}/round-{round:04}/{PIPELINE}")
}

impl Pipeline {
    /// Returns the text of a pipeline file that means the same wherever it lies: every key is set,
    /// and every path is absolute.
    ///
    /// # Errors
    /// The settings have no form in TOML.
    pub fn portable_text(&self) -> Result<String> {
        let mut copy = self.clone();
        let built_in: Vec<bool> =
            self.clone().paths_mut().map(|(_, path)| !path.exists() && self.built_in_prompt(path).is_some()).collect();
        for ((_, path), is_built_in) in copy.paths_mut().zip(built_in) {
            match is_built_in {
                // Found by its name from anywhere.
                true => *path = Path::new("prompts").join(path.file_name().unwrap_or_default()),
                false => *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone()),
            }
        }
        toml::to_string(&copy).map_err(|e| StageError::malformed("the pipeline", e).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_announced_with_the_class_of_its_device() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let mut pipeline = Pipeline::load(None).expect("the nano pipeline");
        pipeline.model.device = DeviceChoice::Auto;
        let expected = match DeviceChoice::Auto.open().expect("a device").is_cpu() {
            true => DeviceChoice::Cpu,
            false => DeviceChoice::Cuda(None),
        };
        Announcement::new(&store, &pipeline).begin(1).expect("announced");
        let round = RoundUnderWay { evolution: pipeline.evolution.clone(), round: 1 };
        let announced = round.pipeline(&store).expect("readable").expect("announced");
        assert_eq!(announced.model.device, expected);
    }
}

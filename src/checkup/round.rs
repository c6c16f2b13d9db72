//! Whether a round of the nano pipeline runs on a device from end to end, and gives the same bytes twice.

use std::path::{Path, PathBuf};

use super::{Check, CheckupError};
use crate::device::DeviceChoice;
use crate::evolution::pipeline::{Gates, Pipeline};
use crate::evolution::{RoundReport, evolve_round};
use crate::stages::ingest::{IngestRequest, ingest};
use crate::stages::{Interrupt, NoProgress, Runner, StageError};
use crate::store::Store;
use crate::vlm::ops::Ops;

pub(super) fn check(choice: DeviceChoice, ops: Ops) -> Result<Vec<Check>, CheckupError> {
    let pipeline = small(choice, ops)?;
    let once = one_round(&pipeline)?;
    let again = one_round(&pipeline)?;
    let unfinished = [&once.questioner, &once.reasoner].iter().filter(|steps| steps.is_none()).count();
    let skipped: u32 =
        [&once.questioner, &once.reasoner].iter().filter_map(|t| t.as_ref()).map(|t| t.updates_skipped).sum();
    Ok(vec![
        Check::new("a round of the nano pipeline", unfinished as f64, 0.0, "roles that were not trained"),
        Check::new("its updates", f64::from(skipped), 0.0, "skipped for a gradient that is not finite"),
        Check::new("the round a second time", f64::from(u8::from(once != again)), 0.0, "reports that differ"),
    ])
}

/// The nano pipeline with a little of everything.
fn small(choice: DeviceChoice, ops: Ops) -> Result<Pipeline, CheckupError> {
    let mut pipeline = Pipeline::load(None).map_err(crate::evolution::EvolutionError::from)?;
    if !Path::new(&pipeline.model.base).is_dir() {
        return Err(CheckupError::data(Path::new(&pipeline.model.base), "there is no such folder"));
    }
    (pipeline.model.device, pipeline.model.ops) = (choice, ops);
    pipeline.gates = Gates::default();
    pipeline.evaluation.benchmarks.clear();
    pipeline.round.images = 8;
    pipeline.round.questions_per_image = 2;
    pipeline.round.keep_best = false;
    pipeline.questioner.group_size = 4;
    pipeline.questioner.reward_samples = 4;
    pipeline.reasoner.group_size = 4;
    // Whatever is voted on is learnt from.
    let curriculum = &mut pipeline.curriculum;
    (curriculum.label_samples, curriculum.low, curriculum.high, curriculum.min_margin) = (4, 0.0, 1.0, 0.0);
    for update in [&mut pipeline.update.questioner, &mut pipeline.update.reasoner] {
        update.steps = 2;
        update.prompts_per_step = 4;
        update.prompts_per_update = 4;
    }
    Ok(pipeline)
}

fn one_round(pipeline: &Pipeline) -> Result<RoundReport, CheckupError> {
    let folder = Scratch::new()?;
    let store = Store::open_or_create(&folder.0.join("store")).map_err(StageError::from)?;
    let interrupt = Interrupt::default();
    let runner = Runner { store: &store, progress: &NoProgress, interrupt: &interrupt, dry_run: false };
    let (sources, options) = (&pipeline.ingest.sources, pipeline.ingest.options());
    ingest(&IngestRequest { evolution: &pipeline.evolution, sources, column: None, options: &options }, &runner)?;
    let mut done = evolve_round(pipeline, &runner, 1, |_| {})?;
    match done.pop() {
        Some(done) => Ok(done.report),
        None => Err(StageError::Internal("no round was run".to_owned()).into()),
    }
}

/// A folder that goes when the round is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, CheckupError> {
        let named = |i: u32| std::env::temp_dir().join(format!("visplay-doctor-{}-{i}", std::process::id()));
        let mut number = 0;
        while named(number).exists() {
            number += 1;
        }
        let folder = named(number);
        std::fs::create_dir_all(&folder).map_err(|e| CheckupError::data(&folder, e))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the system's folder for what nobody needs.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

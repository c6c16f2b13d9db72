//! End-to-end check: a small round of the nano pipeline, run twice with the same result.

use super::{Check, Result};
use crate::device::DeviceChoice;
use crate::evolution::pipeline::{Gates, Pipeline};
use crate::evolution::{RoundReport, evolve_round};
use crate::stages::ingest::{IngestRequest, ingest};
use crate::stages::{Interrupt, NoProgress, Runner, StageError};
use crate::store::{Store, scratch_folder};
use crate::vlm::ops::Ops;

pub(super) fn check(choice: DeviceChoice, ops: Ops) -> Result<Vec<Check>> {
    let pipeline = small_pipeline(choice, ops)?;
    let once = one_round(&pipeline)?;
    let again = one_round(&pipeline)?;
    let unfinished = [&once.questioner, &once.reasoner].iter().filter(|steps| steps.is_none()).count();
    let skipped: u32 =
        [&once.questioner, &once.reasoner].iter().filter_map(|t| t.as_ref()).map(|t| t.updates_skipped).sum();
    Ok(vec![
        Check::new("a round of the nano pipeline", unfinished as f64, 0.0, "roles that were not trained"),
        Check::new("updates of that round", f64::from(skipped), 0.0, "skipped because a gradient was not finite"),
        Check::new("the same round a second time", f64::from(u8::from(once != again)), 0.0, "reports that differ"),
    ])
}

/// Returns the nano pipeline, reduced to a few images and steps.
fn small_pipeline(choice: DeviceChoice, ops: Ops) -> Result<Pipeline> {
    let mut pipeline = Pipeline::load(None).map_err(crate::evolution::EvolutionError::from)?;
    (pipeline.model.device, pipeline.model.ops) = (choice, ops);
    pipeline.gates = Gates::default();
    pipeline.evaluation.benchmarks.clear();
    pipeline.round.images = 8;
    pipeline.round.questions_per_image = 2;
    pipeline.round.keep_best = false;
    pipeline.questioner.group_size = 4;
    pipeline.questioner.reward_samples = 4;
    pipeline.reasoner.group_size = 4;
    // Train on every question that has a majority answer.
    let curriculum = &mut pipeline.curriculum;
    (curriculum.label_samples, curriculum.low, curriculum.high, curriculum.min_margin) = (4, 0.0, 1.0, 0.0);
    for update in [&mut pipeline.update.questioner, &mut pipeline.update.reasoner] {
        update.steps = 2;
        update.prompts_per_step = 4;
        update.prompts_per_update = 4;
    }
    Ok(pipeline)
}

fn one_round(pipeline: &Pipeline) -> Result<RoundReport> {
    let folder = scratch_folder(&std::env::temp_dir()).map_err(StageError::from)?;
    let store = Store::open_or_create(&folder.path().join("store")).map_err(StageError::from)?;
    let interrupt = Interrupt::default();
    let runner = Runner::new(&store, &NoProgress, &interrupt);
    let (sources, options) = (&pipeline.ingest.sources, pipeline.ingest.options());
    ingest(&IngestRequest { evolution: &pipeline.evolution, sources, column: None, options: &options }, &runner)?;
    let mut done = evolve_round(pipeline, &runner, 1, |_| {})?;
    match done.pop() {
        Some(done) => Ok(done.report),
        None => Err(StageError::Internal("no round was run".to_owned()).into()),
    }
}

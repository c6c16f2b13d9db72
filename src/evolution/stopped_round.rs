//! A stopped round: its tables so far, published under a ref so that they can be inspected and are
//! not garbage-collected.

use std::path::PathBuf;

use super::EvolutionError;
use super::context::EvolutionContext;
use super::finished::{STOPPED, ref_name, tables_of, write_stopped_view};
use super::gates::GateResult;
use super::publish::closing_action;
use crate::canonical::to_canonical;
use crate::stages::{Runner, ShardOutput, Stage, StageError};
use crate::store::{Action, Counts, ObjectKind, Output, RefUpdate, StageResult, StoreError};

/// The name of the stage.
const STAGE: &str = "evolution.stopped";
const VERSION: u32 = 1;
/// The role of the gates among the outputs.
const GATES: &str = "gates";

/// The stage that ends a stopped round.
pub(super) struct StoppedRoundStage<'p, 'a> {
    pub context: &'p EvolutionContext<'a>,
    pub round: u32,
    /// The results of the round's stages.
    pub results: &'p [StageResult],
    /// The gates that were checked.
    pub gates: &'p [GateResult],
}

impl StoppedRoundStage<'_, '_> {
    /// Publishes the tables as `round-NNNN/stopped` and returns the folder of their view; `None` in
    /// a dry run, which does not change the store.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub(super) fn publish(&self) -> Result<Option<PathBuf>, EvolutionError> {
        let (runner, evolution) = (self.context.runner, &self.context.pipeline.evolution);
        if runner.dry_run {
            return Ok(None);
        }
        let result = runner.run(self, &[()])?.results.remove(0);
        let name = ref_name(self.round, STOPPED);
        loop {
            let head = runner.store.head(evolution, &name)?;
            if head.as_ref().is_some_and(|head| head.result == result.action) {
                break;
            }
            // Two processes may stop at once; each publishes in turn.
            if let RefUpdate::Applied(_) = runner.store.advance(evolution, &name, head.as_ref(), result.action)? {
                break;
            }
        }
        let folder = write_stopped_view(runner.store, evolution, self.round, &result)?;
        // Another process may have published since: the view must show what the ref names.
        let mut shown = result.action;
        while let Some(head) = runner.store.head(evolution, &name)?.filter(|head| head.result != shown) {
            let Some(result) = runner.store.result_with_outputs(head.result)? else { break };
            write_stopped_view(runner.store, evolution, self.round, &result)?;
            shown = head.result;
        }
        Ok(Some(folder))
    }
}

impl Stage for StoppedRoundStage<'_, '_> {
    type Shard = ();
    const PHASE: &'static str = "publishing the stopped round";

    fn action(&self, _shard: &()) -> Action {
        closing_action(self.context, self.round, (STAGE, VERSION), self.gates, tables_of(self.results), [])
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let gates = to_canonical(self.gates).map_err(StoreError::from)?;
        let object = runner.store.put_object(&gates, ObjectKind::Json)?;
        let mut outputs = vec![Output { role: GATES.to_owned(), object, rows: 0, bytes: gates.len() as u64 }];
        outputs.extend(tables_of(self.results).cloned());
        let upstream = self.results.iter().map(|result| result.action);
        let upstream = upstream.chain([self.context.base_result.action, self.context.images.action]).collect();
        runner.progress.advance(1);
        Ok(ShardOutput { outputs, counts: Counts::default(), upstream, ..ShardOutput::default() })
    }
}

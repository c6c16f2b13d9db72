//! A round that was stopped: the tables it made as far as it came, under a name, so that they can be looked at and are not collected.

use std::path::PathBuf;

use super::EvolutionError;
use super::context::EvolutionContext;
use super::finished::{STOPPED, ref_name, show_stopped, tables_of};
use super::gates::GateResult;
use super::publish::closing_action;
use crate::canonical::to_canonical;
use crate::stages::{Runner, ShardOutput, Stage, StageError};
use crate::store::{Action, Counts, ObjectKind, Output, RefUpdate, StageResult, StoreError};

/// The stage that ends a round which does not go on.
const STAGE: &str = "evolution.stopped";
const VERSION: u32 = 1;
/// The part that the gates play in its result.
const GATES: &str = "gates";

/// What a stopped round made.
pub(super) struct StoppedRoundStage<'p, 'a> {
    pub context: &'p EvolutionContext<'a>,
    pub round: u32,
    /// What the round's stages made.
    pub results: &'p [StageResult],
    /// The gates that were checked.
    pub gates: &'p [GateResult],
}

impl StoppedRoundStage<'_, '_> {
    /// Names it `round-NNNN/stopped` and lays out its tables; gives their folder. A dry run leaves the store alone.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub(super) fn keep(&self) -> Result<Option<PathBuf>, EvolutionError> {
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
            // Two processes may be stopped at once; what either made is named in turn.
            if let RefUpdate::Applied(_) = runner.store.advance(evolution, &name, head.as_ref(), result.action)? {
                break;
            }
        }
        let folder = show_stopped(runner.store, evolution, self.round, &result)?;
        // Another process may have named its own since: what is laid out is what is named.
        let mut shown = result.action;
        while let Some(head) = runner.store.head(evolution, &name)?.filter(|head| head.result != shown) {
            let Some(result) = runner.store.result_with_outputs(head.result)? else { break };
            show_stopped(runner.store, evolution, self.round, &result)?;
            shown = head.result;
        }
        Ok(Some(folder))
    }
}

impl Stage for StoppedRoundStage<'_, '_> {
    type Shard = ();

    fn phase(&self) -> &'static str {
        "keeping what the stopped round made"
    }

    fn action(&self, _shard: &()) -> Action {
        closing_action(self.context, self.round, (STAGE, VERSION), self.gates, tables_of(self.results), [])
    }

    fn units(&self, _shard: &()) -> u64 {
        1
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

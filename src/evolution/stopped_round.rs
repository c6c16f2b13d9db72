//! A stopped round: its tables so far, published under a ref so that they can be inspected and are
//! not garbage-collected.

use std::path::PathBuf;

use super::Result;
use super::context::EvolutionContext;
use super::finished::{STOPPED, ref_name, tables_of, write_round_view};
use super::gates::GateResult;
use super::publish::{closing_action, put_json};
use crate::stages::{Runner, ShardOutput, Stage, StageError};
use crate::store::{Action, Counts, RefUpdate, StageResult};

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
    pub(super) fn publish(&self) -> Result<Option<PathBuf>> {
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
        // Apart from the views of finished rounds, so that queries over `round=*` leave it out.
        let apart = format!("{evolution}/{STOPPED}");
        let folder = write_round_view(runner.store, &apart, self.round, &result)?;
        // Another process may have published since: the view must show what the ref names.
        let mut shown = result.action;
        while let Some(head) = runner.store.head(evolution, &name)?.filter(|head| head.result != shown) {
            let Some(result) = runner.store.result_with_outputs(head.result)? else { break };
            write_round_view(runner.store, &apart, self.round, &result)?;
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
        let mut outputs = vec![put_json(runner, GATES, &self.gates)?];
        outputs.extend(tables_of(self.results).cloned());
        let upstream = self.results.iter().map(|result| result.action);
        let upstream = upstream.chain(self.context.origins()).collect();
        runner.progress.advance(1);
        Ok(ShardOutput { outputs, counts: Counts::default(), upstream, ..ShardOutput::default() })
    }
}

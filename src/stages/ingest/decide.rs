//! The deciding and the assembling step of ingest. Both need all entries, so each has one shard.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::select::select;
use super::{Increment, IngestOptions};
use crate::imaging::ThresholdError;
use crate::stages::{
    Result, Runner, ShardOutput, Stage, StageError, TableOutput, inputs, new_action, read_rows, schema,
};
use crate::store::{Action, ActionKey, Counts, Input, ObjectId, Output, StageResult};
use crate::tables::{ImageRow, Measurement, RejectRow, SourceRow, TableRow};

/// Version of the decisions.
pub(super) const VERSION: u32 = 1;

/// Name of the stage whose results are image tables.
pub const INGEST: &str = "ingest";

/// Name of the stage that decides about entries.
pub(super) const DECIDE: &str = "ingest.decide";
/// Role of the entries among its inputs.
pub(super) const LISTING: &str = "listing";

/// Whether an action is that of an image table with these options by this version of the program.
pub(super) fn is_made_by(action: &Action, options: &IngestOptions) -> bool {
    *action == table_action(options, action.inputs.clone())
}

/// Returns the action of an image table made from these parts. Its parameters include the versions
/// of the earlier steps, so that a table of an older program is replaced instead of extended.
pub(super) fn table_action(options: &IngestOptions, inputs: Vec<Input>) -> Action {
    let mut parameters = options.parameters();
    let versions = [("decide", VERSION), ("measure", super::measure::VERSION), ("pack", super::pack::VERSION)];
    parameters.extend(versions.map(|(step, version)| (format!("{step}_version"), version.into())));
    Action {
        parameters,
        inputs,
        ..new_action(INGEST, VERSION, [schema::<ImageRow>(), schema::<RejectRow>(), schema::<SourceRow>()])
    }
}

/// Decides about every entry of an increment; writes `sources` and `rejects`.
pub(super) struct DecideStage<'a> {
    pub(super) options: &'a IngestOptions,
    pub(super) before: &'a Increment,
    pub(super) entries: &'a [Entry],
    pub(super) listing: ObjectId,
    pub(super) measured: &'a [StageResult],
}

impl Stage for DecideStage<'_> {
    type Shard = ();
    const PHASE: &'static str = "selecting images";

    fn action(&self, (): &()) -> Action {
        let outputs = self.measured.iter().flat_map(|m| &m.outputs);
        let mut inputs = inputs(self.before.outputs(SourceRow::TABLE).chain(outputs));
        inputs.push(Input { role: LISTING.into(), object: self.listing });
        Action {
            parameters: self.options.selection_parameters(),
            inputs,
            ..new_action(DECIDE, VERSION, [schema::<SourceRow>(), schema::<RejectRow>()])
        }
    }

    fn units(&self, (): &()) -> u64 {
        self.entries.len() as u64
    }

    fn run_shard(&self, (): &(), runner: &Runner<'_>) -> Result<ShardOutput> {
        let measured = read_rows::<Measurement>(runner.store, self.measured)?;
        let measured = measured.into_iter().map(|m| (m.image_id.0, m)).collect();
        let bits = self.options.near_duplicate_bits;
        let bad_threshold = |e: ThresholdError| StageError::parameter("ingest.near_duplicate_bits", e.to_string());
        let rows = select(self.before.rows(), self.entries, &measured, bits).map_err(bad_threshold)?;
        let rejects: Vec<RejectRow> = rows.iter().filter_map(reject_row).collect();
        let mut statistics = BTreeMap::new();
        for reject in &rejects {
            *statistics.entry(format!("rejected.{}", reject.reason)).or_insert(0) += 1;
        }
        let rows_in = rows.len() as u64;
        let rejected = rejects.len() as u64;
        let mut outputs = vec![TableOutput::write_all(runner.store, rows)?];
        if !rejects.is_empty() {
            outputs.push(TableOutput::write_all(runner.store, rejects)?);
        }
        runner.progress.advance(rows_in);
        let counts = Counts { rows_in, rows_out: rows_in - rejected, rejects: rejected };
        let mut upstream: Vec<ActionKey> = self.measured.iter().map(|m| m.action).collect();
        upstream.extend(self.before.key());
        Ok(ShardOutput { outputs, counts, statistics, upstream })
    }
}

fn reject_row(row: &SourceRow) -> Option<RejectRow> {
    Some(RejectRow {
        stage: "ingest".to_owned(),
        subject: row.source.clone(),
        subject_row: row.source_row,
        subject_id: row.image_id.map(|id| id.0),
        reason: row.reason.clone()?,
        detail: row.detail.clone().unwrap_or_default(),
        twin_id: row.twin_id.map(|id| id.0),
    })
}

/// Lists the tables of all increments in one result, which `images` names. Writes no object.
pub(super) struct AssembleStage<'a> {
    pub(super) options: &'a IngestOptions,
    pub(super) before: &'a Increment,
    pub(super) decided: &'a StageResult,
    pub(super) packed: &'a [StageResult],
}

impl AssembleStage<'_> {
    /// Returns `images` first, then `rejects`, then `sources`; in each, earlier increments first.
    fn outputs(&self) -> Vec<Output> {
        let mut all: Vec<Output> = Vec::new();
        for table in [ImageRow::TABLE, RejectRow::TABLE, SourceRow::TABLE] {
            all.extend(self.before.outputs(table).cloned());
            let new = self.packed.iter().chain([self.decided]);
            all.extend(new.flat_map(|r| &r.outputs).filter(|o| o.role == table).cloned());
        }
        all
    }
}

impl Stage for AssembleStage<'_> {
    type Shard = ();
    const PHASE: &'static str = "assembling the image table";

    fn action(&self, (): &()) -> Action {
        table_action(self.options, inputs(&self.outputs()))
    }

    fn run_shard(&self, (): &(), runner: &Runner<'_>) -> Result<ShardOutput> {
        let mut counts = self.decided.counts;
        let mut statistics = self.decided.statistics.clone();
        if let Some(before) = self.before.result() {
            counts += before.counts;
            for (name, n) in &before.statistics {
                *statistics.entry(name.clone()).or_insert(0) += n;
            }
        }
        let mut upstream = vec![self.decided.action];
        upstream.extend(self.packed.iter().map(|p| p.action));
        upstream.extend(self.before.key());
        runner.progress.advance(1);
        Ok(ShardOutput { outputs: self.outputs(), counts, statistics, upstream })
    }
}

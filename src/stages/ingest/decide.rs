//! Decide and assemble: the two steps of ingest that look at all entries at once, as stages of one shard each.

use std::collections::{BTreeMap, HashMap};

use super::scan::Entry;
use super::select::select;
use super::{Increment, IngestOptions};
use crate::ids::Digest;
use crate::imaging::ThresholdError;
use crate::stages::{Runner, ShardOutput, Stage, StageError, TableOutput};
use crate::store::{Action, ActionKey, Counts, Input, ObjectId, ObjectKind, Output, StageResult, Store, StoreError};
use crate::tables::{ImageRow, Measurement, PROFILE, RejectRow, SourceRow, TableRow};

/// Version of what is decided.
pub(super) const VERSION: u32 = 1;

/// The stage whose results are tables of images.
pub const INGEST: &str = "ingest";

/// The stage that decides what becomes of entries.
pub(super) const DECIDE: &str = "ingest.decide";
/// The role of the entries among its inputs.
pub(super) const LISTING: &str = "listing";

/// Whether an action made its table of images as the options and this program would.
pub(super) fn is_made_by(action: &Action, options: &IngestOptions) -> bool {
    let now = table_action(options, action.inputs.clone());
    *action == now
}

/// What is asked for a table of images of certain parts. The versions of the steps before it are among its parameters, so that
/// a table of an older program is not added to but made anew.
pub(super) fn table_action(options: &IngestOptions, inputs: Vec<Input>) -> Action {
    let mut parameters = options.parameters();
    let versions = [("decide", VERSION), ("measure", super::measure::VERSION), ("pack", super::pack::VERSION)];
    parameters.extend(versions.map(|(step, version)| (format!("{step}_version"), version.into())));
    Action {
        stage: INGEST.into(),
        stage_version: VERSION,
        parameters,
        seed: 0,
        inputs,
        model: None,
        shard: BTreeMap::new(),
        schemas: BTreeMap::from([
            (ImageRow::TABLE.into(), ImageRow::schema_id()),
            (RejectRow::TABLE.into(), RejectRow::schema_id()),
            (SourceRow::TABLE.into(), SourceRow::schema_id()),
        ]),
        writer_profile: PROFILE.number,
    }
}

/// Decides what becomes of every entry of an increment; writes `sources` and `rejects`.
pub(super) struct DecideStage<'a> {
    pub(super) options: &'a IngestOptions,
    pub(super) before: &'a Increment,
    pub(super) entries: &'a [Entry],
    pub(super) listing: ObjectId,
    pub(super) measured: &'a [StageResult],
}

impl<'a> DecideStage<'a> {
    pub(super) fn new(
        store: &Store,
        options: &'a IngestOptions,
        before: &'a Increment,
        entries: &'a [Entry],
        measured: &'a [StageResult],
    ) -> Result<Self, StageError> {
        let listing = crate::canonical::to_canonical(entries).map_err(StoreError::from)?;
        let listing = store.put_object(&listing, ObjectKind::Json)?;
        Ok(Self { options, before, entries, listing, measured })
    }
}

impl Stage for DecideStage<'_> {
    type Shard = ();

    fn phase(&self) -> &'static str {
        "choosing images"
    }

    fn action(&self, (): &()) -> Action {
        let mut inputs = inputs_of(self.before.outputs(SourceRow::TABLE));
        inputs.extend(self.measured.iter().flat_map(|m| inputs_of(&m.outputs)));
        inputs.push(Input { role: LISTING.into(), object: self.listing });
        Action {
            stage: DECIDE.into(),
            stage_version: VERSION,
            parameters: self.options.selection_parameters(),
            seed: 0,
            inputs,
            model: None,
            shard: BTreeMap::new(),
            schemas: BTreeMap::from([
                (SourceRow::TABLE.into(), SourceRow::schema_id()),
                (RejectRow::TABLE.into(), RejectRow::schema_id()),
            ]),
            writer_profile: PROFILE.number,
        }
    }

    fn units(&self, (): &()) -> u64 {
        self.entries.len() as u64
    }

    fn run_shard(&self, (): &(), runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let measured = read_measurements(runner.store, self.measured)?;
        let bits = self.options.near_duplicate_bits;
        let rows = select(self.before.rows(), self.entries, &measured, bits).map_err(unsearchable)?;
        let rejects: Vec<RejectRow> = rows.iter().filter_map(reject_row).collect();
        let mut figures = BTreeMap::new();
        for reject in &rejects {
            *figures.entry(format!("rejected.{}", reject.reason)).or_insert(0) += 1;
        }
        let rows_in = rows.len() as u64;
        let left_out = rejects.len() as u64;
        let mut outputs = vec![TableOutput::write_all(runner.store, rows)?];
        if !rejects.is_empty() {
            outputs.push(TableOutput::write_all(runner.store, rejects)?);
        }
        runner.progress.advance(rows_in);
        let counts = Counts { rows_in, rows_out: rows_in - left_out, rejects: left_out };
        let mut upstream: Vec<ActionKey> = self.measured.iter().map(|m| m.action).collect();
        upstream.extend(self.before.key());
        Ok(ShardOutput { outputs, counts, figures, upstream })
    }
}

fn unsearchable(e: ThresholdError) -> StageError {
    StageError::Parameter { key: "ingest.near_duplicate_bits", problem: e.to_string() }
}

fn read_measurements(store: &Store, results: &[StageResult]) -> Result<HashMap<Digest, Measurement>, StageError> {
    let mut measured = HashMap::new();
    for output in results.iter().flat_map(|r| &r.outputs) {
        let rows: Vec<Measurement> = super::read_table(store, output)?;
        measured.extend(rows.into_iter().map(|m| (m.image_id.0, m)));
    }
    Ok(measured)
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

/// Puts the tables of all increments side by side: the result that the `images` ref names. Makes no object.
pub(super) struct AssembleStage<'a> {
    pub(super) options: &'a IngestOptions,
    pub(super) before: &'a Increment,
    pub(super) decided: &'a StageResult,
    pub(super) packed: &'a [StageResult],
}

impl AssembleStage<'_> {
    /// `images` first, then `rejects`, then `sources`; within each the earlier increments first.
    fn outputs(&self) -> Vec<Output> {
        let mut all: Vec<Output> = Vec::new();
        for table in [ImageRow::TABLE, RejectRow::TABLE, SourceRow::TABLE] {
            all.extend_from_slice(self.before.outputs(table));
            let new = self.packed.iter().chain([self.decided]);
            all.extend(new.flat_map(|r| &r.outputs).filter(|o| o.role == table).cloned());
        }
        all
    }
}

impl Stage for AssembleStage<'_> {
    type Shard = ();

    fn phase(&self) -> &'static str {
        "assembling the table"
    }

    fn action(&self, (): &()) -> Action {
        table_action(self.options, inputs_of(&self.outputs()))
    }

    fn units(&self, (): &()) -> u64 {
        1
    }

    fn run_shard(&self, (): &(), runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let mut counts = self.decided.counts;
        let mut figures = self.decided.figures.clone();
        if let Some(before) = self.before.result() {
            counts += before.counts;
            for (figure, n) in &before.figures {
                *figures.entry(figure.clone()).or_insert(0) += n;
            }
        }
        let mut upstream = vec![self.decided.action];
        upstream.extend(self.packed.iter().map(|p| p.action));
        upstream.extend(self.before.key());
        runner.progress.advance(1);
        Ok(ShardOutput { outputs: self.outputs(), counts, figures, upstream })
    }
}

fn inputs_of(outputs: &[Output]) -> Vec<Input> {
    outputs.iter().map(|o| Input { role: o.role.clone(), object: o.object }).collect()
}

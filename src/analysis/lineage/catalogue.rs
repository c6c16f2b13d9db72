//! Catalogue of a store: every result with its action, the results derived from it, and its
//! position in a round.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::error::Result;
use crate::store::{Action, ActionKey, ObjectId, Ref, StageResult, Store, StoreError};
use crate::tables::{self, TableRow};

/// Keys of several results.
pub(super) type ActionKeys = BTreeSet<ActionKey>;

/// A stored result with its action.
#[derive(Debug)]
pub(super) struct StoredResult {
    pub(super) action: Action,
    pub(super) result: StageResult,
}

/// Position of a result in an evolution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RoundPosition {
    /// Name of the evolution.
    pub evolution: String,
    /// Number of the round.
    pub round: u32,
    /// Part of the round, such as the Questioner's training.
    pub part: String,
    /// Training step, from 0.
    pub step: Option<u32>,
}

/// A finished round.
#[derive(Debug)]
pub(super) struct CatalogueRound {
    pub(super) evolution: String,
    pub(super) number: u32,
    pub(super) result: StageResult,
}

/// Catalogue of a store.
pub(super) struct Catalogue<'a> {
    pub(super) store: &'a Store,
    pub(super) entries: BTreeMap<ActionKey, StoredResult>,
    /// Results derived from a result.
    derived: HashMap<ActionKey, Vec<ActionKey>>,
    pub(super) refs: Vec<Ref>,
    pub(super) rounds: Vec<CatalogueRound>,
    positions: HashMap<ActionKey, Vec<RoundPosition>>,
}

impl<'a> Catalogue<'a> {
    pub(super) fn read(store: &'a Store) -> Result<Self> {
        let with_action = |result: StageResult| {
            Some((result.action, StoredResult { action: store.action(result.action).ok()?, result }))
        };
        let entries: BTreeMap<ActionKey, StoredResult> =
            store.results()?.into_par_iter().filter_map(with_action).collect();
        let mut derived: HashMap<ActionKey, Vec<ActionKey>> = HashMap::new();
        for (key, StoredResult { result, .. }) in &entries {
            for from in &result.upstream {
                derived.entry(*from).or_default().push(*key);
            }
        }
        let refs = store.refs()?;
        let mut rounds = Vec::new();
        for r in &refs {
            if let (Some((number, "round")), Some(entry)) = (r.round_part(), entries.get(&r.result)) {
                rounds.push(CatalogueRound { evolution: r.evolution.clone(), number, result: entry.result.clone() });
            }
        }
        let mut catalogue = Self { store, entries, derived, refs, rounds, positions: HashMap::new() };
        catalogue.find_positions();
        Ok(catalogue)
    }

    /// Finds the position of every result of a round.
    fn find_positions(&mut self) {
        let mut positions: HashMap<ActionKey, Vec<RoundPosition>> = HashMap::new();
        for round in &self.rounds {
            let mut parts: BTreeMap<ActionKey, (String, Option<u32>)> = BTreeMap::new();
            let upstream = || round.result.upstream.iter().filter_map(|key| Some((*key, self.entries.get(key)?)));
            for (key, entry) in upstream() {
                let part = match entry.action.stage.as_str() {
                    "questions" | "answers" => "keep-best".to_owned(),
                    "rewards" | "update" => training_of(&entry.action),
                    "model.import" | "model.checkpoint" => "base model".to_owned(),
                    "model.assemble" => "models".to_owned(),
                    "evolution.round" => continue,
                    stage => stage.split('.').next().unwrap_or(stage).to_owned(),
                };
                parts.insert(key, (part, training_step(&entry.action)));
            }
            // The purpose of samples follows from the results derived from them.
            for (_, entry) in upstream() {
                for from in &entry.result.upstream {
                    let Some(stage) = self.entries.get(from).map(|entry| entry.action.stage.as_str()) else { continue };
                    let part = match (entry.action.stage.as_str(), stage) {
                        ("rewards", "questions" | "answers") => {
                            (training_of(&entry.action), training_step(&entry.action))
                        }
                        ("curriculum", "questions") => ("asking".to_owned(), None),
                        ("curriculum", "answers") => ("voting".to_owned(), None),
                        _ => continue,
                    };
                    if parts.contains_key(from) {
                        parts.insert(*from, part);
                    }
                }
            }
            for (key, (part, step)) in parts {
                let (evolution, round) = (round.evolution.clone(), round.number);
                positions.entry(key).or_default().push(RoundPosition { evolution, round, part, step });
            }
        }
        self.positions = positions;
    }

    /// Returns the positions of a result.
    pub(super) fn positions_of(&self, key: ActionKey) -> &[RoundPosition] {
        self.positions.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Returns the results of a stage that were derived from `key`.
    pub(super) fn find_derived(&self, key: ActionKey, stage: &str) -> Vec<&StoredResult> {
        self.all_derived(key).filter(|entry| entry.action.stage == stage).collect()
    }

    /// Returns the results that were derived from `key`.
    pub(super) fn all_derived(&self, key: ActionKey) -> impl Iterator<Item = &StoredResult> {
        self.derived.get(&key).into_iter().flatten().filter_map(|key| self.entries.get(key))
    }

    /// Returns the results of a stage that `entry` was derived from.
    pub(super) fn find_sources(&self, entry: &StoredResult, stage: &str) -> Vec<&StoredResult> {
        let all = entry.result.upstream.iter().filter_map(|key| self.entries.get(key));
        all.filter(|entry| entry.action.stage == stage).collect()
    }

    /// Returns the results of a stage, or of stages whose names begin with it, among some keys.
    pub(super) fn of_stage(&self, keys: &ActionKeys, stage: &str) -> Vec<&StoredResult> {
        let all = keys.iter().filter_map(|key| self.entries.get(key));
        all.filter(|entry| entry.action.stage.starts_with(stage)).collect()
    }

    /// Reads the rows of one table of a result.
    pub(super) fn read_rows<R: TableRow>(&self, result: &StageResult) -> Result<Vec<R>> {
        let mut rows = Vec::new();
        for output in result.outputs_of(R::TABLE) {
            rows.extend(self.read_object_rows(output.object)?);
        }
        Ok(rows)
    }

    /// Returns the first row of a table of a result that satisfies `is_row`.
    pub(super) fn find_row<R: TableRow>(&self, entry: &StoredResult, is_row: impl Fn(&R) -> bool) -> Result<Option<R>> {
        Ok(self.read_rows::<R>(&entry.result)?.into_iter().find(is_row))
    }

    /// Reads those rows of several results that satisfy `predicate`, in order.
    pub(super) fn read_rows_where<R: TableRow>(
        &self,
        entries: &[&StoredResult],
        predicate: impl Fn(&R) -> bool + Sync,
    ) -> Result<Vec<(ActionKey, R)>> {
        let read = |StoredResult { result, .. }: &&StoredResult| {
            let rows = self.read_rows::<R>(result)?;
            Ok(rows.into_iter().filter(|row| predicate(row)).map(|row| (result.action, row)).collect())
        };
        let rows: Vec<Vec<(ActionKey, R)>> = entries.par_iter().map(read).collect::<Result<_>>()?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Reads the rows of an object.
    pub(super) fn read_object_rows<R: TableRow>(&self, object: ObjectId) -> Result<Vec<R>> {
        match self.store.read_object(object) {
            Ok(bytes) => Ok(tables::read(object.name(), Bytes::from(bytes))?),
            // An object removed by garbage collection has no rows.
            Err(StoreError::Missing { .. }) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }

    /// Returns the names of a result.
    pub(super) fn names_of(&self, key: ActionKey) -> Vec<String> {
        let mut names: Vec<String> =
            self.refs.iter().filter(|r| r.result == key).map(|r| format!("{}/{}", r.evolution, r.name)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Returns the text of a prompt, which rounds store.
    pub(super) fn prompt_text(&self, id: crate::ids::Digest) -> Option<String> {
        let outputs = self.rounds.iter().flat_map(|round| &round.result.outputs);
        let prompts = outputs.filter(|output| output.role.starts_with("prompt."));
        prompts.map(|output| output.object).find_map(|object| {
            let text: String = serde_json::from_slice(&self.store.read_object(object).ok()?).ok()?;
            (crate::ids::Digest::of(text.as_bytes()) == id).then_some(text)
        })
    }

    /// Reads the report of a round.
    pub(super) fn read_report(&self, round: &CatalogueRound) -> Value {
        let report = round.result.outputs_of("report").next().map(|output| self.store.read_object(output.object));
        report.and_then(|bytes| bytes.ok()).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null)
    }
}

/// Returns the role's training that an action belongs to.
fn training_of(action: &Action) -> String {
    let parameter = |name: &str| action.parameters.get(name);
    let rewards_questioner = parameter("settings").is_some_and(|settings| settings.get("questioner").is_some());
    let is_questioner = rewards_questioner || parameter("role").and_then(Value::as_str) == Some("questioner");
    format!("{}'s training", if is_questioner { "Questioner" } else { "Reasoner" })
}

/// Returns the training step of an action.
pub(super) fn training_step(action: &Action) -> Option<u32> {
    action.parameters.get("step").and_then(Value::as_u64).and_then(|step| u32::try_from(step).ok())
}

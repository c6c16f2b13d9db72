//! A finished round as the store has it, with the inputs that running it again needs: settings,
//! prompts, base model and images of the round, not those of today's files.

use super::Result;
use super::context::PinnedInputs;
use super::finished::{FinishedRound, SETTINGS, finished_round, read_report};
use super::pipeline::Pipeline;
use super::settings::apply;
use super::stored_inputs::{has_used, raw_prompt, stored_prompt, upstream_result};
use crate::stages::StageError;
use crate::stages::ingest::INGEST;
use crate::stages::model::{CHECKPOINT, IMPORT};
use crate::stages::role_prompt::RolePrompt;
use crate::store::{StageResult, Store};
use crate::tables::Role;

/// A finished round in the store.
#[derive(Debug, Clone)]
pub(super) struct StoredRound {
    pub(super) evolution: String,
    pub(super) number: u32,
    pub(super) result: StageResult,
}

impl StoredRound {
    /// Returns every finished round of every evolution, also those that a replay recomputes.
    pub(super) fn list(store: &Store) -> Result<Vec<Self>> {
        let mut rounds = Vec::new();
        for r in store.refs()? {
            if let (Some((number, "round")), Some(result)) = (r.round_part(), store.recorded_result(r.result)?) {
                rounds.push(Self { evolution: r.evolution, number, result });
            }
        }
        Ok(rounds)
    }

    /// Returns its settings; what they leave out, such as the paths of benchmarks, is that of
    /// `current`.
    pub(super) fn pipeline(&self, store: &Store, current: &Pipeline) -> Result<Pipeline> {
        let report = read_report(store, &self.result)?;
        let mut action = store.action(self.result.action)?;
        let lost = || StageError::missing_part(format!("the action of a round of {}", self.evolution), SETTINGS);
        let settings = action.parameters.remove(SETTINGS).ok_or_else(lost)?;
        let mut pipeline = apply(&settings, &report.gates, current)?;
        pipeline.evolution.clone_from(&self.evolution);
        Ok(pipeline)
    }

    /// Returns its inputs.
    pub(super) fn inputs(&self, store: &Store, current: &Pipeline) -> Result<PinnedInputs> {
        Ok(PinnedInputs {
            questioner_prompt: self.read_prompt(store, current, Role::Questioner)?,
            reasoner_prompt: self.read_prompt(store, current, Role::Reasoner)?,
            base: upstream_of(store, &self.result, IMPORT)?,
            companions: upstream_result(store, &self.result, CHECKPOINT)?,
            images: upstream_of(store, &self.result, INGEST)?,
        })
    }

    /// Returns the rounds before it.
    pub(super) fn before(&self, store: &Store) -> Result<Vec<FinishedRound>> {
        let mut before = Vec::new();
        for number in 1..self.number {
            before.extend(finished_round(store, &self.evolution, number)?);
        }
        Ok(before)
    }

    /// Returns the prompt of a role in the round: the stored one, or, for a round that stored none,
    /// that of the file, which must not have changed.
    fn read_prompt(&self, store: &Store, current: &Pipeline, role: Role) -> Result<RolePrompt> {
        if let Some(prompt) = stored_prompt(store, &self.result, role)? {
            return Ok(prompt);
        }
        // It must be one of those that the round's samples were drawn with.
        if let Some(prompt) = raw_prompt(current, store, &self.result, role)? {
            return Ok(prompt);
        }
        let prompt = current.prompt(role)?;
        if has_used(store, &self.result, &prompt)? {
            return Ok(prompt);
        }
        let problem = format!("this template ({}) is not the one that the round used; restore that one", prompt.id);
        let key = if role == Role::Questioner { "prompts.questioner" } else { "prompts.reasoner" };
        Err(current.source.error(key, problem).into())
    }
}

/// Returns the first upstream result of a stage.
pub(super) fn upstream_of(store: &Store, result: &StageResult, stage: &str) -> Result<StageResult> {
    for &key in &result.upstream {
        if store.action(key)?.stage == stage
            && let Some(upstream) = store.result(key)?
        {
            return Ok(upstream);
        }
    }
    Err(StageError::missing_part(format!("the result {}", result.action), format!("input from the stage `{stage}`"))
        .into())
}

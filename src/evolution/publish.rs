//! The last stage of a round: publishes the report and all tables of the round as one result.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::context::EvolutionContext;
use super::finished::{FinishedRound, PROMPTS, REPORT, ROUND, SETTINGS, tables_of};
use super::gates::GateResult;
use super::report::RoundReport;
use super::settings::settings_of;
use crate::canonical::to_canonical;
use crate::stages::role_prompt::RolePrompt;
use crate::stages::{Runner, ShardOutput, Stage, StageError};
use crate::store::{Action, ActionKey, Counts, Input, ObjectKind, Output, StageResult, StoreError};

const VERSION: u32 = 2;

/// Returns the action of a stage that ends a round: its inputs are the round's tables, its
/// parameters are the gates, the settings and `own_parameters`.
pub(super) fn closing_action<'o, const N: usize>(
    context: &EvolutionContext<'_>,
    round: u32,
    (stage, stage_version): (&str, u32),
    gates: &[GateResult],
    outputs: impl Iterator<Item = &'o Output>,
    own_parameters: [(&str, Value); N],
) -> Action {
    // The gates carry their thresholds, so the settings leave them out.
    let common =
        [("gates", json!(gates)), (SETTINGS, settings_of(context.pipeline, context.compute.limits_affect_results()))];
    Action {
        stage: stage.into(),
        stage_version,
        parameters: common.into_iter().chain(own_parameters).map(|(name, value)| (name.to_owned(), value)).collect(),
        seed: context.pipeline.round.seed,
        inputs: outputs.map(|output| Input { role: output.role.clone(), object: output.object }).collect(),
        model: Some(context.base.id.0),
        shard: BTreeMap::from([("round".into(), json!(round))]),
        schemas: BTreeMap::new(),
        writer_profile: 0,
    }
}

/// Stores a value as a JSON object and returns it as an output.
pub(super) fn put_json(runner: &Runner<'_>, role: &str, value: &impl Serialize) -> Result<Output, StageError> {
    let json = to_canonical(value).map_err(StoreError::from)?;
    let object = runner.store.put_object(&json, ObjectKind::Json)?;
    Ok(Output { role: role.to_owned(), object, rows: 0, bytes: json.len() as u64 })
}

/// The last stage of a round.
pub(super) struct PublishRoundStage<'p, 'a> {
    pub context: &'p EvolutionContext<'a>,
    pub round: u32,
    /// The results of the round's stages.
    pub results: &'p [StageResult],
    pub report: &'p RoundReport,
    pub models: [&'p StageResult; 2],
    pub before: Option<&'p FinishedRound>,
}

impl PublishRoundStage<'_, '_> {
    fn prompts(&self) -> [&RolePrompt; 2] {
        [&self.context.questioner_prompt, &self.context.reasoner_prompt]
    }
}

impl Stage for PublishRoundStage<'_, '_> {
    type Shard = ();
    const PHASE: &'static str = "publishing the round";

    fn action(&self, _shard: &()) -> Action {
        let outputs = tables_of(self.results).chain(self.models.iter().flat_map(|model| &model.outputs));
        let own_parameters = [
            ("before", json!(self.before.map(|before| before.result.action))),
            ("prompts", json!(self.prompts().map(|prompt| prompt.id))),
        ];
        closing_action(self.context, self.round, (ROUND, VERSION), &self.report.gates, outputs, own_parameters)
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let mut outputs = vec![put_json(runner, REPORT, self.report)?];
        for (role, prompt) in PROMPTS.iter().zip(self.prompts()) {
            outputs.push(put_json(runner, role, &prompt.text)?);
        }
        outputs.extend(tables_of(self.results).cloned());
        let rows = self.report.questions.asked;
        let mut upstream: Vec<ActionKey> = self.results.iter().map(|result| result.action).collect();
        upstream.extend(self.models.iter().map(|model| model.action));
        upstream.extend(self.before.map(|before| before.result.action));
        upstream.extend(self.context.origins());
        runner.progress.advance(1);
        let counts = Counts { rows_in: rows, rows_out: rows, rejects: 0 };
        Ok(ShardOutput { outputs, counts, upstream, ..ShardOutput::default() })
    }
}

//! `visplay rewards`: the Questioner's rewards for recorded steps.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::args::{parse_scope, set_diversity};
use crate::cli::output::jsonl::{AddedKeys, Line, LinesArgs, Order, for_each_line, kind_of};
use crate::cli::{CommandError, Result, Ui};
use crate::reward::{Preset, QuestionOutcome, QuestionerReward, QuestionerSettings, questioner_rewards};

/// Compute the Questioner's rewards for the questions of a step, as training does.
///
/// Reads lines {"groups": [[{"question": "..", "valid": true, "confidence": 0.5}, ..], ..]}, one
/// step per line and one group per image. Adds "rewards" and their parts, in the shape of the
/// groups: "uncertainty", "diversity" (the penalty), "shares" and "cluster_sizes". Where "valid" is
/// false, "question" and "confidence" are ignored and may be missing. See docs/rewards.md for the
/// formulas. Other keys pass through.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay rewards steps.jsonl --preset paper
  visplay rewards steps.jsonl --preset released-code | jq -c .rewards
  visplay rewards steps.jsonl --preset released-code --scope group --lambda 0.5")]
pub struct RewardsArgs {
    #[command(flatten)]
    lines: LinesArgs,
    /// Reward preset: paper or released-code.
    #[arg(long, value_name = "NAME")]
    preset: String,
    /// Weight of the diversity penalty, overriding the preset.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    lambda: Option<f64>,
    /// Compare questions within a group (one image) or the whole step, overriding the preset
    /// [group, step].
    #[arg(long, value_name = "SCOPE", value_parser = parse_scope)]
    scope: Option<crate::reward::DiversityScope>,
}

/// Runs `visplay rewards`.
pub fn cmd_rewards(args: &RewardsArgs, ui: &Ui) -> Result<()> {
    let preset = Preset::named(&args.preset).map_err(CommandError::from_input)?;
    let mut settings = preset.questioner.clone();
    set_diversity(&mut settings, args.lambda, args.scope)?;
    for_each_line(&args.lines, ui, Order::Sequential, |line| add_rewards(line, &settings))
}

fn add_rewards(line: &Line, settings: &QuestionerSettings) -> Result<AddedKeys, String> {
    let groups = array(line.get("groups")?, || "\"groups\"".to_owned())?;
    let group = |(g, group): (usize, &Value)| -> Result<Vec<QuestionOutcome>, String> {
        let questions = array(group, || format!("\"groups\"[{g}]"))?;
        let read = |(q, entry)| question(entry).map_err(|reason| format!("\"groups\"[{g}][{q}] {reason}"));
        questions.iter().enumerate().map(read).collect()
    };
    let groups = groups.iter().enumerate().map(group).collect::<Result<Vec<_>, _>>()?;
    let rewards = questioner_rewards(&groups, settings).map_err(|error| error.to_string())?;
    let column = |part: &dyn Fn(&QuestionerReward) -> Value| -> Value {
        rewards.iter().map(|group| group.iter().map(part).collect::<Value>()).collect()
    };
    Ok(vec![
        ("rewards", column(&|reward| json!(reward.reward))),
        ("uncertainty", column(&|reward| json!(reward.uncertainty))),
        ("diversity", column(&|reward| json!(reward.diversity_penalty))),
        ("shares", column(&|reward| json!(reward.share))),
        ("cluster_sizes", column(&|reward| json!(reward.cluster_size))),
    ])
}

fn array(value: &Value, name: impl Fn() -> String) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("{} is {}, not a list", name(), kind_of(value)))
}

fn question(entry: &Value) -> Result<QuestionOutcome, String> {
    let entry = entry.as_object().ok_or_else(|| format!("is {}, not an object", kind_of(entry)))?;
    let value_of = |key: &str| entry.get(key).filter(|value| !value.is_null());
    let valid = match value_of("valid") {
        Some(Value::Bool(valid)) => *valid,
        Some(other) => return Err(format!("has a \"valid\" that is {}, not a boolean", kind_of(other))),
        None => return Err("has no \"valid\"".to_owned()),
    };
    if !valid {
        return Ok(QuestionOutcome { text: String::new(), valid, confidence: 0.0 });
    }
    let text = value_of("question").and_then(Value::as_str).ok_or("is valid but has no string \"question\"")?;
    let confidence =
        value_of("confidence").and_then(Value::as_f64).ok_or("is valid but has no number \"confidence\"")?;
    if !(0.0..=1.0).contains(&confidence) {
        return Err(format!("has a confidence of {confidence}; it must be between 0 and 1"));
    }
    Ok(QuestionOutcome { text: text.to_owned(), valid, confidence })
}

//! Targets of a replay: their text form, and the stored results that they select.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::finished::{ROUND, SETTINGS, ref_name};
use super::super::seeds::SeedPurpose;
use super::super::stored_round::StoredRound;
use super::super::{EvolutionError, Result};
use super::TargetResult;
use crate::stages::StageError;
use crate::stages::answers::ANSWERS;
use crate::stages::curriculum::CURRICULUM;
use crate::stages::ingest::{IMAGES, INGEST};
use crate::stages::model::{ASSEMBLE, CHECKPOINT, IMPORT};
use crate::stages::questions::QUESTIONS;
use crate::stages::rewards::REWARDS;
use crate::stages::update::UPDATE;
use crate::store::{Action, ActionKey, StageResult, Store, StoreError, StoreFile};

/// Declares the parts of a round with their names on the command line.
macro_rules! round_parts {
    ($($(#[$doc:meta])* $part:ident = $name:literal,)+) => {
        /// A part of a round.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum RoundPart {
            $($(#[$doc])* #[serde(rename = $name)] $part,)+
        }

        impl RoundPart {
            /// Every part.
            pub const ALL: &[Self] = &[$(Self::$part),+];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$part => $name,)+
                }
            }
        }
    };
}

round_parts! {
    /// The base model's import.
    Base = "base",
    /// The ingest of the images.
    Images = "images",
    /// Questions, in training and for the curriculum.
    Questions = "questions",
    /// Answers and votes.
    Answers = "answers",
    /// Rewards.
    Rewards = "rewards",
    /// Training steps.
    Update = "update",
    /// The curriculum.
    Curriculum = "curriculum",
    /// The label-free score.
    KeepBest = "keep-best",
    /// Benchmarks.
    Evaluation = "evaluation",
    /// The published models.
    Models = "models",
    /// The round itself.
    Round = "round",
}

impl RoundPart {
    /// Returns the part of a round that an action belongs to. `is_keep_best` marks samples of the
    /// keep-best score, which run the same stages as the others.
    fn of(action: &Action, is_keep_best: bool) -> Option<Self> {
        Some(match action.stage.as_str() {
            QUESTIONS | ANSWERS if is_keep_best => Self::KeepBest,
            QUESTIONS => Self::Questions,
            ANSWERS => Self::Answers,
            REWARDS => Self::Rewards,
            UPDATE => Self::Update,
            IMPORT | CHECKPOINT => Self::Base,
            ASSEMBLE => Self::Models,
            ROUND => Self::Round,
            stage if stage.starts_with(CURRICULUM) => Self::Curriculum,
            stage if stage.starts_with("evaluation") => Self::Evaluation,
            stage if stage.starts_with(INGEST) => Self::Images,
            _ => return None,
        })
    }
}

/// The target of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayTarget {
    /// A round or a part of it.
    Round {
        /// The evolution.
        evolution: String,
        /// The round, from 1.
        number: u32,
        /// A part, a table, or a role for its training; `None` for the whole round.
        part: Option<String>,
    },
    /// The table of images of an evolution.
    Images {
        /// The evolution.
        evolution: String,
    },
    /// An action, a result or an object, by the first digits of its digest.
    Digest(String),
}

impl ReplayTarget {
    /// Reads `EVOLUTION/round-N`, `EVOLUTION/round-N/PART`, `EVOLUTION/images`, or a digest.
    ///
    /// # Errors
    /// The text has none of these forms.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let (Some(evolution), name, part, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(format!("`{text}` has too many parts"));
        };
        let evolution = evolution.to_owned();
        match (name, part) {
            (None, _) => Ok(Self::Digest(evolution)),
            (Some(IMAGES), None) => Ok(Self::Images { evolution }),
            (Some(round), part) => {
                let number = round.strip_prefix("round-").and_then(|n| n.parse().ok());
                match number.filter(|n| (1..=9999).contains(n)) {
                    Some(number) => Ok(Self::Round { evolution, number, part: part.map(str::to_owned) }),
                    None => Err(format!("`{round}` is neither a round such as `round-1` nor `{IMAGES}`")),
                }
            }
        }
    }
}

/// The results of a target, and the round that they belong to.
pub(super) struct Targets {
    pub(super) round: Option<StoredRound>,
    pub(super) results: Vec<TargetResult>,
}

/// Finds the results of a target.
pub(super) fn find_targets(store: &Store, requested: &ReplayTarget) -> Result<Targets> {
    match requested {
        ReplayTarget::Round { evolution, number, part } => {
            let round = find_round(store, evolution, *number)?;
            let all = results_of_round(store, &round)?;
            let results = if let Some(part) = part { select_part(store, all, part)? } else { all };
            Ok(Targets { round: Some(round), results })
        }
        ReplayTarget::Images { evolution } => {
            let none = || lookup_error(format!("`{evolution}` has no images"));
            let head = store.head(evolution, IMAGES)?.ok_or_else(none)?;
            Ok(Targets { round: None, results: results_of_ingest(store, head.result)? })
        }
        ReplayTarget::Digest(prefix) => find_by_digest(store, prefix),
    }
}

fn lookup_error(problem: String) -> EvolutionError {
    StoreError::Lookup(problem).into()
}

fn find_round(store: &Store, evolution: &str, number: u32) -> Result<StoredRound> {
    let name = ref_name(number, "round");
    let Some(head) = store.head(evolution, &name)? else {
        return Err(lookup_error(format!("round {number} of `{evolution}` is not finished")));
    };
    let result = store.result(head.result)?;
    let lost = || StageError::Lost(format!("the result of {evolution}/{name}"));
    Ok(StoredRound { evolution: evolution.to_owned(), number, result: result.ok_or_else(lost)? })
}

/// Returns all results that went into a round, and its own, but not those of earlier rounds.
fn results_of_round(store: &Store, round: &StoredRound) -> Result<Vec<TargetResult>> {
    let round_action = store.action(round.result.action)?;
    let seed = round_action.parameters.get(SETTINGS).and_then(|settings| settings.pointer("/round/seed")?.as_u64());
    let is_keep_best = |action: &Action| {
        let purpose = seed.and_then(|seed| SeedPurpose::of_action(action, seed, round.number, 0));
        purpose == Some(SeedPurpose::KeepBest)
    };
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for &key in &round.result.upstream {
        // A role that is not trained has the same model before and after.
        if !seen.insert(key) {
            continue;
        }
        let action = store.action(key)?;
        match action.stage.as_str() {
            ROUND => {}
            INGEST => all.extend(results_of_ingest(store, key)?),
            _ => all.extend(find_target(store, key, &action, is_keep_best(&action))?),
        }
    }
    all.extend(find_target(store, round.result.action, &round_action, false)?);
    Ok(all)
}

fn find_target(store: &Store, key: ActionKey, action: &Action, is_keep_best: bool) -> Result<Option<TargetResult>> {
    let Some(part) = RoundPart::of(action, is_keep_best) else { return Ok(None) };
    let lost = || StageError::lost_result(key);
    let result = store.result(key)?.ok_or_else(lost)?;
    Ok(Some(TargetResult { stage: action.stage.clone(), part, result }))
}

/// Returns the results of all ingest stages behind an images table.
fn results_of_ingest(store: &Store, table: ActionKey) -> Result<Vec<TargetResult>> {
    let (mut queue, mut seen, mut targets) = (vec![table], BTreeSet::new(), Vec::new());
    while let Some(key) = queue.pop() {
        if seen.insert(key) {
            let action = store.action(key)?;
            if let Some(target) = find_target(store, key, &action, false)? {
                queue.extend(target.result.upstream.clone());
                targets.push(target);
            }
        }
    }
    targets.reverse();
    Ok(targets)
}

/// Returns the results of a part of a round.
fn select_part(store: &Store, all: Vec<TargetResult>, word: &str) -> Result<Vec<TargetResult>> {
    let name = match word {
        "votes" => "answers",
        "scores" | "predictions" => "evaluation",
        "metrics" => "update",
        word => word,
    };
    let mut selected = Vec::new();
    for target in &all {
        let of_role = || -> Result<bool> {
            let action = store.action(target.result.action)?;
            let role = action.parameters.get("role").and_then(|role| role.as_str());
            Ok(target.part == RoundPart::Update && role == Some(name))
        };
        if target.part.name() == name || matches!(name, "questioner" | "reasoner") && of_role()? {
            selected.push(target.clone());
        }
    }
    if !selected.is_empty() {
        return Ok(selected);
    }
    let names = RoundPart::ALL.iter().map(|part| part.name());
    let words: Vec<&str> = names.chain(["votes", "scores", "questioner", "reasoner"]).collect();
    if words.contains(&word) {
        return Err(lookup_error(format!("the round has no {word}")));
    }
    let nearest = words.iter().min_by_key(|known| strsim::damerau_levenshtein(known, word));
    let (nearest, all) = (nearest.copied().unwrap_or_default(), words.join(", "));
    Err(lookup_error(format!("`{word}` is not a part of a round; did you mean `{nearest}`? (parts: {all})")))
}

/// Finds a result by its digest, or the result that has an object.
fn find_by_digest(store: &Store, prefix: &str) -> Result<Targets> {
    let keys: BTreeSet<ActionKey> = match store.find(prefix)? {
        StoreFile::Action(key) | StoreFile::Result(key) => BTreeSet::from([key]),
        StoreFile::Object(object) => {
            let has = |result: &StageResult| result.outputs.iter().any(|output| output.object == object);
            store.results()?.iter().filter(|result| has(result)).map(|result| result.action).collect()
        }
        _ => BTreeSet::new(),
    };
    let mut rounds = StoredRound::list(store)?;
    // An object may be in the results of many rounds; the first of them computed it.
    rounds.sort_by_key(|round| (round.number, round.result.run.began_ms));
    for round in rounds {
        let all = results_of_round(store, &round)?;
        let is_requested = |target: &&TargetResult| keys.contains(&target.result.action);
        // One result computed an object; later ones, such as the round's own, only refer to it.
        let results: Vec<TargetResult> = match all.iter().find(is_requested) {
            Some(first) if keys.len() > 1 => vec![first.clone()],
            _ => all.iter().filter(is_requested).cloned().collect(),
        };
        if !results.is_empty() {
            return Ok(Targets { round: Some(round), results });
        }
    }
    for r in store.refs()?.iter().filter(|r| r.name == IMAGES) {
        let mut results = results_of_ingest(store, r.result)?;
        results.retain(|target| keys.contains(&target.result.action));
        if !results.is_empty() {
            return Ok(Targets { round: None, results });
        }
    }
    Err(lookup_error(format!(
        "`{prefix}` belongs to no finished round and to no images table, which a replay takes its settings from"
    )))
}

/// Returns the images table that some results of an ingest are part of.
pub(super) fn find_table(store: &Store, keys: impl Iterator<Item = ActionKey>) -> Result<StageResult> {
    let keys: BTreeSet<ActionKey> = keys.collect();
    for r in store.refs()?.iter().filter(|r| r.name == IMAGES) {
        let of_table: BTreeSet<ActionKey> =
            results_of_ingest(store, r.result)?.iter().map(|target| target.result.action).collect();
        if keys.is_subset(&of_table)
            && let Some(table) = store.result(r.result)?
        {
            return Ok(table);
        }
    }
    Err(lookup_error("no images table has all of these results".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_parsed() {
        let round = |part: Option<&str>| ReplayTarget::Round {
            evolution: "nano".into(),
            number: 1,
            part: part.map(str::to_owned),
        };
        assert_eq!(ReplayTarget::parse("nano/round-0001"), Ok(round(None)));
        assert_eq!(ReplayTarget::parse("nano/round-1/questions"), Ok(round(Some("questions"))));
        assert_eq!(ReplayTarget::parse("nano/images"), Ok(ReplayTarget::Images { evolution: "nano".into() }));
        assert_eq!(ReplayTarget::parse("3fa9c0"), Ok(ReplayTarget::Digest("3fa9c0".into())));
        for bad in ["nano/round-0", "nano/rounds-1", "nano/round-1/a/b", "nano/round-x/questions", "nano/"] {
            assert!(ReplayTarget::parse(bad).is_err(), "{bad}");
        }
    }
}

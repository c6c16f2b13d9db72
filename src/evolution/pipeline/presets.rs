//! Presets: the values of keys that a pipeline file leaves out.

use std::collections::BTreeMap;

use serde_json::json;
use toml::{Table, Value};

use super::current_name;
use crate::reward::{Preset, PresetError};

/// The values of the presets except those of rewards, which are in `src/reward/presets.toml`.
const SHIPPED: &str = include_str!("presets.toml");

/// Returns the keys that a preset sets, as a table like that of a pipeline file.
pub(super) fn read(name: &str) -> Result<Table, PresetError> {
    let preset = Preset::named(name)?;
    let Preset { questioner, reasoner, difficulty, .. } = &preset;
    let mut rewards = json!({"questioner": questioner, "reasoner": reasoner, "curriculum": difficulty});
    for (section, key, value) in [
        ("questioner", "group_size", json!(preset.group_size)),
        ("questioner", "reward_samples", json!(preset.reward_samples)),
        ("questioner", "reward_denominator", json!(preset.reward_denominator)),
        ("reasoner", "group_size", json!(preset.group_size)),
        ("curriculum", "label_samples", json!(preset.label_samples)),
        ("curriculum", "label_denominator", json!(preset.label_denominator)),
    ] {
        rewards[section][key] = value;
    }
    let unreadable = |e: &dyn std::fmt::Display| PresetError::Unreadable(e.to_string());
    let mut shipped: BTreeMap<String, Table> = toml::from_str(SHIPPED).map_err(|e| unreadable(&e))?;
    let mut table = shipped.remove(name).unwrap_or_default();
    merge(&mut table, Table::try_from(rewards).map_err(|e| unreadable(&e))?);
    Ok(table)
}

/// Merges the keys of `overlay` into `table`, section by section and under their current names. If
/// both have a key, the value of `overlay` wins.
pub(super) fn merge(table: &mut Table, overlay: Table) {
    for (key, value) in overlay {
        let key = current_name(&key).to_owned();
        match (table.get_mut(&key), value) {
            (Some(Value::Table(section)), Value::Table(overlay)) => merge(section, overlay),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

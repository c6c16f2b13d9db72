//! Presets: the values of keys that a pipeline file leaves out.

use toml::{Table, Value};

use super::current_name;
use crate::reward::{Preset, PresetError};

/// The values of the presets except those of rewards, which are in `src/reward/presets.toml`.
const SHIPPED: &str = include_str!("presets.toml");

/// Returns the keys that a preset sets, as a table like that of a pipeline file.
///
/// # Errors
/// The preset does not exist.
pub(super) fn read(name: &str) -> Result<Table, PresetError> {
    let preset = Preset::named(name)?;
    let unreadable = |problem: String| PresetError::Unreadable(problem);
    let mut shipped: Table = toml::from_str(SHIPPED).map_err(|e| unreadable(e.to_string()))?;
    let mut table = match shipped.remove(name) {
        Some(Value::Table(table)) => table,
        _ => Table::new(),
    };
    let check = |value: Result<Table, toml::ser::Error>| value.map_err(|e| unreadable(e.to_string()));
    let mut questioner = check(Table::try_from(&preset.questioner))?;
    questioner.insert("group_size".into(), Value::from(preset.group_size as i64));
    questioner.insert("reward_samples".into(), Value::from(preset.reward_samples as i64));
    questioner.insert("reward_denominator".into(), to_toml(preset.reward_denominator)?);
    let mut reasoner = check(Table::try_from(&preset.reasoner))?;
    reasoner.insert("group_size".into(), Value::from(preset.group_size as i64));
    let mut curriculum = check(Table::try_from(&preset.difficulty))?;
    curriculum.insert("label_samples".into(), Value::from(preset.label_samples as i64));
    curriculum.insert("label_denominator".into(), to_toml(preset.label_denominator)?);
    for (section, keys) in [("questioner", questioner), ("reasoner", reasoner), ("curriculum", curriculum)] {
        merge(&mut table, Table::from_iter([(section.to_owned(), Value::Table(keys))]));
    }
    Ok(table)
}

fn to_toml(value: impl serde::Serialize) -> Result<Value, PresetError> {
    Value::try_from(value).map_err(|e| PresetError::Unreadable(e.to_string()))
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

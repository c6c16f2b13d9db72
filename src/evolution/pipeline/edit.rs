//! Editor for the text of a pipeline file: changes keys and keeps comments and layout.

use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, TomlError, Value};

/// A key and its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The dotted key, such as `curriculum.low`.
    pub key: String,
    /// The value, in TOML.
    pub value: String,
}

impl Setting {
    /// Reads `KEY=VALUE`. A value that is not valid TOML is taken as a string:
    /// `preset=released-code`.
    ///
    /// # Errors
    /// `=` is missing, the key is not a dotted key, or the value is empty or has several lines.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` must be written KEY=VALUE"))?;
        let (key, value) = (key.trim(), value.trim());
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if key.split('.').any(|part| part.is_empty() || !part.chars().all(plain)) {
            return Err(format!("`{key}` is not a key; write one such as curriculum.low"));
        }
        if value.is_empty() || value.contains(['\n', '\r']) {
            return Err(format!("`{key}` has no value; write {key}=VALUE"));
        }
        // The parser drops a comment after the value, so the text counts as TOML only if the value
        // is all of it.
        let is_toml = value.parse::<Value>().is_ok_and(|parsed| parsed.to_string() == value);
        let value = if is_toml { value.to_owned() } else { Value::from(value).to_string() };
        Ok(Self { key: key.to_owned(), value })
    }
}

/// Renamed keys: the earlier name, which stored settings have and pipeline files may have, and the
/// current one.
const RENAMED: [(&str, &str); 1] = [("layers_at_once", "layers_per_checkpoint")];

/// Returns the current name of a key, without the tables that it is in.
pub fn current_name(name: &str) -> &str {
    RENAMED.iter().find(|(earlier, _)| *earlier == name).map_or(name, |(_, current)| *current)
}

/// Returns the one of a key's names that a table has; the current one if it has none of them.
fn name_in(name: &str, has: impl Fn(&str) -> bool) -> &str {
    let current = current_name(name);
    let earlier = RENAMED.iter().filter(|(_, other)| *other == current).map(|(earlier, _)| *earlier);
    earlier.chain([current]).find(|name| has(name)).unwrap_or(current)
}

/// Finds a dotted key: the table that has it, and its name there.
pub(super) fn find_key<'d>(document: &'d dyn TableLike, key: &'d str) -> Option<(&'d dyn TableLike, &'d str)> {
    let mut parts = key.split('.');
    let key = parts.next_back()?;
    let table = parts.try_fold(document, |table, name| table.get(name)?.as_table_like())?;
    let name = name_in(key, |name| table.contains_key(name));
    table.contains_key(name).then_some((table, name))
}

/// Returns the text with a key set, under the name that it has in the text. An unknown key is not
/// an error here; the caller finds it by parsing the result.
///
/// # Errors
/// The text or the value is not valid TOML.
pub fn set_key(text: &str, setting: &Setting) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let mut value: Value = setting.value.parse()?;
    let mut item = document.as_item_mut();
    let mut path = setting.key.split('.').peekable();
    while let Some(name) = path.next() {
        let name = name_in(name, |name| item.get(name).is_some());
        if item.get(name).is_none() {
            add(item, name, path.peek().is_none());
        }
        match item.get(name) {
            Some(_) => item = &mut item[name],
            // A value where a table should be.
            None => break,
        }
    }
    if let Some(old) = item.as_value() {
        *value.decor_mut() = old.decor().clone();
    }
    *item = Item::Value(value);
    Ok(document.to_string())
}

/// Adds a key without a value, or a table, to a table: below its heading, or last in its braces.
fn add(item: &mut Item, name: &str, is_value: bool) {
    match item {
        Item::Table(table) if is_value => {
            table.insert(name, toml_edit::value(""));
            table.sort_values_by(|a, _, b, _| (a.get() != name).cmp(&(b.get() != name)));
        }
        Item::Table(table) => {
            let mut inner = Table::new();
            inner.set_implicit(true);
            table.insert(name, Item::Table(inner));
        }
        Item::Value(Value::InlineTable(table)) => {
            let inner = if is_value { Value::from("") } else { InlineTable::new().into() };
            table.insert(name, inner);
            table.fmt();
        }
        _ => {}
    }
}

/// Returns the comment above a key, which says where its value comes from, without `#`; the comment
/// above the first of several keys that are listed without a blank line between them.
pub fn comment_of(text: &str, key: &str) -> Option<String> {
    let document: DocumentMut = text.parse().ok()?;
    let (table, key) = find_key(document.as_table(), key)?;
    let mut comment = None;
    for (name, _) in table.iter() {
        let above = table.key(name)?.leaf_decor().prefix().and_then(|above| above.as_str()).unwrap_or_default();
        if !above.trim().is_empty() {
            let paragraph = above.trim().rsplit("\n\n").next().unwrap_or_default();
            let lines: Vec<&str> = paragraph.lines().map(|line| line.trim_start_matches(['#', ' ']).trim()).collect();
            comment = Some(lines.join(" "));
        } else if above.contains('\n') {
            comment = None;
        }
        if name == key {
            return comment;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# top\nname = \"a\" # the name\n\n[band] # of confidence\n# low (paper)\nlow = 0.25   # kept\nhigh = 0.75\n\
                        words = [\n  \"x\", # one\n]\n[draw]\nq = { t = 1.0 }\ne = {}\n";

    fn set(key: &str, value: &str) -> String {
        set_key(TEXT, &Setting { key: key.into(), value: value.into() }).unwrap()
    }

    #[test]
    fn a_value_is_changed_and_its_comment_stays() {
        assert!(set("band.low", "0.3").contains("low = 0.3   # kept\nhigh = 0.75"));
        assert!(set("name", "\"b\"").starts_with("# top\nname = \"b\" # the name\n"));
        assert!(set("band.words", "[]").contains("high = 0.75\nwords = []\n[draw]"));
        assert!(set("draw.q.t", "2").contains("q = { t = 2 }"));
    }

    #[test]
    fn a_missing_key_is_added_where_it_belongs() {
        assert!(set("draw.q.k", "7").contains("q = { t = 1.0, k = 7 }"));
        assert!(set("draw.e.k", "7").contains("e = { k = 7 }"));
        assert!(set("band.margin", "1").contains("[band] # of confidence\nmargin = 1\n# low"));
        assert!(set("new.table.x", "1").ends_with("\n[new.table]\nx = 1\n"));
        assert!(set("top", "1").starts_with("top = 1\n"));
        for text in [set("draw.q.k", "7"), set("draw.e.k", "7"), set("new.table.x", "1"), set("top", "1")] {
            assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn settings_are_read_from_key_and_value() {
        let value = |text: &str| Setting::parse(text).map(|setting| setting.value);
        assert_eq!(value("a.b=0.3"), Ok("0.3".into()));
        assert_eq!(value("a.b = true"), Ok("true".into()));
        assert_eq!(value("preset=released-code"), Ok("\"released-code\"".into()));
        assert_eq!(value("a=[\"x\", \"y\"]"), Ok("[\"x\", \"y\"]".into()));
        assert_eq!(value("a=1 # b"), Ok("\"1 # b\"".into()));
        for bad in ["a", "=1", "a..b=1", "a b=1", "a=", "a=1\nb = 2"] {
            assert!(value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn comments_say_where_values_come_from() {
        let text = TEXT.replace(" # of confidence", "");
        assert_eq!(comment_of(&text, "band.low").as_deref(), Some("low (paper)"));
        assert_eq!(comment_of(&text, "band.high").as_deref(), Some("low (paper)"));
        assert_eq!(comment_of(&text, "draw.e"), None);
        assert_eq!(comment_of(&text, "band.none"), None);
    }
}

//! Changes keys in the text of a pipeline file and leaves everything else as it is written, comments above all.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key and its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The dotted key, such as `curriculum.low`.
    pub key: String,
    /// The value, in TOML.
    pub value: String,
}

impl Setting {
    /// Reads `KEY=VALUE`. A value that is no TOML is taken as a text: `preset=released-code`.
    ///
    /// # Errors
    /// There is no `=`, or the key is no dotted key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` must be written KEY=VALUE"))?;
        let (key, value) = (key.trim(), value.trim());
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if key.split('.').any(|part| part.is_empty() || !part.chars().all(plain)) {
            return Err(format!("`{key}` is no key such as curriculum.low"));
        }
        if value.is_empty() || value.contains(['\n', '\r']) {
            return Err(format!("`{key}` has no value; write {key}=VALUE"));
        }
        // A comment would swallow what stands behind the value.
        let is_bare = DeValue::parse(value).is_ok_and(|parsed| parsed.span().end == value.len());
        let value = if is_bare { value.to_owned() } else { toml::Value::from(value).to_string() };
        Ok(Self { key: key.to_owned(), value })
    }
}

/// The text with a key set. The caller parses what comes out: a key in a place where it cannot stand is found then.
///
/// # Errors
/// The text is no TOML.
pub fn with(text: &str, setting: &Setting) -> Result<String, toml::de::Error> {
    let table = DeTable::parse(text)?;
    let path: Vec<&str> = setting.key.split('.').collect();
    let mut edited = text.to_owned();
    match place(table.get_ref(), &path, text) {
        Place::Value(span) => edited.replace_range(span, &setting.value),
        Place::Inline { end, rest, empty } => {
            let comma = if empty { "" } else { "," };
            // Before the closing brace and the space before it.
            let at = text[..end - 1].trim_end().len();
            edited.insert_str(at, &format!("{comma} {} = {}", rest.join("."), setting.value));
        }
        Place::Missing => add(&mut edited, &path, &setting.value),
    }
    Ok(edited)
}

/// Where a key stands.
enum Place<'p> {
    /// It has a value.
    Value(Range<usize>),
    /// It belongs into a table that is written in braces, which end here.
    Inline { end: usize, rest: &'p [&'p str], empty: bool },
    /// Nowhere yet.
    Missing,
}

fn place<'p>(table: &DeTable<'_>, path: &'p [&'p str], text: &str) -> Place<'p> {
    let Some((name, rest)) = path.split_first() else { return Place::Missing };
    let found = table.iter().find(|(key, _)| key.get_ref().as_ref() == *name).map(|(_, value)| value);
    let Some(value) = found else { return Place::Missing };
    match (value.get_ref(), rest) {
        (_, []) => Place::Value(value.span()),
        (DeValue::Table(inner), rest) => match place(inner, rest, text) {
            Place::Missing if is_inline(value, text) => {
                Place::Inline { end: value.span().end, rest, empty: inner.is_empty() }
            }
            place => place,
        },
        // A value where a table should be: what comes out will not be a pipeline, which the caller finds.
        _ => Place::Value(value.span()),
    }
}

fn is_inline(value: &Spanned<DeValue<'_>>, text: &str) -> bool {
    text.get(value.span()).is_some_and(|written| written.starts_with('{') && written.ends_with('}'))
}

/// Adds a key below the heading of its table, which is made at the end where there is none.
fn add(text: &mut String, path: &[&str], value: &str) {
    let (key, tables) = path.split_last().unwrap_or((&"", &[]));
    let line = format!("{key} = {value}\n");
    if tables.is_empty() {
        text.insert_str(0, &line);
        return;
    }
    let heading = format!("[{}]", tables.join("."));
    let mut at = 0;
    for written in text.split_inclusive('\n') {
        at += written.len();
        let bare: String = written.split('#').next().unwrap_or_default().split_whitespace().collect();
        if bare == heading {
            let line_end = if written.ends_with('\n') { "" } else { "\n" };
            text.insert_str(at, &format!("{line_end}{line}"));
            return;
        }
    }
    let line_end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    text.push_str(&format!("{line_end}\n{heading}\n{line}"));
}

/// The comment above a key in a text that says about every key where its value comes from, without `#`; above the first of several
/// keys that stand together.
pub fn comment_of(text: &str, key: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut at = super::error::line_of_key(text, key)? - 1;
    while at > 0 && !lines[at - 1].starts_with('#') {
        // A heading or an empty line ends what stands together.
        if lines[at - 1].is_empty() || lines[at - 1].starts_with('[') {
            return None;
        }
        at -= 1;
    }
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with('#'));
    let mut above: Vec<&str> = above.map(|line| line.trim_start_matches('#').trim()).collect();
    above.reverse();
    (!above.is_empty()).then(|| above.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# top\nname = \"a\" # the name\n\n[band] # of confidence\n# low (paper)\nlow = 0.25   # kept\nhigh = 0.75\n\
                        words = [\n  \"x\", # one\n]\n[draw]\nq = { t = 1.0 }\ne = {}\n";

    fn set(key: &str, value: &str) -> String {
        with(TEXT, &Setting { key: key.into(), value: value.into() }).unwrap()
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
        assert!(set("draw.e.k", "7").contains("e = { k = 7}"));
        assert!(set("band.margin", "1").contains("[band] # of confidence\nmargin = 1\n# low"));
        assert!(set("new.table.x", "1").ends_with("\n[new.table]\nx = 1\n"));
        assert!(set("top", "1").starts_with("top = 1\n"));
        for text in [set("draw.q.k", "7"), set("draw.e.k", "7"), set("new.table.x", "1"), set("top", "1")] {
            assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn settings_are_read_as_people_write_them() {
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

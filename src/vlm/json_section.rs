//! Reads keys out of a JSON object and collects everything that is wrong with them, so that a person mends a file once.

use serde_json::{Map, Value};

/// What is wrong with a key of a JSON file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProblem {
    /// The key with the objects around it, as in `vision_config.depth`.
    pub key: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// An object of a JSON file and where in the file it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section<'a> {
    path: &'a str,
    keys: &'a Map<String, Value>,
}

/// The problems found so far.
pub(crate) type Problems = Vec<KeyProblem>;

impl<'a> Section<'a> {
    /// The object `keys` that lies at `path` (empty for the file itself).
    pub(crate) fn new(path: &'a str, keys: &'a Map<String, Value>) -> Self {
        Self { path, keys }
    }

    /// The name of a key with the objects around it.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes that something is wrong with a key.
    pub(crate) fn report(&self, problems: &mut Problems, key: &str, problem: impl Into<String>) {
        problems.push(KeyProblem { key: self.name(key), problem: problem.into() });
    }

    /// The value of a key; `null` counts as absent, as transformers reads it.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    /// The first of these keys that is there.
    pub(crate) fn first_of(&self, keys: &[&'a str]) -> Option<(&'a str, &'a Value)> {
        keys.iter().find_map(|&key| Some((key, self.get(key)?)))
    }

    /// An object inside this one.
    pub(crate) fn object(&self, problems: &mut Problems, key: &str) -> Option<&'a Map<String, Value>> {
        let value = self.get(key)?;
        if value.as_object().is_none() {
            self.report(problems, key, format!("must be an object, is {}", abbreviated(value)));
        }
        value.as_object()
    }

    /// A whole number within `1..=limit` that must be there. Gives 1 where it is not, so that reading goes on.
    pub(crate) fn size(&self, problems: &mut Problems, key: &str, limit: usize) -> usize {
        match self.get(key) {
            None => {
                self.report(problems, key, "is missing");
                1
            }
            Some(_) => self.size_or(problems, key, limit, 1),
        }
    }

    /// A whole number within `1..=limit`, or `default` if it is not there.
    pub(crate) fn size_or(&self, problems: &mut Problems, key: &str, limit: usize, default: usize) -> usize {
        let Some(value) = self.get(key) else { return default };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) if (1..=limit).contains(&n) => n,
            _ => {
                self.report(
                    problems,
                    key,
                    format!("must be a whole number from 1 to {limit}, is {}", abbreviated(value)),
                );
                1
            }
        }
    }

    /// A number above 0, or `default` if it is not there.
    pub(crate) fn positive(&self, problems: &mut Problems, key: &str, default: f64) -> f64 {
        let Some(value) = self.get(key) else { return default };
        match value.as_f64() {
            Some(x) if x.is_finite() && x > 0.0 => x,
            _ => {
                self.report(problems, key, format!("must be a number above 0, is {}", abbreviated(value)));
                default
            }
        }
    }

    /// `true` or `false`, if it is there.
    pub(crate) fn flag(&self, problems: &mut Problems, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        if !value.is_boolean() {
            self.report(problems, key, format!("must be true or false, is {}", abbreviated(value)));
        }
        value.as_bool()
    }

    /// A text, if it is there.
    pub(crate) fn text(&self, problems: &mut Problems, key: &str) -> Option<&'a str> {
        let value = self.get(key)?;
        if !value.is_string() {
            self.report(problems, key, format!("must be a text, is {}", abbreviated(value)));
        }
        value.as_str()
    }

    /// A token id, or `default` if it is not there.
    pub(crate) fn token(&self, problems: &mut Problems, key: &str, default: u32) -> u32 {
        let Some(value) = self.get(key) else { return default };
        let id = value.as_u64().and_then(|n| u32::try_from(n).ok());
        id.unwrap_or_else(|| {
            self.report(problems, key, format!("must be a token id, is {}", abbreviated(value)));
            default
        })
    }

    /// A list of whole numbers up to `limit`, if it is there.
    pub(crate) fn numbers(&self, problems: &mut Problems, key: &str, limit: usize) -> Option<Vec<usize>> {
        let value = self.get(key)?;
        let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= limit);
        let numbers = value.as_array().and_then(|list| list.iter().map(number).collect());
        if numbers.is_none() {
            let problem = format!("must be a list of whole numbers up to {limit}, is {}", abbreviated(value));
            self.report(problems, key, problem);
        }
        numbers
    }
}

/// A value as it stands in a message: short, however long it is.
pub(crate) fn abbreviated(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}..", &text[..cut]),
        None => text,
    }
}

/// The problems as an indented list, the first `MAX_ENTRIES` of them.
pub(crate) fn indented_list(problems: &[impl std::fmt::Display]) -> String {
    const MAX_ENTRIES: usize = 20;
    let mut text = String::new();
    for problem in problems.iter().take(MAX_ENTRIES) {
        text.push_str(&format!("\n  {problem}"));
    }
    if problems.len() > MAX_ENTRIES {
        text.push_str(&format!("\n  .. and {} more", problems.len() - MAX_ENTRIES));
    }
    text
}

impl std::fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.key, self.problem)
    }
}

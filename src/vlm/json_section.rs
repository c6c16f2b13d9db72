//! Typed access to the keys of a JSON object that collects all problems, so that a user can fix all
//! of them at once.

use serde_json::{Map, Value};

/// A problem of a key of a JSON file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProblem {
    /// The key with the objects that contain it, such as `vision_config.depth`.
    pub key: String,
    /// The problem, and what is expected.
    pub problem: String,
}

/// An object of a JSON file, and its path in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section<'a> {
    path: &'a str,
    keys: &'a Map<String, Value>,
}

/// The problems found so far.
pub(crate) type Problems = Vec<KeyProblem>;

impl<'a> Section<'a> {
    /// Wraps the object `keys` at `path`, which is empty for the file's top level.
    pub(crate) fn new(path: &'a str, keys: &'a Map<String, Value>) -> Self {
        Self { path, keys }
    }

    /// Returns the name of a key with the objects that contain it.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Adds a problem of a key.
    pub(crate) fn report(&self, problems: &mut Problems, key: &str, problem: impl Into<String>) {
        problems.push(KeyProblem { key: self.name(key), problem: problem.into() });
    }

    /// Returns the value of a key; `null` counts as absent, as in transformers.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    /// Returns the first of these keys that is present.
    pub(crate) fn first_of(&self, keys: &[&'a str]) -> Option<(&'a str, &'a Value)> {
        keys.iter().find_map(|&key| Some((key, self.get(key)?)))
    }

    /// Returns an object inside this one.
    pub(crate) fn object(&self, problems: &mut Problems, key: &str) -> Option<&'a Map<String, Value>> {
        let value = self.get(key)?;
        if value.as_object().is_none() {
            self.report(problems, key, format!("must be an object, is {}", abbreviated(value)));
        }
        value.as_object()
    }

    /// Returns a required whole number within `1..=limit`; 1 where it is missing or wrong, so that
    /// reading can continue.
    pub(crate) fn size(&self, problems: &mut Problems, key: &str, limit: usize) -> usize {
        match self.get(key) {
            None => {
                self.report(problems, key, "is missing");
                1
            }
            Some(_) => self.size_or(problems, key, limit, 1),
        }
    }

    /// Returns a whole number within `1..=limit`, or `default` if it is absent.
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

    /// Returns a number above 0, or `default` if it is absent.
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

    /// Returns a boolean, if it is present.
    pub(crate) fn flag(&self, problems: &mut Problems, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        if !value.is_boolean() {
            self.report(problems, key, format!("must be true or false, is {}", abbreviated(value)));
        }
        value.as_bool()
    }

    /// Returns a string, if it is present.
    pub(crate) fn text(&self, problems: &mut Problems, key: &str) -> Option<&'a str> {
        let value = self.get(key)?;
        if !value.is_string() {
            self.report(problems, key, format!("must be a string, is {}", abbreviated(value)));
        }
        value.as_str()
    }

    /// Returns a token id, or `default` if it is absent.
    pub(crate) fn token(&self, problems: &mut Problems, key: &str, default: u32) -> u32 {
        let Some(value) = self.get(key) else { return default };
        let id = value.as_u64().and_then(|n| u32::try_from(n).ok());
        id.unwrap_or_else(|| {
            self.report(problems, key, format!("must be a token id, is {}", abbreviated(value)));
            default
        })
    }

    /// Returns a list of whole numbers up to `limit`, if it is present.
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

/// Returns a value for a message, cut where it is long.
pub(crate) fn abbreviated(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}..", &text[..cut]),
        None => text,
    }
}

/// Returns the problems as an indented list of at most `MAX_ENTRIES`.
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

//! Typed access to the keys of a JSON object that collects all problems, so that a user can fix all
//! of them at once.

use std::cell::RefCell;

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
    /// The problems of the whole file found so far.
    problems: &'a RefCell<Vec<KeyProblem>>,
}

impl<'a> Section<'a> {
    /// Wraps the object `keys` at `path`, which is empty for the file's top level.
    pub(crate) fn new(path: &'a str, keys: &'a Map<String, Value>, problems: &'a RefCell<Vec<KeyProblem>>) -> Self {
        Self { path, keys, problems }
    }

    /// Wraps the object `keys` at `path` of the same file.
    pub(crate) fn inside<'b>(&self, path: &'b str, keys: &'b Map<String, Value>) -> Section<'b>
    where
        'a: 'b,
    {
        Section { path, keys, problems: self.problems }
    }

    /// Returns the number of problems of the whole file so far.
    pub(crate) fn problem_count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Returns the name of a key with the objects that contain it.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Adds a problem of a key.
    pub(crate) fn report(&self, key: &str, problem: impl Into<String>) {
        self.problems.borrow_mut().push(KeyProblem { key: self.name(key), problem: problem.into() });
    }

    /// Returns the value of a key; `null` counts as absent, as in transformers.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    /// Returns the first of these keys that is present.
    pub(crate) fn first_of(&self, keys: &[&'a str]) -> Option<(&'a str, &'a Value)> {
        keys.iter().find_map(|&key| Some((key, self.get(key)?)))
    }

    /// Reads a value if it is present, and reports it if `read` finds that it is not `expected`.
    fn read<T>(&self, key: &str, expected: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.get(key)?;
        let found = read(value);
        if found.is_none() {
            self.report(key, format!("must be {expected}, is {}", abbreviated(value)));
        }
        found
    }

    /// Returns an object inside this one.
    pub(crate) fn object(&self, key: &str) -> Option<&'a Map<String, Value>> {
        self.read(key, "an object", Value::as_object)
    }

    /// Returns a required whole number within `1..=limit`; 1 where it is missing or wrong, so that
    /// reading can continue.
    pub(crate) fn size(&self, key: &str, limit: usize) -> usize {
        if self.get(key).is_none() {
            self.report(key, "is missing");
        }
        self.size_or(key, limit, 1)
    }

    /// Returns a whole number within `1..=limit`, or `default` if it is absent.
    pub(crate) fn size_or(&self, key: &str, limit: usize, default: usize) -> usize {
        let expected = format!("a whole number from 1 to {limit}");
        let size = self.read(key, &expected, |value| whole(value).filter(|n| (1..=limit).contains(n)));
        size.unwrap_or(if self.get(key).is_some() { 1 } else { default })
    }

    /// Returns a number above 0, or `default` if it is absent.
    pub(crate) fn positive(&self, key: &str, default: f64) -> f64 {
        let number = |value: &Value| value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        self.read(key, "a number above 0", number).unwrap_or(default)
    }

    /// Returns a boolean, if it is present.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// Returns a string, if it is present.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.read(key, "a string", Value::as_str)
    }

    /// Returns a token id, or `default` if it is absent.
    pub(crate) fn token(&self, key: &str, default: u32) -> u32 {
        let id = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        self.read(key, "a token id", id).unwrap_or(default)
    }

    /// Returns a list of whole numbers up to `limit`, if it is present.
    pub(crate) fn numbers(&self, key: &str, limit: usize) -> Option<Vec<usize>> {
        let numbers =
            |value: &Value| value.as_array()?.iter().map(|number| whole(number).filter(|n| *n <= limit)).collect();
        self.read(key, &format!("a list of whole numbers up to {limit}"), numbers)
    }
}

fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
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

//! Options of a multiple-choice item.

use serde::{Deserialize, Serialize};

/// Letters of options, in order.
const LETTERS: std::ops::RangeInclusive<char> = 'A'..='Z';

/// Lettered options of an item, in order. Letters may be missing, as where a file leaves a cell
/// empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(Vec<(char, String)>);

impl Options {
    /// Creates options with given letters.
    pub fn new(options: Vec<(char, String)>) -> Self {
        Self(options)
    }

    /// Letters texts from A on. Texts beyond Z are left out.
    pub fn from_texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self(LETTERS.zip(texts.into_iter().map(Into::into)).collect())
    }

    /// Whether there are no options.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of options.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the letters, in order.
    pub fn letters(&self) -> impl Iterator<Item = char> {
        self.0.iter().map(|&(letter, _)| letter)
    }

    /// Returns the texts, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, text)| text.as_str())
    }

    /// Returns letters and texts, in order.
    pub fn iter(&self) -> impl Iterator<Item = (char, &str)> {
        self.0.iter().map(|(letter, text)| (*letter, text.as_str()))
    }

    /// Whether a letter is an option's.
    pub fn has(&self, letter: char) -> bool {
        self.letters().any(|other| other == letter)
    }

    /// Returns the text of a letter.
    pub fn text(&self, letter: char) -> Option<&str> {
        self.iter().find(|&(other, _)| other == letter).map(|(_, text)| text)
    }
}

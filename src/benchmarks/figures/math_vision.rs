//! MATH-Vision: levels, subjects, and subjects at each level.

use super::figure::{Figure, Level, ScoredItem, accuracies, accuracy};

/// Returns the micro mean over all items, and figures of levels, subjects and both.
pub(super) fn figures(items: &[ScoredItem<'_>]) -> Vec<Figure> {
    let all: Vec<&ScoredItem<'_>> = items.iter().collect();
    let subject = |item: &ScoredItem<'_>| item.item.labels.subject.clone();
    let level = |item: &ScoredItem<'_>| item.item.labels.level.map(|level| level.to_string());
    let mut figures = vec![accuracy(Level::Overall, "", &all).headline()];
    for mut part in [
        accuracies(Level::Level, &all, level),
        accuracies(Level::Subject, &all, subject),
        accuracies(Level::SubjectLevel, &all, |item| Some(format!("{}, level {}", subject(item)?, level(item)?))),
    ] {
        part.sort_by(|a, b| a.name.cmp(&b.name));
        figures.extend(part);
    }
    figures
}

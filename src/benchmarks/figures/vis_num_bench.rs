//! VisNumBench: attributes and classes of tasks in each scenario.

use super::figure::{Figure, Level, ScoredItem, accuracies, accuracy};

/// Returns the micro mean over all items, and that of each scenario, of its attributes and of its
/// classes of tasks. Names of classes differ in capitals between files.
pub(super) fn figures(items: &[ScoredItem<'_>]) -> Vec<Figure> {
    let all: Vec<&ScoredItem<'_>> = items.iter().collect();
    let scenario = |item: &ScoredItem<'_>| item.item.labels.category.clone();
    let scoped = |item: &ScoredItem<'_>, part: Option<String>| {
        let part = part?;
        Some(scenario(item).map_or(part.clone(), |scenario| format!("{scenario}, {part}")))
    };
    let mut figures = vec![accuracy(Level::Overall, "", &all).headline()];
    figures.extend(accuracies(Level::Category, &all, scenario));
    figures.extend(accuracies(Level::Subcategory, &all, |item| scoped(item, attribute(item))));
    let task_class = |item: &ScoredItem<'_>| item.item.labels.task_class.as_ref().map(|class| class.to_lowercase());
    figures.extend(accuracies(Level::TaskClass, &all, |item| scoped(item, task_class(item))));
    figures
}

/// Returns the attribute: the label, or the part of the official id after the last `_`.
fn attribute(item: &ScoredItem<'_>) -> Option<String> {
    item.item.labels.subcategory.clone().or_else(|| {
        let (_, attribute) = item.item.official_id.as_deref()?.rsplit_once('_')?;
        Some(attribute.to_owned())
    })
}

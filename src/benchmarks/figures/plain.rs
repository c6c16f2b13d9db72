//! Benchmarks whose figure is the mean over items: RealWorldQA, and files of one's own.

use super::figure::{Figure, Level, ScoredItem, accuracies, accuracy};

/// Returns the accuracy over all items, and by category if there are several.
pub(super) fn figures(items: &[ScoredItem<'_>]) -> Vec<Figure> {
    let items: Vec<&ScoredItem<'_>> = items.iter().collect();
    let mut figures = vec![accuracy(Level::Overall, "", &items).headline()];
    let categories = accuracies(Level::Category, &items, |item| item.item.labels.category.clone());
    if categories.len() > 1 {
        figures.extend(categories);
    }
    figures
}

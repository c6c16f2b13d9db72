//! MMStar: six categories with three second categories each.

use super::figure::{Figure, Level, ScoredItem, accuracies, accuracy, macro_mean};
use crate::interval::stratified_bootstrap;
use crate::random::Seed;

/// Returns the micro mean, which is quoted, and those of both kinds of categories; and the macro
/// means over second categories, overall and in each category, as lmms-eval reports them.
pub(super) fn figures(items: &[ScoredItem<'_>], seed: Seed) -> Vec<Figure> {
    let all: Vec<&ScoredItem<'_>> = items.iter().collect();
    let category = |item: &ScoredItem<'_>| item.item.labels.category.clone();
    let second = |item: &ScoredItem<'_>| item.item.labels.subcategory.clone();
    let categories = accuracies(Level::Category, &all, category);
    let seconds = accuracies(Level::Subcategory, &all, second);
    let mut figures = vec![accuracy(Level::Overall, "", &all).headline()];
    if seconds.len() > 1 {
        let of = |name: &str| {
            let with_name = all.iter().filter(|item| second(item).as_deref() == Some(name));
            with_name.map(|item| item.score).collect::<Vec<f64>>()
        };
        let strata: Vec<Vec<f64>> = seconds.iter().map(|figure| of(&figure.name)).collect();
        let interval = stratified_bootstrap(&strata, seed);
        figures.push(macro_mean(Level::Overall, "second categories", &seconds).with_interval(interval));
    }
    for figure in &categories {
        let of_category: Vec<&ScoredItem<'_>> =
            all.iter().copied().filter(|item| category(item).as_deref() == Some(&figure.name)).collect();
        let parts = accuracies(Level::Subcategory, &of_category, second);
        figures.push(figure.clone());
        if !parts.is_empty() {
            figures.push(macro_mean(Level::Category, &figure.name, &parts));
        }
    }
    figures.extend(seconds);
    figures
}

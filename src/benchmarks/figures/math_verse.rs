//! MathVerse: versions, subjects and subfields. Versions of a problem hang together.

use super::figure::{Figure, Level, ScoredItem, accuracies, accuracy, group_by};
use crate::interval::{Cluster, cluster_bootstrap};
use crate::random::Seed;

/// Version that has no image, and does not count overall.
const TEXT_ONLY: &str = "Text Only";

/// Returns the micro mean over the versions with an image, and figures of versions, subjects,
/// subfields, and of these in each version. Intervals are over problems.
pub(super) fn figures(items: &[ScoredItem<'_>], seed: Seed) -> Vec<Figure> {
    let version = |item: &ScoredItem<'_>| item.item.labels.version.clone();
    let subject = |item: &ScoredItem<'_>| item.item.labels.subject.clone();
    let subfield = |item: &ScoredItem<'_>| item.item.labels.subcategory.clone();
    let all: Vec<&ScoredItem<'_>> = items.iter().collect();
    let with_image = all.iter().copied().filter(|item| version(item).as_deref() != Some(TEXT_ONLY));
    let mut counted: Vec<&ScoredItem<'_>> = with_image.collect();
    if counted.is_empty() {
        counted.clone_from(&all);
    }
    let over_problems = |level, items: &[&ScoredItem<'_>], key: &dyn Fn(&ScoredItem<'_>) -> Option<String>| {
        let groups = group_by(items.iter().copied(), key);
        let figure = |(name, group): &(String, Vec<&ScoredItem<'_>>)| {
            accuracy(level, name, group).with_interval(cluster_bootstrap(&clusters(group), seed))
        };
        groups.iter().map(figure).collect::<Vec<_>>()
    };
    let overall = over_problems(Level::Overall, &counted, &|_| Some(String::new()));
    let mut figures: Vec<Figure> = overall.into_iter().map(Figure::headline).collect();
    // A version has each problem once, so its items are independent.
    figures.extend(accuracies(Level::Version, &all, version));
    figures.extend(over_problems(Level::Subject, &counted, &subject));
    figures.extend(over_problems(Level::Subfield, &counted, &|item| joined(subject(item), subfield(item), "-")));
    figures.extend(accuracies(Level::VersionSubject, &all, |item| joined(version(item), subject(item), ", ")));
    figures.extend(accuracies(Level::VersionSubfield, &all, |item| joined(version(item), subfield(item), ", ")));
    figures
}

fn joined(first: Option<String>, second: Option<String>, separator: &str) -> Option<String> {
    Some(format!("{}{separator}{}", first?, second?))
}

/// Returns the items by problem; an item without a problem stands alone.
fn clusters(items: &[&ScoredItem<'_>]) -> Vec<Cluster> {
    let mut clusters: std::collections::BTreeMap<&str, Cluster> = std::collections::BTreeMap::new();
    let mut alone = Vec::new();
    for item in items {
        match item.item.labels.problem.as_deref() {
            Some(problem) => {
                let cluster = clusters.entry(problem).or_default();
                *cluster = (cluster.0 + item.score, cluster.1 + 1);
            }
            None => alone.push((item.score, 1)),
        }
    }
    clusters.into_values().chain(alone).collect()
}

//! MMMU: subjects, domains and overall.

use super::figure::{Figure, Level, ScoredItem, accuracies, accuracy, macro_mean};
use crate::benchmarks::protocol::Protocol;
use crate::interval::stratified_bootstrap;
use crate::random::Seed;

/// Domains with their subjects, in the order of the official table.
const DOMAINS: [(&str, &[&str]); 6] = [
    ("Art and Design", &["Art", "Art_Theory", "Design", "Music"]),
    ("Business", &["Accounting", "Economics", "Finance", "Manage", "Marketing"]),
    ("Science", &["Biology", "Chemistry", "Geography", "Math", "Physics"]),
    (
        "Health and Medicine",
        &[
            "Basic_Medical_Science",
            "Clinical_Medicine",
            "Diagnostics_and_Laboratory_Medicine",
            "Pharmacy",
            "Public_Health",
        ],
    ),
    ("Humanities and Social Science", &["History", "Literature", "Sociology", "Psychology"]),
    (
        "Tech and Engineering",
        &[
            "Agriculture",
            "Architecture_and_Engineering",
            "Computer_Science",
            "Electronics",
            "Energy_and_Power",
            "Materials",
            "Mechanical_Engineering",
        ],
    ),
];

/// Split whose figure leaderboards quote.
const QUOTED_SPLIT: &str = "validation";

/// Returns the micro mean over the quoted split (or all items), the macro mean over subjects, and
/// the figures of domains, subjects and splits.
pub(super) fn figures(protocol: Protocol, items: &[ScoredItem<'_>], seed: Seed) -> Vec<Figure> {
    let split = |item: &ScoredItem<'_>| item.item.labels.split.clone();
    let all: Vec<&ScoredItem<'_>> = items.iter().collect();
    let splits = accuracies(Level::Split, &all, split);
    let quoted: Vec<&ScoredItem<'_>> = match splits.iter().any(|figure| figure.name == QUOTED_SPLIT) {
        true => items.iter().filter(|item| split(item).as_deref() == Some(QUOTED_SPLIT)).collect(),
        false => all,
    };
    let mut subjects = accuracies(Level::Subject, &quoted, subject);
    let place = |name: &str| DOMAINS.iter().flat_map(|(_, subjects)| *subjects).position(|other| *other == name);
    subjects.sort_by_key(|figure| place(&figure.name).unwrap_or(usize::MAX));
    let overall = match protocol {
        Protocol::Official => weighted(Level::Overall, "", &subjects, accuracy(Level::Overall, "", &quoted)),
        _ => accuracy(Level::Overall, "", &quoted),
    };
    let strata: Vec<Vec<f64>> = subjects
        .iter()
        .map(|figure| {
            let of_subject = quoted.iter().filter(|item| subject(item).as_deref() == Some(&figure.name));
            of_subject.map(|item| item.score).collect()
        })
        .collect();
    let mut figures = vec![overall.headline()];
    if subjects.len() > 1 {
        let interval = stratified_bootstrap(&strata, seed);
        figures.push(macro_mean(Level::Overall, "subjects", &subjects).with_interval(interval));
    }
    for (domain, names) in DOMAINS {
        let parts: Vec<Figure> =
            subjects.iter().filter(|figure| names.contains(&figure.name.as_str())).cloned().collect();
        let of_domain = |item: &&&ScoredItem<'_>| subject(item).is_some_and(|name| names.contains(&name.as_str()));
        let in_domain: Vec<&ScoredItem<'_>> = quoted.iter().filter(of_domain).copied().collect();
        if !in_domain.is_empty() {
            figures.push(weighted(Level::Domain, domain, &parts, accuracy(Level::Domain, domain, &in_domain)));
        }
    }
    figures.extend(subjects);
    figures.extend(splits.into_iter().filter(|_| protocol == Protocol::VlmEvalKit));
    figures
}

/// Returns the subject: the label, or the official id without its first and last part.
fn subject(item: &ScoredItem<'_>) -> Option<String> {
    item.item.labels.subject.clone().or_else(|| {
        let (_, rest) = item.item.official_id.as_deref()?.split_once('_')?;
        rest.rsplit_once('_').map(|(subject, _)| subject.to_owned())
    })
}

/// Computes the micro mean as the official code does, from the accuracies of subjects, so that the
/// last bit is the same.
fn weighted(level: Level, name: &str, parts: &[Figure], micro: Figure) -> Figure {
    let count: u64 = parts.iter().map(|part| part.count).sum();
    if count != micro.count {
        return micro;
    }
    let value = parts.iter().map(|part| part.value * part.count as f64).sum::<f64>() / count as f64;
    Figure { level, name: name.to_owned(), value, ..micro }
}

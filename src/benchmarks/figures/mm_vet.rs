//! MM-Vet: mean grades overall, by capability and by set of capabilities, over runs of the judge.

use super::figure::{Figure, Level, Metric, ScoredItem, accuracy, group_by};
use crate::benchmarks::protocol::Protocol;
use crate::benchmarks::python::round::round_scaled;
use crate::interval::{Cluster, cluster_bootstrap};
use crate::random::Seed;

/// Capabilities, in the order of VLMEvalKit's table.
const CAPABILITIES: [&str; 6] = ["rec", "ocr", "know", "gen", "spat", "math"];

/// Returns mean grades. An item counts for each of its capabilities, in VLMEvalKit's table twice if
/// it has only one.
pub(super) fn figures(protocol: Protocol, items: &[ScoredItem<'_>], seed: Seed) -> Vec<Figure> {
    let grade = |level, name: &str, items: &[&ScoredItem<'_>]| {
        // The copies of an item that counts twice are neighbours.
        let weight =
            |same: &[&ScoredItem<'_>]| -> Cluster { (same.iter().map(|item| item.score).sum(), same.len() as u64) };
        let clusters: Vec<Cluster> = items.chunk_by(|a, b| std::ptr::eq(*a, *b)).map(weight).collect();
        let mean = accuracy(level, name, items).with_interval(cluster_bootstrap(&clusters, seed));
        Figure { metric: Metric::Grade, ..mean }
    };
    let times = |item: &ScoredItem<'_>| match protocol {
        Protocol::VlmEvalKit if item.item.labels.capabilities.len() == 1 => 2,
        _ => 1,
    };
    let all: Vec<&ScoredItem<'_>> = items.iter().collect();
    let mut figures = vec![grade(Level::Overall, "", &all).headline()];
    for capability in CAPABILITIES {
        let has = |item: &&ScoredItem<'_>| item.item.labels.capabilities.iter().any(|other| other == capability);
        let of_capability = all.iter().copied().filter(has);
        let items: Vec<&ScoredItem<'_>> =
            of_capability.flat_map(|item| std::iter::repeat_n(item, times(item))).collect();
        if !items.is_empty() {
            figures.push(grade(Level::Capability, capability, &items));
        }
    }
    for (name, items) in group_by(all, |item| Some(integration(&item.item.labels.capabilities))) {
        figures.push(grade(Level::Integration, &name, &items));
    }
    figures
}

/// Returns the name of a set of capabilities, whatever their order.
pub fn integration(capabilities: &[String]) -> String {
    let mut names: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.join("_")
}

/// Mean grade over several runs of the judge, in per cent with one decimal place, as MM-Vet's own
/// code prints it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunMeans {
    /// Mean of the runs' means.
    pub mean: f64,
    /// Population standard deviation of the runs' means.
    pub deviation: f64,
    /// Mean of each run.
    pub runs: Vec<f64>,
}

/// Computes the means of runs; each run has the grades of the same items in the same order. `None`
/// without runs or items.
pub fn run_means(runs: &[Vec<f64>]) -> Option<RunMeans> {
    let items = runs.first()?.len();
    if items == 0 || runs.iter().any(|run| run.len() != items) {
        return None;
    }
    let means: Vec<f64> = runs.iter().map(|run| run.iter().sum::<f64>() / items as f64 * 100.0).collect();
    let mean = means.iter().sum::<f64>() / means.len() as f64;
    let variance = means.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / means.len() as f64;
    Some(RunMeans {
        mean: round_scaled(mean, 1),
        deviation: round_scaled(variance.sqrt(), 1),
        runs: means.iter().map(|&x| round_scaled(x, 1)).collect(),
    })
}

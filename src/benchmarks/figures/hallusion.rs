//! HallusionBench: shares of questions, of figures and of groups of questions.

use super::figure::{Figure, Level, Metric, ScoredItem, group_by};
use crate::interval::{Cluster, cluster_bootstrap, wilson};
use crate::random::Seed;

/// Category whose questions may be without a figure.
const SUPPLEMENT: &str = "VS";
/// Visual input of a changed figure.
const CHANGED: &str = "2";

/// Returns the mean of aAcc, fAcc and qAcc, which leaderboards quote, and the three, overall, by
/// category and by both categories.
pub(super) fn figures(items: &[ScoredItem<'_>], seed: Seed) -> Vec<Figure> {
    let all: Vec<&ScoredItem<'_>> = items.iter().collect();
    let mut figures = of_part(Level::Overall, "", &all, seed);
    figures[0].is_headline = true;
    let category = |item: &ScoredItem<'_>| item.item.labels.category.clone();
    let both = |item: &ScoredItem<'_>| Some(format!("{}_{}", category(item)?, item.item.labels.subcategory.as_ref()?));
    for (name, part) in group_by(all.iter().copied(), category) {
        figures.extend(of_part(Level::Category, &name, &part, seed));
    }
    for (name, part) in group_by(all, both) {
        figures.extend(of_part(Level::Subcategory, &name, &part, seed));
    }
    figures
}

fn of_part(level: Level, name: &str, items: &[&ScoredItem<'_>], seed: Seed) -> Vec<Figure> {
    let is_changed = |item: &ScoredItem<'_>| item.item.labels.visual_input.as_deref() == Some(CHANGED);
    let part = |wanted: bool| -> Vec<&ScoredItem<'_>> {
        items.iter().copied().filter(|item| is_changed(item) == wanted).collect()
    };
    let all = of_groups(Metric::AAcc, level, name, &items.iter().map(|item| vec![*item]).collect::<Vec<_>>());
    let all = all.with_interval(cluster_bootstrap(&sets(items), seed));
    let figures = of_groups(Metric::FAcc, level, name, &by_figure(items));
    let questions = of_groups(Metric::QAcc, level, name, &by_question(items));
    let three = [&all, &figures, &questions];
    let mean = |value: fn(&Figure) -> f64| three.iter().map(|figure| value(figure)).sum::<f64>() / 3.0;
    let mean_of_three = Figure {
        metric: Metric::MeanOfThree,
        value: mean(|figure| figure.value),
        value_without_random: mean(|figure| figure.value_without_random),
        interval: None,
        ..all.clone()
    };
    let easy = of_groups(Metric::EasyAAcc, level, name, &by_question(&part(false)));
    let hard = of_groups(Metric::HardAAcc, level, name, &by_question(&part(true)));
    vec![mean_of_three, all, figures, questions, easy, hard, share_of_yes(level, name, items)]
}

/// Returns the questions of each figure: those of a category, subcategory, set and figure. VS
/// without a figure has none.
pub(super) fn by_figure<'a, 'b>(items: &[&'a ScoredItem<'b>]) -> Vec<Vec<&'a ScoredItem<'b>>> {
    let with_figure = items.iter().copied().filter(|item| !is_without_figure(item));
    groups(with_figure, |item| item.item.labels.figure.as_deref())
}

/// Returns the questions of each group: those of a category, subcategory, set and number.
pub(super) fn by_question<'a, 'b>(items: &[&'a ScoredItem<'b>]) -> Vec<Vec<&'a ScoredItem<'b>>> {
    groups(items.iter().copied(), |item| item.item.labels.question_number.as_deref())
}

/// Whether a question is about a figure that is not shown.
pub(super) fn is_without_figure(item: &ScoredItem<'_>) -> bool {
    let labels = &item.item.labels;
    labels.category.as_deref() == Some(SUPPLEMENT) && labels.figure.as_deref() == Some("0")
}

fn groups<'a, 'b: 'a>(
    items: impl Iterator<Item = &'a ScoredItem<'b>>,
    last: impl Fn(&ScoredItem<'b>) -> Option<&'a str>,
) -> Vec<Vec<&'a ScoredItem<'b>>> {
    let key = |item: &ScoredItem<'b>| {
        let labels = &item.item.labels;
        let parts = [labels.category.as_deref(), labels.subcategory.as_deref(), labels.set.as_deref(), last(item)];
        Some(parts.map(|part| part.unwrap_or_default().to_owned()))
    };
    group_by(items, key).into_iter().map(|(_, group)| group).collect()
}

fn of_groups(metric: Metric, level: Level, name: &str, groups: &[Vec<&ScoredItem<'_>>]) -> Figure {
    let count = groups.len() as u64;
    let share = |hits: usize| if count == 0 { 0.0 } else { hits as f64 / count as f64 };
    let hits = groups.iter().filter(|group| group.iter().all(|item| item.is_right())).count();
    let certain = groups.iter().filter(|group| group.iter().all(|item| item.score_without_random() >= 1.0)).count();
    Figure {
        metric,
        level,
        name: name.to_owned(),
        hits: hits as f64,
        count,
        value: share(hits),
        value_without_random: share(certain),
        interval: wilson(hits as u64, count),
        is_headline: false,
    }
}

/// Returns the share of items that are answered with yes, which tells form from sight.
fn share_of_yes(level: Level, name: &str, items: &[&ScoredItem<'_>]) -> Figure {
    let groups: Vec<_> = items.iter().map(|item| vec![*item]).collect();
    let yes = items.iter().filter(|item| item.extracted == Some("Yes")).count();
    let value = yes as f64 / items.len().max(1) as f64;
    let interval = wilson(yes as u64, items.len() as u64);
    let figure = of_groups(Metric::ShareOfYes, level, name, &groups);
    Figure { hits: yes as f64, value, value_without_random: value, interval, ..figure }
}

/// Returns the items by set, within which questions hang together.
fn sets(items: &[&ScoredItem<'_>]) -> Vec<Cluster> {
    let sum = |group: &Vec<&ScoredItem<'_>>| (group.iter().map(|item| item.score).sum(), group.len() as u64);
    groups(items.iter().copied(), |_| None).iter().map(sum).collect()
}

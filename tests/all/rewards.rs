//! Clusters and rewards compared with NLTK, scikit-learn and an independent script, and their
//! properties.

use proptest::prelude::*;
use serde_json::Value;
use visplay::grading::vote;
use visplay::reward::{Clusters, Preset, QuestionOutcome, questioner_rewards};

/// Returns the questions of an oracle file (two lines, see `tests/oracles/clusters.py`) and its
/// other lines.
fn frozen(text: &str) -> (Vec<String>, Vec<Value>) {
    let mut lines = text.lines();
    let words: Vec<String> = serde_json::from_str(lines.next().unwrap()).unwrap();
    let packed: Vec<String> = serde_json::from_str(lines.next().unwrap()).unwrap();
    let word = |c: char| words[c as usize - 0x30].as_str();
    let questions = packed.iter().map(|question| question.chars().map(word).collect::<Vec<_>>().join(" "));
    (questions.collect(), lines.map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

#[test]
fn clusters_equal_those_of_nltk_and_scikit_learn() {
    let (questions, groups) = frozen(include_str!("../oracles/clusters.jsonl"));
    assert_eq!(groups.len(), 1000);
    for (at, group) in groups.iter().enumerate() {
        let asked: Vec<&str> = group[0].as_array().unwrap().iter().map(|q| questions[number(q)].as_str()).collect();
        let sizes: Vec<usize> = group[1].as_array().unwrap().iter().map(number).collect();
        let clusters = Clusters::from_questions(&asked).unwrap();
        let actual: Vec<usize> = clusters.labels.iter().map(|&label| clusters.sizes[label]).collect();
        assert_eq!(actual, sizes, "group {at}: {asked:?}");
    }
}

#[test]
fn rewards_follow_the_formulas() {
    let (questions, steps) = frozen(include_str!("../oracles/rewards.jsonl"));
    assert_eq!(steps.len(), 1000);
    let presets = ["paper", "released-code"].map(|name| &Preset::named(name).unwrap().questioner);
    for (at, step) in steps.iter().enumerate() {
        let question = |entry: &Value| QuestionOutcome {
            text: questions[number(&entry[0])].clone(),
            valid: number(&entry[1]) == 1,
            confidence: number(&entry[2]) as f64 / 10.0,
        };
        let group = |group: &Value| group.as_array().unwrap().iter().map(question).collect::<Vec<_>>();
        let groups: Vec<Vec<QuestionOutcome>> = step[0].as_array().unwrap().iter().map(group).collect();
        for (preset, expected) in presets.iter().zip([&step[1], &step[2]]) {
            let rewards = questioner_rewards(&groups, preset).unwrap();
            for (row, expected) in rewards.iter().zip(expected.as_array().unwrap()) {
                for (reward, expected) in row.iter().zip(expected.as_array().unwrap()) {
                    let expected = expected.as_i64().unwrap() as f64 * 1e-7;
                    assert!((reward.reward - expected).abs() < 1e-6, "step {at}: {reward:?}, expected {expected}");
                }
            }
        }
    }
}

fn any_question() -> impl Strategy<Value = QuestionOutcome> {
    let words = proptest::collection::vec(prop_oneof!["a", "b", "how", "many", "dots", "苹果"], 0..8);
    (words, any::<bool>(), 0u32..=10).prop_map(|(words, valid, tenths)| QuestionOutcome {
        text: words.join(" "),
        valid,
        confidence: f64::from(tenths) / 10.0,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rewards_stay_in_their_range(groups in proptest::collection::vec(proptest::collection::vec(any_question(), 1..9), 1..4)) {
        for (name, low, high) in [("paper", 0.0, 1.0), ("released-code", -2.0, 0.5)] {
            for reward in questioner_rewards(&groups, &Preset::named(name).unwrap().questioner).unwrap().iter().flatten() {
                prop_assert!((low..=high).contains(&reward.reward), "{name}: {reward:?}");
                prop_assert!(reward.share > 0.0 && reward.share <= 1.0);
                prop_assert!((0.0..=1.0).contains(&reward.uncertainty));
            }
        }
    }

    /// The sum of 1 / size over all questions is the number of clusters.
    #[test]
    fn shares_sum_to_the_whole(questions in proptest::collection::vec(any_question(), 1..60)) {
        let texts: Vec<&str> = questions.iter().map(|question| question.text.as_str()).collect();
        let clusters = Clusters::from_questions(&texts).unwrap();
        prop_assert_eq!(clusters.sizes.iter().sum::<usize>(), texts.len());
        let counted: f64 = clusters.shares().iter().map(|share| 1.0 / (share * texts.len() as f64)).sum();
        prop_assert!((counted - clusters.sizes.len() as f64).abs() < 1e-9);
        for (label, share) in clusters.labels.iter().zip(clusters.shares()) {
            prop_assert_eq!(share, clusters.sizes[*label] as f64 / texts.len() as f64);
        }
    }

    /// Classes and their sizes do not depend on the order of the samples. Which of two largest
    /// classes wins does: the one that appeared first.
    #[test]
    fn votes_do_not_depend_on_the_order(
        samples in proptest::collection::vec(prop_oneof![
            Just(None), Just(Some("1/2")), Just(Some("0.5")), Just(Some(r"\frac{1}{2}")), Just(Some("B")), Just(Some("(B)")),
            Just(Some(r"\text{B}")), Just(Some("yes")), Just(Some("Yes")), Just(Some("7"))
        ], 0..12),
        seed in any::<u64>(),
    ) {
        let mut shuffled = samples.clone();
        let mut state = seed | 1;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        let (one, other) = (vote(&samples), vote(&shuffled));
        let sorted = |mut counts: Vec<usize>| { counts.sort_unstable(); counts };
        prop_assert_eq!(sorted(one.counts.clone()), sorted(other.counts.clone()));
        prop_assert_eq!(one.answered(), other.answered());
        let winner = one.majority();
        prop_assert!(winner.is_none_or(|winner| one.counts[..winner].iter().all(|&count| count < one.majority_count())));
        let alone = one.counts.iter().filter(|&&count| count == one.majority_count()).count() == 1;
        if let (true, Some(a), Some(b)) = (alone, one.majority_answer(), other.majority_answer()) {
            prop_assert!(visplay::grading::compare(a, b).equal);
        }
    }
}

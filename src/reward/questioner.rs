//! Reward of the Questioner: how uncertain the Reasoner is, minus the diversity penalty.
//!
//! With the confidence c of the Reasoner's vote on a question (VisPlay, arXiv 2511.15661):
//!
//! ```text
//! r_unc = 1 - |2c - 1|                               uncertainty reward
//! r_div = λ · |cluster of the question| / |scope|    diversity penalty
//! paper:         r = valid · max(0, r_unc - r_div)
//! released-code: r = min(c, 1 - c) - r_div,  or -1 - r_div if the output did not parse
//! ```
//!
//! The paper takes the scope to be the questions of one image; the released code takes the whole
//! step, which makes the penalty of 8 equal questions of 4096 almost nothing (8/4096). Clusters are
//! those of [`super::clusters`].

use serde::{Deserialize, Serialize};

use super::clusters::{ClusterError, Clusters};
use super::output::{OutputForm, ParsingMode};

/// Settings of the Questioner's reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionerSettings {
    /// Form that an output must have.
    pub form: OutputForm,
    /// How strictly an output must keep to the form.
    pub parsing: ParsingMode,
    /// How uncertainty, diversity penalty and validity are combined.
    pub formula: RewardFormula,
    /// Weight of the diversity penalty (λ).
    pub lambda: f64,
    /// Scope of the diversity penalty.
    pub scope: DiversityScope,
}

/// How uncertainty r_unc, diversity penalty r_div and validity are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewardFormula {
    /// valid · max(0, r_unc - r_div) with r_unc = 1 - |2c - 1| (the paper).
    Clamped,
    /// r_unc - r_div with r_unc = min(c, 1 - c), or -1 - r_div for an output that did not parse
    /// (`cot_val.py` of the released code).
    Penalised,
}

/// Questions that are compared with each other for the diversity penalty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiversityScope {
    /// The questions of one image.
    Group,
    /// All questions of the step.
    Step,
}

/// A sample of the Questioner, with the Reasoner's confidence.
#[derive(Debug, Clone, PartialEq)]
pub struct QuestionOutcome {
    /// The question. An invalid output counts as the empty question.
    pub text: String,
    /// Whether the output has the required form.
    pub valid: bool,
    /// Confidence of the Reasoner's vote, 0 to 1; ignored if the output is invalid.
    pub confidence: f64,
}

/// A reward and its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuestionerReward {
    /// Total reward.
    pub reward: f64,
    /// Uncertainty reward (r_unc); 0 for an invalid output.
    pub uncertainty: f64,
    /// Diversity penalty (r_div): λ · `share`.
    pub diversity_penalty: f64,
    /// Size of the question's cluster / size of the scope.
    pub share: f64,
    /// Number of the question's cluster within its scope.
    pub cluster: usize,
    /// Size of the question's cluster.
    pub cluster_size: usize,
}

/// Computes the rewards of a step's questions, in groups of one image each.
///
/// # Errors
/// A scope has too many questions to cluster.
pub fn questioner_rewards(
    groups: &[Vec<QuestionOutcome>],
    settings: &QuestionerSettings,
) -> Result<Vec<Vec<QuestionerReward>>, ClusterError> {
    let text = |question: &QuestionOutcome| if question.valid { question.text.clone() } else { String::new() };
    let scopes: Vec<Vec<String>> = match settings.scope {
        DiversityScope::Group => groups.iter().map(|group| group.iter().map(text).collect()).collect(),
        DiversityScope::Step => vec![groups.iter().flatten().map(text).collect()],
    };
    let clusters = scopes.iter().map(|scope| Clusters::from_questions(scope)).collect::<Result<Vec<_>, _>>()?;
    let mut parts = clusters.iter().flat_map(|clusters| {
        clusters.labels.iter().map(|&cluster| (cluster, clusters.sizes[cluster])).zip(clusters.shares())
    });
    let mut of_group = |group: &Vec<QuestionOutcome>| {
        let parts = parts.by_ref();
        group
            .iter()
            .zip(parts)
            .map(|(question, (cluster, share))| combine(question, cluster, share, settings))
            .collect()
    };
    Ok(groups.iter().map(&mut of_group).collect())
}

fn combine(
    question: &QuestionOutcome,
    (cluster, cluster_size): (usize, usize),
    share: f64,
    settings: &QuestionerSettings,
) -> QuestionerReward {
    let diversity_penalty = settings.lambda * share;
    let c = question.confidence;
    let uncertainty = match settings.formula {
        _ if !question.valid => 0.0,
        RewardFormula::Clamped => 1.0 - (2.0 * c - 1.0).abs(),
        RewardFormula::Penalised => c.min(1.0 - c),
    };
    let reward = match settings.formula {
        RewardFormula::Clamped if !question.valid => 0.0,
        RewardFormula::Clamped => (uncertainty - diversity_penalty).max(0.0),
        RewardFormula::Penalised if !question.valid => -1.0 - diversity_penalty,
        RewardFormula::Penalised => uncertainty - diversity_penalty,
    };
    QuestionerReward { reward, uncertainty, diversity_penalty, share, cluster, cluster_size }
}

#[cfg(test)]
mod tests {
    use super::{QuestionOutcome, questioner_rewards};
    use crate::reward::Preset;

    fn step() -> Vec<Vec<QuestionOutcome>> {
        let question = |text: &str, valid, confidence| QuestionOutcome { text: text.into(), valid, confidence };
        vec![
            vec![question("how many dots are there", true, 0.5), question("how many dots are there", true, 1.0)],
            vec![
                question("ignored since it did not parse", false, 0.5),
                question("what colour is the sky", true, 0.25),
            ],
        ]
    }

    fn rewards(preset: &str) -> Vec<Vec<f64>> {
        let settings = &Preset::named(preset).unwrap().questioner;
        let rewards = questioner_rewards(&step(), settings).unwrap();
        rewards.iter().map(|group| group.iter().map(|reward| reward.reward).collect()).collect()
    }

    #[test]
    fn the_paper_clamps_within_a_group() {
        assert_eq!(rewards("paper"), [[0.0, 0.0], [0.0, 0.0]]);
        let mut settings = Preset::named("paper").unwrap().questioner.clone();
        settings.lambda = 0.25;
        let parts = questioner_rewards(&step(), &settings).unwrap();
        assert_eq!((parts[0][0].reward, parts[0][0].share, parts[1][1].reward), (0.75, 1.0, 0.375));
    }

    #[test]
    fn the_released_code_clusters_the_whole_step() {
        assert_eq!(rewards("released-code"), [[0.0, -0.5], [-1.25, 0.0]]);
    }
}

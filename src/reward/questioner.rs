//! The Questioner's reward: uncertainty of the Reasoner, less how common the question is.

use serde::{Deserialize, Serialize};

use super::clusters::{ClusterError, Clusters};
use super::output::{OutputForm, ParsingMode};

/// How a Questioner is rewarded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionerSettings {
    /// The form that its output must have.
    pub form: OutputForm,
    /// How closely.
    pub parsing: ParsingMode,
    /// How uncertainty, diversity and validity make a reward.
    pub formula: RewardFormula,
    /// The weight of the diversity penalty (λ).
    pub lambda: f64,
    /// Which questions are compared with each other.
    pub scope: DiversityScope,
}

/// How uncertainty u, diversity penalty d and validity make a reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewardFormula {
    /// valid · max(0, u - d) with u = 1 - |2c - 1| (VisPlay, the paper's equation of the Questioner's reward).
    Clamped,
    /// u - d with u = min(c, 1 - c), or -1 - d for an output that did not parse (`cot_val.py` of the released code).
    Penalised,
}

/// Which questions the share of a cluster is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiversityScope {
    /// The questions of one image.
    Group,
    /// All questions of the step.
    Step,
}

/// A question to be rewarded.
#[derive(Debug, Clone, PartialEq)]
pub struct QuestionOutcome {
    /// The question; an output that is not valid counts as the empty question.
    pub text: String,
    /// Its output had the required form.
    pub valid: bool,
    /// The confidence of the Reasoner's vote on it, between 0 and 1; of no account where it is not valid.
    pub confidence: f64,
}

/// A reward and each of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct QuestionerReward {
    /// What the Questioner learns from.
    pub reward: f64,
    /// How unsure the Reasoner is; 0 for an output that is not valid.
    pub uncertainty: f64,
    /// λ · share.
    pub diversity: f64,
    /// Size of the question's cluster / size of the scope.
    pub share: f64,
    /// Size of the question's cluster.
    pub cluster_size: usize,
}

/// Rewards the questions of a step, group by group.
pub fn questioner_rewards(
    groups: &[Vec<QuestionOutcome>],
    settings: &QuestionerSettings,
) -> Result<Vec<Vec<QuestionerReward>>, ClusterError> {
    let text = |question: &QuestionOutcome| if question.valid { question.text.clone() } else { String::new() };
    let clusters = match settings.scope {
        DiversityScope::Group => {
            let of_group = |group: &Vec<QuestionOutcome>| Clusters::of(&group.iter().map(text).collect::<Vec<_>>());
            groups.iter().map(of_group).collect::<Result<Vec<_>, _>>()?
        }
        DiversityScope::Step => vec![Clusters::of(&groups.iter().flatten().map(text).collect::<Vec<_>>())?],
    };
    let mut shared = clusters.iter().flat_map(|clusters| {
        let sizes = clusters.label.iter().map(|&cluster| clusters.size[cluster]);
        sizes.zip(clusters.shares())
    });
    let mut reward = |question: &QuestionOutcome| {
        let (cluster_size, share) = shared.next().unwrap_or((1, 1.0));
        combined(question, cluster_size, share, settings)
    };
    Ok(groups.iter().map(|group| group.iter().map(&mut reward).collect()).collect())
}

fn combined(
    question: &QuestionOutcome,
    cluster_size: usize,
    share: f64,
    settings: &QuestionerSettings,
) -> QuestionerReward {
    let diversity = settings.lambda * share;
    let c = question.confidence;
    let uncertainty = match settings.formula {
        _ if !question.valid => 0.0,
        RewardFormula::Clamped => 1.0 - (2.0 * c - 1.0).abs(),
        RewardFormula::Penalised => c.min(1.0 - c),
    };
    let reward = match settings.formula {
        RewardFormula::Clamped if !question.valid => 0.0,
        RewardFormula::Clamped => (uncertainty - diversity).max(0.0),
        RewardFormula::Penalised if !question.valid => -1.0 - diversity,
        RewardFormula::Penalised => uncertainty - diversity,
    };
    QuestionerReward { reward, uncertainty, diversity, share, cluster_size }
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
    fn the_released_code_penalises_over_the_step() {
        assert_eq!(rewards("released-code"), [[0.0, -0.5], [-1.25, 0.0]]);
    }
}

//! Warnings about settings that are valid but probably not intended.

use super::Pipeline;

impl Pipeline {
    /// Returns a one-sentence warning for each setting that is probably not intended.
    pub fn lints(&self) -> Vec<String> {
        let mut lints = Vec::new();
        let roles = [
            ("questioner", self.questioner.group_size, &self.update.questioner),
            ("reasoner", self.reasoner.group_size, &self.update.reasoner),
        ];
        let labelled = self.round.is_labelled();
        for (role, group_size, update) in roles {
            if update.steps == 0 || labelled && role == "questioner" {
                continue;
            }
            if group_size == 1 {
                lints.push(format!(
                    "{role}.group_size is 1: a single sample has no advantage over others, so nothing is learnt; use at least 2"
                ));
            }
            if update.learning_rate == 0.0 {
                lints.push(format!(
                    "update.{role}.learning_rate is 0: nothing is learnt; set steps = 0 to freeze the role"
                ));
            }
        }
        if self.questioner.reward_samples == 1 && self.update.questioner.steps > 0 && !labelled {
            lints.push(
                "questioner.reward_samples is 1: one answer always agrees with itself, so every question counts as too easy; use more"
                    .to_owned(),
            );
        }
        lints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_one_is_reported_if_the_role_is_trained() {
        let lints_of = |text: &str| Pipeline::parse_keys(text).expect("usable").lints();
        assert!(lints_of("").is_empty());
        assert!(lints_of("[questioner]\ngroup_size = 1")[0].contains("questioner.group_size is 1"));
        assert!(lints_of("[questioner]\ngroup_size = 1\n[update.questioner]\nsteps = 0").is_empty());
        assert!(lints_of("[reasoner]\ngroup_size = 1\n[update.reasoner]\nsteps = 0").is_empty());
        assert_eq!(lints_of("[update.reasoner]\nlearning_rate = 0.0").len(), 1);
        assert!(lints_of("[questioner]\nreward_samples = 1")[0].contains("reward_samples"));
    }
}

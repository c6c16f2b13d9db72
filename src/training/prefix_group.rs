//! The input of a training step: token sequences that share a prefix.

use std::sync::Arc;

use super::prepared_image::PreparedImage;
use super::{Result, TrainingError};

/// Token sequences with a shared prefix: a prompt and its rollouts, or an image and its questions.
///
/// The prefix is computed once. Every continuation attends to the whole prefix and to itself, and
/// to no other continuation; so the result equals that of computing `prefix + continuation` for
/// each continuation alone.
#[derive(Debug, Clone)]
pub struct PrefixGroup {
    /// The shared tokens, among them all image tokens.
    pub prefix: Vec<u32>,
    /// The images of the prefix's image placeholders, in order. Groups about one image share it.
    pub images: Vec<Arc<PreparedImage>>,
    /// The sequences after the prefix.
    pub continuations: Vec<Continuation>,
}

/// The tokens of one sequence after the shared prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Index of the first token in the loss; the tokens before it are context.
    pub first_target: usize,
}

impl Continuation {
    /// Returns a continuation whose tokens are all in the loss: a rollout's response.
    pub fn response(ids: Vec<u32>) -> Self {
        Self { ids, first_target: 0 }
    }

    /// Returns the tokens in the loss.
    pub fn targets(&self) -> &[u32] {
        self.ids.get(self.first_target..).unwrap_or_default()
    }
}

impl PrefixGroup {
    /// Returns the number of tokens in the loss.
    pub fn targets(&self) -> usize {
        self.continuations.iter().map(|continuation| continuation.targets().len()).sum()
    }
}

/// Checks that every group has a prefix to predict from and a target, that every token is in the
/// vocabulary, and that image tokens are only in prefixes.
pub(super) fn check(prefix_groups: &[PrefixGroup], vocabulary: usize, image_token: u32) -> Result<()> {
    for (t, prefix_group) in prefix_groups.iter().enumerate() {
        let fail =
            |continuation, problem: String| Err(TrainingError::Sequence { prefix_group: t, continuation, problem });
        if prefix_group.prefix.is_empty() {
            return fail(0, "the prompt is empty, so there is no token to predict from".to_owned());
        }
        if let Some(token) = prefix_group.prefix.iter().find(|id| **id as usize >= vocabulary) {
            return fail(0, format!("token {token} of the prompt is outside the vocabulary of {vocabulary} tokens"));
        }
        for (b, continuation) in prefix_group.continuations.iter().enumerate() {
            if continuation.targets().is_empty() {
                return fail(b, "it has no token in the loss".to_owned());
            }
            if let Some(token) = continuation.ids.iter().find(|id| **id as usize >= vocabulary) {
                return fail(b, format!("token {token} is outside the vocabulary of {vocabulary} tokens"));
            }
            if continuation.ids.contains(&image_token) {
                return fail(b, "an image token is outside the prompt".to_owned());
            }
        }
    }
    Ok(())
}

/// Returns the length of the longest common prefix of the sequences.
pub fn common_prefix(sequences: &[&[u32]]) -> usize {
    let Some((first, rest)) = sequences.split_first() else { return 0 };
    let same = |i: &usize| rest.iter().all(|other| other.get(*i) == Some(&first[*i]));
    (0..first.len()).take_while(same).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_prefix_is_found() {
        assert_eq!(common_prefix(&[]), 0);
        assert_eq!(common_prefix(&[&[1, 2, 3]]), 3);
        assert_eq!(common_prefix(&[&[1, 2, 3], &[1, 2]]), 2);
        assert_eq!(common_prefix(&[&[1, 2, 3], &[2, 2, 3]]), 0);
    }

    #[test]
    fn invalid_groups_are_refused_with_the_reason() {
        let prefix_group = |prefix: &[u32], continuation: &[u32], first_target| PrefixGroup {
            prefix: prefix.to_vec(),
            images: Vec::new(),
            continuations: vec![Continuation { ids: continuation.to_vec(), first_target }],
        };
        let problem = |prefix_group: PrefixGroup| check(&[prefix_group], 10, 9).unwrap_err().to_string();
        assert!(check(&[prefix_group(&[1], &[2], 0)], 10, 9).is_ok());
        assert!(problem(prefix_group(&[], &[2], 0)).contains("no token to predict from"));
        assert!(problem(prefix_group(&[1], &[2], 1)).contains("no token in the loss"));
        assert!(problem(prefix_group(&[1], &[2, 10], 0)).contains("token 10"));
        assert!(problem(prefix_group(&[10], &[2], 0)).contains("token 10 of the prompt"));
        assert!(problem(prefix_group(&[1], &[9], 0)).contains("image token"));
    }
}

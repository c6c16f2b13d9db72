//! What a training step consists of: sequences that share a beginning.

use std::sync::Arc;

use super::TrainingError;
use super::picture::Picture;

/// Sequences that share a beginning: a prompt and its samples, or an image and what is asked about it.
///
/// The prefix is computed once; every branch sees all of it and itself, and no other branch. So the result is that of
/// `prefix + branch` for each branch alone.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The shared tokens. All image tokens are here.
    pub prefix: Vec<u32>,
    /// The images that the placeholders of the prefix stand for, in order. Trees about one image share it.
    pub images: Vec<Arc<Picture>>,
    /// What follows the prefix, each by itself.
    pub branches: Vec<Branch>,
}

/// What follows a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The first of them that the objective looks at; those before are context.
    pub first_target: usize,
}

impl Branch {
    /// A branch all of whose tokens are targets: a response.
    pub fn response(ids: Vec<u32>) -> Self {
        Self { ids, first_target: 0 }
    }

    /// Tokens that the objective looks at.
    pub fn targets(&self) -> &[u32] {
        self.ids.get(self.first_target..).unwrap_or_default()
    }
}

impl Tree {
    /// Tokens that are computed.
    pub fn tokens(&self) -> usize {
        self.prefix.len() + self.branches.iter().map(|branch| branch.ids.len()).sum::<usize>()
    }

    /// Tokens that the objective looks at.
    pub fn targets(&self) -> usize {
        self.branches.iter().map(|branch| branch.targets().len()).sum()
    }
}

/// Checks that every tree can be computed: a prefix to predict from, known tokens, no image outside the prefix.
pub(super) fn check(trees: &[Tree], vocabulary: usize, image_token: u32) -> Result<(), TrainingError> {
    for (t, tree) in trees.iter().enumerate() {
        let fail = |branch, problem: String| Err(TrainingError::Sequence { tree: t, branch, problem });
        if tree.prefix.is_empty() {
            return fail(0, "there is no token to predict from".to_owned());
        }
        if let Some(token) = tree.prefix.iter().find(|id| **id as usize >= vocabulary) {
            return fail(0, format!("token {token} of the prompt is outside the vocabulary of {vocabulary}"));
        }
        for (b, branch) in tree.branches.iter().enumerate() {
            if branch.targets().is_empty() {
                return fail(b, "there is no token to train on".to_owned());
            }
            if let Some(token) = branch.ids.iter().find(|id| **id as usize >= vocabulary) {
                return fail(b, format!("token {token} is outside the vocabulary of {vocabulary}"));
            }
            if branch.ids.contains(&image_token) {
                return fail(b, "an image token stands outside the prompt".to_owned());
            }
        }
    }
    Ok(())
}

/// How many tokens at the beginning are the same in all sequences.
pub fn common_prefix(sequences: &[&[u32]]) -> usize {
    let Some((first, rest)) = sequences.split_first() else { return 0 };
    let same = |i: &usize| rest.iter().all(|other| other.get(*i) == Some(&first[*i]));
    (0..first.len()).take_while(same).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_beginning() {
        assert_eq!(common_prefix(&[]), 0);
        assert_eq!(common_prefix(&[&[1, 2, 3]]), 3);
        assert_eq!(common_prefix(&[&[1, 2, 3], &[1, 2]]), 2);
        assert_eq!(common_prefix(&[&[1, 2, 3], &[2, 2, 3]]), 0);
    }

    #[test]
    fn what_cannot_be_computed_is_named() {
        let tree = |prefix: &[u32], branch: &[u32], first_target| Tree {
            prefix: prefix.to_vec(),
            images: Vec::new(),
            branches: vec![Branch { ids: branch.to_vec(), first_target }],
        };
        let problem = |tree: Tree| check(&[tree], 10, 9).unwrap_err().to_string();
        assert!(check(&[tree(&[1], &[2], 0)], 10, 9).is_ok());
        assert!(problem(tree(&[], &[2], 0)).contains("no token to predict from"));
        assert!(problem(tree(&[1], &[2], 1)).contains("no token to train on"));
        assert!(problem(tree(&[1], &[2, 10], 0)).contains("token 10"));
        assert!(problem(tree(&[10], &[2], 0)).contains("token 10 of the prompt"));
        assert!(problem(tree(&[1], &[9], 0)).contains("image token"));
    }
}

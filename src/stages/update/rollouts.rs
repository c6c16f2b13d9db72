//! The rollouts of a training step, rebuilt from stored samples and their rewards.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use crate::ids::{Digest, GroupId, ImageId, QuestionId};
use crate::stages::image_set::ImageSet;
use crate::stages::model::ModelAssets;
use crate::stages::role_prompt::RolePrompt;
use crate::stages::{Rejection, Result, StageError, read_rows};
use crate::store::{StageResult, Store};
use crate::tables::{AnswerRow, Finish, QuestionRow, RewardRow, Role};
use crate::training::grpo_step::{Rollout, RolloutGroup};

/// A stored sample of either role.
struct StoredSample {
    subject: Digest,
    group: GroupId,
    image: ImageId,
    question: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    finish: Finish,
}

/// Builds the trainer's groups of rollouts from stored rows.
pub(super) struct RolloutBuilder<'a> {
    pub(super) store: &'a Store,
    pub(super) assets: &'a ModelAssets,
    pub(super) images: &'a ImageSet<'a>,
    pub(super) prompt: &'a RolePrompt,
    /// Texts of the questions that the Reasoner answers.
    pub(super) texts: &'a HashMap<QuestionId, String>,
}

impl RolloutBuilder<'_> {
    /// Returns the groups of a step in the order of their rows, and the rewards of their samples.
    pub(super) fn groups(
        &self,
        role: Role,
        samples: &[StageResult],
        rewards: &StageResult,
    ) -> Result<(Vec<RolloutGroup>, Vec<RewardRow>)> {
        let stored = match role {
            Role::Questioner => self.read_questions(samples)?,
            Role::Reasoner => self.read_answers(samples)?,
        };
        let rewards: Vec<RewardRow> = read_rows(self.store, std::slice::from_ref(rewards))?;
        let by_subject: HashMap<Digest, &RewardRow> = rewards.iter().map(|row| (row.subject_id, row)).collect();
        let mut prepared_images = BTreeMap::new();
        let mut groups = Vec::new();
        for group in stored.chunk_by(|a, b| a.group == b.group) {
            let first = &group[0];
            let image = match prepared_images.entry(first.image) {
                Entry::Occupied(entry) => Arc::clone(entry.get()),
                Entry::Vacant(entry) => {
                    let prepared = self.images.prepared_image(first.image, &self.assets.processor)?;
                    let malformed = |rejection: Rejection| {
                        StageError::malformed(format!("the image {}", first.image), rejection.detail)
                    };
                    Arc::clone(entry.insert(Arc::new(prepared.map_err(malformed)?)))
                }
            };
            let tokens = image.grid().tokens(self.assets.config.vision.spatial_merge_size);
            let prompt = self.prompt.tokens(&self.assets.tokenizer, Some(tokens), &first.question);
            let prompt = prompt.map_err(StageError::model)?;
            let rollout = |sample: &StoredSample| {
                let missing = || StageError::missing_part(format!("the sample {}", sample.subject), "reward");
                let reward = by_subject.get(&sample.subject).ok_or_else(missing)?;
                Ok(Rollout {
                    token_ids: sample.token_ids.clone(),
                    logprobs: sample.logprobs.clone(),
                    advantage: reward.advantage,
                    truncated: sample.finish == Finish::Length,
                    in_update: reward.in_update,
                })
            };
            let rollouts = group.iter().map(rollout).collect::<Result<_>>()?;
            groups.push(RolloutGroup { prompt, images: vec![image], rollouts });
        }
        Ok((groups, rewards))
    }

    fn read_questions(&self, samples: &[StageResult]) -> Result<Vec<StoredSample>> {
        let rows: Vec<QuestionRow> = read_rows(self.store, samples)?;
        let stored = rows.into_iter().map(|row| StoredSample {
            subject: row.question_id.0,
            group: row.group_id,
            image: row.image_id,
            question: String::new(),
            token_ids: row.token_ids,
            logprobs: row.logprobs,
            finish: row.finish,
        });
        Ok(stored.collect())
    }

    fn read_answers(&self, samples: &[StageResult]) -> Result<Vec<StoredSample>> {
        let rows: Vec<AnswerRow> = read_rows(self.store, samples)?;
        let stored = rows.into_iter().map(|row| {
            let missing = || StageError::missing_part(format!("the question {}", row.question_id), "text");
            Ok(StoredSample {
                subject: row.answer_id.0,
                group: row.group_id,
                image: row.image_id,
                question: self.texts.get(&row.question_id).cloned().ok_or_else(missing)?,
                token_ids: row.token_ids,
                logprobs: row.logprobs,
                finish: row.finish,
            })
        });
        stored.collect()
    }
}

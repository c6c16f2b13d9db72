//! From stored samples and rewards to the groups that the trainer takes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::ids::{Digest, GroupId, ImageId, QuestionId};
use crate::stages::image_set::ImageSet;
use crate::stages::model::ModelAssets;
use crate::stages::role_prompt::RolePrompt;
use crate::stages::{StageError, read_rows};
use crate::store::{StageResult, Store};
use crate::tables::{AnswerRow, Finish, QuestionRow, RewardRow, Role};
use crate::training::grpo_step::{Group, Rollout};

/// A sample of either role.
struct StoredSample {
    subject: Digest,
    group: GroupId,
    image: ImageId,
    question: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    finish: Finish,
}

/// What turns rows into prompts.
pub(super) struct RolloutBuilder<'a> {
    pub(super) store: &'a Store,
    pub(super) assets: &'a ModelAssets,
    pub(super) images: &'a ImageSet<'a>,
    pub(super) prompt: &'a RolePrompt,
    /// The texts of the questions that the Reasoner answers.
    pub(super) texts: &'a HashMap<QuestionId, String>,
}

impl RolloutBuilder<'_> {
    /// The groups of a step, in the order of their rows, and the rewards of their samples.
    pub(super) fn groups(
        &self,
        role: Role,
        samples: &[StageResult],
        rewards: &StageResult,
    ) -> Result<(Vec<Group>, Vec<RewardRow>), StageError> {
        let drawn = match role {
            Role::Questioner => self.questions(samples)?,
            Role::Reasoner => self.answers(samples)?,
        };
        let rewards: Vec<RewardRow> = read_rows(self.store, std::slice::from_ref(rewards))?;
        let by_subject: HashMap<Digest, &RewardRow> = rewards.iter().map(|row| (row.subject_id, row)).collect();
        let mut pictures = BTreeMap::new();
        let mut groups = Vec::new();
        for of_group in drawn.chunk_by(|a, b| a.group == b.group) {
            let first = &of_group[0];
            let image = match pictures.get(&first.image) {
                Some(image) => Arc::clone(image),
                None => {
                    let picture = self.images.picture(first.image, &self.assets.processor)?;
                    let image = picture
                        .map_err(|refusal| StageError::Conflict(format!("{}: {}", first.image, refusal.detail)))?;
                    let image = Arc::new(image);
                    pictures.insert(first.image, Arc::clone(&image));
                    image
                }
            };
            let tokens = image.grid().tokens(self.assets.config.vision.spatial_merge_size);
            let prompt = self.prompt.tokens(&self.assets.tokenizer, Some(tokens), &first.question);
            let prompt = prompt.map_err(|e| StageError::Model(e.to_string()))?;
            let rollout = |sample: &StoredSample| {
                let reward = by_subject
                    .get(&sample.subject)
                    .ok_or_else(|| StageError::Conflict(format!("the sample {} has no reward", sample.subject)))?;
                Ok(Rollout {
                    token_ids: sample.token_ids.clone(),
                    logprobs: sample.logprobs.clone(),
                    advantage: reward.advantage,
                    truncated: sample.finish == Finish::Length,
                    in_update: reward.in_update,
                })
            };
            let rollouts = of_group.iter().map(rollout).collect::<Result<_, StageError>>()?;
            groups.push(Group { prompt, images: vec![image], rollouts });
        }
        Ok((groups, rewards))
    }

    fn questions(&self, samples: &[StageResult]) -> Result<Vec<StoredSample>, StageError> {
        let rows: Vec<QuestionRow> = read_rows(self.store, samples)?;
        let drawn = rows.into_iter().map(|row| StoredSample {
            subject: row.question_id.0,
            group: row.group_id,
            image: row.image_id,
            question: String::new(),
            token_ids: row.token_ids,
            logprobs: row.logprobs,
            finish: row.finish,
        });
        Ok(drawn.collect())
    }

    fn answers(&self, samples: &[StageResult]) -> Result<Vec<StoredSample>, StageError> {
        let rows: Vec<AnswerRow> = read_rows(self.store, samples)?;
        let drawn = rows.into_iter().map(|row| {
            let text = self.texts.get(&row.question_id).cloned();
            Ok(StoredSample {
                subject: row.answer_id.0,
                group: row.group_id,
                image: row.image_id,
                question: text
                    .ok_or_else(|| StageError::Conflict(format!("the text of question {} is lost", row.question_id)))?,
                token_ids: row.token_ids,
                logprobs: row.logprobs,
                finish: row.finish,
            })
        });
        drawn.collect()
    }
}

//! The inputs that all rounds of an evolution share: base model, prompts, images and settings.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use candle_core::Device;

use super::Result;
use super::pipeline::{Pipeline, Round};
use super::seeds::SeedPurpose;
use super::slices::{rank_by_seed, slice};
use super::stored_inputs::{BaseModel, find_prompt, name_base};
use crate::ids::ImageId;
use crate::stages::answers::{AnswerSettings, Answers, QuestionToAnswer};
use crate::stages::compute_identity::ComputeIdentity;
use crate::stages::image_set::{ImageSet, image_ids};
use crate::stages::ingest::IMAGES;
use crate::stages::model::{ModelAssets, ModelHandle, StoredModel};
use crate::stages::prompt_sampler::PromptSampler;
use crate::stages::questions::Questions;
use crate::stages::role_prompt::RolePrompt;
use crate::stages::{ListedRows, Runner, StageError};
use crate::store::{ActionKey, ObjectId, StageResult};
use crate::tables::{ImageRow, Role, TableRow};

/// The inputs that all rounds of an evolution share.
pub struct EvolutionContext<'a> {
    /// The pipeline file.
    pub pipeline: &'a Pipeline,
    /// Runs the stages.
    pub runner: &'a Runner<'a>,
    /// The Questioner's prompt.
    pub questioner_prompt: RolePrompt,
    /// The Reasoner's prompt.
    pub reasoner_prompt: RolePrompt,
    /// How models compute (dtype, device class, image size), as part of action keys.
    pub compute: ComputeIdentity,
    /// The device that models compute on.
    pub device: Device,
    /// The base model, which both roles start from.
    pub base: StoredModel,
    /// The result that holds the base model.
    pub base_result: StageResult,
    /// The result that holds the other files of the base model's folder, if they are stored.
    pub companions: Option<StageResult>,
    /// The result that holds the images.
    pub images: StageResult,
    assets: OnceLock<Arc<ModelAssets>>,
}

/// The inputs of a stored round, taken from the store instead of files.
pub struct PinnedInputs {
    /// The Questioner's prompt.
    pub questioner_prompt: RolePrompt,
    /// The Reasoner's prompt.
    pub reasoner_prompt: RolePrompt,
    /// The result that holds the base model.
    pub base: StageResult,
    /// The result that holds the other files of the base model's folder, if they are stored.
    pub companions: Option<StageResult>,
    /// The result that holds the images.
    pub images: StageResult,
}

/// The models of both roles at the start or the end of a round.
#[derive(Debug, Clone)]
pub struct Roles {
    /// The Questioner.
    pub questioner: StoredModel,
    /// The Reasoner.
    pub reasoner: StoredModel,
}

impl<'a> EvolutionContext<'a> {
    /// Reads the prompts, imports the base model into the store and finds the images: those given,
    /// or the newest table. Prompts and a base model whose files are gone are taken from the store.
    /// `round` is the round to be run or rebuilt.
    ///
    /// # Errors
    /// A file that the pipeline names cannot be used, or the evolution has no images.
    pub fn new(
        pipeline: &'a Pipeline,
        runner: &'a Runner<'a>,
        images: Option<StageResult>,
        round: u32,
    ) -> Result<Self> {
        let questioner_prompt = find_prompt(pipeline, runner, Role::Questioner, round)?;
        let reasoner_prompt = find_prompt(pipeline, runner, Role::Reasoner, round)?;
        pipeline.check_files()?;
        let base = BaseModel::find(pipeline, runner, round)?;
        let images = match images {
            Some(images) => images,
            None => newest_images(&pipeline.evolution, runner)?,
        };
        let companions = base.companions;
        let pinned = PinnedInputs { questioner_prompt, reasoner_prompt, base: base.imported, companions, images };
        let context = Self::from_pinned(pipeline, runner, pinned)?;
        context.check_special_tokens()?;
        if let (Some(companions), false) = (&context.companions, runner.dry_run) {
            name_base(&pipeline.evolution, runner.store, companions.action)?;
        }
        Ok(context)
    }

    /// Builds the context from given inputs.
    ///
    /// # Errors
    /// The base model is incomplete, or its device cannot be opened.
    pub fn from_pinned(pipeline: &'a Pipeline, runner: &'a Runner<'a>, pinned: PinnedInputs) -> Result<Self> {
        let PinnedInputs { questioner_prompt, reasoner_prompt, base: base_result, companions, images } = pinned;
        let base = StoredModel::from_result(&base_result)?;
        let model = &pipeline.model;
        let device = model.device.open().map_err(StageError::from)?;
        let compute =
            ComputeIdentity::new(model.dtype.dtype(), &device, Some(model.min_pixels), Some(model.max_pixels));
        Ok(Self {
            pipeline,
            runner,
            questioner_prompt,
            reasoner_prompt,
            compute,
            device,
            base,
            base_result,
            companions,
            images,
            assets: OnceLock::new(),
        })
    }

    /// Checks that the base model's tokenizer has the special tokens of the prompts.
    fn check_special_tokens(&self) -> Result<()> {
        let assets = self.assets()?;
        let prompts = &self.pipeline.prompts;
        for (key, file, prompt) in [
            ("prompts.questioner", &prompts.questioner, &self.questioner_prompt),
            ("prompts.reasoner", &prompts.reasoner, &self.reasoner_prompt),
        ] {
            prompt.tokens(&assets.tokenizer, Some(1), "?").map_err(|e| {
                let problem = format!("{} does not fit the base model: {e}", file.display());
                self.pipeline.source.error(key, problem)
            })?;
        }
        Ok(())
    }

    /// Returns the configuration, tokenizer and image processor that all models of the evolution
    /// share. They are read once.
    ///
    /// # Errors
    /// The base model cannot be read from the store.
    pub fn assets(&self) -> Result<Arc<ModelAssets>, StageError> {
        if let Some(assets) = self.assets.get() {
            return Ok(Arc::clone(assets));
        }
        let assets = Arc::new(self.base.assets(self.runner.store, self.pipeline.model.pixels())?);
        Ok(Arc::clone(self.assets.get_or_init(|| assets)))
    }

    /// Returns the actions of the results that hold the base model, its other files and the images.
    pub fn origins(&self) -> impl Iterator<Item = ActionKey> {
        let companions = self.companions.as_ref().map(|result| result.action);
        [self.base_result.action].into_iter().chain(companions).chain([self.images.action])
    }

    /// Returns a sampler that gives a model the Reasoner's prompt.
    pub fn reasoner_sampler<'m>(&'m self, model: &'m ModelHandle<'m>, images: &'m ImageSet<'m>) -> PromptSampler<'m> {
        PromptSampler::new(model, &self.reasoner_prompt, images, self.pipeline.sampling.limits(), &self.compute)
    }

    /// Samples questions about images with a Questioner, `samples` for each image.
    ///
    /// # Errors
    /// The stage fails.
    pub fn sample_questions(
        &self,
        questioner: &ModelHandle<'_>,
        about: &[ImageId],
        images: &ImageSet<'_>,
        samples: u32,
        purpose: SeedPurpose,
    ) -> Result<Vec<StageResult>, StageError> {
        let Pipeline { questioner: form, sampling, .. } = self.pipeline;
        let sampler = PromptSampler::new(questioner, &self.questioner_prompt, images, sampling.limits(), &self.compute);
        let stage = Questions {
            sampler: &sampler,
            form: form.question_form(),
            sampling: sampling.questioner,
            samples,
            seed: self.seed(purpose),
        };
        let tokens = u64::from(samples) * u64::from(sampling.questioner.max_tokens);
        let shards = ListedRows::split(self.runner.store, about, self.shard_rows(about.len(), tokens))?;
        Ok(self.runner.run(&stage, &shards)?.results)
    }

    /// Samples answers to questions with a Reasoner and counts their votes. `upstream` are the
    /// results that the questions come from.
    ///
    /// # Errors
    /// The stage fails.
    pub fn sample_answers(
        &self,
        reasoner: &ModelHandle<'_>,
        questions: &[QuestionToAnswer],
        images: &ImageSet<'_>,
        settings: AnswerSettings,
        purpose: SeedPurpose,
        upstream: &[StageResult],
    ) -> Result<Vec<StageResult>, StageError> {
        let sampler = self.reasoner_sampler(reasoner, images);
        let upstream: Vec<ActionKey> = upstream.iter().map(|result| result.action).collect();
        let stage = Answers { sampler: &sampler, settings, seed: self.seed(purpose), upstream: &upstream };
        let tokens =
            (u64::from(settings.samples) + u64::from(settings.greedy)) * u64::from(settings.sampling.max_tokens);
        let shards = ListedRows::split(self.runner.store, questions, self.shard_rows(questions.len(), tokens))?;
        Ok(self.runner.run(&stage, &shards)?.results)
    }

    /// Returns the number of rows in a shard of a stage with `rows` rows, each of which gives at
    /// most `tokens` tokens.
    pub fn shard_rows(&self, rows: usize, tokens: u64) -> usize {
        rows_per_shard(&self.pipeline.round, rows, tokens)
    }

    /// Returns the images of a round, in the round's order.
    ///
    /// # Errors
    /// The images table is damaged.
    pub fn slice(&self, round: u32) -> Result<Vec<ImageId>, StageError> {
        let ids = image_ids(self.runner.store, &self.image_objects())?;
        let ranked = rank_by_seed(&ids, self.seed(SeedPurpose::ImageOrder), |id: ImageId| id.0);
        Ok(slice(&ranked, round, self.pipeline.round.images as usize))
    }

    /// Returns a set of images that is read on first use.
    pub fn image_set(&self, wanted: &[ImageId]) -> ImageSet<'_> {
        let wanted: BTreeSet<ImageId> = wanted.iter().copied().collect();
        ImageSet::of_table(self.runner.store, self.image_objects(), wanted, self.pipeline.model.image_memory)
    }

    /// Returns the objects of the images table.
    pub fn image_objects(&self) -> Vec<ObjectId> {
        self.images.outputs_of(ImageRow::TABLE).map(|output| output.object).collect()
    }

    /// Returns the seed for a purpose.
    pub fn seed(&self, purpose: SeedPurpose) -> u64 {
        purpose.seed(self.pipeline.round.seed)
    }
}

/// Finds the newest images table of an evolution.
fn newest_images(evolution: &str, runner: &Runner<'_>) -> Result<StageResult, StageError> {
    let problem = match runner.store.head(evolution, IMAGES)? {
        Some(head) => match runner.store.result_with_outputs(head.result)? {
            Some(images) => return Ok(images),
            None => format!("parts of {head} are missing; ingest its sources again with --images or `visplay ingest`"),
        },
        None => {
            format!("`{evolution}` has no images yet; pass a folder with --images, or run `visplay ingest FOLDER`")
        }
    };
    Err(StageError::Parameter { key: "evolution", problem })
}

/// Returns the number of rows in a shard. Where `shard_tokens` or `min_shards` sets it, the shards
/// of a stage have about equally many rows, so that workers finish together.
fn rows_per_shard(round: &Round, rows: usize, tokens: u64) -> usize {
    if round.shard_tokens == 0 && round.min_shards == 0 {
        return round.shard_rows as usize;
    }
    let most = match round.shard_tokens {
        0 => round.shard_rows as usize,
        budget => usize::try_from(u64::from(budget) / tokens.max(1)).unwrap_or(usize::MAX).max(1),
    };
    let shards = rows.div_ceil(most).max(round.min_shards as usize);
    rows.div_ceil(shards.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_sized_by_rows_by_tokens_or_by_their_number() {
        let round = |shard_tokens, min_shards| Round { shard_tokens, min_shards, ..Round::default() };
        // By rows, as ever: the last shard is smaller.
        assert_eq!(rows_per_shard(&round(0, 0), 600, 1000), 256);
        // 4,096 questions of 3B with 10 answers of at most 2,048 tokens: 64 shards.
        assert_eq!(rows_per_shard(&round(1_310_720, 0), 4096, 20_480), 64);
        // Three shards of 200 rows rather than two of 256 and one of 88.
        assert_eq!(rows_per_shard(&round(256, 0), 600, 1), 200);
        assert_eq!(rows_per_shard(&round(0, 2), 600, 1), 200);
        assert_eq!(rows_per_shard(&round(0, 8), 32, 1), 4);
        // Fewer rows than shards, a row beyond the budget, no rows.
        assert_eq!(rows_per_shard(&round(0, 8), 3, 1), 1);
        assert_eq!(rows_per_shard(&round(10, 0), 3, 100), 1);
        assert_eq!(rows_per_shard(&round(10, 8), 0, 0), 1);
    }
}

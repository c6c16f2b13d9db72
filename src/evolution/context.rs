//! What all rounds of an evolution stand on: the base model, the prompts, the images, and where they are in the store.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use candle_core::Device;

use super::EvolutionError;
use super::pipeline::Pipeline;
use super::slices::{derive_seed, rank_by_seed, slice};
use crate::ids::ImageId;
use crate::stages::compute_identity::ComputeIdentity;
use crate::stages::image_set::{ImageSet, image_ids};
use crate::stages::ingest::IMAGES;
use crate::stages::model::{LoadedModel, ModelAssets, ModelHandle, StoredModel, import};
use crate::stages::prompt_sampler::PromptSampler;
use crate::stages::role_prompt::RolePrompt;
use crate::stages::{Runner, StageError};
use crate::store::{ObjectId, StageResult};
use crate::tables::{ImageRow, Role, TableRow};

/// What all rounds of an evolution stand on.
pub struct EvolutionContext<'a> {
    /// The pipeline file.
    pub pipeline: &'a Pipeline,
    /// Runs the stages.
    pub runner: &'a Runner<'a>,
    /// The Questioner's prompt.
    pub questioner_prompt: RolePrompt,
    /// The Reasoner's prompt.
    pub reasoner_prompt: RolePrompt,
    /// How models compute, as actions name it.
    pub compute: ComputeIdentity,
    /// Where they compute.
    pub device: Device,
    /// The base model, which both roles start as.
    pub base: StoredModel,
    /// The result that holds it.
    pub base_result: StageResult,
    /// The result that holds the images.
    pub images: StageResult,
    assets: OnceLock<Arc<ModelAssets>>,
}

/// What a round is to be made with again: found in the store, not in files.
pub struct PinnedInputs {
    /// The Questioner's prompt.
    pub questioner_prompt: RolePrompt,
    /// The Reasoner's prompt.
    pub reasoner_prompt: RolePrompt,
    /// The result that holds the base model.
    pub base: StageResult,
    /// The result that holds the images.
    pub images: StageResult,
}

/// The two roles at the beginning or the end of a round.
#[derive(Debug, Clone)]
pub struct Roles {
    /// The Questioner.
    pub questioner: StoredModel,
    /// The Reasoner.
    pub reasoner: StoredModel,
}

impl<'a> EvolutionContext<'a> {
    /// Reads the prompts, takes the base model into the store and finds the images: those given, or the newest table.
    ///
    /// # Errors
    /// A file that the pipeline names cannot be used, or the evolution has no images.
    pub fn new(
        pipeline: &'a Pipeline,
        runner: &'a Runner<'a>,
        images: Option<StageResult>,
    ) -> Result<Self, EvolutionError> {
        let questioner_prompt = pipeline.prompt(Role::Questioner)?;
        let reasoner_prompt = pipeline.prompt(Role::Reasoner)?;
        for (key, prompt, file, wanted) in [
            ("prompts.questioner", &questioner_prompt, &pipeline.prompts.questioner, "image"),
            ("prompts.reasoner", &reasoner_prompt, &pipeline.prompts.reasoner, "image"),
            ("prompts.reasoner", &reasoner_prompt, &pipeline.prompts.reasoner, "question"),
        ] {
            if !prompt.has(wanted) {
                let problem = format!("{} has no {{{{{wanted}}}}}; add it to the template", file.display());
                return Err(pipeline.source.error(key, problem).into());
            }
        }
        pipeline.check_files()?;
        let (base, _) = import(&pipeline.model.base, runner)?;
        let images = match images {
            Some(images) => images,
            None => newest_images(&pipeline.evolution, runner)?,
        };
        let this =
            Self::from_pinned(pipeline, runner, PinnedInputs { questioner_prompt, reasoner_prompt, base, images })?;
        this.check_special_tokens()?;
        Ok(this)
    }

    /// The same on what is given.
    ///
    /// # Errors
    /// The base model is not whole.
    pub fn from_pinned(
        pipeline: &'a Pipeline,
        runner: &'a Runner<'a>,
        pinned: PinnedInputs,
    ) -> Result<Self, EvolutionError> {
        let PinnedInputs { questioner_prompt, reasoner_prompt, base: base_result, images } = pinned;
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
            images,
            assets: OnceLock::new(),
        })
    }

    /// Checks that the base model's tokenizer knows the special tokens of the prompts.
    fn check_special_tokens(&self) -> Result<(), EvolutionError> {
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

    /// What goes with every model's weights.
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

    /// A model of the store, loaded when it is needed.
    pub fn handle<'m>(&'m self, model: &'m StoredModel) -> ModelHandle<'m> {
        ModelHandle::new(model.id, move || {
            let tensors = model.tensors(self.runner.store)?;
            let model = &self.pipeline.model;
            LoadedModel::from_stored(self.assets()?, &tensors, model.dtype.dtype(), &self.device, model.ops)
        })
    }

    /// A sampler of the Questioner.
    pub fn questioner<'m>(&'m self, model: &'m ModelHandle<'m>, images: &'m ImageSet<'m>) -> PromptSampler<'m> {
        PromptSampler::new(model, &self.questioner_prompt, images, self.pipeline.sampling.limits(), &self.compute)
    }

    /// A sampler of the Reasoner.
    pub fn reasoner<'m>(&'m self, model: &'m ModelHandle<'m>, images: &'m ImageSet<'m>) -> PromptSampler<'m> {
        PromptSampler::new(model, &self.reasoner_prompt, images, self.pipeline.sampling.limits(), &self.compute)
    }

    /// The images of a round, in the round's order.
    ///
    /// # Errors
    /// The images table is damaged.
    pub fn slice(&self, round: u32) -> Result<Vec<ImageId>, StageError> {
        let ids = image_ids(self.runner.store, &self.image_objects())?;
        let ranked = rank_by_seed(&ids, derive_seed(self.pipeline.round.seed, &["images"]), |id: ImageId| id.0);
        Ok(slice(&ranked, round, self.pipeline.round.images as usize))
    }

    /// These images, read when they are needed.
    pub fn image_set(&self, wanted: &[ImageId]) -> ImageSet<'_> {
        let wanted: BTreeSet<ImageId> = wanted.iter().copied().collect();
        ImageSet::of_table(self.runner.store, self.image_objects(), wanted, self.pipeline.model.image_memory)
    }

    /// The objects of the images table.
    pub fn image_objects(&self) -> Vec<ObjectId> {
        self.images.outputs_of(ImageRow::TABLE).map(|output| output.object).collect()
    }

    /// The seed of a part of a round.
    pub fn seed(&self, round: u32, part: &[&str]) -> u64 {
        let round = format!("round {round}");
        let parts: Vec<&str> = std::iter::once(round.as_str()).chain(part.iter().copied()).collect();
        derive_seed(self.pipeline.round.seed, &parts)
    }
}

/// The newest table of images.
fn newest_images(evolution: &str, runner: &Runner<'_>) -> Result<StageResult, StageError> {
    let problem = match runner.store.head(evolution, IMAGES)? {
        Some(head) => match runner.store.result_with_outputs(head.result)? {
            Some(images) => return Ok(images),
            None => format!("parts of {head} are lost: give its sources again with --images, or to `visplay ingest`"),
        },
        None => {
            format!("`{evolution}` has no images yet: name a folder with --images, or run `visplay ingest FOLDER`")
        }
    };
    Err(StageError::Parameter { key: "evolution", problem })
}

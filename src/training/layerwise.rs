//! The forward and backward pass of a micro-batch through embedding, both towers
//! (`checkpointed_towers.rs`) and LM head.

use candle_core::{Device, Tensor, Var};

use super::Result;
use super::backward_from::backward_from;
use super::checkpointed_towers::{CheckpointedTowers, Contexts};
use super::cpu_backward::NormAndHead;
use super::floats::{floats, tensor};
use super::gradients::Gradients;
use super::lm_head::LmHead;
pub use super::lm_head::TokenStats;
use super::micro_batch::MicroBatch;
use super::trainable::{DetachedWeights, TrainableModel};
use crate::device::upload;
use crate::vlm::named_tensors::{NamedTensors, Purpose};
use crate::vlm::parameters::{EMBEDDING, HEAD, ModelPart};
use crate::vlm::rope::{TextAngles, VisionAngles};
use crate::vlm::text::{self, TextContext, final_norm};
use crate::vlm::vision::{self, VisionContext};

/// A loss over target log-probabilities.
pub trait Objective: Sync {
    /// Returns the derivative of the loss with respect to the log-probability of target `number`,
    /// which is `logprob` under the current weights. Targets are numbered over the batch in the
    /// order of prefix groups, continuations and tokens.
    fn gradient(&self, number: usize, logprob: f32) -> f32;
}

/// A model's forward and backward pass over micro-batches.
pub(super) struct LayerwisePass<'a> {
    weights: &'a TrainableModel,
    text_angles: TextAngles,
    vision_angles: VisionAngles,
    temperature: f64,
    towers: CheckpointedTowers<'a>,
}

impl<'a> LayerwisePass<'a> {
    pub(super) fn new(weights: &'a TrainableModel, temperature: f64, layers_per_checkpoint: usize) -> Self {
        let config = weights.config();
        Self {
            weights,
            text_angles: text::angles(&config.text),
            vision_angles: vision::angles(&config.vision),
            temperature,
            towers: CheckpointedTowers::new(weights, layers_per_checkpoint),
        }
    }

    /// Returns the statistics of the micro-batch's targets (forward pass only).
    pub(super) fn forward(&self, batch: &MicroBatch) -> Result<Vec<TokenStats>> {
        let contexts = self.contexts(batch)?;
        let features = self.features(batch, &contexts)?;
        let x = self.embed(batch, features.as_ref())?;
        let x = self.towers.run(&self.towers.text_layers(), x, &contexts, &DetachedWeights(self.weights))?;
        let rows = self.weights.ops().gather(&x, &batch.rows)?;
        let normed = final_norm(&self.weights.config().text, &DetachedWeights(self.weights), Purpose::Training)?
            .forward(&rows)?;
        let weight = DetachedWeights(self.weights).tensor(self.head_name())?;
        Ok(LmHead { weight: &weight, temperature: self.temperature, ops: self.weights.ops() }
            .forward(&normed, &batch.targets)?)
    }

    /// Returns the statistics of the targets and adds the objective's gradients to `gradients`.
    pub(super) fn forward_backward(
        &self,
        batch: &MicroBatch,
        objective: &dyn Objective,
        gradients: &mut Gradients,
    ) -> Result<Vec<TokenStats>> {
        let contexts = self.contexts(batch)?;
        let trains_vision = self.weights.trains_vision() && !batch.images.is_empty();
        let (features, vision) = if trains_vision {
            let saved = self.towers.forward_saving(&self.towers.vision_layers(), self.patches(batch)?, &contexts)?;
            (saved.output.clone(), Some(saved))
        } else {
            (self.features(batch, &contexts)?, None)
        };
        self.towers.buffers.trim();
        let x = self.embed(batch, features.as_ref())?;
        let text = self.towers.forward_saving(&self.towers.text_layers(), x, &contexts)?;
        let Some(x) = text.output.clone() else { return Ok(Vec::new()) };
        self.towers.buffers.trim();
        let (stats, gradient) = self.head(&x, batch, objective, gradients)?;
        self.towers.buffers.trim();
        drop(x);
        let wants_input = self.weights.trains_embedding() || trains_vision;
        let gradient = self.towers.backward(text, gradient, &contexts, wants_input, gradients)?;
        self.towers.buffers.trim();
        let gradient = self.embedding_backward(batch, gradient, gradients)?;
        if let (Some(vision), Some(gradient)) = (vision, gradient) {
            self.towers.backward(vision, gradient, &contexts, false, gradients)?;
            self.towers.buffers.trim();
        }
        Ok(stats)
    }

    fn contexts(&self, batch: &MicroBatch) -> Result<Contexts> {
        let (dtype, device) = (self.weights.compute_type(), self.weights.device());
        let text = TextContext::new(&self.text_angles, &batch.positions, batch.segments.clone(), dtype, device)?;
        let grids: Vec<_> = batch.images.iter().map(|image| image.grid()).collect();
        let config = &self.weights.config().vision;
        let vision = || VisionContext::new(config, &self.vision_angles, &grids, dtype, device);
        let vision = (!grids.is_empty()).then(vision).transpose()?;
        Ok(Contexts { text, vision, needed: batch.needed.clone() })
    }

    /// Returns the patches of all images of the micro-batch, `[patches, patch_len]`.
    fn patches(&self, batch: &MicroBatch) -> Result<Tensor> {
        let width = self.weights.config().vision.patch_len();
        let patches: usize = batch.images.iter().map(|image| image.grid().patches()).sum();
        let mut all = Vec::with_capacity(patches * width);
        for image in &batch.images {
            all.extend_from_slice(&image.patches()?.values);
        }
        Ok(upload(&Tensor::from_vec(all, (patches, width), &Device::Cpu)?, self.weights.device())?)
    }

    /// Returns the image features `[image tokens, hidden]` of a vision tower that is not trained,
    /// or of a forward pass; `None` without images.
    fn features(&self, batch: &MicroBatch, contexts: &Contexts) -> Result<Option<Tensor>> {
        if batch.images.is_empty() {
            return Ok(None);
        }
        let (layers, source) = (self.towers.vision_layers(), DetachedWeights(self.weights));
        self.towers.run(&layers, self.patches(batch)?, contexts, &source).map(Some)
    }

    /// Returns the input of the text tower, `[tokens, hidden]`: rows of the embedding matrix, or of
    /// `features` for image tokens.
    fn embed(&self, batch: &MicroBatch, features: Option<&Tensor>) -> Result<Tensor> {
        let matrix = DetachedWeights(self.weights).tensor(EMBEDDING)?;
        let text = self.weights.ops().gather(&matrix, &batch.ids)?;
        let Some(features) = features else { return Ok(text) };
        let rows = self.weights.ops().gather(features, &batch.image_rows)?;
        // The text rows are followed by the image rows; one gather then puts each in its place.
        let both = Tensor::cat(&[text, rows], 0)?;
        let (image, tokens) = (self.weights.config().tokens.image, batch.ids.len() as u32);
        let mut order: Vec<u32> = (0..tokens).collect();
        let of_images = order.iter_mut().zip(&batch.ids).filter(|(_, id)| **id == image);
        of_images.zip(tokens..).for_each(|((row, _), image_row)| *row = image_row);
        Ok(self.weights.ops().gather(&both, &order)?)
    }

    /// Takes the gradient of the text tower's input: adds the embedding's gradient to `gradients`,
    /// and returns that of the vision tower's output if the vision tower is trained.
    fn embedding_backward(
        &self,
        batch: &MicroBatch,
        gradient: Option<Tensor>,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let Some(gradient) = gradient else { return Ok(None) };
        let config = self.weights.config();
        let (mut words, mut word_rows, mut image_places) = (Vec::new(), Vec::new(), Vec::new());
        for (id, place) in batch.ids.iter().zip(0u32..) {
            if *id == config.tokens.image && !batch.images.is_empty() {
                image_places.push(place);
            } else {
                words.push(*id);
                word_rows.push(place);
            }
        }
        if self.weights.trains_embedding() {
            let rows = self.weights.ops().gather(&gradient, &word_rows)?;
            let shape = (config.text.vocab_size, config.text.hidden_size);
            gradients.add_rows(EMBEDDING, shape, &words, &rows)?;
        }
        if image_places.is_empty() || !self.weights.trains_vision() {
            return Ok(None);
        }
        let merge = config.vision.spatial_merge_size;
        let tokens = batch.images.iter().map(|image| image.grid().tokens(merge)).sum::<usize>();
        let rows = self.weights.ops().gather(&gradient, &image_places)?;
        Ok(Some(self.weights.ops().scatter(&rows, &batch.image_rows, tokens)?))
    }

    fn head_name(&self) -> &'static str {
        if self.weights.config().tie_word_embeddings { EMBEDDING } else { HEAD }
    }

    /// Runs the final norm and the LM head forward and backward. Returns the targets' statistics
    /// and the gradient of `x`, which has a row for each token or, from the CPU kernels, for each
    /// needed token.
    fn head(
        &self,
        x: &Tensor,
        batch: &MicroBatch,
        objective: &dyn Objective,
        gradients: &mut Gradients,
    ) -> Result<(Vec<TokenStats>, Tensor)> {
        let gradient = |i: usize, logprob: f32| objective.gradient(batch.target_indexes[i], logprob);
        let row_indexes = if self.weights.uses_cpu_kernels() { &batch.rows_in_needed } else { &batch.rows };
        let rows = self.weights.ops().gather(x, row_indexes)?;
        if self.weights.uses_cpu_kernels() {
            let head = NormAndHead::new(self.weights, &self.towers.buffers, self.head_name(), self.temperature)?;
            let (stats, d_rows) = head.forward_backward(&floats(&rows)?, &batch.targets, &gradient, gradients)?;
            let d_rows = tensor(d_rows, x.dim(1)?)?;
            return Ok((stats, self.weights.ops().scatter(&d_rows, row_indexes, x.dim(0)?)?));
        }
        let rows = Var::from_tensor(&rows)?;
        let normed = final_norm(&self.weights.config().text, self.weights, Purpose::Training)?.forward(&rows)?;
        let weight = DetachedWeights(self.weights).tensor(self.head_name())?;
        let head = LmHead { weight: &weight, temperature: self.temperature, ops: self.weights.ops() };
        let wants_weight = self.weights.trains_embedding();
        let (stats, back) = head.forward_backward(&normed.detach(), &batch.targets, &gradient, wants_weight)?;
        if let Some(gradient) = back.weight {
            gradients.add(self.head_name(), gradient)?;
        }
        let mut store = backward_from(&normed, back.rows)?.backward()?;
        self.towers.collect(ModelPart::FinalNorm, &mut store, gradients)?;
        let Some(d_rows) = store.remove(&rows) else { return Ok((stats, x.zeros_like()?)) };
        Ok((stats, self.weights.ops().scatter(&d_rows, row_indexes, x.dim(0)?)?))
    }
}

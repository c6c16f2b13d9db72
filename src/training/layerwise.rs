//! Forward through both towers and back, a few layers' graph alive at a time.
//!
//! The layers of a tower are a chain. It is cut into links of `layers_at_once` layers: forward, all links but the last run
//! without a graph and only their inputs are kept; back, each link runs again on a variable and hands its gradients on.
//! One layer a link takes the least memory; a link that holds the whole chain computes nothing twice.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::TrainingError;
use super::gradients::Gradients;
use super::head::Head;
pub use super::head::TokenFigures;
use super::micro_batch::{MicroBatch, grid};
use super::seed::seeded;
use super::trainable::{Detached, Trainable};
use crate::vlm::config::Config;
use crate::vlm::image_processor::Patches;
use crate::vlm::named_tensors::{NamedTensors, Purpose};
use crate::vlm::parameters::{EMBEDDING, HEAD, Part, parameters};
use crate::vlm::rope::{TextAngles, VisionAngles};
use crate::vlm::text::{self, DecoderLayer, TextContext, final_norm};
use crate::vlm::vision::{self, Merger, PatchEmbed, VisionBlock, VisionContext};

/// What a token's log-probability is worth.
pub trait Objective: Sync {
    /// The derivative of the loss by the log-probability of target `number` of the batch (trees, branches and tokens in
    /// order), which is `logprob` under the weights as they are.
    fn gradient(&self, number: usize, logprob: f32) -> f32;
}

/// Takes trees of a batch through a model.
pub(super) struct Layerwise<'a> {
    weights: &'a Trainable,
    text_angles: TextAngles,
    vision_angles: VisionAngles,
    names: Names,
    settings: Pass,
}

/// How a pass is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// Divides the logits.
    pub temperature: f64,
    /// Layers whose graph is alive at once.
    pub layers_at_once: usize,
}

/// A step of a chain: a layer, or what stands at a tower's beginning or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    PatchEmbedding,
    VisionBlock(usize),
    Merger,
    TextLayer(usize),
}

/// The tensors of each part.
struct Names(Vec<(Part, Vec<String>)>);

impl Names {
    fn new(config: &Config) -> Self {
        let mut parts: Vec<(Part, Vec<String>)> = Vec::new();
        for parameter in parameters(config) {
            match parts.last_mut() {
                Some((part, names)) if *part == parameter.part => names.push(parameter.name),
                _ => parts.push((parameter.part, vec![parameter.name])),
            }
        }
        Self(parts)
    }

    fn of(&self, part: Part) -> &[String] {
        self.0.iter().find(|(other, _)| *other == part).map_or(&[], |(_, names)| names)
    }
}

impl Link {
    fn part(self) -> Part {
        match self {
            Self::PatchEmbedding => Part::PatchEmbedding,
            Self::VisionBlock(i) => Part::VisionBlock(i),
            Self::Merger => Part::Merger,
            Self::TextLayer(i) => Part::TextLayer(i),
        }
    }
}

/// What the layers of the two chains need beside their input.
struct Contexts {
    text: TextContext,
    vision: Option<VisionContext>,
}

/// What a forward pass keeps for the way back.
struct Kept {
    /// The links, in order, and the input of each.
    inputs: Vec<(Vec<Link>, Tensor)>,
    /// The last link, run with a graph.
    last: Option<(Vec<Link>, Var, Tensor)>,
}

impl<'a> Layerwise<'a> {
    pub(super) fn new(weights: &'a Trainable, settings: Pass) -> Self {
        let config = weights.config();
        Self {
            weights,
            text_angles: text::angles(&config.text),
            vision_angles: vision::angles(&config.vision),
            names: Names::new(config),
            settings,
        }
    }

    /// The figures of the micro-batch's targets, without a way back.
    pub(super) fn forward(&self, batch: &MicroBatch) -> Result<Vec<TokenFigures>, TrainingError> {
        let contexts = self.contexts(batch)?;
        let features = self.features(batch, &contexts)?;
        let x = self.embed(batch, features.as_ref())?;
        let x = self.run(&self.text_chain(), x, &contexts, &Detached(self.weights))?;
        let rows = x.index_select(&self.indexes(&batch.rows)?, 0)?;
        let normed =
            final_norm(&self.weights.config().text, &Detached(self.weights), Purpose::Training)?.forward(&rows)?;
        let weight = Detached(self.weights).tensor(self.head_name())?;
        Ok(Head { weight: &weight, temperature: self.settings.temperature }.forward(&normed, &batch.targets)?)
    }

    /// The figures of the micro-batch's targets; the gradients of the objective are added to `gradients`.
    pub(super) fn forward_backward(
        &self,
        batch: &MicroBatch,
        objective: &dyn Objective,
        gradients: &mut Gradients,
    ) -> Result<Vec<TokenFigures>, TrainingError> {
        let contexts = self.contexts(batch)?;
        let trains_vision = self.weights.trains_vision() && !batch.images.is_empty();
        let (features, vision) = if trains_vision {
            let kept = self.forward_keeping(&self.vision_chain(), self.patches(batch)?, &contexts)?;
            (kept.output(), Some(kept))
        } else {
            (self.features(batch, &contexts)?, None)
        };
        let x = self.embed(batch, features.as_ref())?;
        let text = self.forward_keeping(&self.text_chain(), x, &contexts)?;
        let Some(x) = text.output() else { return Ok(Vec::new()) };
        let (figures, gradient) = self.head(&x, batch, objective, gradients)?;
        let gradient = self.backward(text, gradient, &contexts, gradients)?;
        let gradient = self.embedding_backward(batch, gradient, gradients)?;
        if let (Some(vision), Some(gradient)) = (vision, gradient) {
            self.backward(vision, gradient, &contexts, gradients)?;
        }
        Ok(figures)
    }

    fn contexts(&self, batch: &MicroBatch) -> Result<Contexts, TrainingError> {
        let (dtype, device) = (self.weights.compute_type(), self.weights.device());
        let text = TextContext::new(&self.text_angles, &batch.positions, batch.segments.clone(), dtype, device)?;
        let grids: Vec<_> = batch.images.iter().map(|image| grid(image)).collect();
        let vision = if grids.is_empty() {
            None
        } else {
            let config = &self.weights.config().vision;
            Some(VisionContext::new(config, &self.vision_angles, &grids, dtype, device)?)
        };
        Ok(Contexts { text, vision })
    }

    fn vision_chain(&self) -> Vec<Link> {
        let blocks = (0..self.weights.config().vision.depth).map(Link::VisionBlock);
        [Link::PatchEmbedding].into_iter().chain(blocks).chain([Link::Merger]).collect()
    }

    fn text_chain(&self) -> Vec<Link> {
        (0..self.weights.config().text.num_hidden_layers).map(Link::TextLayer).collect()
    }

    /// All patches of the micro-batch's images, `[patches, patch_len]`.
    fn patches(&self, batch: &MicroBatch) -> Result<Tensor, TrainingError> {
        let values: usize = batch.images.iter().map(|image| image.values.len()).sum();
        let mut all = Vec::with_capacity(values);
        batch.images.iter().for_each(|image: &Arc<Patches>| all.extend_from_slice(&image.values));
        let width = self.weights.config().vision.patch_len();
        Ok(Tensor::from_vec(all, (values / width, width), self.weights.device())?)
    }

    /// The image tokens of a tower that is not trained, or of a pass without a way back.
    fn features(&self, batch: &MicroBatch, contexts: &Contexts) -> Result<Option<Tensor>, TrainingError> {
        if batch.images.is_empty() {
            return Ok(None);
        }
        let x = self.run(&self.vision_chain(), self.patches(batch)?, contexts, &Detached(self.weights))?;
        Ok(Some(x))
    }

    /// The input of the text tower, `[tokens, hidden]`: rows of the embedding, or of `features` for image tokens.
    fn embed(&self, batch: &MicroBatch, features: Option<&Tensor>) -> Result<Tensor, TrainingError> {
        let matrix = Detached(self.weights).tensor(EMBEDDING)?;
        let text = matrix.index_select(&self.indexes(&batch.ids)?, 0)?;
        let Some(features) = features else { return Ok(text) };
        let rows = features.index_select(&self.indexes(&batch.image_rows)?, 0)?;
        // Behind the embedded tokens stand the image's rows: one selection brings each to its place.
        let both = Tensor::cat(&[text, rows], 0)?;
        let (image, tokens) = (self.weights.config().tokens.image, batch.ids.len() as u32);
        let mut next = tokens;
        let order: Vec<u32> = (batch.ids.iter().zip(0u32..))
            .map(|(id, place)| {
                if *id != image {
                    return place;
                }
                next += 1;
                next - 1
            })
            .collect();
        Ok(both.index_select(&self.indexes(&order)?, 0)?)
    }

    /// From the gradient by the text tower's input to that of the embedding and, if it is trained, the vision tower's output.
    fn embedding_backward(
        &self,
        batch: &MicroBatch,
        gradient: Option<Tensor>,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, TrainingError> {
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
            let rows = gradient.index_select(&self.indexes(&word_rows)?, 0)?;
            let shape = (config.text.vocab_size, config.text.hidden_size);
            gradients.add_rows(EMBEDDING, shape, &self.indexes(&words)?, &rows)?;
        }
        if image_places.is_empty() || !self.weights.trains_vision() {
            return Ok(None);
        }
        let merge = config.vision.spatial_merge_size;
        let tokens = batch.images.iter().map(|image| grid(image).tokens(merge)).sum::<usize>();
        let rows = gradient.index_select(&self.indexes(&image_places)?, 0)?;
        let zero = Tensor::zeros((tokens, config.text.hidden_size), gradient.dtype(), gradient.device())?;
        Ok(Some(zero.index_add(&self.indexes(&batch.image_rows)?, &rows, 0)?))
    }

    fn head_name(&self) -> &'static str {
        if self.weights.config().tie_word_embeddings { EMBEDDING } else { HEAD }
    }

    /// The final norm and the head, there and back: the figures, and the gradient by `x` `[tokens, hidden]`.
    fn head(
        &self,
        x: &Tensor,
        batch: &MicroBatch,
        objective: &dyn Objective,
        gradients: &mut Gradients,
    ) -> Result<(Vec<TokenFigures>, Tensor), TrainingError> {
        let indexes = self.indexes(&batch.rows)?;
        let rows = Var::from_tensor(&x.index_select(&indexes, 0)?)?;
        let normed = final_norm(&self.weights.config().text, self.weights, Purpose::Training)?.forward(&rows)?;
        let weight = Detached(self.weights).tensor(self.head_name())?;
        let head = Head { weight: &weight, temperature: self.settings.temperature };
        let gradient = |i: usize, logprob: f32| objective.gradient(batch.numbers[i], logprob);
        let wants_weight = self.weights.trains_embedding();
        let (figures, back) = head.forward_backward(&normed.detach(), &batch.targets, &gradient, wants_weight)?;
        if let Some(gradient) = back.weight {
            gradients.add(self.head_name(), gradient)?;
        }
        let mut store = seeded(&normed, back.rows)?.backward()?;
        self.collect(Part::FinalNorm, &mut store, gradients)?;
        let Some(by_rows) = store.remove(&rows) else { return Ok((figures, x.zeros_like()?)) };
        Ok((figures, x.zeros_like()?.index_add(&indexes, &by_rows, 0)?))
    }

    /// Runs a chain forward, keeping what the way back needs.
    fn forward_keeping(&self, chain: &[Link], x: Tensor, contexts: &Contexts) -> Result<Kept, TrainingError> {
        let mut kept = Kept { inputs: Vec::new(), last: None };
        let mut x = x;
        let links: Vec<&[Link]> = chain.chunks(self.settings.layers_at_once.max(1)).collect();
        for (i, links_here) in links.iter().enumerate() {
            if i + 1 == links.len() {
                let input = Var::from_tensor(&x)?;
                let output = self.run(links_here, input.as_tensor().clone(), contexts, self.weights)?;
                kept.last = Some((links_here.to_vec(), input, output));
            } else {
                let output = self.run(links_here, x.clone(), contexts, &Detached(self.weights))?;
                kept.inputs.push((links_here.to_vec(), std::mem::replace(&mut x, output)));
            }
        }
        Ok(kept)
    }

    /// Takes a gradient back through a chain: that of its input, and those of its tensors into `gradients`.
    fn backward(
        &self,
        kept: Kept,
        gradient: Tensor,
        contexts: &Contexts,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, TrainingError> {
        let Some((links, input, output)) = kept.last else { return Ok(Some(gradient)) };
        let mut gradient = self.link_backward(&links, &input, &output, gradient, gradients)?;
        drop(output);
        for (links, x) in kept.inputs.into_iter().rev() {
            let Some(seed) = gradient else { return Ok(None) };
            let input = Var::from_tensor(&x)?;
            let output = self.run(&links, input.as_tensor().clone(), contexts, self.weights)?;
            gradient = self.link_backward(&links, &input, &output, seed, gradients)?;
        }
        Ok(gradient)
    }

    fn link_backward(
        &self,
        links: &[Link],
        input: &Var,
        output: &Tensor,
        gradient: Tensor,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, TrainingError> {
        let mut store = seeded(output, gradient)?.backward()?;
        for link in links {
            self.collect(link.part(), &mut store, gradients)?;
        }
        Ok(store.remove(input))
    }

    /// Moves the gradients of a part's variables out of a backward pass.
    fn collect(&self, part: Part, store: &mut GradStore, gradients: &mut Gradients) -> Result<(), TrainingError> {
        for name in self.names.of(part) {
            for (name, variable) in self.weights.variables_of(name) {
                if let Some(gradient) = store.remove(variable) {
                    gradients.add(name, gradient)?;
                }
            }
        }
        Ok(())
    }

    fn run(
        &self,
        links: &[Link],
        x: Tensor,
        contexts: &Contexts,
        source: &dyn NamedTensors,
    ) -> Result<Tensor, TrainingError> {
        let config = self.weights.config();
        let training = Purpose::Training;
        let mut x = x;
        for link in links {
            x = match (*link, &contexts.vision) {
                (Link::TextLayer(i), _) => {
                    DecoderLayer::new(&config.text, i, source, training)?.forward(&x, &contexts.text)?
                }
                (Link::PatchEmbedding, Some(vision)) => {
                    PatchEmbed::new(&config.vision, source, training)?.forward(&x, vision)?
                }
                (Link::VisionBlock(i), Some(vision)) => {
                    VisionBlock::new(&config.vision, i, source, training)?.forward(&x, vision)?
                }
                (Link::Merger, Some(vision)) => Merger::new(&config.vision, source, training)?.forward(&x, vision)?,
                (_, None) => {
                    return Err(TrainingError::Model(candle_core::Error::msg("a vision tower without images")));
                }
            };
        }
        Ok(x)
    }

    fn indexes(&self, indexes: &[u32]) -> Result<Tensor, TrainingError> {
        Ok(Tensor::new(indexes, self.weights.device())?)
    }
}

impl Kept {
    /// What came out of the chain, without a graph.
    fn output(&self) -> Option<Tensor> {
        self.last.as_ref().map(|(_, _, output)| output.detach())
    }
}

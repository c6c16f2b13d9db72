//! Forward through both towers and back, a few layers' graph alive at a time.
//!
//! The layers of a tower are a chain. It is cut into links of `layers_at_once` layers: forward, all links but the last run
//! without a graph and only their inputs are kept; back, each link runs again on a variable and hands its gradients on.
//! One layer a link takes the least memory; a link that holds the whole chain computes nothing twice.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::TrainingError;
use super::by_kernels::{self, Block, BlockKept, Buffers, MergerKept, PatchEmbedding, Tokens, floats};
use super::gradients::Gradients;
use super::head::Head;
pub use super::head::TokenFigures;
use super::micro_batch::{MicroBatch, grid};
use super::seed::seeded;
use super::trainable::{Detached, Trainable};
use crate::vlm::config::Config;
use crate::vlm::image_processor::Patches;
use crate::vlm::named_tensors::{NamedTensors, Purpose};
use crate::vlm::ops::{gather, kernels_serve, scatter};
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
    buffers: Buffers,
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
    /// The tokens that the kernels of the last text layer put out.
    needed: Vec<u32>,
}

/// What a forward pass keeps for the way back.
struct Kept {
    /// The groups of links, in order, and the input of each.
    inputs: Vec<(Vec<Link>, Tensor)>,
    /// The last group and its graph.
    last: Option<(Vec<Link>, Graph)>,
    /// What came out of the chain, without a graph.
    output: Option<Tensor>,
}

/// What leads back through some links.
enum Graph {
    /// candle's graph from the variable to the result.
    Autograd(Var, Tensor),
    /// What each link's kernels need.
    Kernels(Vec<LinkKept>),
}

/// What the way back through a link needs.
enum LinkKept {
    Patches(Tensor),
    Block(BlockKept),
    Merger(MergerKept),
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
            buffers: Buffers::default(),
        }
    }

    /// The figures of the micro-batch's targets, without a way back.
    pub(super) fn forward(&self, batch: &MicroBatch) -> Result<Vec<TokenFigures>, TrainingError> {
        let contexts = self.contexts(batch)?;
        let features = self.features(batch, &contexts)?;
        let x = self.embed(batch, features.as_ref())?;
        let x = self.run(&self.text_chain(), x, &contexts, &Detached(self.weights))?;
        let rows = gather(&x, &batch.rows)?;
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
            (kept.output.clone(), Some(kept))
        } else {
            (self.features(batch, &contexts)?, None)
        };
        let x = self.embed(batch, features.as_ref())?;
        let text = self.forward_keeping(&self.text_chain(), x, &contexts)?;
        let Some(x) = text.output.clone() else { return Ok(Vec::new()) };
        let (figures, gradient) = self.head(&x, batch, objective, gradients)?;
        drop(x);
        let wants_input = self.weights.trains_embedding() || trains_vision;
        let gradient = self.backward(text, gradient, &contexts, wants_input, gradients)?;
        let gradient = self.embedding_backward(batch, gradient, gradients)?;
        if let (Some(vision), Some(gradient)) = (vision, gradient) {
            self.backward(vision, gradient, &contexts, false, gradients)?;
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
        Ok(Contexts { text, vision, needed: batch.needed.clone() })
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
        let text = gather(&matrix, &batch.ids)?;
        let Some(features) = features else { return Ok(text) };
        let rows = gather(features, &batch.image_rows)?;
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
        Ok(gather(&both, &order)?)
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
            let rows = gather(&gradient, &word_rows)?;
            let shape = (config.text.vocab_size, config.text.hidden_size);
            gradients.add_rows(EMBEDDING, shape, &self.indexes(&words)?, &rows)?;
        }
        if image_places.is_empty() || !self.weights.trains_vision() {
            return Ok(None);
        }
        let merge = config.vision.spatial_merge_size;
        let tokens = batch.images.iter().map(|image| grid(image).tokens(merge)).sum::<usize>();
        let rows = gather(&gradient, &image_places)?;
        Ok(Some(scatter(&rows, &batch.image_rows, tokens)?))
    }

    fn head_name(&self) -> &'static str {
        if self.weights.config().tie_word_embeddings { EMBEDDING } else { HEAD }
    }

    /// The final norm and the head, there and back: the figures, and the gradient by `x`, which has a row for each token
    /// or, from the kernels, for each that is needed.
    fn head(
        &self,
        x: &Tensor,
        batch: &MicroBatch,
        objective: &dyn Objective,
        gradients: &mut Gradients,
    ) -> Result<(Vec<TokenFigures>, Tensor), TrainingError> {
        let gradient = |i: usize, logprob: f32| objective.gradient(batch.numbers[i], logprob);
        let places = if self.has_kernels() { &batch.places } else { &batch.rows };
        let rows = gather(x, places)?;
        if self.has_kernels() {
            let head = by_kernels::Head::new(self.weights, self.head_name(), self.settings.temperature)?;
            let back = head.forward_backward(&floats(&rows)?, &batch.targets, &gradient, &self.buffers, gradients)?;
            let by_rows = by_kernels::tensor(back.1, x.dim(1)?)?;
            return Ok((back.0, scatter(&by_rows, places, x.dim(0)?)?));
        }
        let rows = Var::from_tensor(&rows)?;
        let normed = final_norm(&self.weights.config().text, self.weights, Purpose::Training)?.forward(&rows)?;
        let weight = Detached(self.weights).tensor(self.head_name())?;
        let head = Head { weight: &weight, temperature: self.settings.temperature };
        let wants_weight = self.weights.trains_embedding();
        let (figures, back) = head.forward_backward(&normed.detach(), &batch.targets, &gradient, wants_weight)?;
        if let Some(gradient) = back.weight {
            gradients.add(self.head_name(), gradient)?;
        }
        let mut store = seeded(&normed, back.rows)?.backward()?;
        self.collect(Part::FinalNorm, &mut store, gradients)?;
        let Some(by_rows) = store.remove(&rows) else { return Ok((figures, x.zeros_like()?)) };
        Ok((figures, scatter(&by_rows, places, x.dim(0)?)?))
    }

    /// Whether the way back is computed by kernels; elsewhere it is by candle's graph.
    fn has_kernels(&self) -> bool {
        kernels_serve(self.weights.device(), self.weights.compute_type())
    }

    /// Runs a chain forward, keeping what the way back needs.
    fn forward_keeping(&self, chain: &[Link], x: Tensor, contexts: &Contexts) -> Result<Kept, TrainingError> {
        let mut kept = Kept { inputs: Vec::new(), last: None, output: None };
        let mut x = x;
        let groups: Vec<&[Link]> = chain.chunks(self.settings.layers_at_once.max(1)).collect();
        for (i, links) in groups.iter().enumerate() {
            if i + 1 == groups.len() {
                let (output, graph) = self.run_keeping(links, &x, contexts, true)?;
                kept.last = Some((links.to_vec(), graph));
                kept.output = output;
            } else {
                let output = self.run(links, x.clone(), contexts, &Detached(self.weights))?;
                kept.inputs.push((links.to_vec(), std::mem::replace(&mut x, output)));
            }
        }
        Ok(kept)
    }

    /// Takes a gradient back through a chain: that of its input, if it is wanted, and those of its tensors into
    /// `gradients`.
    fn backward(
        &self,
        kept: Kept,
        gradient: Tensor,
        contexts: &Contexts,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, TrainingError> {
        let Kept { mut inputs, last, output } = kept;
        drop(output);
        let Some((links, graph)) = last else { return Ok(Some(gradient)) };
        let wants = wants_input || !inputs.is_empty();
        let mut gradient = self.group_backward(&links, graph, gradient, contexts, wants, gradients)?;
        while let Some((links, x)) = inputs.pop() {
            let Some(seed) = gradient else { return Ok(None) };
            let (_, graph) = self.run_keeping(&links, &x, contexts, false)?;
            drop(x);
            let wants = wants_input || !inputs.is_empty();
            gradient = self.group_backward(&links, graph, seed, contexts, wants, gradients)?;
        }
        Ok(gradient)
    }

    /// Runs some links, keeping what leads back through them; their result, if it is wanted.
    fn run_keeping(
        &self,
        links: &[Link],
        x: &Tensor,
        contexts: &Contexts,
        wants_output: bool,
    ) -> Result<(Option<Tensor>, Graph), TrainingError> {
        if !self.has_kernels() {
            let input = Var::from_tensor(x)?;
            let output = self.run(links, input.as_tensor().clone(), contexts, self.weights)?;
            return Ok((Some(output.detach()), Graph::Autograd(input, output)));
        }
        let mut kept = Vec::with_capacity(links.len());
        let mut x = Some(x.clone());
        for (i, link) in links.iter().enumerate() {
            let Some(input) = x else { break };
            let wants_output = wants_output || i + 1 < links.len();
            let (output, link) = match (*link, &contexts.vision) {
                (Link::TextLayer(_) | Link::VisionBlock(_), _) => {
                    let (block, tokens) = self.block(*link, contexts)?;
                    let (output, kept) = block.forward(input, tokens, wants_output)?;
                    (output, LinkKept::Block(kept))
                }
                (Link::PatchEmbedding, Some(vision)) => {
                    let embedding = PatchEmbedding::new(self.weights)?;
                    let output = match wants_output {
                        true => Some(embedding.forward(&input, vision.order(), &self.buffers)?),
                        false => None,
                    };
                    (output, LinkKept::Patches(input))
                }
                (Link::Merger, Some(vision)) => {
                    let merger = by_kernels::Merger::new(self.weights)?;
                    let (output, kept) = merger.forward(input, vision.order(), &self.buffers)?;
                    (Some(output), LinkKept::Merger(kept))
                }
                (_, None) => return Err(without_images()),
            };
            x = output;
            kept.push(link);
        }
        Ok((x, Graph::Kernels(kept)))
    }

    /// A block and what it knows of its tokens.
    fn block<'b>(&'b self, link: Link, contexts: &'b Contexts) -> Result<(Block<'b>, Tokens<'b>), TrainingError> {
        let buffers = &self.buffers;
        match (link, &contexts.vision) {
            (Link::TextLayer(i), _) => {
                let (angles, segments) = (contexts.text.angles(), contexts.text.segments());
                let last = i + 1 == self.weights.config().text.num_hidden_layers;
                let wanted = last.then_some(contexts.needed.as_slice());
                Ok((Block::text(self.weights, i)?, Tokens { angles, segments, wanted, buffers }))
            }
            (Link::VisionBlock(i), Some(vision)) => {
                let segments = vision.segments(self.weights.config().vision.is_full_attention(i));
                Ok((
                    Block::vision(self.weights, i)?,
                    Tokens { angles: vision.angles(), segments, wanted: None, buffers },
                ))
            }
            _ => Err(without_images()),
        }
    }

    fn group_backward(
        &self,
        links: &[Link],
        graph: Graph,
        gradient: Tensor,
        contexts: &Contexts,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, TrainingError> {
        let kept = match graph {
            Graph::Autograd(input, output) => {
                return self.autograd_backward(links, &input, &output, gradient, gradients);
            }
            Graph::Kernels(kept) => kept,
        };
        let mut gradient = Some(gradient);
        for (i, (link, kept)) in links.iter().zip(kept).enumerate().rev() {
            let Some(by_output) = gradient else { return Ok(None) };
            gradient = match (kept, &contexts.vision) {
                (LinkKept::Block(kept), _) => {
                    let (block, tokens) = self.block(*link, contexts)?;
                    block.backward(kept, &by_output, tokens, wants_input || i > 0, gradients)?
                }
                (LinkKept::Merger(kept), Some(vision)) => {
                    let merger = by_kernels::Merger::new(self.weights)?;
                    Some(merger.backward(kept, &by_output, vision.order(), &self.buffers, gradients)?)
                }
                (LinkKept::Patches(patches), Some(vision)) => {
                    let embedding = PatchEmbedding::new(self.weights)?;
                    embedding.backward(&patches, &by_output, vision.order(), &self.buffers, gradients)?;
                    None
                }
                (_, None) => return Err(without_images()),
            };
        }
        Ok(gradient)
    }

    fn autograd_backward(
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
                (_, None) => return Err(without_images()),
            };
        }
        Ok(x)
    }

    fn indexes(&self, indexes: &[u32]) -> Result<Tensor, TrainingError> {
        Ok(Tensor::new(indexes, self.weights.device())?)
    }
}

fn without_images() -> TrainingError {
    TrainingError::Model(candle_core::Error::msg("a vision tower without images"))
}

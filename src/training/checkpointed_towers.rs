//! Activation checkpointing of the two towers: forward and backward passes that hold the
//! activations of a few layers at a time.
//!
//! A tower is a list of layers, cut into segments of `layers_per_checkpoint`. Forward, every
//! segment but the last runs without an autograd graph, and only its input is saved. Backward, each
//! segment is recomputed from its input, keeping its activations, and then differentiated. Segments
//! of one layer take the least memory; a segment that holds the whole tower recomputes nothing.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::backward_from::backward_from;
use super::cpu_backward::{self, Block, BlockActivations, BufferPool, MergerActivations, PatchEmbedding, TokenContext};
use super::gradients::Gradients;
use super::trainable::{DetachedWeights, TrainableModel};
use super::{Result, TrainingError};
use crate::kernels::heap::keep_freed_memory_up_to;
use crate::vlm::named_tensors::{NamedTensors, Purpose};
use crate::vlm::parameters::{ModelPart, Parameter, parameters};
use crate::vlm::text::{DecoderLayer, TextContext};
use crate::vlm::vision::{Merger, PatchEmbed, VisionBlock, VisionContext};

/// Inputs of the layers besides the hidden states: positions and attention patterns.
pub(super) struct Contexts {
    pub(super) text: TextContext,
    pub(super) vision: Option<VisionContext>,
    /// Tokens whose output the last text layer has to compute (with the CPU kernels).
    pub(super) needed: Vec<u32>,
}

/// State saved by a forward pass for the backward pass.
pub(super) struct SavedActivations {
    /// All segments but the last, in order, with their inputs.
    inputs: Vec<(Vec<ModelPart>, Tensor)>,
    /// The last segment and its activations.
    last: (Vec<ModelPart>, SegmentActivations),
    /// Output of the tower, without an autograd graph.
    pub(super) output: Option<Tensor>,
}

/// Activations of a segment, for its backward pass.
enum SegmentActivations {
    /// candle's autograd graph from the input variable to the output.
    Autograd(Var, Tensor),
    /// Activations of each layer, for the CPU kernels.
    Kernels(Vec<LayerActivations>),
}

/// Activations of a layer, for its backward pass by the CPU kernels.
enum LayerActivations {
    Patches(Tensor),
    Block(Box<BlockActivations>),
    Merger(MergerActivations),
}

/// Bytes of free memory kept at the top of the heap where layers are recomputed to save memory.
const RECOMPUTE_TRIM_BYTES: i32 = 16 << 20;

/// Runs a model's towers with activation checkpointing.
pub(super) struct CheckpointedTowers<'a> {
    weights: &'a TrainableModel,
    parameters: Vec<Parameter>,
    layers_per_checkpoint: usize,
    /// The buffers that the kernels reuse.
    pub(super) buffers: BufferPool,
}

impl<'a> CheckpointedTowers<'a> {
    pub(super) fn new(weights: &'a TrainableModel, layers_per_checkpoint: usize) -> Self {
        let config = weights.config();
        // Patch embedding and merger are the first and the last layer of the vision tower.
        let longest = config.text.num_hidden_layers.max(config.vision.depth + 2);
        let recomputes_nothing = layers_per_checkpoint >= longest;
        if weights.uses_cpu_kernels() {
            keep_freed_memory_up_to(if recomputes_nothing { i32::MAX } else { RECOMPUTE_TRIM_BYTES });
        }
        Self {
            weights,
            parameters: parameters(config),
            layers_per_checkpoint: layers_per_checkpoint.max(1),
            buffers: BufferPool::new(recomputes_nothing),
        }
    }

    /// Returns the layers of the vision tower.
    pub(super) fn vision_layers(&self) -> Vec<ModelPart> {
        let blocks = (0..self.weights.config().vision.depth).map(ModelPart::VisionBlock);
        [ModelPart::PatchEmbedding].into_iter().chain(blocks).chain([ModelPart::Merger]).collect()
    }

    /// Returns the layers of the text tower, without embedding, final norm and LM head.
    pub(super) fn text_layers(&self) -> Vec<ModelPart> {
        (0..self.weights.config().text.num_hidden_layers).map(ModelPart::TextLayer).collect()
    }

    /// Runs a tower forward and saves what its backward pass needs.
    pub(super) fn forward_saving(
        &self,
        tower: &[ModelPart],
        x: Tensor,
        contexts: &Contexts,
    ) -> Result<SavedActivations> {
        let mut segments = tower.chunks(self.layers_per_checkpoint);
        let last = segments.next_back().unwrap_or_default();
        let (mut x, mut inputs) = (x, Vec::new());
        for layers in segments {
            let output = self.run(layers, x.clone(), contexts, &DetachedWeights(self.weights))?;
            inputs.push((layers.to_vec(), std::mem::replace(&mut x, output)));
        }
        let (output, activations) = self.run_saving(last, &x, contexts, true)?;
        Ok(SavedActivations { inputs, last: (last.to_vec(), activations), output })
    }

    /// Runs a tower backward from the gradient of its output: returns the gradient of its input if
    /// `wants_input`, and adds those of its tensors to `gradients`.
    pub(super) fn backward(
        &self,
        saved: SavedActivations,
        gradient: Tensor,
        contexts: &Contexts,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let SavedActivations { mut inputs, last: (layers, activations), output } = saved;
        drop(output);
        let wants = wants_input || !inputs.is_empty();
        let mut gradient = self.segment_backward(&layers, activations, gradient, contexts, wants, gradients)?;
        while let Some((layers, x)) = inputs.pop() {
            let Some(output_gradient) = gradient else { return Ok(None) };
            let (_, activations) = self.run_saving(&layers, &x, contexts, false)?;
            drop(x);
            let wants = wants_input || !inputs.is_empty();
            gradient = self.segment_backward(&layers, activations, output_gradient, contexts, wants, gradients)?;
        }
        Ok(gradient)
    }

    /// Runs a segment and keeps its activations. Returns its output if `wants_output`.
    fn run_saving(
        &self,
        layers: &[ModelPart],
        x: &Tensor,
        contexts: &Contexts,
        wants_output: bool,
    ) -> Result<(Option<Tensor>, SegmentActivations)> {
        if !self.weights.uses_cpu_kernels() {
            let input = Var::from_tensor(x)?;
            let output = self.run(layers, input.as_tensor().clone(), contexts, self.weights)?;
            return Ok((Some(output.detach()), SegmentActivations::Autograd(input, output)));
        }
        let mut kept = Vec::with_capacity(layers.len());
        let mut x = Some(x.clone());
        for (i, layer) in layers.iter().enumerate() {
            let Some(input) = x else { break };
            let wants_output = wants_output || i + 1 < layers.len();
            let (output, layer) = match (*layer, &contexts.vision) {
                (ModelPart::TextLayer(_) | ModelPart::VisionBlock(_), _) => {
                    let (block, tokens) = self.block(*layer, contexts)?;
                    let (output, kept) = block.forward(input, tokens, wants_output)?;
                    (output, LayerActivations::Block(Box::new(kept)))
                }
                (ModelPart::PatchEmbedding, Some(vision)) => {
                    let embedding = PatchEmbedding::new(self.weights, &self.buffers)?;
                    let output = wants_output.then(|| embedding.forward(&input, &vision.order)).transpose()?;
                    (output, LayerActivations::Patches(input))
                }
                (ModelPart::Merger, Some(vision)) => {
                    let merger = cpu_backward::Merger::new(self.weights, &self.buffers)?;
                    let (output, kept) = merger.forward(input, &vision.order)?;
                    (Some(output), LayerActivations::Merger(kept))
                }
                _ => return Err(missing_images()),
            };
            x = output;
            kept.push(layer);
        }
        Ok((x, SegmentActivations::Kernels(kept)))
    }

    /// Returns a block with its inputs besides the hidden states.
    fn block<'b>(&'b self, layer: ModelPart, contexts: &'b Contexts) -> Result<(Block<'b>, TokenContext<'b>)> {
        let (weights, buffers, config) = (self.weights, &self.buffers, self.weights.config());
        match (layer, &contexts.vision) {
            (ModelPart::TextLayer(i), _) => {
                let (angles, segments) = (contexts.text.angles(), &*contexts.text.segments);
                let last = i + 1 == config.text.num_hidden_layers;
                let wanted = last.then_some(contexts.needed.as_slice());
                Ok((Block::load_text_layer(weights, buffers, i)?, TokenContext { angles, segments, wanted }))
            }
            (ModelPart::VisionBlock(i), Some(vision)) => {
                let (angles, segments) = (vision.angles(), vision.segments(config.vision.is_full_attention(i)));
                Ok((Block::load_vision_block(weights, buffers, i)?, TokenContext { angles, segments, wanted: None }))
            }
            _ => Err(missing_images()),
        }
    }

    /// Runs a segment backward; returns the gradient of its input if `wants_input`.
    fn segment_backward(
        &self,
        layers: &[ModelPart],
        activations: SegmentActivations,
        gradient: Tensor,
        contexts: &Contexts,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let kept = match activations {
            SegmentActivations::Autograd(input, output) => {
                let mut store = backward_from(&output, gradient)?.backward()?;
                layers.iter().try_for_each(|layer| self.collect(*layer, &mut store, gradients))?;
                return Ok(store.remove(&input));
            }
            SegmentActivations::Kernels(kept) => kept,
        };
        let mut gradient = Some(gradient);
        for (i, (layer, kept)) in layers.iter().zip(kept).enumerate().rev() {
            let Some(output_gradient) = gradient else { return Ok(None) };
            gradient = match (kept, &contexts.vision) {
                (LayerActivations::Block(kept), _) => {
                    let (block, tokens) = self.block(*layer, contexts)?;
                    block.backward(*kept, &output_gradient, tokens, wants_input || i > 0, gradients)?
                }
                (LayerActivations::Merger(kept), Some(vision)) => {
                    let merger = cpu_backward::Merger::new(self.weights, &self.buffers)?;
                    Some(merger.backward(kept, &output_gradient, &vision.order, gradients)?)
                }
                (LayerActivations::Patches(patches), Some(vision)) => {
                    let embedding = PatchEmbedding::new(self.weights, &self.buffers)?;
                    embedding.backward(&patches, &output_gradient, &vision.order, gradients)?;
                    None
                }
                _ => return Err(missing_images()),
            };
        }
        Ok(gradient)
    }

    /// Moves the gradients of a part's variables from candle's store to `gradients`.
    pub(super) fn collect(&self, part: ModelPart, store: &mut GradStore, gradients: &mut Gradients) -> Result<()> {
        let parameters = self.parameters.iter().filter(|parameter| parameter.part == part);
        for (name, variable) in parameters.flat_map(|parameter| self.weights.variables_of(&parameter.name)) {
            if let Some(gradient) = store.remove(variable) {
                gradients.add(name, gradient)?;
            }
        }
        Ok(())
    }

    /// Runs layers forward without saving anything.
    pub(super) fn run(
        &self,
        layers: &[ModelPart],
        x: Tensor,
        contexts: &Contexts,
        source: &dyn NamedTensors,
    ) -> Result<Tensor> {
        let (config, training) = (self.weights.config(), Purpose::Training);
        let mut x = x;
        for layer in layers {
            x = match (*layer, &contexts.vision) {
                (ModelPart::TextLayer(i), _) => {
                    DecoderLayer::new(&config.text, i, source, training)?.forward(&x, &contexts.text)?
                }
                (ModelPart::PatchEmbedding, Some(vision)) => {
                    PatchEmbed::new(&config.vision, source, training)?.forward(&x, vision)?
                }
                (ModelPart::VisionBlock(i), Some(vision)) => {
                    VisionBlock::new(&config.vision, i, source, training)?.forward(&x, vision)?
                }
                (ModelPart::Merger, Some(vision)) => {
                    Merger::new(&config.vision, source, training)?.forward(&x, vision)?
                }
                _ => return Err(missing_images()),
            };
        }
        Ok(x)
    }
}

fn missing_images() -> TrainingError {
    TrainingError::Model(candle_core::Error::msg("the vision tower was run without images"))
}

//! The layers of a tower as a chain: forward, and back a few layers' graph alive at a time.
//!
//! It is cut into layers of `layers_per_checkpoint` layers: forward, all layers but the last run without a graph and only their inputs
//! are kept; back, each layer runs again on a variable and hands its gradients on. One layer a layer takes the least memory; a layer
//! that holds the whole chain computes nothing twice.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::TrainingError;
use super::backward_from::backward_from;
use super::cpu_backward::{self, Block, BlockActivations, BufferPool, MergerActivations, PatchEmbedding, TokenContext};
use super::gradients::Gradients;
use super::trainable::{DetachedWeights, TrainableModel};
use crate::kernels::heap::keep_freed_memory_up_to;
use crate::vlm::config::Config;
use crate::vlm::named_tensors::{NamedTensors, Purpose};
use crate::vlm::parameters::{ModelPart, parameters};
use crate::vlm::text::{DecoderLayer, TextContext};
use crate::vlm::vision::{Merger, PatchEmbed, VisionBlock, VisionContext};

/// A step of a chain: a layer, or what stands at a tower's beginning or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    PatchEmbedding,
    VisionBlock(usize),
    Merger,
    TextLayer(usize),
}

impl Layer {
    fn part(self) -> ModelPart {
        match self {
            Self::PatchEmbedding => ModelPart::PatchEmbedding,
            Self::VisionBlock(i) => ModelPart::VisionBlock(i),
            Self::Merger => ModelPart::Merger,
            Self::TextLayer(i) => ModelPart::TextLayer(i),
        }
    }
}

/// The tensors of each part.
struct TensorNames(Vec<(ModelPart, Vec<String>)>);

impl TensorNames {
    fn new(config: &Config) -> Self {
        let mut parts: Vec<(ModelPart, Vec<String>)> = Vec::new();
        for parameter in parameters(config) {
            match parts.last_mut() {
                Some((part, names)) if *part == parameter.part => names.push(parameter.name),
                _ => parts.push((parameter.part, vec![parameter.name])),
            }
        }
        Self(parts)
    }

    fn of(&self, part: ModelPart) -> &[String] {
        self.0.iter().find(|(other, _)| *other == part).map_or(&[], |(_, names)| names)
    }
}

/// What the layers of the two towers need beside their input.
pub(super) struct Contexts {
    pub(super) text: TextContext,
    pub(super) vision: Option<VisionContext>,
    /// The tokens that the kernels of the last text layer put out.
    pub(super) needed: Vec<u32>,
}

/// What a forward pass keeps for the way back.
pub(super) struct SavedActivations {
    /// The groups of layers, in order, and the input of each.
    inputs: Vec<(Vec<Layer>, Tensor)>,
    /// The last group and its graph.
    last: Option<(Vec<Layer>, Graph)>,
    /// What came out of the chain, without a graph.
    pub(super) output: Option<Tensor>,
}

/// What leads back through some layers.
enum Graph {
    /// candle's graph from the variable to the result.
    Autograd(Var, Tensor),
    /// What each layer's kernels need.
    Kernels(Vec<LayerActivations>),
}

/// What the way back through a layer needs.
enum LayerActivations {
    Patches(Tensor),
    Block(Box<BlockActivations>),
    Merger(MergerActivations),
}

/// Freed bytes that stay at the heap's end where layers are recomputed to save memory.
const RECOMPUTE_TRIM_BYTES: i32 = 16 << 20;

/// Takes a model's weights through towers of their layers.
pub(super) struct CheckpointedTowers<'a> {
    weights: &'a TrainableModel,
    names: TensorNames,
    layers_per_checkpoint: usize,
    buffers: BufferPool,
}

impl<'a> CheckpointedTowers<'a> {
    pub(super) fn new(weights: &'a TrainableModel, layers_per_checkpoint: usize) -> Self {
        let config = weights.config();
        // The patch embedding and the merger are layers of the vision tower's chain too.
        let longest = config.text.num_hidden_layers.max(config.vision.depth + 2);
        let throughout = layers_per_checkpoint >= longest;
        let towers = Self {
            weights,
            names: TensorNames::new(config),
            layers_per_checkpoint: layers_per_checkpoint.max(1),
            buffers: BufferPool::new(throughout),
        };
        if towers.has_kernels() {
            keep_freed_memory_up_to(if throughout { i32::MAX } else { RECOMPUTE_TRIM_BYTES });
        }
        towers
    }

    /// Memory that the kernels use again.
    pub(super) fn buffers(&self) -> &BufferPool {
        &self.buffers
    }

    /// The vision tower.
    pub(super) fn vision_layers(&self) -> Vec<Layer> {
        let blocks = (0..self.weights.config().vision.depth).map(Layer::VisionBlock);
        [Layer::PatchEmbedding].into_iter().chain(blocks).chain([Layer::Merger]).collect()
    }

    /// The text tower without its embedding, final norm and head.
    pub(super) fn text_layers(&self) -> Vec<Layer> {
        (0..self.weights.config().text.num_hidden_layers).map(Layer::TextLayer).collect()
    }

    /// Whether the way back is computed by kernels; elsewhere it is by candle's graph.
    pub(super) fn has_kernels(&self) -> bool {
        self.weights.uses_cpu_kernels()
    }

    /// Runs a chain forward, keeping what the way back needs.
    pub(super) fn forward_keeping(
        &self,
        chain: &[Layer],
        x: Tensor,
        contexts: &Contexts,
    ) -> Result<SavedActivations, TrainingError> {
        let mut kept = SavedActivations { inputs: Vec::new(), last: None, output: None };
        let mut x = x;
        let groups: Vec<&[Layer]> = chain.chunks(self.layers_per_checkpoint).collect();
        for (i, layers) in groups.iter().enumerate() {
            if i + 1 == groups.len() {
                let (output, graph) = self.run_keeping(layers, &x, contexts, true)?;
                kept.last = Some((layers.to_vec(), graph));
                kept.output = output;
            } else {
                let output = self.run(layers, x.clone(), contexts, &DetachedWeights(self.weights))?;
                kept.inputs.push((layers.to_vec(), std::mem::replace(&mut x, output)));
            }
        }
        Ok(kept)
    }

    /// Takes a gradient back through a chain: that of its input, if it is wanted, and those of its tensors into
    /// `gradients`.
    pub(super) fn backward(
        &self,
        kept: SavedActivations,
        gradient: Tensor,
        contexts: &Contexts,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, TrainingError> {
        let SavedActivations { mut inputs, last, output } = kept;
        drop(output);
        let Some((layers, graph)) = last else { return Ok(Some(gradient)) };
        let wants = wants_input || !inputs.is_empty();
        let mut gradient = self.group_backward(&layers, graph, gradient, contexts, wants, gradients)?;
        while let Some((layers, x)) = inputs.pop() {
            let Some(seed) = gradient else { return Ok(None) };
            let (_, graph) = self.run_keeping(&layers, &x, contexts, false)?;
            drop(x);
            let wants = wants_input || !inputs.is_empty();
            gradient = self.group_backward(&layers, graph, seed, contexts, wants, gradients)?;
        }
        Ok(gradient)
    }

    /// Runs some layers, keeping what leads back through them; their result, if it is wanted.
    fn run_keeping(
        &self,
        layers: &[Layer],
        x: &Tensor,
        contexts: &Contexts,
        wants_output: bool,
    ) -> Result<(Option<Tensor>, Graph), TrainingError> {
        if !self.has_kernels() {
            let input = Var::from_tensor(x)?;
            let output = self.run(layers, input.as_tensor().clone(), contexts, self.weights)?;
            return Ok((Some(output.detach()), Graph::Autograd(input, output)));
        }
        let mut kept = Vec::with_capacity(layers.len());
        let mut x = Some(x.clone());
        for (i, layer) in layers.iter().enumerate() {
            let Some(input) = x else { break };
            let wants_output = wants_output || i + 1 < layers.len();
            let (output, layer) = match (*layer, &contexts.vision) {
                (Layer::TextLayer(_) | Layer::VisionBlock(_), _) => {
                    let (block, tokens) = self.block(*layer, contexts)?;
                    let (output, kept) = block.forward(input, tokens, wants_output)?;
                    (output, LayerActivations::Block(Box::new(kept)))
                }
                (Layer::PatchEmbedding, Some(vision)) => {
                    let embedding = PatchEmbedding::new(self.weights)?;
                    let output = match wants_output {
                        true => Some(embedding.forward(&input, vision.order(), &self.buffers)?),
                        false => None,
                    };
                    (output, LayerActivations::Patches(input))
                }
                (Layer::Merger, Some(vision)) => {
                    let merger = cpu_backward::Merger::new(self.weights)?;
                    let (output, kept) = merger.forward(input, vision.order(), &self.buffers)?;
                    (Some(output), LayerActivations::Merger(kept))
                }
                (_, None) => return Err(without_images()),
            };
            x = output;
            kept.push(layer);
        }
        Ok((x, Graph::Kernels(kept)))
    }

    /// A block and what it knows of its tokens.
    fn block<'b>(
        &'b self,
        layer: Layer,
        contexts: &'b Contexts,
    ) -> Result<(Block<'b>, TokenContext<'b>), TrainingError> {
        let buffers = &self.buffers;
        match (layer, &contexts.vision) {
            (Layer::TextLayer(i), _) => {
                let (angles, segments) = (contexts.text.angles(), contexts.text.segments());
                let last = i + 1 == self.weights.config().text.num_hidden_layers;
                let wanted = last.then_some(contexts.needed.as_slice());
                Ok((Block::text(self.weights, i)?, TokenContext { angles, segments, wanted, buffers }))
            }
            (Layer::VisionBlock(i), Some(vision)) => {
                let segments = vision.segments(self.weights.config().vision.is_full_attention(i));
                Ok((
                    Block::vision(self.weights, i)?,
                    TokenContext { angles: vision.angles(), segments, wanted: None, buffers },
                ))
            }
            _ => Err(without_images()),
        }
    }

    /// Takes a gradient back through some layers, whose input's it gives if it is wanted.
    fn group_backward(
        &self,
        layers: &[Layer],
        graph: Graph,
        gradient: Tensor,
        contexts: &Contexts,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, TrainingError> {
        let kept = match graph {
            Graph::Autograd(input, output) => {
                return self.autograd_backward(layers, &input, &output, gradient, gradients);
            }
            Graph::Kernels(kept) => kept,
        };
        let mut gradient = Some(gradient);
        for (i, (layer, kept)) in layers.iter().zip(kept).enumerate().rev() {
            let Some(by_output) = gradient else { return Ok(None) };
            gradient = match (kept, &contexts.vision) {
                (LayerActivations::Block(kept), _) => {
                    let (block, tokens) = self.block(*layer, contexts)?;
                    block.backward(*kept, &by_output, tokens, wants_input || i > 0, gradients)?
                }
                (LayerActivations::Merger(kept), Some(vision)) => {
                    let merger = cpu_backward::Merger::new(self.weights)?;
                    Some(merger.backward(kept, &by_output, vision.order(), &self.buffers, gradients)?)
                }
                (LayerActivations::Patches(patches), Some(vision)) => {
                    let embedding = PatchEmbedding::new(self.weights)?;
                    embedding.backward(&patches, &by_output, vision.order(), &self.buffers, gradients)?;
                    None
                }
                (_, None) => return Err(without_images()),
            };
        }
        Ok(gradient)
    }

    /// The same by candle's graph.
    fn autograd_backward(
        &self,
        layers: &[Layer],
        input: &Var,
        output: &Tensor,
        gradient: Tensor,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>, TrainingError> {
        let mut store = backward_from(output, gradient)?.backward()?;
        for layer in layers {
            self.collect(layer.part(), &mut store, gradients)?;
        }
        Ok(store.remove(input))
    }

    /// Moves the gradients of a part's variables out of a backward pass.
    pub(super) fn collect(
        &self,
        part: ModelPart,
        store: &mut GradStore,
        gradients: &mut Gradients,
    ) -> Result<(), TrainingError> {
        for name in self.names.of(part) {
            for (name, variable) in self.weights.variables_of(name) {
                if let Some(gradient) = store.remove(variable) {
                    gradients.add(name, gradient)?;
                }
            }
        }
        Ok(())
    }

    /// Runs some layers, keeping nothing.
    pub(super) fn run(
        &self,
        layers: &[Layer],
        x: Tensor,
        contexts: &Contexts,
        source: &dyn NamedTensors,
    ) -> Result<Tensor, TrainingError> {
        let config = self.weights.config();
        let training = Purpose::Training;
        let mut x = x;
        for layer in layers {
            x = match (*layer, &contexts.vision) {
                (Layer::TextLayer(i), _) => {
                    DecoderLayer::new(&config.text, i, source, training)?.forward(&x, &contexts.text)?
                }
                (Layer::PatchEmbedding, Some(vision)) => {
                    PatchEmbed::new(&config.vision, source, training)?.forward(&x, vision)?
                }
                (Layer::VisionBlock(i), Some(vision)) => {
                    VisionBlock::new(&config.vision, i, source, training)?.forward(&x, vision)?
                }
                (Layer::Merger, Some(vision)) => Merger::new(&config.vision, source, training)?.forward(&x, vision)?,
                (_, None) => return Err(without_images()),
            };
        }
        Ok(x)
    }
}

fn without_images() -> TrainingError {
    TrainingError::Model(candle_core::Error::msg("a vision tower without images"))
}

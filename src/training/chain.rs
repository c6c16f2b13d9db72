//! The layers of a tower as a chain: forward, and back a few layers' graph alive at a time.
//!
//! It is cut into links of `layers_at_once` layers: forward, all links but the last run without a graph and only their inputs
//! are kept; back, each link runs again on a variable and hands its gradients on. One layer a link takes the least memory; a link
//! that holds the whole chain computes nothing twice.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::TrainingError;
use super::by_kernels::{self, Block, BlockKept, Buffers, MergerKept, PatchEmbedding, Tokens};
use super::gradients::Gradients;
use super::seed::seeded;
use super::trainable::{Detached, Trainable};
use crate::kernels::heap::keep_freed_memory_up_to;
use crate::vlm::config::Config;
use crate::vlm::named_tensors::{NamedTensors, Purpose};
use crate::vlm::parameters::{Part, parameters};
use crate::vlm::text::{DecoderLayer, TextContext};
use crate::vlm::vision::{Merger, PatchEmbed, VisionBlock, VisionContext};

/// A step of a chain: a layer, or what stands at a tower's beginning or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    PatchEmbedding,
    VisionBlock(usize),
    Merger,
    TextLayer(usize),
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

/// What the layers of the two chains need beside their input.
pub(super) struct Contexts {
    pub(super) text: TextContext,
    pub(super) vision: Option<VisionContext>,
    /// The tokens that the kernels of the last text layer put out.
    pub(super) needed: Vec<u32>,
}

/// What a forward pass keeps for the way back.
pub(super) struct Kept {
    /// The groups of links, in order, and the input of each.
    inputs: Vec<(Vec<Link>, Tensor)>,
    /// The last group and its graph.
    last: Option<(Vec<Link>, Graph)>,
    /// What came out of the chain, without a graph.
    pub(super) output: Option<Tensor>,
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
    Block(Box<BlockKept>),
    Merger(MergerKept),
}

/// Freed bytes that stay at the heap's end where layers are recomputed to save memory.
const LITTLE: i32 = 16 << 20;

/// Takes a model's weights through chains of their layers.
pub(super) struct Chains<'a> {
    weights: &'a Trainable,
    names: Names,
    layers_at_once: usize,
    buffers: Buffers,
}

impl<'a> Chains<'a> {
    pub(super) fn new(weights: &'a Trainable, layers_at_once: usize) -> Self {
        let config = weights.config();
        // The patch embedding and the merger are links of the vision tower's chain too.
        let longest = config.text.num_hidden_layers.max(config.vision.depth + 2);
        let throughout = layers_at_once >= longest;
        let chains = Self {
            weights,
            names: Names::new(config),
            layers_at_once: layers_at_once.max(1),
            buffers: Buffers::new(throughout),
        };
        if chains.has_kernels() {
            keep_freed_memory_up_to(if throughout { i32::MAX } else { LITTLE });
        }
        chains
    }

    /// Memory that the kernels use again.
    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// The vision tower.
    pub(super) fn vision_chain(&self) -> Vec<Link> {
        let blocks = (0..self.weights.config().vision.depth).map(Link::VisionBlock);
        [Link::PatchEmbedding].into_iter().chain(blocks).chain([Link::Merger]).collect()
    }

    /// The text tower without its embedding, final norm and head.
    pub(super) fn text_chain(&self) -> Vec<Link> {
        (0..self.weights.config().text.num_hidden_layers).map(Link::TextLayer).collect()
    }

    /// Whether the way back is computed by kernels; elsewhere it is by candle's graph.
    pub(super) fn has_kernels(&self) -> bool {
        self.weights.uses_cpu_kernels()
    }

    /// Runs a chain forward, keeping what the way back needs.
    pub(super) fn forward_keeping(
        &self,
        chain: &[Link],
        x: Tensor,
        contexts: &Contexts,
    ) -> Result<Kept, TrainingError> {
        let mut kept = Kept { inputs: Vec::new(), last: None, output: None };
        let mut x = x;
        let groups: Vec<&[Link]> = chain.chunks(self.layers_at_once).collect();
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
    pub(super) fn backward(
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
                    (output, LinkKept::Block(Box::new(kept)))
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

    /// Takes a gradient back through some links, whose input's it gives if it is wanted.
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
                    block.backward(*kept, &by_output, tokens, wants_input || i > 0, gradients)?
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

    /// The same by candle's graph.
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
    pub(super) fn collect(
        &self,
        part: Part,
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

    /// Runs some links, keeping nothing.
    pub(super) fn run(
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
}

fn without_images() -> TrainingError {
    TrainingError::Model(candle_core::Error::msg("a vision tower without images"))
}

//! The whole model: both towers, and prompts in which image tokens stand for images.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::config::Config;
use super::grid::Grid;
use super::named_tensors::{NamedTensors, Purpose};
use super::ops::{LayerCache, Ops, Step};
use super::rope::{PlaceholderError, Positions, mrope_positions};
use super::text::{TextTower, attention_heads};
use super::vision::VisionTower;

/// Qwen2.5-VL.
#[derive(Debug)]
pub struct Model {
    /// What the model is.
    pub config: Config,
    /// Images to image tokens.
    pub visual: VisionTower,
    /// Tokens to logits.
    pub text: TextTower,
}

impl Model {
    /// Builds both towers from named tensors, all of one type on one device.
    pub fn new(config: Config, source: &dyn NamedTensors, purpose: Purpose) -> Result<Self> {
        let visual = VisionTower::new(&config.vision, source, purpose)?;
        let text = TextTower::new(&config.text, config.tie_word_embeddings, source, purpose)?;
        Ok(Self { config, visual, text })
    }

    /// The device that the model is on.
    pub fn device(&self) -> &Device {
        self.text.device()
    }

    /// The type that it computes in.
    pub fn dtype(&self) -> DType {
        self.text.dtype()
    }

    /// The implementation of the ops that the model computes by.
    pub fn ops(&self) -> Ops {
        self.text.ops()
    }

    /// Whether our CPU kernels compute the model: a sequence then has the same bits whatever is computed beside it.
    pub fn uses_cpu_kernels(&self) -> bool {
        self.ops().uses_cpu_kernels(self.device(), self.dtype())
    }

    /// The positions of a prompt with these images.
    pub fn positions(&self, ids: &[u32], images: &[Grid]) -> std::result::Result<Positions, PlaceholderError> {
        mrope_positions(ids, self.config.tokens.image, images, self.config.vision.spatial_merge_size)
    }

    /// The tokens of a prompt, `[tokens, hidden]`, image tokens replaced by `features` `[image tokens, hidden]`.
    pub fn embed(&self, ids: &[u32], features: Option<&Tensor>) -> Result<Tensor> {
        let image = self.config.tokens.image;
        let placeholders = ids.iter().filter(|id| **id == image).count();
        let given = features.map_or(Ok(0), |f| f.dim(0))?;
        if placeholders != given {
            bail!("{placeholders} image tokens in the prompt for {given} tokens of images");
        }
        let text = self.text.embed(ids)?;
        let Some(features) = features else { return Ok(text) };
        let features = features.to_dtype(text.dtype())?;
        let (mut parts, mut at, mut used) = (Vec::new(), 0, 0);
        while at < ids.len() {
            let is_image = ids[at] == image;
            let run = ids[at..].iter().take_while(|id| (**id == image) == is_image).count();
            if is_image {
                parts.push(features.narrow(0, used, run)?);
                used += run;
            } else {
                parts.push(text.narrow(0, at, run)?);
            }
            at += run;
        }
        Tensor::cat(&parts, 0)
    }

    /// One cache a layer with room for `blocks` blocks of tokens.
    pub fn caches(&self, blocks: usize) -> Result<Vec<LayerCache>> {
        let heads = attention_heads(&self.config.text);
        (0..self.config.text.num_hidden_layers)
            .map(|_| LayerCache::new(self.ops(), heads, blocks, self.dtype(), self.device()))
            .collect()
    }

    /// Embedded tokens of whole sequences to the last layer's `[tokens, hidden]`.
    pub fn forward(&self, x: Tensor, positions: &[[u32; 3]], lengths: Vec<usize>) -> Result<Tensor> {
        let context = self.text.context(positions, lengths)?;
        self.text.forward(x, &context)
    }

    /// Embedded tokens that go on cached sequences to the last layer's `[tokens, hidden]`.
    pub fn step(&self, x: Tensor, positions: &[[u32; 3]], caches: &mut [LayerCache], step: &Step) -> Result<Tensor> {
        let context = self.text.context(positions, Vec::new())?;
        self.text.forward_cached(x, &context, caches, step)
    }

    /// The last layer's `[tokens, hidden]` to logits `[tokens, vocabulary]`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        self.text.head().forward(x)
    }
}

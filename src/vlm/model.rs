//! The whole model: both towers, and prompts whose placeholders image tokens replace.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::config::Config;
use super::grid::Grid;
use super::named_tensors::{NamedTensors, Purpose};
use super::ops::{LayerCache, Ops, Step};
use super::rope::{PlaceholderError, Positions, mrope_positions};
use super::text::{TextTower, attention_heads};
use super::vision::VisionTower;

/// A Qwen2.5-VL model.
#[derive(Debug)]
pub struct Model {
    /// The configuration.
    pub config: Config,
    /// The vision tower: images to image tokens (`visual.*`).
    pub visual: VisionTower,
    /// The text tower: tokens to logits (`model.*`, `lm_head`).
    pub text: TextTower,
}

impl Model {
    /// Builds both towers from named tensors, all of one dtype on one device.
    pub fn new(config: Config, source: &dyn NamedTensors, purpose: Purpose) -> Result<Self> {
        let visual = VisionTower::new(&config.vision, source, purpose)?;
        let text = TextTower::new(&config.text, config.tie_word_embeddings, source, purpose)?;
        Ok(Self { config, visual, text })
    }

    /// Returns the device that the model is on.
    pub fn device(&self) -> &Device {
        self.text.device()
    }

    /// Returns the dtype that the model computes in.
    pub fn dtype(&self) -> DType {
        self.text.dtype()
    }

    /// Returns the implementation of the ops that the model uses.
    pub fn ops(&self) -> Ops {
        self.text.ops()
    }

    /// Whether our CPU kernels compute the model: a sequence has the same bits in every batch.
    pub fn uses_cpu_kernels(&self) -> bool {
        self.ops().uses_cpu_kernels(self.device(), self.dtype())
    }

    /// Returns the positions of a prompt with these images.
    pub fn positions(&self, ids: &[u32], images: &[Grid]) -> std::result::Result<Positions, PlaceholderError> {
        mrope_positions(ids, self.config.tokens.image, images, self.config.vision.spatial_merge_size)
    }

    /// Embeds the tokens of a prompt, `[tokens, hidden]`; rows of `features` `[image tokens,
    /// hidden]` replace image tokens.
    pub fn embed(&self, ids: &[u32], features: Option<&Tensor>) -> Result<Tensor> {
        let image = self.config.tokens.image;
        let placeholders = ids.iter().filter(|id| **id == image).count();
        let given = features.map_or(Ok(0), |f| f.dim(0))?;
        if placeholders != given {
            bail!("the prompt has {placeholders} image tokens, but its images have {given}");
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

    /// Allocates one cache of `blocks` blocks of tokens for each layer.
    pub fn caches(&self, blocks: usize) -> Result<Vec<LayerCache>> {
        let heads = attention_heads(&self.config.text);
        (0..self.config.text.num_hidden_layers)
            .map(|_| LayerCache::new(self.ops(), heads, blocks, self.dtype(), self.device()))
            .collect()
    }

    /// Runs the layers on the embedded tokens `[tokens, hidden]` of whole sequences; returns the
    /// last layer's `[tokens, hidden]`.
    pub fn forward(&self, x: Tensor, positions: &[[u32; 3]], lengths: Vec<usize>) -> Result<Tensor> {
        let context = self.text.context(positions, lengths)?;
        self.text.forward(x, &context)
    }

    /// Runs the layers on the embedded tokens `[tokens, hidden]` that continue cached sequences;
    /// returns the last layer's `[tokens, hidden]`.
    pub fn step(&self, x: Tensor, positions: &[[u32; 3]], caches: &mut [LayerCache], step: &Step) -> Result<Tensor> {
        let context = self.text.context(positions, Vec::new())?;
        self.text.forward_cached(x, &context, caches, step)
    }

    /// Returns the logits `[tokens, vocabulary]` of the last layer's `[tokens, hidden]`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        self.text.head().forward(x)
    }
}

//! The text tower: Qwen2 blocks with multimodal rotary positions.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::config::TextConfig;
use super::named_tensors::{NamedTensors, Purpose, Scope};
use super::ops::{Embedding, LayerCache, Linear, Ops, RmsNorm, Segments, Step};
use super::parameters::{EMBEDDING, HEAD};
use super::projections::Projections;
use super::rope::TextAngles;
use crate::kernels::attention::Heads;
use crate::kernels::heap::keep_freed_memory;

/// The rotary angles and the segments of the tokens that the layers process.
#[derive(Debug)]
pub struct TextContext {
    /// Cosines of the rotary angles, `[tokens, head_dim / 2]`.
    cos: Tensor,
    /// Sines of the rotary angles, of the same shape.
    sin: Tensor,
    /// The sequences, one after the other.
    pub(crate) segments: Arc<Segments>,
}

impl TextContext {
    /// Creates the context of tokens at these positions, which attend within `segments`.
    pub fn new(
        angles: &TextAngles,
        positions: &[[u32; 3]],
        segments: Segments,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        keep_freed_memory();
        let (cos, sin) = angles.at(positions, dtype, device)?;
        Ok(Self { cos, sin, segments: Arc::new(segments) })
    }

    /// Returns the cosines and the sines, `[tokens, head_dim / 2]` each.
    pub(crate) fn angles(&self) -> [&Tensor; 2] {
        [&self.cos, &self.sin]
    }
}

/// A pre-norm block (`model.layers.{i}`): attention with grouped key heads (`self_attn`), then
/// SwiGLU (`mlp`).
#[derive(Debug)]
pub struct DecoderLayer {
    input_layernorm: RmsNorm,
    qkv: Projections,
    o_proj: Linear,
    post_attention_layernorm: RmsNorm,
    gate_up: Projections,
    down_proj: Linear,
    heads: Heads,
    ops: Ops,
}

impl DecoderLayer {
    /// Builds layer `index` from the tensors under `model.layers.{index}`.
    pub fn new(config: &TextConfig, index: usize, source: &dyn NamedTensors, purpose: Purpose) -> Result<Self> {
        let prefix = format!("model.layers.{index}");
        let scope = Scope::new(source, &prefix, purpose);
        Ok(Self {
            input_layernorm: scope.norm("input_layernorm", config.rms_norm_eps)?,
            qkv: Projections::new(scope, &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], true)?,
            o_proj: scope.linear("self_attn.o_proj", false)?,
            post_attention_layernorm: scope.norm("post_attention_layernorm", config.rms_norm_eps)?,
            gate_up: Projections::new(scope, &["mlp.gate_proj", "mlp.up_proj"], false)?,
            down_proj: scope.linear("mlp.down_proj", false)?,
            heads: attention_heads(config),
            ops: source.ops(),
        })
    }

    /// Computes `[tokens, hidden]` from `[tokens, hidden]`, for whole sequences.
    pub fn forward(&self, x: &Tensor, context: &TextContext) -> Result<Tensor> {
        self.with_attention(x, context, |q, k, v| self.ops.attention(q, k, v, self.heads, &context.segments))
    }

    /// Computes `[tokens, hidden]` from `[tokens, hidden]`, for tokens of sequences whose earlier
    /// keys and values are cached.
    pub fn forward_cached(
        &self,
        x: &Tensor,
        context: &TextContext,
        cache: &mut LayerCache,
        step: &Step,
    ) -> Result<Tensor> {
        self.with_attention(x, context, |q, k, v| cache.attend(q, k, v, step))
    }

    fn with_attention(
        &self,
        x: &Tensor,
        context: &TextContext,
        attend: impl FnOnce(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.input_layernorm.forward(x)?)?;
        let q = self.ops.rotate(&qkv[0], &context.cos, &context.sin)?; // [tokens, heads * dim]
        let k = self.ops.rotate(&qkv[1], &context.cos, &context.sin)?; // [tokens, kv_heads * dim]
        let x = self.ops.residual(x, &self.o_proj.forward(&attend(&q, &k, &qkv[2])?)?)?;
        let gate_up = self.gate_up.forward(&self.post_attention_layernorm.forward(&x)?)?;
        self.ops.residual(&x, &self.down_proj.forward(&self.ops.swiglu(&gate_up[0], &gate_up[1])?)?)
    }
}

/// Returns the attention heads of the text tower.
pub fn attention_heads(config: &TextConfig) -> Heads {
    Heads { query: config.num_attention_heads, key_value: config.num_key_value_heads, dim: config.head_dim() }
}

/// The final norm (`model.norm`) and the projection onto the vocabulary (`lm_head`).
#[derive(Debug)]
pub struct Head {
    norm: RmsNorm,
    lm_head: Linear,
}

impl Head {
    /// Builds the head from `model.norm.weight` and `lm_head.weight`, or the tied embedding.
    pub fn new(
        config: &TextConfig,
        tied: Option<&Embedding>,
        source: &dyn NamedTensors,
        purpose: Purpose,
    ) -> Result<Self> {
        let lm_head = match tied {
            Some(embedding) => Linear::tied(embedding),
            None => purpose.linear(source.ops(), source.tensor(HEAD)?, None)?,
        };
        Ok(Self { norm: final_norm(config, source, purpose)?, lm_head })
    }

    /// Computes the logits `[tokens, vocabulary]` of the last layer's `[tokens, hidden]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.lm_head.forward(&self.norm.forward(x)?)
    }
}

/// Builds `model.norm`, the norm before the projection onto the vocabulary.
pub fn final_norm(config: &TextConfig, source: &dyn NamedTensors, purpose: Purpose) -> Result<RmsNorm> {
    Scope::new(source, "model", purpose).norm("norm", config.rms_norm_eps)
}

/// Creates the rotary angles of the tower.
pub fn angles(config: &TextConfig) -> TextAngles {
    TextAngles::new(config.rope_theta, config.head_dim(), config.mrope_section)
}

/// The text tower (`model.*` and `lm_head`).
#[derive(Debug)]
pub struct TextTower {
    embed_tokens: Embedding,
    layers: Vec<DecoderLayer>,
    head: Head,
    angles: TextAngles,
    dtype: DType,
    device: Device,
    ops: Ops,
}

impl TextTower {
    /// Builds the tower from the tensors under `model`, and `lm_head` where it is not tied.
    pub fn new(config: &TextConfig, tied: bool, source: &dyn NamedTensors, purpose: Purpose) -> Result<Self> {
        let (embed_tokens, dtype, device) = {
            // Dropped before the layers are built, since a packed embedding has a copy.
            let weight = source.tensor(EMBEDDING)?;
            let (dtype, device) = (weight.dtype(), weight.device().clone());
            let embed_tokens = match purpose {
                Purpose::Sampling => Embedding::frozen(source.ops(), &weight, tied)?,
                Purpose::Training => Embedding::new(source.ops(), weight),
            };
            (embed_tokens, dtype, device)
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| DecoderLayer::new(config, index, source, purpose))
            .collect::<Result<_>>()?;
        let head = Head::new(config, tied.then_some(&embed_tokens), source, purpose)?;
        Ok(Self { embed_tokens, layers, head, angles: angles(config), dtype, device, ops: source.ops() })
    }

    /// Creates the context of sequences of these lengths and positions.
    pub fn context(&self, positions: &[[u32; 3]], lengths: Vec<usize>) -> Result<TextContext> {
        TextContext::new(&self.angles, positions, Segments::causal(lengths), self.dtype, &self.device)
    }

    /// Embeds token ids, `[tokens, hidden]`.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.embed_tokens.forward(&Tensor::new(ids, &self.device)?)
    }

    /// Returns the final norm and the projection onto the vocabulary.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the dtype that the tower computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the device that the tower is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the implementation of the ops that the tower uses.
    pub fn ops(&self) -> Ops {
        self.ops
    }

    /// Runs all layers on the embedding's `[tokens, hidden]`; returns the last layer's `[tokens,
    /// hidden]`.
    pub fn forward(&self, x: Tensor, context: &TextContext) -> Result<Tensor> {
        self.layers.iter().try_fold(x, |x, layer| layer.forward(&x, context))
    }

    /// Runs all layers on tokens that continue the sequences in `caches`, one per layer; returns
    /// `[tokens, hidden]`.
    pub fn forward_cached(
        &self,
        x: Tensor,
        context: &TextContext,
        caches: &mut [LayerCache],
        step: &Step,
    ) -> Result<Tensor> {
        let mut layers = self.layers.iter().zip(caches);
        layers.try_fold(x, |x, (layer, cache)| layer.forward_cached(&x, context, cache, step))
    }
}

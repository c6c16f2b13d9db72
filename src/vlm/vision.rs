//! The vision tower: patches to image tokens.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::config::{VISION_RMS_EPS, VisionConfig};
use super::grid::Grid;
use super::named_tensors::{NamedTensors, Purpose, Scope};
use super::ops::{Linear, Ops, RmsNorm, Segments};
use super::projections::Projections;
use super::rope::VisionAngles;
use crate::device::upload;
use crate::kernels::attention::Heads;
use crate::kernels::heap::keep_freed_memory;

/// The rotary angles, the segments and the window order of the images that the blocks process.
#[derive(Debug)]
pub struct VisionContext {
    /// Cosines of the rotary angles, `[patches, head_dim / 2]` in window order.
    cos: Tensor,
    /// Sines of the rotary angles, of the same shape.
    sin: Tensor,
    images: Arc<Segments>,
    windows: Arc<Segments>,
    /// Index of the image token at each position in window order.
    pub(crate) order: Vec<u32>,
}

impl VisionContext {
    /// Creates the context of images with these grids.
    pub fn new(
        config: &VisionConfig,
        angles: &VisionAngles,
        grids: &[Grid],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        keep_freed_memory();
        let (merge, unit) = (config.spatial_merge_size, config.merge_unit());
        let mut order: Vec<u32> = Vec::new();
        let (mut positions, mut images, mut windows) = (Vec::new(), Vec::new(), Vec::new());
        for grid in grids {
            let first = order.len() as u32;
            let (window_order, lengths) = grid.windows(merge, config.window_tokens());
            let patches = grid.patch_positions(merge);
            for token in window_order {
                positions.extend_from_slice(&patches[token as usize * unit..][..unit]);
                order.push(first + token);
            }
            windows.extend(lengths.iter().map(|tokens| tokens * unit));
            images.extend(std::iter::repeat_n(grid.rows * grid.columns, grid.frames));
        }
        let (cos, sin) = angles.at(&positions, dtype, device)?;
        let (images, windows) = (Arc::new(Segments::full(images)), Arc::new(Segments::full(windows)));
        Ok(Self { cos, sin, images, windows, order })
    }

    /// Returns the cosines and the sines in window order, `[patches, head_dim / 2]` each.
    pub(crate) fn angles(&self) -> [&Tensor; 2] {
        [&self.cos, &self.sin]
    }

    /// Returns the segments in which the patches of a block attend to one another.
    pub(crate) fn segments(&self, full_attention: bool) -> &Segments {
        if full_attention { &self.images } else { &self.windows }
    }
}

/// A pre-norm block (`visual.blocks.{i}`): attention within windows or images (`attn`), then SwiGLU
/// (`mlp`).
#[derive(Debug)]
pub struct VisionBlock {
    norm1: RmsNorm,
    qkv: Projections,
    proj: Linear,
    norm2: RmsNorm,
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    heads: Heads,
    full_attention: bool,
    ops: Ops,
}

impl VisionBlock {
    /// Builds block `index` from the tensors under `visual.blocks.{index}`.
    pub fn new(config: &VisionConfig, index: usize, source: &dyn NamedTensors, purpose: Purpose) -> Result<Self> {
        let prefix = format!("visual.blocks.{index}");
        let scope = Scope::new(source, &prefix, purpose);
        Ok(Self {
            norm1: scope.norm("norm1", VISION_RMS_EPS)?,
            qkv: Projections::split(scope, "attn.qkv", 3)?,
            proj: scope.linear("attn.proj", true)?,
            norm2: scope.norm("norm2", VISION_RMS_EPS)?,
            gate_proj: scope.linear("mlp.gate_proj", true)?,
            up_proj: scope.linear("mlp.up_proj", true)?,
            down_proj: scope.linear("mlp.down_proj", true)?,
            heads: Heads { query: config.num_heads, key_value: config.num_heads, dim: config.head_dim() },
            full_attention: config.is_full_attention(index),
            ops: source.ops(),
        })
    }

    /// Computes `[patches, hidden]` from `[patches, hidden]`, both in window order.
    pub fn forward(&self, x: &Tensor, context: &VisionContext) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?; // three of [patches, hidden]
        let q = self.ops.rotate(&qkv[0], &context.cos, &context.sin)?;
        let k = self.ops.rotate(&qkv[1], &context.cos, &context.sin)?;
        let segments = if self.full_attention { &context.images } else { &context.windows };
        let mixed = self.ops.attention(&q, &k, &qkv[2], self.heads, segments)?; // [patches, hidden]
        let x = self.ops.residual(x, &self.proj.forward(&mixed)?)?;
        let normed = self.norm2.forward(&x)?;
        let gated = self.ops.swiglu(&self.gate_proj.forward(&normed)?, &self.up_proj.forward(&normed)?)?;
        self.ops.residual(&x, &self.down_proj.forward(&gated)?)
    }
}

/// The merger (`visual.merger`): joins 2x2 patches into an image token of the text tower's width.
#[derive(Debug)]
pub struct Merger {
    ln_q: RmsNorm,
    mlp_0: Linear,
    mlp_2: Linear,
    unit: usize,
    ops: Ops,
}

impl Merger {
    /// Builds the merger from the tensors under `visual.merger`.
    pub fn new(config: &VisionConfig, source: &dyn NamedTensors, purpose: Purpose) -> Result<Self> {
        let scope = Scope::new(source, "visual.merger", purpose);
        Ok(Self {
            ln_q: scope.norm("ln_q", VISION_RMS_EPS)?,
            mlp_0: scope.linear("mlp.0", true)?,
            mlp_2: scope.linear("mlp.2", true)?,
            unit: config.merge_unit(),
            ops: source.ops(),
        })
    }

    /// Computes image tokens `[image tokens, out_hidden]`, in the order of the images, from patches
    /// `[patches, hidden]` in window order.
    pub fn forward(&self, x: &Tensor, context: &VisionContext) -> Result<Tensor> {
        let (patches, width) = x.dims2()?;
        let normed = self.ln_q.forward(x)?.reshape((patches / self.unit, self.unit * width))?;
        let merged = self.mlp_2.forward(&self.ops.gelu(&self.mlp_0.forward(&normed)?)?)?;
        let mut back = vec![0u32; context.order.len()];
        for (place, token) in context.order.iter().enumerate() {
            back[*token as usize] = place as u32;
        }
        self.ops.gather(&merged, &back)
    }
}

/// The vision tower (`visual.*`).
#[derive(Debug)]
pub struct VisionTower {
    config: VisionConfig,
    patch_embed: PatchEmbed,
    blocks: Vec<VisionBlock>,
    merger: Merger,
    angles: VisionAngles,
}

impl VisionTower {
    /// Builds the tower from the tensors under `visual`.
    pub fn new(config: &VisionConfig, source: &dyn NamedTensors, purpose: Purpose) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            patch_embed: PatchEmbed::new(config, source, purpose)?,
            blocks: (0..config.depth).map(|i| VisionBlock::new(config, i, source, purpose)).collect::<Result<_>>()?,
            merger: Merger::new(config, source, purpose)?,
            angles: angles(config),
        })
    }

    /// Creates the context of these images.
    pub fn context(&self, grids: &[Grid]) -> Result<VisionContext> {
        VisionContext::new(&self.config, &self.angles, grids, self.patch_embed.dtype, &self.patch_embed.device)
    }

    /// Computes image tokens `[image tokens, out_hidden]` from patches `[patches, patch_len]`.
    pub fn forward(&self, patches: &Tensor, grids: &[Grid]) -> Result<Tensor> {
        let context = self.context(grids)?;
        let mut x = self.patch_embed.forward(patches, &context)?;
        for block in &self.blocks {
            x = block.forward(&x, &context)?;
        }
        self.merger.forward(&x, &context)
    }
}

/// Creates the rotary angles of the tower.
pub fn angles(config: &VisionConfig) -> VisionAngles {
    VisionAngles::new(config.rope_theta, config.head_dim())
}

/// The linear map from pixels (`visual.patch_embed`).
#[derive(Debug)]
pub struct PatchEmbed {
    /// `[hidden, channels * frames * patch * patch]`: the convolution covers each patch once.
    proj: Linear,
    unit: usize,
    dtype: DType,
    device: Device,
    ops: Ops,
}

impl PatchEmbed {
    /// Builds the map from `visual.patch_embed.proj.weight`.
    pub fn new(config: &VisionConfig, source: &dyn NamedTensors, purpose: Purpose) -> Result<Self> {
        let scope = Scope::new(source, "visual.patch_embed", purpose);
        let weight = scope.get("proj.weight")?.reshape((config.hidden_size, config.patch_len()))?;
        let (dtype, device) = (weight.dtype(), weight.device().clone());
        let proj = purpose.linear(source.ops(), weight, None)?;
        Ok(Self { proj, unit: config.merge_unit(), dtype, device, ops: source.ops() })
    }

    /// Computes the first block's input, `[patches, hidden]` in window order, from the images'
    /// patches `[patches, patch_len]`.
    pub fn forward(&self, patches: &Tensor, context: &VisionContext) -> Result<Tensor> {
        let x = self.proj.forward(&upload(patches, &self.device)?.to_dtype(self.dtype)?)?;
        let (count, width) = x.dims2()?;
        self.ops.gather(&x.reshape((count / self.unit, self.unit * width))?, &context.order)?.reshape((count, width))
    }
}

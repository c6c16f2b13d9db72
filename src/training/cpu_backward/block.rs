//! The transformer block of both towers: attention, then SwiGLU, each after an RMS norm and with a
//! residual connection.

use candle_core::{Result, Tensor};

use super::BufferPool;
use super::linear_map::{LinearMap, input_gradient, weight_gradients};
use super::rms_norm::RmsNorm;
use crate::kernels::aligned::AlignedBuffer;
use crate::kernels::attention::Heads;
use crate::kernels::attention_backward::Rows;
use crate::kernels::{rowwise, rowwise_backward};
use crate::training::floats::{add_to, floats, tensor};
use crate::training::gradients::Gradients;
use crate::training::trainable::TrainableModel;
use crate::vlm::config::VISION_RMS_EPS;
use crate::vlm::ops::{Segments, attend_rows, attend_rows_backward};
use crate::vlm::text;

/// A block with its weights.
pub(crate) struct Block<'a> {
    buffers: &'a BufferPool,
    norm1: RmsNorm,
    /// Queries, keys, values.
    qkv: [LinearMap<'a>; 3],
    out: LinearMap<'a>,
    norm2: RmsNorm,
    gate: LinearMap<'a>,
    up: LinearMap<'a>,
    down: LinearMap<'a>,
    heads: Heads,
}

/// Activations for the backward pass, `[tokens, width]` each; those from `mixed` on have only the
/// wanted rows.
pub(crate) struct BlockActivations {
    x: Tensor,
    /// Output of the first norm.
    normed1: AlignedBuffer,
    /// Queries and keys after the rotary embedding, and values.
    qkv: [AlignedBuffer; 3],
    /// Output of attention before its output projection.
    mixed: AlignedBuffer,
    /// Residual stream after attention.
    middle: AlignedBuffer,
    /// Output of the second norm.
    normed2: AlignedBuffer,
    gate: AlignedBuffer,
    up: AlignedBuffer,
    gated: AlignedBuffer,
}

/// Inputs of a block besides the hidden states.
#[derive(Clone, Copy)]
pub(crate) struct TokenContext<'a> {
    /// Cosines and sines of the rotary embedding, `[tokens, dim / 2]`.
    pub(crate) angles: [&'a Tensor; 2],
    /// Attention pattern.
    pub(crate) segments: &'a Segments,
    /// Indexes of the tokens whose output is wanted, ascending; `None`: all.
    pub(crate) wanted: Option<&'a [u32]>,
}

impl<'a> Block<'a> {
    /// Loads layer `index` of the text tower.
    pub(crate) fn load_text_layer(weights: &'a TrainableModel, buffers: &'a BufferPool, index: usize) -> Result<Self> {
        let config = &weights.config().text;
        let map = |name, biased| LinearMap::new(weights, buffers, &format!("model.layers.{index}.{name}"), biased);
        let norm = |name| RmsNorm::new(weights, format!("model.layers.{index}.{name}.weight"), config.rms_norm_eps);
        Ok(Self {
            buffers,
            norm1: norm("input_layernorm")?,
            qkv: [map("self_attn.q_proj", true)?, map("self_attn.k_proj", true)?, map("self_attn.v_proj", true)?],
            out: map("self_attn.o_proj", false)?,
            norm2: norm("post_attention_layernorm")?,
            gate: map("mlp.gate_proj", false)?,
            up: map("mlp.up_proj", false)?,
            down: map("mlp.down_proj", false)?,
            heads: text::attention_heads(config),
        })
    }

    /// Loads block `index` of the vision tower.
    pub(crate) fn load_vision_block(
        weights: &'a TrainableModel,
        buffers: &'a BufferPool,
        index: usize,
    ) -> Result<Self> {
        let config = &weights.config().vision;
        let map = |name| LinearMap::new(weights, buffers, &format!("visual.blocks.{index}.{name}"), true);
        let norm = |name| RmsNorm::new(weights, format!("visual.blocks.{index}.{name}.weight"), VISION_RMS_EPS);
        let part = |i| Ok::<_, candle_core::Error>(map("attn.qkv")?.split(i, 3));
        Ok(Self {
            buffers,
            norm1: norm("norm1")?,
            qkv: [part(0)?, part(1)?, part(2)?],
            out: map("attn.proj")?,
            norm2: norm("norm2")?,
            gate: map("mlp.gate_proj")?,
            up: map("mlp.up_proj")?,
            down: map("mlp.down_proj")?,
            heads: Heads { query: config.num_heads, key_value: config.num_heads, dim: config.head_dim() },
        })
    }

    /// Runs the block forward. Returns the output of the wanted tokens if `wants_output`, and the
    /// activations for the backward pass.
    pub(crate) fn forward(
        &self,
        x: Tensor,
        context: TokenContext<'_>,
        wants_output: bool,
    ) -> Result<(Option<Tensor>, BlockActivations)> {
        let input = floats(&x)?;
        let width = self.out.outputs();
        let tokens = input.len() / width;
        let take = |width: usize| self.buffers.take(tokens * width);
        let mut normed1 = take(width);
        self.norm1.forward(&input, &mut normed1)?;
        let mut qkv = [take(self.qkv[0].outputs()), take(self.qkv[1].outputs()), take(self.qkv[2].outputs())];
        for (map, out) in self.qkv.iter().zip(&mut qkv) {
            map.forward(&normed1, out)?;
        }
        self.rotate_heads(rowwise::rotate, &mut qkv, context)?;
        let mut mixed = take(self.out.inputs);
        attend_rows(self.rows(&qkv), self.heads, context.segments, &mut mixed);
        // After attention a token depends on no other, so only the wanted tokens continue.
        let mut residual = None;
        if let Some(wanted) = context.wanted {
            let rows = gather_rows(&mixed, wanted, self.out.inputs, self.buffers);
            self.buffers.put_back([std::mem::replace(&mut mixed, rows)]);
            residual = Some(gather_rows(&input, wanted, width, self.buffers));
        }
        let tokens = context.wanted.map_or(tokens, <[u32]>::len);
        let take = |width: usize| self.buffers.take(tokens * width);
        let (mut added, mut middle) = (take(width), take(width));
        self.out.forward(&mixed, &mut added)?;
        rowwise::add(residual.as_deref().unwrap_or(&input), &added, &mut middle);
        self.buffers.put_back([residual.unwrap_or_default()]);
        let mut normed2 = take(width);
        self.norm2.forward(&middle, &mut normed2)?;
        let (mut gate, mut up) = (take(self.gate.outputs()), take(self.up.outputs()));
        self.gate.forward(&normed2, &mut gate)?;
        self.up.forward(&normed2, &mut up)?;
        let mut gated = take(self.down.inputs);
        rowwise::swiglu(&gate, &up, &mut gated);
        let mut output = None;
        if wants_output {
            self.down.forward(&gated, &mut added)?;
            let mut sum = vec![0f32; middle.len()];
            rowwise::add(&middle, &added, &mut sum);
            output = Some(tensor(sum, width)?);
        }
        self.buffers.put_back([added]);
        drop(input);
        Ok((output, BlockActivations { x, normed1, qkv, mixed, middle, normed2, gate, up, gated }))
    }

    /// Runs the block backward from the gradient of its output: returns that of its input if
    /// `wants_input`, and adds those of the weights to `gradients`.
    pub(crate) fn backward(
        &self,
        activations: BlockActivations,
        gradient: &Tensor,
        context: TokenContext<'_>,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let BlockActivations { x, normed1, qkv, mixed, middle, normed2, mut gate, mut up, gated } = activations;
        let (input, gradient) = (floats(&x)?, floats(gradient)?);
        let take = |like: &[f32]| self.buffers.take(like.len());
        // SwiGLU.
        weight_gradients(&[(&self.down, &gradient)], &gated, gradients)?;
        let mut d_gated = gated;
        input_gradient(&[(&self.down, &gradient)], &mut d_gated)?;
        rowwise_backward::swiglu_backward(&mut gate, &mut up, &d_gated);
        let (d_gate, d_up) = (gate, up);
        let layers = [(&self.gate, &*d_gate), (&self.up, &*d_up)];
        weight_gradients(&layers, &normed2, gradients)?;
        let mut d_normed = normed2;
        input_gradient(&layers, &mut d_normed)?;
        self.buffers.put_back([d_gate, d_up, d_gated]);
        let mut d_middle = take(&middle);
        self.norm2.backward(&middle, &d_normed, &mut d_middle, gradients)?;
        add_to(&mut d_middle, &gradient);
        // Attention.
        weight_gradients(&[(&self.out, &d_middle)], &mixed, gradients)?;
        let mut d_mixed = mixed;
        input_gradient(&[(&self.out, &d_middle)], &mut d_mixed)?;
        if let Some(wanted) = context.wanted {
            let mut all = take(&qkv[0]);
            all.fill(0.0);
            add_rows(&d_mixed, wanted, self.out.inputs, &mut all);
            self.buffers.put_back([std::mem::replace(&mut d_mixed, all)]);
        }
        let mut d_qkv = [take(&qkv[0]), take(&qkv[1]), take(&qkv[2])];
        let d_output = Rows { data: &d_mixed, stride: self.out.inputs };
        let d_rows = d_qkv.each_mut().map(|rows| &mut rows[..]);
        attend_rows_backward(self.rows(&qkv), d_output, self.heads, context.segments, d_rows);
        self.rotate_heads(rowwise::rotate_inverse, &mut d_qkv, context)?;
        let layers = [0, 1, 2].map(|i| (&self.qkv[i], &*d_qkv[i]));
        weight_gradients(&layers, &normed1, gradients)?;
        let mut d_normed = self.buffers.fit(d_normed, normed1.len());
        input_gradient(&layers, &mut d_normed)?;
        let mut d_input = vec![0f32; if wants_input { input.len() } else { 0 }];
        let mut scratch = self.buffers.fit(middle, input.len());
        self.norm1.backward(&input, &d_normed, &mut scratch, gradients)?;
        if wants_input {
            match context.wanted {
                None => rowwise::add(&scratch, &d_middle, &mut d_input),
                Some(wanted) => {
                    d_input.copy_from_slice(&scratch);
                    add_rows(&d_middle, wanted, self.out.outputs(), &mut d_input);
                }
            }
        }
        self.buffers.put_back([normed1, d_mixed, d_middle, d_normed, scratch]);
        self.buffers.put_back(qkv);
        self.buffers.put_back(d_qkv);
        wants_input.then(|| tensor(d_input, self.out.outputs())).transpose()
    }

    /// Rotates queries and keys, or their gradients, by `rotate` ([`rowwise::rotate`] or its
    /// inverse).
    fn rotate_heads(
        &self,
        rotate: impl Fn(&[f32], usize, usize, &[f32], &[f32], usize, &mut [f32]),
        qkv: &mut [AlignedBuffer; 3],
        context: TokenContext<'_>,
    ) -> Result<()> {
        let (cos, sin) = (floats(context.angles[0])?, floats(context.angles[1])?);
        for (x, heads) in qkv.iter_mut().zip([self.heads.query, self.heads.key_value]) {
            let mut rotated = self.buffers.take(x.len());
            rotate(x, heads * self.heads.dim, heads, &cos, &sin, self.heads.dim / 2, &mut rotated);
            self.buffers.put_back([std::mem::replace(x, rotated)]);
        }
        Ok(())
    }

    fn rows<'b>(&self, qkv: &'b [AlignedBuffer; 3]) -> [Rows<'b>; 3] {
        let Heads { query, key_value, dim } = self.heads;
        let rows = |x: &'b AlignedBuffer, heads: usize| Rows { data: x, stride: heads * dim };
        [rows(&qkv[0], query), rows(&qkv[1], key_value), rows(&qkv[2], key_value)]
    }
}

/// Copies the given rows of `x`, `[_, width]`.
pub(super) fn gather_rows(x: &[f32], rows: &[u32], width: usize, buffers: &BufferPool) -> AlignedBuffer {
    let mut out = buffers.take(rows.len() * width);
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
        out.copy_from_slice(&x[*row as usize * width..][..width]);
    }
    out
}

/// Adds row `i` of `x` to row `rows[i]` of `out`.
fn add_rows(x: &[f32], rows: &[u32], width: usize, out: &mut [f32]) {
    for (row, x) in rows.iter().zip(x.chunks_exact(width)) {
        add_to(&mut out[*row as usize * width..][..width], x);
    }
}

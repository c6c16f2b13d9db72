//! The transformer block of both towers: attention, then SwiGLU, each after an RMS norm and with a
//! residual connection.

use candle_core::{Result, Tensor};

use super::linear_map::{LinearMap, pack_input};
use super::rms_norm::RmsNorm;
use super::{BufferPool, floats, tensor};
use crate::kernels::aligned::AlignedBuffer;
use crate::kernels::attention::Heads;
use crate::kernels::attention_backward::Rows;
use crate::kernels::{rowwise, rowwise_backward};
use crate::training::gradients::Gradients;
use crate::training::trainable::TrainableModel;
use crate::vlm::config::VISION_RMS_EPS;
use crate::vlm::ops::{Segments, attend_rows, attend_rows_backward};
use crate::vlm::text;

/// A block with its weights.
pub(in crate::training) struct Block<'a> {
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
pub(in crate::training) struct BlockActivations {
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
pub(in crate::training) struct TokenContext<'a> {
    /// Cosines and sines of the rotary embedding, `[tokens, dim / 2]`.
    pub(in crate::training) angles: [&'a Tensor; 2],
    /// Attention pattern.
    pub(in crate::training) segments: &'a Segments,
    /// Indexes of the tokens whose output is wanted, ascending; `None`: all.
    pub(in crate::training) wanted: Option<&'a [u32]>,
    /// Buffers for activations.
    pub(in crate::training) buffers: &'a BufferPool,
}

impl<'a> Block<'a> {
    /// Loads layer `index` of the text tower.
    pub(in crate::training) fn load_text_layer(weights: &'a TrainableModel, index: usize) -> Result<Self> {
        let config = &weights.config().text;
        let map = |name: &str, biased| LinearMap::new(weights, &format!("model.layers.{index}.{name}"), biased);
        let norm = |name| RmsNorm::new(weights, format!("model.layers.{index}.{name}.weight"), config.rms_norm_eps);
        Ok(Self {
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
    pub(in crate::training) fn load_vision_block(weights: &'a TrainableModel, index: usize) -> Result<Self> {
        let config = &weights.config().vision;
        let map = |name: &str| LinearMap::new(weights, &format!("visual.blocks.{index}.{name}"), true);
        let norm = |name| RmsNorm::new(weights, format!("visual.blocks.{index}.{name}.weight"), VISION_RMS_EPS);
        let part = |i| Ok::<_, candle_core::Error>(map("attn.qkv")?.split(i, 3));
        Ok(Self {
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
    pub(in crate::training) fn forward(
        &self,
        x: Tensor,
        context: TokenContext<'_>,
        wants_output: bool,
    ) -> Result<(Option<Tensor>, BlockActivations)> {
        let input = floats(&x)?;
        let width = self.out.outputs();
        let tokens = input.len() / width;
        let take = |width: usize| context.buffers.take(tokens * width);
        let mut normed1 = take(width);
        self.norm1.forward(&input, &mut normed1)?;
        let mut qkv = [take(self.qkv[0].outputs()), take(self.qkv[1].outputs()), take(self.qkv[2].outputs())];
        for (map, out) in self.qkv.iter().zip(&mut qkv) {
            map.forward(&normed1, out, context.buffers)?;
        }
        for (x, heads) in qkv.iter_mut().zip([self.heads.query, self.heads.key_value]) {
            let rotated = self.rotate_heads::<false>(x, heads, context)?;
            context.buffers.put_back([std::mem::replace(x, rotated)]);
        }
        let mut mixed = take(self.out.inputs);
        attend_rows(self.rows(&qkv), self.heads, context.segments, &mut mixed);
        // After attention a token depends on no other, so only the wanted tokens continue.
        let mut residual = None;
        if let Some(wanted) = context.wanted {
            let rows = gather_rows(&mixed, wanted, self.out.inputs, context.buffers);
            context.buffers.put_back([std::mem::replace(&mut mixed, rows)]);
            residual = Some(gather_rows(&input, wanted, width, context.buffers));
        }
        let tokens = context.wanted.map_or(tokens, <[u32]>::len);
        let take = |width: usize| context.buffers.take(tokens * width);
        let (mut added, mut middle) = (take(width), take(width));
        self.out.forward(&mixed, &mut added, context.buffers)?;
        rowwise::add(residual.as_deref().unwrap_or(&input), &added, &mut middle);
        context.buffers.put_back([residual.unwrap_or_default()]);
        let mut normed2 = take(width);
        self.norm2.forward(&middle, &mut normed2)?;
        let (mut gate, mut up) = (take(self.gate.outputs()), take(self.up.outputs()));
        self.gate.forward(&normed2, &mut gate, context.buffers)?;
        self.up.forward(&normed2, &mut up, context.buffers)?;
        let mut gated = take(self.down.inputs);
        rowwise::swiglu(&gate, &up, &mut gated);
        let output = match wants_output {
            true => {
                self.down.forward(&gated, &mut added, context.buffers)?;
                let mut output = vec![0f32; middle.len()];
                rowwise::add(&middle, &added, &mut output);
                Some(tensor(output, width)?)
            }
            false => None,
        };
        context.buffers.put_back([added]);
        drop(input);
        Ok((output, BlockActivations { x, normed1, qkv, mixed, middle, normed2, gate, up, gated }))
    }

    /// Runs the block backward from the gradient of its output: returns that of its input if
    /// `wants_input`, and adds those of the weights to `gradients`.
    pub(in crate::training) fn backward(
        &self,
        activations: BlockActivations,
        gradient: &Tensor,
        context: TokenContext<'_>,
        wants_input: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let BlockActivations { x, normed1, qkv, mixed, middle, normed2, mut gate, mut up, gated } = activations;
        let (input, gradient) = (floats(&x)?, floats(gradient)?);
        let take = |like: &[f32]| context.buffers.take(like.len());
        // SwiGLU.
        self.down.weight_gradient(
            &gradient,
            pack_input(&[&self.down], &gated, context.buffers).as_deref(),
            gradients,
        )?;
        let mut d_gated = gated;
        self.down.input_gradient(&gradient, &mut d_gated, context.buffers)?;
        rowwise_backward::swiglu_backward(&mut gate, &mut up, &d_gated);
        let (d_gate, d_up) = (gate, up);
        let packed2 = pack_input(&[&self.gate, &self.up], &normed2, context.buffers);
        self.gate.weight_gradient(&d_gate, packed2.as_deref(), gradients)?;
        self.up.weight_gradient(&d_up, packed2.as_deref(), gradients)?;
        drop(packed2);
        let mut d_normed = normed2;
        self.gate.input_gradient(&d_gate, &mut d_normed, context.buffers)?;
        self.up.add_input_gradient(&d_up, &mut d_normed, context.buffers)?;
        context.buffers.put_back([d_gate, d_up, d_gated]);
        let mut d_middle = take(&middle);
        self.norm2.backward(&middle, &d_normed, &mut d_middle, gradients)?;
        d_middle.iter_mut().zip(gradient.iter()).for_each(|(sum, g)| *sum += g);
        // Attention.
        self.out.weight_gradient(&d_middle, pack_input(&[&self.out], &mixed, context.buffers).as_deref(), gradients)?;
        let mut d_mixed = mixed;
        self.out.input_gradient(&d_middle, &mut d_mixed, context.buffers)?;
        if let Some(wanted) = context.wanted {
            let mut all = take(&qkv[0]);
            all.fill(0.0);
            add_rows(&d_mixed, wanted, self.out.inputs, &mut all);
            context.buffers.put_back([std::mem::replace(&mut d_mixed, all)]);
        }
        let mut d_qkv = [take(&qkv[0]), take(&qkv[1]), take(&qkv[2])];
        let d_output = Rows { data: &d_mixed, stride: self.out.inputs };
        attend_rows_backward(
            self.rows(&qkv),
            d_output,
            self.heads,
            context.segments,
            d_qkv.each_mut().map(|rows| &mut rows[..]),
        );
        for (x, heads) in d_qkv.iter_mut().zip([self.heads.query, self.heads.key_value]) {
            let rotated = self.rotate_heads::<true>(x, heads, context)?;
            context.buffers.put_back([std::mem::replace(x, rotated)]);
        }
        let packed1 = pack_input(&self.qkv.each_ref(), &normed1, context.buffers);
        for (map, g) in self.qkv.iter().zip(&d_qkv) {
            map.weight_gradient(g, packed1.as_deref(), gradients)?;
        }
        drop(packed1);
        let mut d_normed = context.buffers.fit(d_normed, normed1.len());
        self.qkv[0].input_gradient(&d_qkv[0], &mut d_normed, context.buffers)?;
        self.qkv[1].add_input_gradient(&d_qkv[1], &mut d_normed, context.buffers)?;
        self.qkv[2].add_input_gradient(&d_qkv[2], &mut d_normed, context.buffers)?;
        let mut d_input = vec![0f32; if wants_input { input.len() } else { 0 }];
        let mut scratch = context.buffers.fit(middle, input.len());
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
        context.buffers.put_back([normed1, d_mixed, d_middle, d_normed, scratch]);
        context.buffers.put_back(qkv);
        context.buffers.put_back(d_qkv);
        wants_input.then(|| tensor(d_input, self.out.outputs())).transpose()
    }

    fn rotate_heads<const INVERSE: bool>(
        &self,
        x: &[f32],
        heads: usize,
        context: TokenContext<'_>,
    ) -> Result<AlignedBuffer> {
        let (cos, sin) = (floats(context.angles[0])?, floats(context.angles[1])?);
        let mut out = context.buffers.take(x.len());
        let rotate = if INVERSE { rowwise::rotate_inverse } else { rowwise::rotate };
        rotate(x, heads * self.heads.dim, heads, &cos, &sin, self.heads.dim / 2, &mut out);
        Ok(out)
    }

    fn rows<'b>(&self, qkv: &'b [AlignedBuffer; 3]) -> [Rows<'b>; 3] {
        let Heads { query, key_value, dim } = self.heads;
        let rows = |x: &'b AlignedBuffer, heads: usize| Rows { data: x, stride: heads * dim };
        [rows(&qkv[0], query), rows(&qkv[1], key_value), rows(&qkv[2], key_value)]
    }
}

/// Copies the given rows of `x`, `[_, width]`.
fn gather_rows(x: &[f32], rows: &[u32], width: usize, buffers: &BufferPool) -> AlignedBuffer {
    let mut out = buffers.take(rows.len() * width);
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
        out.copy_from_slice(&x[*row as usize * width..][..width]);
    }
    out
}

/// Adds row `i` of `x` to row `rows[i]` of `out`.
fn add_rows(x: &[f32], rows: &[u32], width: usize, out: &mut [f32]) {
    for (row, x) in rows.iter().zip(x.chunks_exact(width)) {
        out[*row as usize * width..][..width].iter_mut().zip(x).for_each(|(out, x)| *out += x);
    }
}

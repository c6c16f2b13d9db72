//! Attention within segments of a row of tokens: causal sequences, images, windows.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, D, DType, Device, Layout, Result, Shape, Tensor, bail};

use super::storage::Rows;
use super::{gradients_through, has_kernels};
use crate::kernels::attention::{BLOCK, Blocks, Heads, Segment, attend};

const NAME: &str = "attention";

/// Lengths of the segments that tokens attend within, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    lengths: Vec<usize>,
    causal: bool,
}

impl Segments {
    /// Sequences in which a token sees itself and what came before.
    pub fn causal(lengths: Vec<usize>) -> Self {
        Self { lengths, causal: true }
    }

    /// Groups in which every token sees every other.
    pub fn full(lengths: Vec<usize>) -> Self {
        Self { lengths, causal: false }
    }

    /// The lengths.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Tokens in all segments.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }
}

/// `softmax(q kᵀ / sqrt(dim)) v` within each segment.
///
/// `q` is `[tokens, query heads * dim]`, `k` and `v` are `[tokens, key heads * dim]`; rows may lie apart. Gives
/// `[tokens, query heads * dim]`.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, segments: &Arc<Segments>) -> Result<Tensor> {
    if segments.tokens() != q.dim(0)? {
        bail!("attention: segments of {} tokens for {} tokens", segments.tokens(), q.dim(0)?);
    }
    if has_kernels(q) {
        q.apply_op3(k, v, Kernel { heads, segments: segments.clone() })
    } else {
        composed(q, k, v, heads, segments)
    }
}

/// The factor on the scores.
pub(crate) fn scale(heads: Heads) -> f64 {
    1.0 / (heads.dim as f64).sqrt()
}

/// Segments of the same length are one batch of matrix products.
fn composed(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, segments: &Segments) -> Result<Tensor> {
    let device = q.device();
    let mut by_length: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    let mut start = 0u32;
    for length in &segments.lengths {
        by_length.entry(*length).or_default().extend(start..start + *length as u32);
        start += *length as u32;
    }
    let only_one = by_length.len() == 1;
    let mut parts = Vec::new();
    let mut order = Vec::with_capacity(start as usize);
    for (length, tokens) in by_length.iter().filter(|(length, _)| **length > 0) {
        let count = tokens.len() / length;
        let pick = |x: &Tensor, heads: usize, dim: usize| -> Result<Tensor> {
            let x = if only_one {
                x.contiguous()?
            } else {
                x.contiguous()?.index_select(&Tensor::new(tokens.as_slice(), device)?, 0)?
            };
            x.reshape((count, *length, heads, dim))?.transpose(1, 2)?.contiguous()
        };
        let q = pick(q, heads.query, heads.dim)?; // [count, heads, length, dim]
        let k = repeat(pick(k, heads.key_value, heads.dim)?, heads)?;
        let v = repeat(pick(v, heads.key_value, heads.dim)?, heads)?;
        let scores = (q.matmul(&k.t()?)? * scale(heads))?; // [count, heads, length, length]
        let scores = if segments.causal {
            scores.broadcast_add(&causal_mask(*length, scores.dtype(), device)?)?
        } else {
            scores
        };
        let mixed = softmax(&scores)?.matmul(&v)?; // [count, heads, length, dim]
        parts.push(mixed.transpose(1, 2)?.reshape((tokens.len(), heads.query * heads.dim))?);
        order.extend_from_slice(tokens);
    }
    if only_one {
        return Ok(parts.swap_remove(0));
    }
    let mut back = vec![0u32; order.len()];
    for (from, to) in order.iter().enumerate() {
        back[*to as usize] = from as u32;
    }
    Tensor::cat(&parts, 0)?.index_select(&Tensor::new(back, device)?, 0)
}

/// Key heads repeated for the query heads that they serve.
fn repeat(x: Tensor, heads: Heads) -> Result<Tensor> {
    let (count, key_value, length, dim) = x.dims4()?;
    let group = heads.query / heads.key_value;
    let repeated = x.unsqueeze(2)?.broadcast_as((count, key_value, group, length, dim))?;
    repeated.reshape((count, heads.query, length, dim))
}

/// The softmax over the last dimension, in f32 at least.
pub(crate) fn softmax(scores: &Tensor) -> Result<Tensor> {
    let dtype = scores.dtype();
    let wide = if dtype == DType::F64 { scores.clone() } else { scores.to_dtype(DType::F32)? };
    let weights = if scores.track_op() || !scores.device().is_cuda() {
        candle_nn::ops::softmax(&wide, D::Minus1)?
    } else {
        candle_nn::ops::softmax_last_dim(&wide.contiguous()?)?
    };
    weights.to_dtype(dtype)
}

fn causal_mask(length: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> =
        (0..length).flat_map(|i| (0..length).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 })).collect();
    Tensor::from_vec(mask, (length, length), device)?.to_dtype(dtype)
}

struct Kernel {
    heads: Heads,
    segments: Arc<Segments>,
}

impl CustomOp3 for Kernel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (Rows::new(NAME, s1, l1)?, Rows::new(NAME, s2, l2)?, Rows::new(NAME, s3, l3)?);
        let Heads { query, key_value, dim } = self.heads;
        if q.width != query * dim || k.width != key_value * dim || v.width != k.width {
            bail!("attention: widths {}, {}, {} do not fit {:?}", q.width, k.width, v.width, self.heads);
        }
        let counts: Vec<usize> = self.segments.lengths.iter().map(|n| n.div_ceil(BLOCK)).collect();
        let total: usize = counts.iter().sum();
        let numbers: Vec<u32> = (0..total as u32).collect();
        let mut blocks = Blocks::zeroed(self.heads, total);
        let (mut token, mut first) = (0, 0);
        let mut segments = Vec::with_capacity(counts.len());
        for (length, count) in self.segments.lengths.iter().zip(&counts) {
            for i in 0..*length {
                let key = &k.data[(token + i) * k.stride..][..k.width];
                let value = &v.data[(token + i) * v.stride..][..v.width];
                blocks.store(first + i / BLOCK, i % BLOCK, key, value);
            }
            let causal = self.segments.causal;
            let first_limit = if causal { 1 } else { *length };
            segments.push(Segment { queries: *length, first_limit, causal, blocks: &numbers[first..first + count] });
            token += length;
            first += count;
        }
        let mut out = vec![0f32; q.count * q.width];
        attend(q.data, q.stride, &blocks, &segments, scale(self.heads) as f32, &mut out);
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut gradients =
            gradients_through(&[q, k, v], gradient, |x| composed(&x[0], &x[1], &x[2], self.heads, &self.segments))?;
        let v = gradients.pop().flatten();
        let k = gradients.pop().flatten();
        Ok((gradients.pop().flatten(), k, v))
    }
}

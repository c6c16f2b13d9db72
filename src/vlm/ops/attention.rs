//! Attention within segments of a row of tokens: causal sequences, images, windows.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, D, DType, Device, Layout, Result, Shape, Tensor, bail};

use super::has_kernels;
use super::segments::{Part, Segments};
use super::storage::{Rows, tensor};
use crate::kernels::attention::{BLOCK, Blocks, Heads, Segment, attend};
use crate::kernels::attention_backward::{Inputs, Rows as KernelRows, attend_backward};

const NAME: &str = "attention";

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

/// Sequences of the same lengths are one batch of matrix products.
fn composed(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, segments: &Segments) -> Result<Tensor> {
    let device = q.device();
    // By the number of keys before the first query and the number of queries: the queries' tokens and the keys'.
    let mut by_lengths: BTreeMap<(usize, usize), (Vec<u32>, Vec<u32>)> = BTreeMap::new();
    for part in segments.parts() {
        let (queries, keys) = by_lengths.entry((part.prefix.len(), part.own.len())).or_default();
        queries.extend(part.own.clone().map(|i| i as u32));
        keys.extend(part.prefix.chain(part.own).map(|i| i as u32));
    }
    let only_one = by_lengths.len() == 1 && by_lengths.contains_key(&(0, segments.longest()));
    let mut parts = Vec::new();
    let mut order = Vec::with_capacity(segments.tokens());
    for ((prefix, own), (queries, keys)) in &by_lengths {
        let count = queries.len() / own;
        let pick = |x: &Tensor, tokens: &[u32], heads: usize, dim: usize| -> Result<Tensor> {
            let x = x.contiguous()?;
            let x = if only_one { x } else { x.index_select(&Tensor::new(tokens, device)?, 0)? };
            x.reshape((count, tokens.len() / count, heads, dim))?.transpose(1, 2)?.contiguous()
        };
        let q = pick(q, queries, heads.query, heads.dim)?; // [count, heads, own, dim]
        let k = repeat(pick(k, keys, heads.key_value, heads.dim)?, heads)?; // [count, heads, prefix + own, dim]
        let v = repeat(pick(v, keys, heads.key_value, heads.dim)?, heads)?;
        let scores = (q.matmul(&k.t()?)? * scale(heads))?; // [count, heads, own, prefix + own]
        let scores = if segments.is_causal() {
            scores.broadcast_add(&causal_mask(*prefix, *own, scores.dtype(), device)?)?
        } else {
            scores
        };
        let mixed = softmax(&scores)?.matmul(&v)?; // [count, heads, own, dim]
        parts.push(mixed.transpose(1, 2)?.reshape((queries.len(), heads.query * heads.dim))?);
        order.extend_from_slice(queries);
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

/// A query sees the keys before the first query, itself and what came between.
fn causal_mask(prefix: usize, own: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let row = |i: usize| (0..prefix + own).map(move |j| if j > prefix + i { f32::NEG_INFINITY } else { 0.0 });
    let mask: Vec<f32> = (0..own).flat_map(row).collect();
    Tensor::from_vec(mask, (own, prefix + own), device)?.to_dtype(dtype)
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
        let mut out = vec![0f32; q.count * q.width];
        attend_rows([rows(q), rows(k), rows(v)], self.heads, &self.segments, &mut out);
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
        let gradient = gradient.contiguous()?;
        let (q, k, v) = (q.storage_and_layout(), k.storage_and_layout(), v.storage_and_layout());
        let gradient = gradient.storage_and_layout();
        let (q, k, v) = (Rows::of(NAME, &q)?, Rows::of(NAME, &k)?, Rows::of(NAME, &v)?);
        let gradient = rows(Rows::of(NAME, &gradient)?);
        let mut dq = vec![0f32; q.count * q.width];
        let (mut dk, mut dv) = (vec![0f32; k.count * k.width], vec![0f32; v.count * v.width]);
        let gradients = [dq.as_mut_slice(), dk.as_mut_slice(), dv.as_mut_slice()];
        attend_rows_backward([rows(q), rows(k), rows(v)], gradient, self.heads, &self.segments, gradients);
        let some = |x: Vec<f32>, like: Rows<'_>| tensor(x, (like.count, like.width)).map(Some);
        Ok((some(dq, q)?, some(dk, k)?, some(dv, v)?))
    }
}

/// Attention on rows of queries, keys and values.
pub(crate) fn attend_rows([q, k, v]: [KernelRows<'_>; 3], heads: Heads, segments: &Segments, out: &mut [f32]) {
    let (blocks, lists) = store(heads, segments, k, v);
    let causal = segments.is_causal();
    let segment = |(part, blocks)| {
        let Part { prefix, own }: Part = part;
        let first_limit = prefix.len() + if causal { 1 } else { own.len() };
        Segment { queries: own.len(), first_limit, causal, blocks }
    };
    let segments: Vec<_> = segments.parts().zip(lists.iter().map(Vec::as_slice)).map(segment).collect();
    attend(q.data, q.stride, &blocks, &segments, scale(heads) as f32, out);
}

/// The gradients of queries, keys and values, given that of the result.
pub(crate) fn attend_rows_backward(
    [q, k, v]: [KernelRows<'_>; 3],
    gradient: KernelRows<'_>,
    heads: Heads,
    segments: &Segments,
    gradients: [&mut [f32]; 3],
) {
    let groups: Vec<_> = segments.groups().collect();
    attend_backward(&Inputs { q, k, v, gradient }, heads, &groups, scale(heads) as f32, gradients);
}

fn rows(x: Rows<'_>) -> KernelRows<'_> {
    KernelRows { data: x.data, stride: x.stride }
}

/// The keys and values in blocks, and each part's list of blocks: whole blocks of a prompt are shared by its
/// responses, what lies in the last is copied to where a response begins. So a response's tokens have the places, and
/// their sums the order, that they have in a sequence of the prompt and that response alone.
fn store(heads: Heads, segments: &Segments, k: KernelRows<'_>, v: KernelRows<'_>) -> (Blocks, Vec<Vec<u32>>) {
    let mut lists: Vec<Vec<u32>> = Vec::new();
    let mut count = 0;
    let mut prompt = 0;
    for part in segments.parts() {
        let shared = part.prefix.len() / BLOCK;
        let own = (part.prefix.len() + part.own.len()).div_ceil(BLOCK) - shared;
        let from = lists.get(prompt).map(|blocks| &blocks[..shared]).unwrap_or_default();
        let list = from.iter().copied().chain(count..count + own as u32).collect();
        if part.prefix.is_empty() {
            prompt = lists.len();
        }
        lists.push(list);
        count += own as u32;
    }
    let mut blocks = Blocks::zeroed(heads, count as usize);
    let width = heads.key_value * heads.dim;
    let mut prompt = 0;
    for (i, part) in segments.parts().enumerate() {
        let before = part.prefix.len();
        if before == 0 {
            prompt = i;
        } else if before % BLOCK != 0 {
            let at = before / BLOCK;
            blocks.copy(lists[prompt][at] as usize, lists[i][at] as usize);
        }
        for (at, token) in part.own.enumerate() {
            let at = before + at;
            let (key, value) = (&k.data[token * k.stride..][..width], &v.data[token * v.stride..][..width]);
            blocks.store(lists[i][at / BLOCK] as usize, at % BLOCK, key, value);
        }
    }
    (blocks, lists)
}

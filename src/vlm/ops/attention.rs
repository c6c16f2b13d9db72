//! Attention within the segments of packed tokens: causal sequences, images, windows.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::Ops;
use super::attention_reference::{SCORES, reference, scale};
use super::row_kernel::{CpuOp, RowKernel};
use super::segments::{QuerySpan, Segments};
use super::storage::Rows;
use crate::kernels::attention::{BLOCK, Heads, KvBlocks, Segment, attend};
use crate::kernels::attention_backward::{BackwardInputs, Rows as KernelRows, attend_backward};

impl Ops {
    /// Computes `softmax(q kᵀ / sqrt(dim)) v` within each segment.
    ///
    /// `q` is `[tokens, query heads * dim]`, `k` and `v` are `[tokens, key heads * dim]`; there may
    /// be gaps between their rows. Returns `[tokens, query heads * dim]`.
    pub fn attention(
        self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        heads: Heads,
        segments: &Arc<Segments>,
    ) -> Result<Tensor> {
        if segments.tokens() != q.dim(0)? {
            bail!("attention: segments of {} tokens for {} tokens", segments.tokens(), q.dim(0)?);
        }
        if self.uses_cpu_kernels_for(q) {
            q.apply_op3(k, v, CpuOp(Kernel { heads, segments: segments.clone() }))
        } else {
            reference(q, k, v, heads, segments, SCORES)
        }
    }
}

struct Kernel {
    heads: Heads,
    segments: Arc<Segments>,
}

impl RowKernel<3> for Kernel {
    const NAME: &'static str = "attention";

    fn forward(&self, [q, k, v]: [Rows<'_>; 3]) -> Result<(Vec<f32>, (usize, usize))> {
        let Heads { query, key_value, dim } = self.heads;
        if q.width != query * dim || k.width != key_value * dim || v.width != k.width {
            bail!("attention: widths {}, {}, {} do not fit {:?}", q.width, k.width, v.width, self.heads);
        }
        let mut out = q.zeros();
        attend_rows([q, k, v].map(rows), self.heads, &self.segments, &mut out);
        Ok((out, q.shape()))
    }

    fn backward(&self, inputs: [Rows<'_>; 3], gradient: Rows<'_>, _: [bool; 3]) -> Result<[Option<Vec<f32>>; 3]> {
        let [mut dq, mut dk, mut dv] = inputs.map(|x| x.zeros());
        let gradients = [dq.as_mut_slice(), &mut dk, &mut dv];
        attend_rows_backward(inputs.map(rows), rows(gradient), self.heads, &self.segments, gradients);
        Ok([Some(dq), Some(dk), Some(dv)])
    }
}

/// Computes attention on rows of queries `[tokens, query heads * dim]`, keys and values `[tokens,
/// key heads * dim]`.
pub(crate) fn attend_rows([q, k, v]: [KernelRows<'_>; 3], heads: Heads, segments: &Segments, out: &mut [f32]) {
    let (blocks, lists) = store(heads, segments, k, v);
    let causal = segments.causal;
    let segment = |(span, blocks)| {
        let QuerySpan { prefix, own }: QuerySpan = span;
        let first_limit = prefix.len() + if causal { 1 } else { own.len() };
        Segment { queries: own.len(), first_limit, causal, blocks }
    };
    let segments: Vec<_> = segments.spans().zip(lists.iter().map(Vec::as_slice)).map(segment).collect();
    attend(q.data, q.stride, &blocks, &segments, scale(heads) as f32, out);
}

/// Computes the gradients of queries, keys and values from the gradient of the result `[tokens,
/// query heads * dim]`.
pub(crate) fn attend_rows_backward(
    [q, k, v]: [KernelRows<'_>; 3],
    gradient: KernelRows<'_>,
    heads: Heads,
    segments: &Segments,
    gradients: [&mut [f32]; 3],
) {
    let groups: Vec<_> = segments.groups().collect();
    attend_backward(&BackwardInputs { q, k, v, gradient }, heads, &groups, scale(heads) as f32, gradients);
}

fn rows(x: Rows<'_>) -> KernelRows<'_> {
    KernelRows { data: x.data, stride: x.stride }
}

/// Stores keys and values in blocks. Returns the blocks and the list of blocks of each span.
///
/// The responses to a prompt share its full blocks; the prompt's last, partial block is copied to
/// the beginning of each response. So a response's tokens have the positions in blocks, and their
/// sums the order, that they have in a sequence of the prompt and that response alone.
fn store(heads: Heads, segments: &Segments, k: KernelRows<'_>, v: KernelRows<'_>) -> (KvBlocks, Vec<Vec<u32>>) {
    let mut lists: Vec<Vec<u32>> = Vec::new();
    let mut count = 0;
    let mut prompt = 0;
    for span in segments.spans() {
        let shared = span.prefix.len() / BLOCK;
        let own = (span.prefix.len() + span.own.len()).div_ceil(BLOCK) - shared;
        let from = lists.get(prompt).map(|blocks| &blocks[..shared]).unwrap_or_default();
        let list = from.iter().copied().chain(count..count + own as u32).collect();
        if span.prefix.is_empty() {
            prompt = lists.len();
        }
        lists.push(list);
        count += own as u32;
    }
    let mut blocks = KvBlocks::zeroed(heads, count as usize);
    let width = heads.key_value * heads.dim;
    let mut prompt = 0;
    for (i, span) in segments.spans().enumerate() {
        let before = span.prefix.len();
        if before == 0 {
            prompt = i;
        } else if before % BLOCK != 0 {
            let at = before / BLOCK;
            blocks.copy(lists[prompt][at] as usize, lists[i][at] as usize);
        }
        for (at, token) in span.own.enumerate() {
            let at = before + at;
            let (key, value) = (&k.data[token * k.stride..][..width], &v.data[token * v.stride..][..width]);
            blocks.store(lists[i][at / BLOCK] as usize, at % BLOCK, key, value);
        }
    }
    (blocks, lists)
}

//! Attention within the segments of packed tokens: causal sequences, images, windows.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::Ops;
use super::attention_reference::{SCORES, reference, scale};
use super::segments::{QuerySpan, Segments};
use super::storage::{Rows, tensor};
use crate::kernels::attention::{BLOCK, Heads, KvBlocks, Segment, attend};
use crate::kernels::attention_backward::{BackwardInputs, Rows as KernelRows, attend_backward};

const NAME: &str = "attention";

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
            q.apply_op3(k, v, Kernel { heads, segments: segments.clone() })
        } else {
            reference(q, k, v, heads, segments, SCORES)
        }
    }
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
        let (q, k, v) = (Rows::from_tensor(NAME, &q)?, Rows::from_tensor(NAME, &k)?, Rows::from_tensor(NAME, &v)?);
        let gradient = rows(Rows::from_tensor(NAME, &gradient)?);
        let mut dq = vec![0f32; q.count * q.width];
        let (mut dk, mut dv) = (vec![0f32; k.count * k.width], vec![0f32; v.count * v.width]);
        let gradients = [dq.as_mut_slice(), dk.as_mut_slice(), dv.as_mut_slice()];
        attend_rows_backward([rows(q), rows(k), rows(v)], gradient, self.heads, &self.segments, gradients);
        let some = |x: Vec<f32>, like: Rows<'_>| tensor(x, (like.count, like.width)).map(Some);
        Ok((some(dq, q)?, some(dk, k)?, some(dv, v)?))
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

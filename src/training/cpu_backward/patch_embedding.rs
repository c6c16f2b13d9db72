//! The patch embedding: a linear layer from pixels to hidden states.

use candle_core::{Result, Tensor};

use super::BufferPool;
use super::linear_map::{LinearMap, weight_gradients};
use crate::training::floats::{floats, tensor};
use crate::training::gradients::Gradients;
use crate::training::trainable::TrainableModel;

/// The patch embedding with its weight.
pub(crate) struct PatchEmbedding<'a> {
    buffers: &'a BufferPool,
    map: LinearMap<'a>,
    /// Number of consecutive patches that stay together in window order.
    unit: usize,
}

impl<'a> PatchEmbedding<'a> {
    pub(crate) fn new(weights: &'a TrainableModel, buffers: &'a BufferPool) -> Result<Self> {
        let map = LinearMap::new(weights, buffers, "visual.patch_embed.proj", false)?;
        Ok(Self { buffers, map, unit: weights.config().vision.merge_unit() })
    }

    /// Computes `[patches, patch_len]` to `[patches, hidden]` in window order.
    pub(crate) fn forward(&self, patches: &Tensor, order: &[u32]) -> Result<Tensor> {
        let patches = floats(patches)?;
        let width = self.map.outputs();
        let mut embedded = self.buffers.take(patches.len() / self.map.inputs * width);
        self.map.forward(&patches, &mut embedded)?;
        let mut output = Vec::with_capacity(embedded.len());
        let unit = self.unit * width;
        order.iter().for_each(|token| output.extend_from_slice(&embedded[*token as usize * unit..][..unit]));
        self.buffers.put_back([embedded]);
        tensor(output, width)
    }

    /// Adds the weight's gradient, from that of the output; the pixels need none.
    pub(crate) fn backward(
        &self,
        patches: &Tensor,
        gradient: &Tensor,
        order: &[u32],
        gradients: &mut Gradients,
    ) -> Result<()> {
        let (patches, gradient) = (floats(patches)?, floats(gradient)?);
        let unit = self.unit * self.map.outputs();
        let mut d_embedded = self.buffers.take(gradient.len());
        for (token, row) in order.iter().zip(gradient.chunks_exact(unit)) {
            d_embedded[*token as usize * unit..][..unit].copy_from_slice(row);
        }
        weight_gradients(&[(&self.map, &d_embedded)], &patches, gradients)?;
        self.buffers.put_back([d_embedded]);
        Ok(())
    }
}

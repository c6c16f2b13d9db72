//! The patch embedding: a linear layer from pixels to hidden states.

use candle_core::{Result, Tensor};

use super::linear_map::{LinearMap, pack_input};
use super::{BufferPool, floats, tensor};
use crate::training::gradients::Gradients;
use crate::training::trainable::TrainableModel;

/// The patch embedding with its weight.
pub(in crate::training) struct PatchEmbedding<'a> {
    map: LinearMap<'a>,
    /// Number of consecutive patches that stay together in window order.
    unit: usize,
}

impl<'a> PatchEmbedding<'a> {
    pub(in crate::training) fn new(weights: &'a TrainableModel) -> Result<Self> {
        let map = LinearMap::new(weights, "visual.patch_embed.proj", false)?;
        Ok(Self { map, unit: weights.config().vision.merge_unit() })
    }

    /// Computes `[patches, patch_len]` to `[patches, hidden]` in window order.
    pub(in crate::training) fn forward(&self, patches: &Tensor, order: &[u32], buffers: &BufferPool) -> Result<Tensor> {
        let patches = floats(patches)?;
        let width = self.map.outputs();
        let mut embedded = buffers.take(patches.len() / self.map.inputs * width);
        self.map.forward(&patches, &mut embedded, buffers)?;
        let mut output = Vec::with_capacity(embedded.len());
        let unit = self.unit * width;
        order.iter().for_each(|token| output.extend_from_slice(&embedded[*token as usize * unit..][..unit]));
        buffers.put_back([embedded]);
        tensor(output, width)
    }

    /// Adds the weight's gradient, from that of the output; the pixels need none.
    pub(in crate::training) fn backward(
        &self,
        patches: &Tensor,
        gradient: &Tensor,
        order: &[u32],
        buffers: &BufferPool,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let (patches, gradient) = (floats(patches)?, floats(gradient)?);
        let unit = self.unit * self.map.outputs();
        let mut d_embedded = buffers.take(gradient.len());
        for (token, row) in order.iter().zip(gradient.chunks_exact(unit)) {
            d_embedded[*token as usize * unit..][..unit].copy_from_slice(row);
        }
        self.map.weight_gradient(&d_embedded, pack_input(&[&self.map], &patches, buffers).as_deref(), gradients)?;
        buffers.put_back([d_embedded]);
        Ok(())
    }
}

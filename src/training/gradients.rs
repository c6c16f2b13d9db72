//! Gradients by tensor name, accumulated over micro-batches in f32.

use std::collections::BTreeMap;
use std::hint::black_box;

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use rayon::prelude::*;

use super::floats::{add_to, floats, in_place};
use crate::vlm::ops::Ops;

/// Sums of gradients in f32, by the name of the trained tensor.
#[derive(Debug, Default)]
pub struct Gradients {
    sums: BTreeMap<String, Tensor>,
    /// Zeroed memory for sums that have no gradient yet.
    reserved: BTreeMap<String, Tensor>,
    ops: Ops,
}

impl Gradients {
    /// Returns empty sums, which `ops` will add to.
    pub fn new(ops: Ops) -> Self {
        Self { ops, ..Self::default() }
    }

    /// Returns the implementation of the ops that adds the gradients.
    pub(super) fn ops(&self) -> Ops {
        self.ops
    }

    /// Returns empty sums with memory reserved for all `variables`, which are on the CPU. Allocated
    /// one by one during a pass, the sums would lie between blocks that the pass frees and leave
    /// holes: a quarter of the activations of a model of 60 million parameters.
    pub(super) fn reserved(ops: Ops, variables: &BTreeMap<String, Var>) -> Result<Self> {
        let zeros = |variable: &Var| zeros(variable.shape(), DType::F32, &Device::Cpu);
        let reserved = variables.iter().map(|(name, variable)| Ok((name.clone(), zeros(variable)?)));
        Ok(Self { reserved: reserved.collect::<Result<_>>()?, ..Self::new(ops) })
    }

    /// Adds a gradient to a tensor's sum.
    pub fn add(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        let gradient = gradient.detach().to_dtype(DType::F32)?;
        match self.sums.get_mut(name) {
            None => {
                // A gradient may be a view or broadcast; the sum needs memory of its own.
                let own = gradient.force_contiguous()?;
                self.sums.insert(name.to_owned(), own);
            }
            Some(sum) if sum.shape() != gradient.shape() => {
                bail!("{name}: a gradient of shape {:?} is added to {:?}", gradient.dims(), sum.dims())
            }
            Some(sum) if self.ops.uses_cpu_kernels_for(sum) => {
                let gradient = gradient.contiguous()?;
                let gradient = floats(&gradient)?;
                in_place(sum, |sum| add_to(sum, &gradient))?;
            }
            Some(sum) => *sum = (&*sum + gradient)?,
        }
        Ok(())
    }

    /// Calls `add` with a tensor's sum, which is on the CPU and initially zero.
    pub(super) fn with_sum(&mut self, name: &str, shape: &Shape, add: impl FnOnce(&mut [f32])) -> Result<()> {
        let sum = self.take(name, shape, &Device::Cpu)?;
        in_place(&sum, add)?;
        self.sums.insert(name.to_owned(), sum);
        Ok(())
    }

    /// Adds `rows[i]`, `[width]`, to row `ids[i]` of a tensor's sum `[count, width]`: the gradient
    /// of an embedding.
    pub(super) fn add_rows(&mut self, name: &str, shape: (usize, usize), ids: &[u32], rows: &Tensor) -> Result<()> {
        let rows = rows.detach().to_dtype(DType::F32)?.contiguous()?;
        if rows.dims() != [ids.len(), shape.1] || ids.iter().any(|id| *id as usize >= shape.0) {
            bail!("{name}: rows {:?} are added to {} ids of {shape:?}", rows.dims(), ids.len());
        }
        if self.ops.uses_cpu_kernels_for(&rows) {
            let (rows, width) = (floats(&rows)?, shape.1);
            return self.with_sum(name, &shape.into(), |sum| {
                let rows = ids.iter().zip(rows.chunks_exact(width));
                rows.for_each(|(id, row)| add_to(&mut sum[*id as usize * width..][..width], row));
            });
        }
        let sum = self.take(name, &shape.into(), rows.device())?;
        self.sums.insert(name.to_owned(), sum.index_add(&Tensor::new(ids, rows.device())?, &rows, 0)?);
        Ok(())
    }

    /// Takes a tensor's sum out; zeros if it has no gradient yet.
    fn take(&mut self, name: &str, shape: &Shape, device: &Device) -> Result<Tensor> {
        match self.sums.remove(name).or_else(|| self.reserved.remove(name)) {
            Some(sum) if sum.shape() != shape => {
                bail!("{name}: a gradient of shape {:?} is added to {:?}", shape.dims(), sum.dims())
            }
            Some(sum) => Ok(sum),
            None => zeros(shape, DType::F32, device),
        }
    }

    /// Adds all sums of `other`.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        if self.sums.is_empty() {
            self.sums = other.sums;
            return Ok(());
        }
        other.sums.into_iter().try_for_each(|(name, gradient)| self.add(&name, gradient))
    }

    /// Returns a tensor's sum.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.sums.get(name)
    }

    /// Returns all sums in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.sums.iter()
    }

    /// Returns the global L2 norm over all tensors, added up in f64 in the order of their names.
    pub fn norm(&self) -> Result<f64> {
        let squares = |gradient: &Tensor| -> Result<Option<f64>> {
            if !self.ops.uses_cpu_kernels_for(gradient) {
                return Ok(None);
            }
            Ok(Some(floats(gradient)?.iter().map(|v| f64::from(*v) * f64::from(*v)).sum()))
        };
        // In parallel over tensors; the squares are then added in order.
        let gradients: Vec<&Tensor> = self.sums.values().collect();
        let each: Vec<Option<f64>> = gradients.par_iter().map(|gradient| squares(gradient)).collect::<Result<_>>()?;
        let (mut sum, mut on_device) = (0.0, Vec::new());
        for (gradient, squares) in gradients.into_iter().zip(each) {
            match squares {
                Some(squares) => sum += squares,
                None => on_device.push(gradient.sqr()?.sum_all()?),
            }
        }
        // One transfer for all tensors on a GPU.
        if !on_device.is_empty() {
            let squares = Tensor::stack(&on_device, 0)?.to_vec1::<f32>()?;
            sum += squares.into_iter().map(f64::from).sum::<f64>();
        }
        Ok(sum.sqrt())
    }
}

/// Returns zeros. On the CPU the pages are written: a page that is read before it is first written
/// maps the shared zero page, and copying that on the first write takes as long as several pages of
/// additions.
pub(super) fn zeros(shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    if !device.is_cpu() || dtype != DType::F32 {
        return Tensor::zeros(shape, dtype, device);
    }
    let mut written = Vec::with_capacity(shape.elem_count());
    written.resize(shape.elem_count(), black_box(0f32));
    Tensor::from_vec(written, shape, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_an_id_and_ids_out_of_range_are_errors() {
        let rows = Tensor::ones((2, 3), DType::F32, &Device::Cpu).expect("rows");
        let mut gradients = Gradients::new(Ops::default());
        gradients.add_rows("embedding", (4, 3), &[3, 3], &rows).expect("valid ids");
        for (shape, ids) in [((4, 3), &[0, 4][..]), ((4, 3), &[0, 1, 2]), ((4, 3), &[0]), ((4, 2), &[0, 1])] {
            assert!(gradients.add_rows("embedding", shape, ids, &rows).is_err(), "{shape:?} {ids:?}");
        }
        let sum = gradients.get("embedding").expect("a sum").to_vec2::<f32>().expect("values");
        assert_eq!(sum, [[0.0; 3], [0.0; 3], [0.0; 3], [2.0; 3]]);
        assert!(gradients.add_rows("embedding", (5, 3), &[0, 1], &rows).is_err());
    }
}

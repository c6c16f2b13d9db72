//! Gradients by tensor name, accumulated over micro-batches in f32.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, InplaceOp2, Layout, Result, Shape, Tensor, Var, bail};
use rayon::prelude::*;

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
            Some(sum) if self.ops.uses_cpu_kernels_for(sum) => sum.inplace_op2(&gradient.contiguous()?, &AddTo)?,
            Some(sum) => *sum = (&*sum + gradient)?,
        }
        Ok(())
    }

    /// Calls `add` with a tensor's sum, which is on the CPU and initially zero.
    pub(super) fn with_sum(&mut self, name: &str, shape: &Shape, add: impl FnOnce(&mut [f32])) -> Result<()> {
        if !self.sums.contains_key(name) {
            let zeros = self.zeros(name, shape, &Device::Cpu)?;
            self.sums.insert(name.to_owned(), zeros);
        }
        match self.sums.get(name) {
            Some(sum) => sum.inplace_op1(&InPlace(Cell::new(Some(add)))),
            None => Ok(()),
        }
    }

    /// Adds `rows[i]`, `[width]`, to row `ids[i]` of a tensor's sum `[count, width]`: the gradient
    /// of an embedding.
    pub fn add_rows(&mut self, name: &str, shape: (usize, usize), ids: &Tensor, rows: &Tensor) -> Result<()> {
        let rows = rows.detach().to_dtype(DType::F32)?.contiguous()?;
        let sum = match self.sums.remove(name) {
            Some(sum) => sum,
            None => self.zeros(name, &shape.into(), rows.device())?,
        };
        let sum = if self.ops.uses_cpu_kernels_for(&sum) {
            sum.inplace_op3(ids, &rows, &AddRows)?;
            sum
        } else {
            sum.index_add(ids, &rows, 0)?
        };
        self.sums.insert(name.to_owned(), sum);
        Ok(())
    }

    fn zeros(&mut self, name: &str, shape: &Shape, device: &Device) -> Result<Tensor> {
        match self.reserved.remove(name) {
            Some(zeros) => Ok(zeros),
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
            super::lm_head::with_floats(self.ops, gradient, |values| {
                values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum()
            })
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

/// An in-place op that calls a closure with the tensor's elements, once.
struct InPlace<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "in-place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets(), self.0.take()) {
            (CpuStorage::F32(values), Some((from, to)), Some(run)) => run(&mut values[from..to]),
            _ => bail!("in-place: expected contiguous f32"),
        }
        Ok(())
    }
}

struct AddTo;

impl InplaceOp2 for AddTo {
    fn name(&self) -> &'static str {
        "add-to"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let (CpuStorage::F32(sum), CpuStorage::F32(term)) = (s1, s2) else { bail!("add-to: expected f32") };
        let (Some((a, b)), Some((c, d))) = (l1.contiguous_offsets(), l2.contiguous_offsets()) else {
            bail!("add-to: not contiguous")
        };
        if b - a != d - c {
            bail!("add-to: {:?} and {:?}", l1.dims(), l2.dims());
        }
        sum[a..b].iter_mut().zip(&term[c..d]).for_each(|(sum, term)| *sum += term);
        Ok(())
    }
}

struct AddRows;

impl candle_core::InplaceOp3 for AddRows {
    fn name(&self) -> &'static str {
        "add-rows"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(sum), CpuStorage::U32(ids), CpuStorage::F32(rows)) = (s1, s2, s3) else {
            bail!("add-rows: expected f32, u32, f32")
        };
        let offsets = (l1.contiguous_offsets(), l2.contiguous_offsets(), l3.contiguous_offsets());
        let (Some((a, b)), Some((c, d)), Some((e, f))) = offsets else { bail!("add-rows: not contiguous") };
        let width = l1.dims().last().copied().unwrap_or(1).max(1);
        let (sum, ids, rows) = (&mut sum[a..b], &ids[c..d], &rows[e..f]);
        if rows.len() != ids.len() * width || ids.iter().any(|id| (*id as usize + 1) * width > sum.len()) {
            bail!("add-rows: {:?} by {:?} into {:?}", l3.dims(), l2.dims(), l1.dims());
        }
        for (id, row) in ids.iter().zip(rows.chunks_exact(width)) {
            let sum = &mut sum[*id as usize * width..][..width];
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        Ok(())
    }
}

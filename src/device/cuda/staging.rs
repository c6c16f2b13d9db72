//! Pinned host memory, through which images and their angles are copied to a GPU.
//!
//! A copy from pageable memory may block the host until the GPU has finished all work issued before
//! it. A copy from pinned memory is queued, so the host can prepare the next image meanwhile. The
//! gain has not been measured yet.

use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, DriverError, PinnedHostSlice};
use candle_core::cuda_backend::{CudaError, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Device, Result, Shape, Storage, Tensor};

/// A pinned buffer.
struct PinnedBuffer {
    memory: PinnedHostSlice<f32>,
    /// Recorded after the copy that reads the buffer.
    copied: CudaEvent,
}

/// Number of buffers per GPU: patches, cosines and sines of two images, so that the next image's
/// are filled while the current one's are read.
const BUFFERS: usize = 6;

/// All buffers of this process, the least recently used one first.
static POOL: Mutex<Vec<PinnedBuffer>> = Mutex::new(Vec::new());

/// Copies values to a GPU through pinned memory, or from pageable memory if none can be pinned.
/// Work issued afterwards sees the copy.
///
/// # Errors
/// The GPU is out of memory, or fails.
pub fn upload(values: &[f32], shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    let gpu = device.as_cuda_device()?;
    let stream = gpu.cuda_stream();
    let context = stream.context();
    // SAFETY: the copy writes every element.
    let mut elements = unsafe { gpu.alloc::<f32>(values.len()) }?;
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let own: Vec<usize> = (0..pool.len()).filter(|i| pool[*i].memory.context() == context).collect();
    let oldest = (own.len() >= BUFFERS).then(|| pool.remove(own[0]));
    if let Some(oldest) = &oldest {
        oldest.copied.synchronize().w()?;
    }
    let next = match oldest {
        Some(oldest) if oldest.memory.len() >= values.len() => Some(oldest),
        // SAFETY: only the part of this memory that was written is read.
        _ => unsafe { context.alloc_pinned::<f32>(values.len()) }
            .ok()
            .map(|memory| Ok(PinnedBuffer { memory, copied: context.new_event(None)? }))
            .transpose()
            .map_err(|error: DriverError| candle_core::Error::from(CudaError::from(error)))?,
    };
    match next {
        Some(mut next) => {
            let memory = &mut next.memory.as_mut_slice().w()?[..values.len()];
            memory.copy_from_slice(values);
            gpu.memcpy_htod(&*memory, &mut elements)?;
            next.copied.record(&stream).w()?;
            pool.push(next);
        }
        None => gpu.memcpy_htod(values, &mut elements)?,
    }
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(elements, gpu.clone()));
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

//! Pinned memory that images and their angles pass through on their way to a GPU.
//!
//! A copy from ordinary memory may hold the host until the GPU has done all work before it. From pinned memory it takes its turn, so that the
//! host can go on to the next image. Not measured yet.

use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, DriverError, PinnedHostSlice};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Device, Result, Shape, Storage, Tensor};

/// Pinned memory, and when the GPU will have read it.
struct Staging {
    memory: PinnedHostSlice<f32>,
    read: CudaEvent,
}

/// Two images' patches, cosines and sines: while one image's are read the next one's are filled.
const BUFFERS: usize = 6;

/// Those of this process, the one that was used first at the front.
static STAGING: Mutex<Vec<Staging>> = Mutex::new(Vec::new());

/// Brings numbers to a GPU; where the host has no memory to pin, from ordinary memory. Work that is issued afterwards finds them there.
///
/// # Errors
/// The GPU has no memory left, or fails.
pub fn upload(values: &[f32], shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    let gpu = device.as_cuda_device()?;
    let stream = gpu.cuda_stream();
    let context = stream.context();
    // SAFETY: the copy writes every element.
    let mut numbers = unsafe { gpu.alloc::<f32>(values.len()) }?;
    let mut staging = STAGING.lock().unwrap_or_else(PoisonError::into_inner);
    let own: Vec<usize> = (0..staging.len()).filter(|i| staging[*i].memory.context() == context).collect();
    let oldest = (own.len() >= BUFFERS).then(|| staging.remove(own[0]));
    if let Some(oldest) = &oldest {
        oldest.read.synchronize().w()?;
    }
    let next = match oldest {
        Some(oldest) if oldest.memory.len() >= values.len() => Some(oldest),
        // SAFETY: of this memory only what was written is read.
        _ => unsafe { context.alloc_pinned::<f32>(values.len()) }
            .ok()
            .map(|memory| Ok(Staging { memory, read: context.new_event(None)? }))
            .transpose()
            .map_err(|error: DriverError| candle_core::Error::wrap(error))?,
    };
    match next {
        Some(mut next) => {
            let memory = &mut next.memory.as_mut_slice().w()?[..values.len()];
            memory.copy_from_slice(values);
            gpu.memcpy_htod(&*memory, &mut numbers)?;
            next.read.record(&stream).w()?;
            staging.push(next);
        }
        None => gpu.memcpy_htod(values, &mut numbers)?,
    }
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(numbers, gpu.clone()));
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

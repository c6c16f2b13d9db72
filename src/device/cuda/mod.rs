//! The CUDA driver: counts, opens and describes GPUs. Nothing outside this folder names the driver.
#![allow(unsafe_code)]

pub mod kernels;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod libraries;
pub mod staging;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::CudaError;
use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool, CUresult, cuDriverGetVersion};
use candle_core::{Device, Result, bail};
use serde::Serialize;

use super::error::DeviceError;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use self::libraries::{load_driver, load_toolkit};

/// On other platforms the system's loader has loaded the driver before `main`.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn load_driver() -> std::result::Result<(), DeviceError> {
    Ok(())
}

/// On other platforms the system's loader has loaded the libraries before `main`.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn load_toolkit() -> std::result::Result<(), DeviceError> {
    Ok(())
}

/// Returns the number of GPUs that this process may see. The driver reads `CUDA_VISIBLE_DEVICES`.
///
/// # Errors
/// The driver is missing, or does not start.
pub fn gpu_count() -> std::result::Result<usize, DeviceError> {
    load_driver()?;
    match result::init().and_then(|()| result::device::get_count()) {
        Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
        Err(error) if error.0 == CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
        Err(error) => Err(DeviceError::Open(error.to_string())),
    }
}

/// Opens a GPU once; later calls return the same device, with one stream for all threads.
///
/// candle's own `new_cuda` takes the default stream of the calling thread. Work issued by another
/// thread (the workers of the sampling engine, the thread pools of a training step) would not wait
/// for it.
///
/// # Errors
/// The driver refuses.
pub fn open(index: usize) -> std::result::Result<Device, DeviceError> {
    static OPENED: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = opened.get(&index) {
        return Ok(device.clone());
    }
    load_toolkit()?;
    let failed = |error: candle_core::Error| DeviceError::Open(error.to_string());
    let device = Device::new_cuda_with_stream(index).map_err(failed)?;
    let cuda = device.as_cuda_device().map_err(failed)?;
    // SAFETY: events order work among several streams, and this process uses only one.
    unsafe { cuda.disable_event_tracking() };
    keep_freed_memory(&device).map_err(failed)?;
    opened.insert(index, device.clone());
    Ok(device)
}

/// Makes the driver's pool keep freed memory. By default the driver releases it at every
/// synchronisation and allocates it again at once.
fn keep_freed_memory(device: &Device) -> Result<()> {
    if device.as_cuda_device()?.cuda_stream().context().has_async_alloc() {
        set_attribute(memory_pool(device)?, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
    }
    Ok(())
}

fn memory_pool(device: &Device) -> Result<CUmemoryPool> {
    let stream = device.as_cuda_device()?.cuda_stream();
    // SAFETY: the context holds a device that exists.
    unsafe { result::device::get_default_mem_pool(stream.context().cu_device()) }.map_err(candle_core::Error::wrap)
}

fn set_attribute(pool: CUmemoryPool, attribute: CUmemPool_attribute, mut value: u64) -> Result<()> {
    // SAFETY: the pool belongs to the device, and both attributes set here are 64-bit integers.
    unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut value).cast()) }
        .map_err(candle_core::Error::wrap)
}

fn attribute(pool: CUmemoryPool, attribute: CUmemPool_attribute) -> Result<u64> {
    let mut value = 0u64;
    // SAFETY: as in `set_attribute`.
    unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut value).cast()) }
        .map_err(candle_core::Error::wrap)?;
    Ok(value)
}

/// Resets the counter behind [`peak_memory`].
///
/// # Errors
/// The device is not a GPU.
pub fn reset_peak_memory(device: &Device) -> Result<()> {
    set_attribute(memory_pool(device)?, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)
}

/// Returns the largest number of bytes that tensors occupied at once since [`reset_peak_memory`].
///
/// # Errors
/// The device is not a GPU.
pub fn peak_memory(device: &Device) -> Result<u64> {
    attribute(memory_pool(device)?, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)
}

/// Properties of a GPU, as the driver reports them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuInfo {
    /// Product name.
    pub name: String,
    /// Index among the GPUs that this process sees.
    pub index: usize,
    /// Compute capability, such as 9.0.
    pub compute_capability: String,
    /// Memory in bytes.
    pub memory: usize,
    /// Bytes that tensors can still take: free memory, and what this process's pool holds unused.
    pub free_memory: usize,
    /// Newest CUDA version that the driver supports, such as 13.0.
    pub driver_cuda: String,
}

/// Describes an opened GPU.
///
/// # Errors
/// The device is not a GPU, or the driver refuses.
pub fn gpu_info(device: &Device) -> Result<GpuInfo> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let context = stream.context();
    let read = || {
        let (major, minor) = context.compute_capability()?;
        let (free, memory) = context.mem_get_info()?;
        Ok((context.name()?, format!("{major}.{minor}"), free, memory))
    };
    let (name, compute_capability, driver_free, memory) =
        read().map_err(|error: result::DriverError| candle_core::Error::from(CudaError::from(error)))?;
    let free_memory = match context.has_async_alloc() {
        true => {
            let pool = memory_pool(device)?;
            let reserved = attribute(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
            let used = attribute(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
            free_memory(driver_free, reserved, used)
        }
        false => driver_free,
    };
    let mut version = 0;
    // SAFETY: the driver writes one int.
    if unsafe { cuDriverGetVersion(&raw mut version) }.result().is_err() {
        bail!("the driver does not report its version");
    }
    let driver_cuda = format!("{}.{}", version / 1000, version % 1000 / 10);
    Ok(GpuInfo { name, index: context.ordinal(), compute_capability, memory, free_memory, driver_cuda })
}

/// Adds the bytes that the pool holds unused to those that the driver reports free. The two
/// counters are read one after the other and may be inconsistent, so the difference saturates at 0.
fn free_memory(driver_free: usize, pool_reserved: u64, pool_used: u64) -> usize {
    driver_free.saturating_add(usize::try_from(pool_reserved.saturating_sub(pool_used)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_memory_of_the_pool_counts_as_free() {
        assert_eq!(free_memory(1000, 900, 300), 1600);
        assert_eq!(free_memory(1000, 0, 0), 1000);
        assert_eq!(free_memory(1000, 300, 301), 1000);
    }
}

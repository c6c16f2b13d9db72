//! CUDA: counts cards, opens one, and reads what the driver knows of it; our own kernels. Nothing else names the driver.
#![allow(unsafe_code)]

pub mod kernels;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod libraries;
pub mod staging;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool, cuDriverGetVersion};
use candle_core::{Device, Result, bail};
use serde::Serialize;

use crate::device::{DeviceError, free_memory};

/// The driver is part of the process.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn load_driver() -> std::result::Result<(), DeviceError> {
    libraries::load_driver()
}

/// The driver and CUDA's libraries are part of the process.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn load() -> std::result::Result<(), DeviceError> {
    libraries::load()
}

/// Elsewhere the system's loader has brought them before `main`.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn load_driver() -> std::result::Result<(), DeviceError> {
    Ok(())
}

/// As for the driver.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn load() -> std::result::Result<(), DeviceError> {
    Ok(())
}

/// Cards that this process may see: `CUDA_VISIBLE_DEVICES` is the driver's to read.
///
/// # Errors
/// The driver is missing, or does not start.
pub fn count() -> std::result::Result<usize, DeviceError> {
    load_driver()?;
    let started = result::init().and_then(|()| result::device::get_count());
    match started {
        Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
        Err(error) if error.0 as u32 == NO_DEVICE => Ok(0),
        Err(error) => Err(DeviceError::Open(error.to_string())),
    }
}

/// CUDA_ERROR_NO_DEVICE.
const NO_DEVICE: u32 = 100;

/// Opens a card, once; later calls give the same device: one stream for all threads.
///
/// candle's own `new_cuda` takes the stream of the calling thread. Work that another thread issues, as the lanes of the sampling
/// engine and the pools of a training step do, would then not wait for it.
///
/// # Errors
/// The driver refuses.
pub fn open(index: usize) -> std::result::Result<Device, DeviceError> {
    static OPENED: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = opened.get(&index) {
        return Ok(device.clone());
    }
    load()?;
    let failed = |error: candle_core::Error| DeviceError::Open(error.to_string());
    let device = Device::new_cuda_with_stream(index).map_err(failed)?;
    let cuda = device.as_cuda_device().map_err(failed)?;
    // SAFETY: events order work among several streams. This process has one, so they would order what is in order already.
    unsafe { cuda.disable_event_tracking() };
    keep_freed_memory(&device).map_err(failed)?;
    opened.insert(index, device.clone());
    Ok(device)
}

/// Freed memory stays in the pool: by default the driver gives it back whenever the host waits, and takes it again at once.
fn keep_freed_memory(device: &Device) -> Result<()> {
    if device.as_cuda_device()?.cuda_stream().context().has_async_alloc() {
        set(pool(device)?, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
    }
    Ok(())
}

fn pool(device: &Device) -> Result<CUmemoryPool> {
    let stream = device.as_cuda_device()?.cuda_stream();
    // SAFETY: the context holds a device that exists.
    unsafe { result::device::get_default_mem_pool(stream.context().cu_device()) }.map_err(candle_core::Error::wrap)
}

fn set(pool: CUmemoryPool, attribute: CUmemPool_attribute, mut value: u64) -> Result<()> {
    // SAFETY: the pool is the device's own, and both attributes that are set here are 64-bit numbers.
    unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut value).cast()) }
        .map_err(candle_core::Error::wrap)
}

fn get(pool: CUmemoryPool, attribute: CUmemPool_attribute) -> Result<u64> {
    let mut value = 0u64;
    // SAFETY: as for `set`.
    unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut value).cast()) }
        .map_err(candle_core::Error::wrap)?;
    Ok(value)
}

/// Forgets the most memory that was in use at once.
///
/// # Errors
/// The device is not a card.
pub fn reset_peak_memory(device: &Device) -> Result<()> {
    set(pool(device)?, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)
}

/// The most memory that tensors took at once since [`reset_peak_memory`], in bytes.
///
/// # Errors
/// The device is not a card.
pub fn peak_memory(device: &Device) -> Result<u64> {
    get(pool(device)?, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)
}

/// What the driver knows of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Its number among those that this process sees.
    pub index: usize,
    /// Its compute capability, such as 9.0.
    pub compute_capability: String,
    /// Its memory in bytes.
    pub memory: usize,
    /// Memory that tensors can still have, in bytes: what the driver calls free, and what this process keeps of freed tensors.
    pub free_memory: usize,
    /// The newest CUDA that the driver knows, such as 13.0.
    pub driver_cuda: String,
}

/// Describes an opened card.
///
/// # Errors
/// The device is not a card, or the driver refuses.
pub fn card(device: &Device) -> Result<Card> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let context = stream.context();
    let read = || {
        let (major, minor) = context.compute_capability()?;
        let (free_memory, memory) = context.mem_get_info()?;
        Ok((context.name()?, format!("{major}.{minor}"), free_memory, memory))
    };
    let (name, compute_capability, driver_free, memory) =
        read().map_err(|error: result::DriverError| candle_core::Error::wrap(error))?;
    let free_memory = match context.has_async_alloc() {
        true => {
            let pool = pool(device)?;
            let reserved = get(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
            free_memory(driver_free, reserved, get(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?)
        }
        false => driver_free,
    };
    let mut version = 0;
    // SAFETY: the driver writes one int.
    if unsafe { cuDriverGetVersion(&raw mut version) }.result().is_err() {
        bail!("the driver does not say its version");
    }
    let driver_cuda = format!("{}.{}", version / 1000, version % 1000 / 10);
    Ok(Card { name, index: context.ordinal(), compute_capability, memory, free_memory, driver_cuda })
}

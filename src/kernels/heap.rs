//! Activations in memory that the process already has.
//!
//! A pass allocates and frees megabytes for every operation. An allocator that hands them back to the system each time
//! has every page cleared and mapped anew, which takes longer than the arithmetic of a small model.
#![allow(unsafe_code)]

use std::sync::Once;

/// Free bytes that the heap may end with at all times: twice the largest of its blocks, as glibc has it when it adapts by itself.
const DEFAULT_TRIM_BYTES: i32 = 64 << 20;

/// Has glibc keep what is freed, up to some tens of megabytes, from the first call on; other allocators are left as they are.
///
/// Blocks of up to 32 MiB (the most that glibc allows for `M_MMAP_THRESHOLD`, mallopt(3)) come from its heap, and the heap's end is given
/// back only beyond twice that.
pub fn keep_freed_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| set_trim_threshold(DEFAULT_TRIM_BYTES));
}

/// Has glibc keep so much of what is freed at the heap's end, until [`TrimHeapOnDrop`]: all of it for steps that go through the same gigabytes
/// again and again, little for those that are to take little.
///
/// With all of it three steps of a model of 60 million parameters spend 1.5 to 2.3 seconds of processor time in the system instead of 5.5
/// to 5.9; where every layer is recomputed, with 16 MiB the peak is 1,168 MiB, with 64 it is 1,188 (`docs/speed.md`).
pub fn keep_freed_memory_up_to(bytes: i32) {
    // Before, since a model's first pass asks for it and would set this back.
    keep_freed_memory();
    set_trim_threshold(bytes);
}

/// Gives what is free back to the system when it is dropped, so that what comes after a training has its memory.
#[derive(Debug, Default)]
pub struct TrimHeapOnDrop;

impl Drop for TrimHeapOnDrop {
    fn drop(&mut self) {
        set_trim_threshold(DEFAULT_TRIM_BYTES);
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: it may be called at any time, and touches only what nobody has.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

/// Sets how many free bytes the heap may end with.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set_trim_threshold(end: i32) {
    // SAFETY: `mallopt` may be called at any time; it sets numbers that the allocator reads.
    let _ = unsafe { (libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20), libc::mallopt(libc::M_TRIM_THRESHOLD, end)) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set_trim_threshold(_: i32) {}

//! Settings of glibc's heap that keep freed memory in the process.
//!
//! A pass allocates and frees megabytes for every operation. An allocator that returns them to the
//! system each time has every page cleared and mapped again, which takes longer than the arithmetic
//! of a small model.
#![allow(unsafe_code)]

use std::sync::Once;

/// Bytes of free memory kept at the top of the heap by default: twice the largest block of the
/// heap, as glibc sets it when it adapts by itself.
const DEFAULT_TRIM_BYTES: i32 = 64 << 20;

/// Makes glibc keep up to `DEFAULT_TRIM_BYTES` of freed memory, from the first call on; other
/// allocators are left as they are.
///
/// Blocks of up to 32 MiB (the largest value that glibc allows for `M_MMAP_THRESHOLD`, mallopt(3))
/// come from its heap, and the top of the heap is returned to the system only beyond the limit.
pub fn keep_freed_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| set_trim_threshold(DEFAULT_TRIM_BYTES));
}

/// Makes glibc keep up to `bytes` of freed memory at the top of the heap, until [`TrimHeapOnDrop`]:
/// all of it for steps that allocate the same gigabytes again and again, little for steps that must
/// take little memory.
///
/// With everything kept, three steps of a model of 60 million parameters spend 1.5 to 2.3 seconds
/// of processor time in the system instead of 5.5 to 5.9. When every layer is recomputed, the peak
/// is 1,168 MiB with 16 MiB kept, 1,188 MiB with 64 MiB (`docs/speed.md`).
pub fn keep_freed_memory_up_to(bytes: i32) {
    // First, since a model's first pass calls it too and would reset this limit.
    keep_freed_memory();
    set_trim_threshold(bytes);
}

/// A guard that returns free heap memory to the system when it is dropped, so that the code after a
/// training run can use it.
#[derive(Debug, Default)]
pub struct TrimHeapOnDrop;

impl Drop for TrimHeapOnDrop {
    fn drop(&mut self) {
        set_trim_threshold(DEFAULT_TRIM_BYTES);
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: `malloc_trim` may be called at any time, and releases only free memory.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

/// Sets the number of free bytes kept at the top of the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set_trim_threshold(end: i32) {
    // SAFETY: `mallopt` may be called at any time; it sets numbers that the allocator reads.
    let _ = unsafe { (libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20), libc::mallopt(libc::M_TRIM_THRESHOLD, end)) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set_trim_threshold(_: i32) {}

//! Activations in memory that the process already has.
//!
//! A pass allocates and frees megabytes for every operation. An allocator that hands them back to the system each time
//! has every page cleared and mapped anew, which takes longer than the arithmetic of a small model.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::sync::Once;

/// The largest block after whose release glibc still raises its thresholds (its `DEFAULT_MMAP_THRESHOLD_MAX` less a
/// margin for the block's header and for whole pages).
const LARGEST: usize = (32 << 20) - (64 << 10);

/// Has the allocator keep what is freed, up to some tens of megabytes, from the first call on.
///
/// glibc adapts: when a block that it got from the system is freed, blocks of that size come from the heap from then
/// on, and the heap's end is given back only beyond twice that size (mallopt(3), `M_MMAP_THRESHOLD`). So one large
/// block is taken and freed. It is never written, so it costs no memory; other allocators see nothing unusual.
pub fn keep_freed_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(black_box(Vec::<u8>::with_capacity(LARGEST))));
}

/// Has the allocator keep what is freed, up to two gigabytes, from the first call on: for a process that goes through the same gigabytes again
/// and again. Blocks beyond 32 MiB still come from the system each time.
///
/// A step of a model of 60 million parameters spends 1.3 seconds of processor time in the system instead of 5.8 (`docs/speed.md`).
pub fn keep_all_freed_memory() {
    static ONCE: Once = Once::new();
    keep_freed_memory();
    ONCE.call_once(|| {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: `mallopt` may be called at any time; it sets numbers that the allocator reads.
        let _ = unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX) };
    });
}

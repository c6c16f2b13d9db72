//! Activations in memory that the process already has.
//!
//! A pass allocates and frees megabytes for every operation. An allocator that hands them back to the system each time
//! has every page cleared and mapped anew, which takes longer than the arithmetic of a small model.

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

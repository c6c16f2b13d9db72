//! A global allocator that asks Linux for huge pages (2 MiB) for large blocks.
//!
//! Weights, gradients and activations are read and written from end to end. With 4 KiB pages much
//! of that time goes into page faults and TLB misses, above all in a virtual machine: a training
//! step of a model of 60 million parameters takes a sixth longer (`docs/results/speed.md`). glibc
//! has a tunable for huge pages, but it must be set before the process starts, and glibc 2.36
//! follows it only by chance.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of a huge page; smaller blocks contain none.
const PAGE: usize = 2 << 20;

/// The system allocator, with huge pages for large blocks.
///
/// A block that is allocated large, or grows to be large, begins on a huge page and is advised to
/// use huge pages for all that it fills. Zeroed blocks, and blocks that were large before they
/// grew, are left to the system.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: visplay::huge_pages::HugePages = visplay::huge_pages::HugePages;
/// ```
#[derive(Debug)]
pub struct HugePages;

// SAFETY: every block is the system allocator's own, with the size and at least the alignment
// requested; on Linux a block is freed by its address alone, whatever alignment was requested; and
// the advice changes no byte.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(aligned) = huge_page_aligned(layout) else {
            // SAFETY: the caller upholds the contract of `alloc`, which is passed on.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: as above; the size is the caller's.
        let block = unsafe { System.alloc(aligned) };
        advise(block, aligned.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // Fresh pages from the system are zero without being written, and the block may be much
        // larger than what is ever used, such as a KV cache; so these blocks are left as they are.
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size < PAGE || layout.size() >= PAGE || cfg!(not(target_os = "linux")) {
            // A large block keeps its advice when the system remaps its pages, which is faster than
            // a copy.
            // SAFETY: as above; it keeps the alignment that the caller requested.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller guarantees that the size, rounded up to the alignment, does not
        // overflow.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both blocks are at least this long, and they do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(block, new, layout.size()) };
            // SAFETY: the old block is the allocator's, and no one else holds it.
            unsafe { System.dealloc(block, layout) };
        }
        new
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Returns the layout of a large block, aligned to a huge page; `None` for a small block, and where
/// huge pages cannot be requested.
fn huge_page_aligned(layout: Layout) -> Option<Layout> {
    if cfg!(not(target_os = "linux")) || layout.size() < PAGE {
        return None;
    }
    layout.align_to(PAGE).ok()
}

/// Advises the system to use huge pages for all whole huge pages of a block. A system without them,
/// or one that uses them anyway, ignores it.
#[cfg(target_os = "linux")]
fn advise(block: *mut u8, size: usize) {
    if !block.is_null() {
        // SAFETY: the range is within the block, and this advice leaves the memory's contents as
        // they are. An error has no consequence.
        let _ = unsafe { libc::madvise(block.cast(), size / PAGE * PAGE, libc::MADV_HUGEPAGE) };
    }
}

/// Does nothing: this system has no such advice.
#[cfg(not(target_os = "linux"))]
fn advise(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    #[global_allocator]
    static ALLOCATOR: super::HugePages = super::HugePages;

    #[test]
    #[cfg(target_os = "linux")]
    fn large_blocks_are_advised_and_contents_survive_growing_and_shrinking() {
        // A small block grows large, a large one larger, and that one shrinks.
        let mut block = vec![7u8; super::PAGE / 2];
        for (from, to, byte) in [(super::PAGE / 2, 3 * super::PAGE, 8), (3 * super::PAGE, 8 * super::PAGE, 9)] {
            let before = block.clone();
            block.reserve_exact(to - from);
            block.resize(to, byte);
            assert!(block[..from] == before && block[from..].iter().all(|b| *b == byte));
        }
        block.truncate(10);
        block.shrink_to_fit();
        assert_eq!(block, [7; 10]);
        let within = |line: &str, at: usize| {
            let (from, to) = line.split_whitespace().next()?.split_once('-')?;
            let [from, to] = [from, to].map(|end| usize::from_str_radix(end, 16));
            Some((from.ok()?..to.ok()?).contains(&at))
        };
        // A kernel built without huge pages does not record the advice.
        let has_pages = std::path::Path::new("/sys/kernel/mm/transparent_hugepage/enabled").exists();
        let allocated = vec![9u8; 3 * super::PAGE];
        let mut grown = vec![9u8; super::PAGE / 2];
        grown.resize(3 * super::PAGE, 9);
        for block in [allocated, grown].map(black_box) {
            let at = block.as_ptr() as usize;
            assert_eq!(at % super::PAGE, 0);
            let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux has it");
            let mut lines = smaps.lines().skip_while(|line| within(line, at) != Some(true));
            let flags = lines.find(|line| line.starts_with("VmFlags:")).expect("flags of the block's pages");
            assert!(!has_pages || flags.split_whitespace().any(|flag| flag == "hg"), "{flags}");
        }
    }
}

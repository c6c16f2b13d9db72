//! Memory in pages of 2 MiB, where Linux gives them to those who ask.
//!
//! Weights, gradients and activations are gone through from end to end. In pages of 4 KiB much of that time goes into finding the next
//! page, and into its first write, above all in a virtual machine: a training step of a model of 60 million parameters takes a sixth
//! longer (`docs/speed.md`). glibc can ask for large pages itself, by a tunable that a process must be started with, and that its
//! version 2.36 heeds by chance; so the allocator here asks.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of a large page; smaller blocks hold none.
const PAGE: usize = 2 << 20;

/// The system's allocator. What is allocated large, or grows to be, begins on a large page and asks for as many as it fills; what is
/// asked for as zeros, or was large already when it grew, lies where the system puts it.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: visplay::huge_pages::HugePages = visplay::huge_pages::HugePages;
/// ```
#[derive(Debug)]
pub struct HugePages;

// SAFETY: every block is the system allocator's own, with the size and at least the alignment asked for; on Linux it frees a block by its
// address alone, whatever alignment was asked for; and the advice changes no byte.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(wide) = widened(layout) else {
            // SAFETY: the caller keeps to the contract of `alloc`, which is passed on.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: as above; the size is the caller's.
        let block = unsafe { System.alloc(wide) };
        advise(block, wide.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // What is fresh from the system is zero without being written, and may be promised for much more than is ever used, such as a
        // cache: so these are left as they are.
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size < PAGE || layout.size() >= PAGE || cfg!(not(target_os = "linux")) {
            // What is large already keeps its advice where the system moves its pages, which is faster than a copy.
            // SAFETY: as above; it keeps the alignment that the caller asked for.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller promises that the size, rounded up to the alignment, is no overflow.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both blocks hold that much, and they are not the same.
            unsafe { std::ptr::copy_nonoverlapping(block, new, layout.size()) };
            // SAFETY: the old block is the allocator's, and nobody has it any more.
            unsafe { System.dealloc(block, layout) };
        }
        new
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The layout of a large block, which begins on a large page; `None` for a small one, and where large pages cannot be asked for.
fn widened(layout: Layout) -> Option<Layout> {
    if cfg!(not(target_os = "linux")) || layout.size() < PAGE {
        return None;
    }
    layout.align_to(PAGE).ok()
}

/// Asks for large pages for all that a block fills. A system that has none, or gives them unasked, does as it would have.
#[cfg(target_os = "linux")]
fn advise(block: *mut u8, size: usize) {
    if !block.is_null() {
        // SAFETY: the range lies within the block, and this advice leaves what is in memory as it is. An error is of no consequence.
        let _ = unsafe { libc::madvise(block.cast(), size / PAGE * PAGE, libc::MADV_HUGEPAGE) };
    }
}

/// Asks for large pages for a block: not on this system.
#[cfg(not(target_os = "linux"))]
fn advise(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    #[global_allocator]
    static ALLOCATOR: super::HugePages = super::HugePages;

    #[test]
    #[cfg(target_os = "linux")]
    fn large_blocks_have_the_advice_and_small_ones_their_contents() {
        // A small one becomes a large one, a large one a larger one, and that a small one.
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
        // A kernel built without large pages has no such advice to take.
        let has_pages = std::path::Path::new("/sys/kernel/mm/transparent_hugepage/enabled").exists();
        let made = vec![9u8; 3 * super::PAGE];
        let mut grown = vec![9u8; super::PAGE / 2];
        grown.resize(3 * super::PAGE, 9);
        for block in [made, grown].map(black_box) {
            let at = block.as_ptr() as usize;
            assert_eq!(at % super::PAGE, 0);
            let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux has it");
            let mut lines = smaps.lines().skip_while(|line| within(line, at) != Some(true));
            let flags = lines.find(|line| line.starts_with("VmFlags:")).expect("flags of the block's pages");
            assert!(!has_pages || flags.split_whitespace().any(|flag| flag == "hg"), "{flags}");
        }
    }
}

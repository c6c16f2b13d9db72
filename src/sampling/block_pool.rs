//! Which blocks of the cache are free, and how many sequences share the others.

/// The blocks of one cache.
#[derive(Debug)]
pub(super) struct BlockPool {
    free: Vec<u32>,
    shares: Vec<u32>,
    /// Blocks that running samples may still ask for.
    promised: usize,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        Self { free: (0..blocks as u32).rev().collect(), shares: vec![0; blocks], promised: 0 }
    }

    /// Blocks in all.
    pub(super) fn len(&self) -> usize {
        self.shares.len()
    }

    /// Blocks that are neither used nor promised.
    pub(super) fn available(&self) -> usize {
        self.free.len() - self.promised
    }

    /// Sets `count` of the available blocks aside; each is later taken by [`Self::take_promised`] or given up.
    pub(super) fn promise(&mut self, count: usize) {
        debug_assert!(count <= self.available(), "only what is available can be promised");
        self.promised += count;
    }

    /// Gives up promised blocks that were not needed.
    pub(super) fn give_up(&mut self, count: usize) {
        self.promised -= count;
    }

    /// A free block that was promised.
    pub(super) fn take_promised(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.promised -= 1;
        self.shares[block as usize] = 1;
        Some(block)
    }

    /// One more sequence uses the block.
    pub(super) fn share(&mut self, block: u32) {
        self.shares[block as usize] += 1;
    }

    /// One sequence less uses the block.
    pub(super) fn release(&mut self, block: u32) {
        let shares = &mut self.shares[block as usize];
        *shares -= 1;
        if *shares == 0 {
            self.free.push(block);
        }
    }
}

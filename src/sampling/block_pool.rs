//! Allocation of the KV cache's blocks, with reference counts for blocks that sequences share.

/// The blocks of one KV cache.
#[derive(Debug)]
pub(super) struct BlockPool {
    free: Vec<u32>,
    users: Vec<u32>,
    /// Number of free blocks reserved for running samples.
    reserved: usize,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        Self { free: (0..blocks as u32).rev().collect(), users: vec![0; blocks], reserved: 0 }
    }

    /// Returns the number of blocks.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// Returns the number of blocks that are neither used nor reserved.
    pub(super) fn available(&self) -> usize {
        self.free.len() - self.reserved
    }

    /// Reserves `count` of the available blocks; each is later taken by [`Self::take_reserved`] or
    /// given back by [`Self::unreserve`].
    pub(super) fn reserve(&mut self, count: usize) {
        debug_assert!(count <= self.available(), "only available blocks can be reserved");
        self.reserved += count;
    }

    /// Gives back reserved blocks that were not needed.
    pub(super) fn unreserve(&mut self, count: usize) {
        self.reserved -= count;
    }

    /// Takes a reserved block.
    pub(super) fn take_reserved(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.reserved -= 1;
        self.users[block as usize] = 1;
        Some(block)
    }

    /// Adds a sequence that uses the block.
    pub(super) fn share(&mut self, block: u32) {
        self.users[block as usize] += 1;
    }

    /// Removes a sequence that uses the block; the last one frees it.
    pub(super) fn release(&mut self, block: u32) {
        let users = &mut self.users[block as usize];
        *users -= 1;
        if *users == 0 {
            self.free.push(block);
        }
    }
}

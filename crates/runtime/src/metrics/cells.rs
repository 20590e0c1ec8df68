//! Where numbers live: cells in cache lines that one worker writes.
//!
//! In flow requests for the cells of a series. Out flow slots: places that are the same in each shard of a chunk.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Cells in a block: two cache lines, because processors fetch lines in pairs.
const CELLS_PER_BLOCK: usize = 16;

/// Largest number of series that are allocated at once.
const SERIES_PER_CHUNK: usize = 512;

/// The shard that parts without one of their own write to, with atomic additions.
const SHARED: usize = 0;

/// One worker's right to write. There is one per worker: [`Registry::claim`](super::Registry::claim) hands it out once until it
/// is dropped. It may move to another thread but not be shared between threads, so each cell of it has a single writer.
#[derive(Debug)]
pub struct Shard {
    index: usize,
    claimed: Arc<[AtomicBool]>,
    not_sync: PhantomData<Cell<()>>,
}

impl Shard {
    /// The shard of the worker with this number, unless it is taken or there is no such worker.
    pub(super) fn claim(claimed: &Arc<[AtomicBool]>, worker: usize) -> Option<Self> {
        let taken = claimed.get(worker)?.swap(true, Ordering::AcqRel);
        (!taken).then(|| Self { index: worker + 1, claimed: claimed.clone(), not_sync: PhantomData })
    }

    /// The number of the worker, from zero.
    pub fn worker(&self) -> usize {
        self.index - 1
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        if let Some(taken) = self.claimed.get(self.worker()) {
            // Released, so that the next writer of these cells reads what this one wrote.
            taken.store(false, Ordering::Release);
        }
    }
}

#[derive(Default)]
#[repr(align(128))]
struct Block([AtomicU64; CELLS_PER_BLOCK]);

/// Cells of several series, for all shards: first all blocks of one shard, then those of the next.
pub(super) struct Chunk {
    blocks: Box<[Block]>,
    blocks_per_shard: usize,
}

impl Chunk {
    fn new(shards: usize, cells: usize) -> Self {
        let blocks_per_shard = cells.div_ceil(CELLS_PER_BLOCK);
        let blocks = std::iter::repeat_with(Block::default).take(shards * blocks_per_shard).collect();
        Self { blocks, blocks_per_shard }
    }

    fn cell(&self, shard: usize, index: usize) -> Option<&AtomicU64> {
        let block = self.blocks.get(shard * self.blocks_per_shard + index / CELLS_PER_BLOCK)?;
        Some(&block.0[index % CELLS_PER_BLOCK])
    }

    fn shards(&self) -> usize {
        self.blocks.len() / self.blocks_per_shard
    }
}

/// The cells of one series.
pub(super) struct Slot {
    chunk: Arc<Chunk>,
    first: u32,
}

impl Slot {
    /// Adds in the worker's own cell: one load and one store.
    #[inline]
    pub(super) fn add(&self, shard: &Shard, offset: usize, value: u64) {
        if let Some(cell) = self.chunk.cell(shard.index, self.first as usize + offset) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
        }
    }

    /// Adds in the shared cell, which other threads write too.
    pub(super) fn add_shared(&self, offset: usize, value: u64) {
        if let Some(cell) = self.chunk.cell(SHARED, self.first as usize + offset) {
            cell.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// The sum over all shards.
    pub(super) fn sum(&self, offset: usize) -> u64 {
        (0..self.chunk.shards())
            .filter_map(|shard| self.chunk.cell(shard, self.first as usize + offset))
            .fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }

    fn clear(&self, cells: usize) {
        for shard in 0..self.chunk.shards() {
            for offset in 0..cells {
                if let Some(cell) = self.chunk.cell(shard, self.first as usize + offset) {
                    cell.store(0, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Slots of one size. Chunks are kept for ever; their number follows the largest number of series at one time.
pub(super) struct Arena {
    shards: usize,
    cells: usize,
    state: Mutex<State>,
}

struct State {
    free: Vec<Slot>,
    next: usize,
}

impl Arena {
    /// For `shards` writers (the shared one included) and `cells` cells in each series.
    pub(super) fn new(shards: usize, cells: usize) -> Self {
        let next = (CELLS_PER_BLOCK / cells).max(1);
        Self { shards, cells, state: Mutex::new(State { free: Vec::new(), next }) }
    }

    /// A slot whose cells are all zero.
    pub(super) fn take(&self) -> Slot {
        let mut state = self.lock();
        if let Some(slot) = state.free.pop() {
            return slot;
        }
        let series = state.next;
        state.next = (series * 2).min(SERIES_PER_CHUNK);
        let chunk = Arc::new(Chunk::new(self.shards, series * self.cells));
        let slot = |place: usize| Slot { chunk: chunk.clone(), first: (place * self.cells) as u32 };
        state.free.extend((1..series).rev().map(slot));
        slot(0)
    }

    /// Takes back a slot that nobody writes any more.
    pub(super) fn give_back(&self, slot: Slot) {
        slot.clear(self.cells);
        self.lock().free.push(slot);
    }

    /// Bytes of cells that one series takes.
    pub(super) fn bytes_per_slot(&self) -> usize {
        self.shards * self.cells * size_of::<AtomicU64>()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_never_share_a_cache_line() {
        assert_eq!(align_of::<Block>(), 128);
        assert_eq!(size_of::<Block>(), 128);
        for cells in [1, 15, 16, 17, 512] {
            let chunk = Chunk::new(3, cells);
            let line = |shard, index| std::ptr::from_ref(chunk.cell(shard, index).unwrap()).addr() / 128;
            assert!(line(0, cells - 1) < line(1, 0) && line(1, cells - 1) < line(2, 0), "{cells}");
            assert_eq!(chunk.shards(), 3);
        }
    }

    #[test]
    fn slots_are_distinct_and_come_back_empty() {
        let arena = Arena::new(2, 3);
        let slots: Vec<_> = (0..100).map(|_| arena.take()).collect();
        for (number, slot) in slots.iter().enumerate() {
            (0..3).for_each(|offset| slot.add_shared(offset, number as u64 * 3 + offset as u64));
        }
        for (number, slot) in slots.iter().enumerate() {
            (0..3).for_each(|offset| assert_eq!(slot.sum(offset), number as u64 * 3 + offset as u64));
        }
        slots.into_iter().for_each(|slot| arena.give_back(slot));
        assert!((0..100).all(|_| arena.take().sum(2) == 0));
    }

    #[test]
    fn a_shard_has_one_owner_at_a_time() {
        let claimed: Arc<[AtomicBool]> = (0..2).map(|_| AtomicBool::new(false)).collect();
        let first = Shard::claim(&claimed, 0).unwrap();
        assert!(Shard::claim(&claimed, 0).is_none());
        assert!(Shard::claim(&claimed, 2).is_none());
        assert_eq!(Shard::claim(&claimed, 1).unwrap().worker(), 1);
        drop(first);
        assert!(Shard::claim(&claimed, 0).is_some());
    }
}

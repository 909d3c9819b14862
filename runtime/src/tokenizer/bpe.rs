//! The merge loop of byte-pair encoding.
//!
//! Symbols form a doubly linked list over an array; candidate merges wait in a heap ordered by (rank, position), as in the
//! original: lowest rank first, leftmost among equals. Every merge removes a symbol and adds at most two candidates, so that
//! n symbols cost O(n log n). A candidate is stale when its position no longer starts a pair of that rank.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::format::NONE;
use super::table::PairTable;

/// Ranks and results of merges. A result at or past `limit` (a damaged table) is no merge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merges<'a> {
    pub table: PairTable<'a>,
    pub limit: u32,
}

impl Merges<'_> {
    #[inline]
    fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        self.table
            .get(left, right)
            .filter(|&(rank, merged)| merged < self.limit && rank != NONE)
    }
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
    /// Rank of the pair this symbol starts, [`NONE`] without one.
    rank: u32,
    /// What that pair becomes.
    merged: u32,
}

/// Working space of one word.
#[derive(Debug, Default)]
pub(super) struct Word {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<u64>>,
    /// Candidates taken from the heap since creation.
    pub steps: u64,
}

/// Words up to this length are merged by scanning for the lowest rank; that is quicker than a heap.
const SHORT: usize = 24;

impl Word {
    pub(super) fn with_capacity(symbols: usize) -> Self {
        // A candidate is taken out before its merge adds two: n - 1 at first, at most one more per merge.
        Self {
            symbols: Vec::with_capacity(symbols),
            heap: BinaryHeap::with_capacity(if symbols > SHORT { 2 * symbols } else { 0 }),
            steps: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.symbols.clear();
    }

    pub(super) fn push(&mut self, id: u32) {
        let at = self.symbols.len() as u32;
        self.symbols.push(Symbol {
            id,
            prev: at.wrapping_sub(1),
            next: at + 1,
            rank: NONE,
            merged: NONE,
        });
    }

    /// Applies merges until none is left; `ids` gives the result.
    pub(super) fn merge(&mut self, merges: Merges<'_>) {
        let len = self.symbols.len();
        if len < 2 {
            if let Some(only) = self.symbols.first_mut() {
                only.next = NONE;
            }
            return;
        }
        self.symbols[len - 1].next = NONE;
        for at in 0..len - 1 {
            let (left, right) = (self.symbols[at].id, self.symbols[at + 1].id);
            if let Some((rank, merged)) = merges.get(left, right) {
                self.symbols[at].rank = rank;
                self.symbols[at].merged = merged;
            }
        }
        if len <= SHORT {
            self.merge_by_scan(merges);
        } else {
            self.merge_by_heap(merges);
        }
    }

    fn merge_by_scan(&mut self, merges: Merges<'_>) {
        loop {
            let (mut best, mut rank, mut at) = (NONE, NONE, 0);
            while at != NONE {
                let symbol = &self.symbols[at as usize];
                if symbol.rank < rank {
                    (best, rank) = (at, symbol.rank);
                }
                at = symbol.next;
            }
            if best == NONE {
                return;
            }
            self.steps += 1;
            self.merge_at(best as usize, merges, |_, _| ());
        }
    }

    fn merge_by_heap(&mut self, merges: Merges<'_>) {
        let mut heap = std::mem::take(&mut self.heap);
        heap.clear();
        let candidate = |rank: u32, at: usize| Reverse((u64::from(rank) << 32) | at as u64);
        let ranked = self
            .symbols
            .iter()
            .enumerate()
            .filter(|(_, symbol)| symbol.rank != NONE);
        heap.extend(ranked.map(|(at, symbol)| candidate(symbol.rank, at)));
        while let Some(Reverse(top)) = heap.pop() {
            self.steps += 1;
            let (rank, at) = ((top >> 32) as u32, (top & 0xFFFF_FFFF) as usize);
            if self.symbols[at].rank == rank {
                self.merge_at(at, merges, |rank, at| heap.push(candidate(rank, at)));
            }
        }
        self.heap = heap;
    }

    /// Merges the pair that starts at `at` and looks up the pairs on both of its sides.
    #[inline]
    fn merge_at(&mut self, at: usize, merges: Merges<'_>, mut found: impl FnMut(u32, usize)) {
        let Symbol {
            prev,
            next: right,
            merged,
            ..
        } = self.symbols[at];
        let next = self.symbols[right as usize].next;
        // The right half leaves the list; nothing it started is valid any more.
        self.symbols[right as usize].rank = NONE;
        self.symbols[at].id = merged;
        self.symbols[at].next = next;
        if next != NONE {
            self.symbols[next as usize].prev = at as u32;
        }
        let mut relink = |left: u32, right: u32| {
            let pair = if right == NONE {
                None
            } else {
                merges.get(self.symbols[left as usize].id, self.symbols[right as usize].id)
            };
            let symbol = &mut self.symbols[left as usize];
            (symbol.rank, symbol.merged) = pair.unwrap_or((NONE, NONE));
            if let Some((rank, _)) = pair {
                found(rank, left as usize);
            }
        };
        relink(at as u32, next);
        if prev != NONE {
            relink(prev, at as u32);
        }
    }

    /// The symbols that are left, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        let first = self.symbols.first();
        std::iter::successors(first, |symbol| self.symbols.get(symbol.next as usize)).map(|symbol| symbol.id)
    }
}

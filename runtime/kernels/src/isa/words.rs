//! How the SIMD tiers multiply quantised weights with many tokens: words times words, exact integer sums per block.
//!
//! Weights are unpacked once for all tokens of a stage, to words without bias, two columns a lane; activations are put
//! together from their bytes. So a block of 32 columns takes 16 products of words a token, where bytes take as many for
//! both of an activation's parts; and one scaling. The sums are those of the kernel for few tokens, to the bit. Here are
//! the loops, and what they keep in which cache; the arithmetic is the tier's.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::Matmul;
use crate::dtype::{DType, GROUP, Q8};

/// Tokens of a tile.
pub const TILE: usize = 8;
/// Groups of a tile.
pub const PAIR: usize = 2;
/// Vectors of a group's block: pairs of columns.
pub const LANES: usize = Q8::BLOCK / 2;
/// Tokens that are staged together.
const TOKENS: usize = 64;
/// Blocks of a chunk of K: weights of a pair of groups stay in the L1 cache.
const BLOCKS: usize = 8;
/// Bytes of a chunk's weights that all tokens of a stage pass: they, and the sums, stay in the L2 cache.
const PANEL: usize = 96 << 10;

/// The words of a block of a token, or of two columns of a group.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Words([MaybeUninit<i16>; Q8::BLOCK]);

impl Words {
    /// Nothing yet.
    const NONE: Words = Words([MaybeUninit::uninit(); _]);

    /// Where they begin: a cache line.
    #[inline(always)]
    pub fn at<T>(&self) -> *const T {
        self.0.as_ptr().cast()
    }

    /// The same, to write them.
    #[inline(always)]
    pub fn at_mut<T>(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// Activations of a chunk of K: by tile of tokens, block after block, a token a cache line.
pub struct Stage {
    words: [[[Words; TILE]; BLOCKS]; TOKENS / TILE],
    scales: [[[f32; TILE]; BLOCKS]; TOKENS / TILE],
    /// Scale times sum.
    shifts: [[[f32; TILE]; BLOCKS]; TOKENS / TILE],
}

/// Weights of a group and a chunk of K.
pub struct Weights<F> {
    words: [[Words; LANES]; BLOCKS],
    factors: [MaybeUninit<F>; BLOCKS],
}

/// A pair of groups, a tile of tokens, the blocks of a chunk, and where the sums go.
pub struct Tile<'a, F> {
    weights: &'a [Weights<F>; PAIR],
    words: &'a [[Words; TILE]; BLOCKS],
    scales: &'a [[f32; TILE]; BLOCKS],
    shifts: &'a [[f32; TILE]; BLOCKS],
    /// Blocks that are there.
    pub blocks: usize,
    /// Whether the sums begin here; else they go on from those that are in their place.
    pub first: bool,
    /// Tokens that count, at least one.
    pub tokens: usize,
    /// Rows that count, at least one; there may be more.
    pub rows: usize,
    out: *mut f32,
    stride: usize,
}

/// The arithmetic of a tier and a kind of block.
pub trait Kernel {
    /// The type of weights.
    const DTYPE: DType;

    /// What scales a block of a group.
    type Factors: Copy;

    /// Puts a token's block together, in the order of columns that [`Kernel::unpack`] has.
    ///
    /// # Safety
    /// `bytes` are those of a block; the CPU has the tier's features.
    unsafe fn whole(bytes: *const u8, to: &mut Words);

    /// Unpacks columns `32 j..32 j + 32` of a group's block, two of them a lane.
    ///
    /// # Safety
    /// The block is there and has them; the CPU has the tier's features.
    unsafe fn unpack(block: *const u8, j: usize, to: &mut [Words; LANES]) -> Self::Factors;

    /// The sums of a tile; `FULL` if all of its tokens count.
    ///
    /// # Safety
    /// The output is there; the CPU has the tier's features.
    unsafe fn tile<const FULL: bool>(tile: &Tile<'_, Self::Factors>);
}

impl<F: Copy> Tile<'_, F> {
    /// Block `b` of token `t`.
    #[inline(always)]
    pub fn words(&self, b: usize, t: usize) -> &Words {
        &self.words[b][t]
    }

    /// The scale of block `b` of token `t`.
    #[inline(always)]
    pub fn scale(&self, b: usize, t: usize) -> f32 {
        self.scales[b][t]
    }

    /// That times the sum of the block.
    #[inline(always)]
    pub fn shift(&self, b: usize, t: usize) -> f32 {
        self.shifts[b][t]
    }

    /// The [`LANES`] pairs of columns of block `b` of a group.
    #[inline(always)]
    pub fn weights(&self, group: usize, b: usize) -> *const Words {
        self.weights[group].words[b].as_ptr()
    }

    /// What scales block `b` of a group.
    ///
    /// # Safety
    /// `b < self.blocks`.
    #[inline(always)]
    pub unsafe fn factors(&self, group: usize, b: usize) -> F {
        // SAFETY: blocks that are there have been unpacked.
        unsafe { self.weights[group].factors[b].assume_init() }
    }

    /// Where the sums of token `t` with a group go. Tokens that do not count are the last one that does.
    #[inline(always)]
    pub fn out<const FULL: bool>(&self, group: usize, t: usize) -> *mut f32 {
        let t = if FULL { t } else { t.min(self.tokens - 1) };
        self.out.wrapping_add(t * self.stride + group * GROUP)
    }
}

/// Weights of a type with any number of tokens.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`]; the CPU has the kernel's features.
pub unsafe fn matmul<K: Kernel>(m: &Matmul) {
    debug_assert!(m.k.is_multiple_of(K::DTYPE.block_len()));
    let group_bytes = GROUP * K::DTYPE.row_bytes(m.k);
    let chunk_bytes = GROUP * K::DTYPE.row_bytes(m.k.min(BLOCKS * Q8::BLOCK).next_multiple_of(K::DTYPE.block_len()));
    let panel = (PANEL / chunk_bytes.max(1)).max(PAIR) / PAIR * PAIR * GROUP;
    let mut stage = Stage {
        words: [[[Words::NONE; _]; _]; _],
        scales: [[[0.0; _]; _]; _],
        shifts: [[[0.0; _]; _]; _],
    };
    let mut weights: [Weights<K::Factors>; PAIR] = [const {
        Weights {
            words: [[Words::NONE; _]; _],
            factors: [MaybeUninit::uninit(); _],
        }
    }; _];
    for row in (0..m.rows).step_by(panel) {
        let end = m.rows.min(row + panel);
        for t0 in (0..m.tokens).step_by(TOKENS) {
            let tokens = TOKENS.min(m.tokens - t0);
            // Once at least, so that sums of nothing are zero.
            for first in (0..(m.k / Q8::BLOCK).max(1)).step_by(BLOCKS) {
                let blocks = BLOCKS.min(m.k / Q8::BLOCK - first);
                // SAFETY: rows, tokens and blocks are inside `m`.
                unsafe {
                    stage.fill::<K>(m, t0, tokens, first, blocks);
                    for r in (row..end).step_by(PAIR * GROUP) {
                        for (i, weights) in weights.iter_mut().enumerate() {
                            // A pair may lack its second group: it gets the first's weights, and no place in the output.
                            let r = if r + i * GROUP < end { r + i * GROUP } else { r };
                            weights.unpack::<K>(m.w.add(r / GROUP * group_bytes), first, blocks);
                        }
                        for tile in 0..tokens.div_ceil(TILE) {
                            let t = t0 + tile * TILE;
                            let tile = Tile {
                                weights: &weights,
                                words: &stage.words[tile],
                                scales: &stage.scales[tile],
                                shifts: &stage.shifts[tile],
                                blocks,
                                first: first == 0,
                                tokens: TILE.min(m.tokens - t),
                                rows: end - r,
                                out: m.out.add(t * m.out_stride + r),
                                stride: m.out_stride,
                            };
                            if tile.tokens == TILE {
                                K::tile::<true>(&tile);
                            } else {
                                K::tile::<false>(&tile);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Stage {
    /// Puts blocks `first..first + blocks` of `tokens` tokens from `t0` together; the last tile is filled up with the last
    /// token.
    ///
    /// # Safety
    /// They are there.
    unsafe fn fill<K: Kernel>(&mut self, m: &Matmul, t0: usize, tokens: usize, first: usize, blocks: usize) {
        let row = Q8 { cols: m.k };
        for t in 0..tokens.next_multiple_of(TILE) {
            // SAFETY: the parts of a row.
            unsafe {
                let x = m.x.add((t0 + t.min(tokens - 1)) * m.x_stride);
                let bytes = x.add(first * Q8::BLOCK_BYTES);
                let scales = x.add(row.scales()).cast::<f32>().add(first);
                let sums = x.add(row.sums()).cast::<i32>().add(first);
                for b in 0..blocks {
                    K::whole(bytes.add(b * Q8::BLOCK_BYTES), &mut self.words[t / TILE][b][t % TILE]);
                    let scale = *scales.add(b);
                    self.scales[t / TILE][b][t % TILE] = scale;
                    self.shifts[t / TILE][b][t % TILE] = scale * *sums.add(b) as f32;
                }
            }
        }
    }
}

impl<F: Copy> Weights<F> {
    /// Unpacks blocks `first..first + blocks` of 32 columns of a group.
    ///
    /// # Safety
    /// They are there.
    unsafe fn unpack<K: Kernel<Factors = F>>(&mut self, group: *const u8, first: usize, blocks: usize) {
        let steps = K::DTYPE.block_len() / Q8::BLOCK;
        let block_bytes = K::DTYPE.block_bytes() * GROUP;
        for b in 0..blocks {
            let (block, j) = ((first + b) / steps, (first + b) % steps);
            // SAFETY: the block is in the group.
            let factors = unsafe { K::unpack(group.add(block * block_bytes), j, &mut self.words[b]) };
            self.factors[b].write(factors);
        }
    }
}

/// A range whose end the compiler does not know, so that it leaves a loop as it is: unrolled, it would take one sum after
/// the other, and the products of each apart from their sum.
#[inline(always)]
pub fn as_it_is(lanes: Range<usize>) -> Range<usize> {
    let mut end = lanes.end;
    // SAFETY: does nothing, so that the end is what it was.
    unsafe {
        core::arch::asm!("/* {} */", inout(reg) end, options(pure, nomem, nostack, preserves_flags));
        core::hint::assert_unchecked(end > lanes.start);
    }
    lanes.start..end
}

/// Leaves sums in memory: with those of the next products they do not fit the registers, and the compiler would rather
/// spill these.
#[inline(always)]
pub fn in_memory<T>(sums: &mut T) {
    // SAFETY: does nothing.
    unsafe { core::arch::asm!("/* {} */", in(reg) core::ptr::from_mut(sums), options(nostack, preserves_flags)) };
}

//! Matmuls on tiles: how they are cut. Where tiles of weights and of activations come from is the affair of [`Weights`]
//! and [`Activations`].
//!
//! A square is 32 tokens by 32 rows of weights: four tiles of sums in registers, through a chunk of K. The weights of a
//! panel, two groups of rows, are made tiles once for all tokens that pass. Activations come from the L2 cache, and so do
//! the sums, which wait in a place of their own between chunks. None of this changes a result: sums are taken in order of
//! K, and an f32 is stored and loaded as it is.
//!
//! Nobody waits for anybody: while squares of one panel are multiplied, the next one's tiles are made, the packed weights
//! of the one behind that are fetched, and so are the activations of the next chunk of K.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::tiles::{PER_MADE, ROWS, Raw, SIDE, Square, Tile, Unit, widen};
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::isa::avx512::tail_mask;

/// Columns of a tile.
pub(super) const TILE_COLS: usize = 32;
/// Tiles of a group in a chunk of K, at most.
const TILES: usize = 18;
/// The same where there are several chunks.
const SOME: usize = 16;
/// Tokens that pass a panel.
pub(super) const TOKENS: usize = 256;
/// Rows of weights whose sums stay in the L2 cache.
const OUTPUTS: usize = 512;

/// Room for the tiles of a panel.
type Room = [MaybeUninit<Tile>; 2 * TILES];

/// Weights of a type.
pub(super) trait Weights {
    /// The type.
    const DTYPE: DType;
    /// How it meets its activations.
    type Activations: Activations;
    /// Whether tiles have to be made of the packed weights.
    const MADE: bool;

    /// The `i`th tile of a group on its way, where tiles have to be made.
    ///
    /// # Safety
    /// It is there; the CPU has the tier's features.
    unsafe fn raw(group: *const u8, i: usize, raw: &mut MaybeUninit<Raw>);

    /// Where they have not: the tiles of `cols` columns from `k0` of a group, where they are or copied to `room`. Beyond
    /// the last column there are zeros up to a whole tile.
    ///
    /// # Safety
    /// The columns are there; `k0` is whole tiles, and `room` is valid for as many as `cols` are.
    unsafe fn tiles(group: *const u8, k0: usize, cols: usize, room: *mut Tile) -> *const Tile;
}

/// A part of the activations of a matmul.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// First token, and tokens, at most [`TOKENS`].
    pub t0: usize,
    pub tokens: usize,
    /// First column, and columns, at most those of a chunk.
    pub k0: usize,
    pub cols: usize,
}

/// Activations as bf16 rows.
pub(super) trait Activations {
    /// Nothing yet.
    fn new() -> Self;

    /// Prepares a part. Beyond its tokens and columns there are zeros, up to whole tiles of 32 tokens.
    ///
    /// # Safety
    /// It is there; the CPU has the tier's features.
    unsafe fn prepare(&mut self, m: &Matmul, part: Part);

    /// The rows of 32 tokens from `t`, a multiple of 32 in `part`, which is prepared: the first, and bytes to the next.
    fn rows(&self, m: &Matmul, part: Part, t: usize) -> (*const u8, usize);

    /// Bytes of a column of the rows of `m`.
    const COLUMN: usize;
}

/// Bytes of a row of [`Stage`]: a chunk of K, and a cache line, so that rows do not share the sets of the L1 cache.
const STAGE_ROW: usize = 2 * TILES * TILE_COLS + 64;

/// Columns of a chunk of K. All chunks are about as long: sums are loaded and stored for each. Four tiles of columns are
/// multiplied while one is made, so that none should be left over.
const fn chunk(k: usize) -> usize {
    let tiles = k.div_ceil(TILE_COLS);
    let most = if tiles <= TILES {
        tiles
    } else {
        tiles.div_ceil(tiles.div_ceil(SOME)).next_multiple_of(PER_MADE)
    };
    most * TILE_COLS
}

const _: () = assert!(SOME.is_multiple_of(PER_MADE) && SOME <= TILES);

/// Room for the chunk of K of 32 tokens.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Stage([MaybeUninit<[u8; STAGE_ROW]>; SIDE]);

impl Stage {
    pub(super) const NEW: Stage = Stage([MaybeUninit::uninit(); SIDE]);

    /// Row `t`.
    pub(super) fn row(&mut self, t: usize) -> *mut u8 {
        self.0[t].as_mut_ptr().cast()
    }

    /// As [`Activations::rows`].
    pub(super) fn rows(&self) -> (*const u8, usize) {
        (self.0.as_ptr().cast(), STAGE_ROW)
    }
}

/// Sums of a panel and all tokens that pass.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Sums([[MaybeUninit<f32>; SIDE]; TOKENS]);

/// A panel: some rows of weights, two groups at most, and a chunk of K. Where it is in the order of the work.
#[derive(Clone, Copy, PartialEq)]
struct Panel {
    /// First row of weights whose sums wait together.
    r0: usize,
    k0: usize,
    r: usize,
    /// Columns of a chunk.
    chunk: usize,
}

impl Panel {
    fn first(m: &Matmul) -> Option<Panel> {
        let first = Panel {
            r0: 0,
            k0: 0,
            r: 0,
            chunk: chunk(m.k),
        };
        (m.rows > 0).then_some(first)
    }

    /// The one after it: rows, then chunks of K, then the next rows whose sums wait together.
    fn next(self, m: &Matmul) -> Option<Panel> {
        let Panel { r0, k0, r, chunk } = self;
        if r + SIDE < self.end(m) {
            Some(Panel { r: r + SIDE, ..self })
        } else if k0 + chunk < m.k {
            let k0 = k0 + chunk;
            Some(Panel { k0, r: r0, ..self })
        } else {
            let r0 = self.end(m);
            let next = Panel {
                r0,
                k0: 0,
                r: r0,
                chunk,
            };
            (r0 < m.rows).then_some(next)
        }
    }

    /// The first of the next chunk.
    fn next_chunk(self, m: &Matmul) -> Option<Panel> {
        let last = self.r0 + (self.end(m) - self.r0 - 1) / SIDE * SIDE;
        Panel { r: last, ..self }.next(m)
    }

    /// Rows of weights before those whose sums wait later.
    fn end(self, m: &Matmul) -> usize {
        m.rows.min(self.r0 + OUTPUTS)
    }

    fn cols(self, m: &Matmul) -> usize {
        self.chunk.min(m.k - self.k0)
    }

    /// Tiles of a group.
    fn tiles(self, m: &Matmul) -> usize {
        self.cols(m).div_ceil(TILE_COLS)
    }

    /// Groups: a panel may lack the second.
    fn groups(self, m: &Matmul) -> usize {
        (self.end(m) - self.r).div_ceil(GROUP).min(2)
    }

    fn group(self, m: &Matmul, dtype: DType, i: usize) -> *const u8 {
        m.w.wrapping_add((self.r / GROUP + i) * GROUP * dtype.row_bytes(m.k))
    }

    /// The group of the panel's `i`th tile, and which tile of it that is.
    fn tile(self, m: &Matmul, dtype: DType, i: usize) -> (*const u8, usize) {
        let (tiles, first) = (self.tiles(m), self.k0 / TILE_COLS);
        if i < tiles {
            (self.group(m, dtype, 0), first + i)
        } else {
            (self.group(m, dtype, 1), first + i - tiles)
        }
    }

    /// Its tiles.
    fn len(self, m: &Matmul) -> usize {
        self.groups(m) * self.tiles(m)
    }

    /// Fetches the packed weights of some of its tiles.
    fn fetch(self, m: &Matmul, dtype: DType, tiles: core::ops::Range<usize>) {
        let bytes = dtype.block_bytes() * TILE_COLS * GROUP / dtype.block_len();
        for i in tiles.start..tiles.end.min(self.len(m)) {
            let (group, at) = self.tile(m, dtype, i);
            fetch(group.wrapping_add(at * bytes), bytes);
        }
    }
}

/// Fetches bytes to the L2 cache, which takes lines by twos.
fn fetch(from: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(128) {
        // SAFETY: every CPU of this architecture has the instruction, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(at).cast()) };
    }
}

/// Tiles of a panel that are being made.
struct Making {
    panel: Option<Panel>,
    done: usize,
}

impl Making {
    /// Tiles there are still to make.
    fn left<W: Weights>(&self, m: &Matmul) -> usize {
        self.panel
            .filter(|_| W::MADE)
            .map_or(0, |panel| panel.len(m) - self.done)
    }

    /// Readies the next ones, a tile's place after the other.
    ///
    /// # Safety
    /// As many are left; the CPU has the tier's features.
    unsafe fn raw<W: Weights>(&mut self, m: &Matmul, raws: &mut [MaybeUninit<Raw>]) {
        for raw in raws {
            if let Some(panel) = self.panel {
                let (group, at) = panel.tile(m, W::DTYPE, self.done);
                // SAFETY: passed on.
                unsafe { W::raw(group, at, raw) };
                self.done += 1;
            }
        }
    }

    /// Makes what is left.
    ///
    /// # Safety
    /// The CPU has the tier's features; `room` is valid for the panel's tiles.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn finish<W: Weights>(&mut self, m: &Matmul, room: *mut Tile) {
        for _ in 0..self.left::<W>(m) {
            let mut raw = MaybeUninit::uninit();
            let to = room.wrapping_add(self.done);
            // SAFETY: one is left, which is then there.
            unsafe {
                self.raw::<W>(m, core::slice::from_mut(&mut raw));
                widen(raw.assume_init_ref(), to);
            }
        }
    }
}

/// See [`crate::isa::Isa::matmul`].
///
/// # Safety
/// As there, and the CPU has this tier's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn matmul<U: Unit, W: Weights>(m: &Matmul) {
    debug_assert!(m.k.is_multiple_of(W::DTYPE.block_len()));
    if m.k == 0 {
        // SAFETY: the outputs are there.
        (0..m.tokens).for_each(|t| unsafe { m.out.add(t * m.out_stride).write_bytes(0, m.rows) });
        return;
    }
    // SAFETY: rows, tokens and columns are inside `m`.
    unsafe {
        U::begin();
        for t0 in (0..m.tokens).step_by(TOKENS) {
            tokens::<U, W>(m, t0, TOKENS.min(m.tokens - t0));
        }
        U::end();
    }
}

/// The tokens from `t0` on, at most [`TOKENS`].
///
/// # Safety
/// As [`matmul`], between [`Unit::begin`] and [`Unit::end`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn tokens<U: Unit, W: Weights>(m: &Matmul, t0: usize, tokens: usize) {
    let mut x = W::Activations::new();
    let mut waiting = [const { MaybeUninit::<Sums>::uninit() }; OUTPUTS / SIDE];
    let mut rooms: [Room; 2] = [[MaybeUninit::uninit(); _]; _];
    let mut raws = [const { MaybeUninit::uninit() }; TILES / PER_MADE];
    let [mut room, mut other] = rooms.each_mut().map(|room| room.as_mut_ptr().cast::<Tile>());
    let squares = tokens.div_ceil(SIDE);
    let mut now = Panel::first(m);
    let mut making = Making { panel: now, done: 0 };
    // SAFETY: rows, tokens and columns are inside `m`; a room is as many tiles as a panel has at most.
    unsafe {
        making.finish::<W>(m, room);
        while let Some(panel) = now {
            let Panel { r0, k0, r, .. } = panel;
            let (end, cols, tiles) = (panel.end(m), panel.cols(m), panel.tiles(m));
            let part = Part { t0, tokens, k0, cols };
            if r == r0 {
                x.prepare(m, part);
            }
            // A panel that lacks its second group gets the first's weights, and no place in the output.
            let w = [0, panel.groups(m) - 1].map(|i| {
                let room = room.wrapping_add(i * tiles);
                if W::MADE {
                    room.cast_const()
                } else {
                    W::tiles(panel.group(m, W::DTYPE, i), k0, cols, room)
                }
            });
            let upcoming = panel.next(m);
            let after = if W::MADE {
                upcoming.and_then(|next| next.next(m))
            } else {
                upcoming
            };
            let chunk = panel.next_chunk(m);
            let panels = (end - r0).div_ceil(SIDE);
            making = Making {
                panel: upcoming,
                done: 0,
            };
            for (i, t) in (t0..t0 + tokens).step_by(SIDE).enumerate() {
                if let Some(after) = after {
                    let share = after.len(m).div_ceil(squares);
                    after.fetch(m, W::DTYPE, i * share..(i + 1) * share);
                }
                if let Some(chunk) = chunk {
                    let share = tokens.div_ceil(squares * panels);
                    let first = ((r - r0) / SIDE * squares + i) * share;
                    for t in first..tokens.min(first + share) {
                        let row = m.x.wrapping_add((t0 + t) * m.x_stride);
                        let column = W::Activations::COLUMN;
                        fetch(row.wrapping_add(column * chunk.k0), column * chunk.cols(m));
                    }
                }
                let makes = making.left::<W>(m).min(tiles / PER_MADE);
                let made = other.wrapping_add(making.done);
                making.raw::<W>(m, &mut raws[..makes]);
                let (rows, x_stride) = x.rows(m, part, t);
                let waiting = waiting[(r - r0) / SIDE]
                    .as_mut_ptr()
                    .cast::<[f32; SIDE]>()
                    .add(t - t0)
                    .cast::<f32>();
                let last = k0 + cols == m.k;
                let whole = m.tokens - t >= SIDE && end - r >= SIDE;
                let (out, between) = (m.out.add(t * m.out_stride + r), size_of::<[f32; SIDE]>());
                let (sums, sums_stride) = if last && whole {
                    (out, m.out_stride * size_of::<f32>())
                } else {
                    (waiting, between)
                };
                U::multiply(&Square {
                    x: rows,
                    x_stride,
                    w,
                    tiles,
                    from: if k0 == 0 { core::ptr::null() } else { waiting },
                    from_stride: between,
                    sums,
                    sums_stride,
                    raw: raws.as_ptr().cast(),
                    made,
                    makes,
                });
                if last && !whole {
                    store(waiting, out, m.out_stride, m.tokens - t, end - r);
                }
            }
            making.finish::<W>(m, other);
            (room, other) = (other, room);
            now = upcoming;
        }
    }
}

/// Puts the sums of a square of which `tokens` and `rows` count, or fewer than 32, where they belong.
///
/// # Safety
/// They are there, and so is their place.
#[target_feature(enable = "avx512f")]
unsafe fn store(sums: *const f32, out: *mut f32, out_stride: usize, tokens: usize, rows: usize) {
    for t in 0..tokens.min(SIDE) {
        for i in 0..2 {
            let mask = tail_mask(rows.saturating_sub(i * GROUP));
            // SAFETY: the mask keeps to the sums that count.
            unsafe {
                let from = _mm512_loadu_ps(sums.add(t * SIDE + i * GROUP));
                _mm512_mask_storeu_ps(out.wrapping_add(t * out_stride + i * GROUP), mask, from);
            }
        }
    }
}

const _: () = assert!(ROWS == GROUP && SIDE == 2 * ROWS, "a tile is a group of rows");

//! Matmuls on tiles: how they are cut. Where tiles of weights and of activations come from is the affair of [`Weights`]
//! and [`Activations`].
//!
//! A square is 16 tokens by 64 rows of weights: four tiles of sums in registers, through a chunk of K. The weights of a
//! panel, four groups of rows, are made tiles once for all tokens that pass, and stay in the L1 cache. Activations come from
//! the L2 cache, and so do the sums, which wait in a place of their own between chunks. None of this changes a result: sums
//! are taken in order of K, and an f32 is stored and loaded as it is.
//!
//! Nobody waits for anybody: while squares of one panel are multiplied, the next one's tiles are made, the packed weights
//! of the one behind that are fetched, and so are the activations of the next chunk of K, and the place of the outputs.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::tiles::{GROUPS, Half, HalfTile, PER_MADE, ROW, ROWS, Raw, Square, Tile, Unit, WIDTH, widen};
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::isa::avx512::tail_mask;

/// Columns of a tile.
pub(super) const TILE_COLS: usize = 32;
/// Tiles of a group in a chunk of K, at most: a panel's, with all that passes, fit into the L1 cache.
const TILES: usize = 6;
/// Tokens that pass a panel.
pub(super) const TOKENS: usize = 256;

/// Rows of weights whose sums stay in the L2 cache, beside activations: all of a short row, or of a chunk of K and the next.
const fn outputs(k: usize) -> usize {
    if k <= 2048 { 256 } else { OUTPUTS }
}

/// The most of [`outputs`].
const OUTPUTS: usize = 512;

/// Room for the tiles of a panel.
type Room = [MaybeUninit<Tile>; GROUPS * TILES];

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

    /// Where they have not: copies the tiles of `cols` columns from `k0` of a group to `room`. Beyond the last column there
    /// are zeros up to a whole tile.
    ///
    /// # Safety
    /// The columns are there; `k0` is whole tiles, and `room` is valid for as many as `cols` are.
    unsafe fn copy(group: *const u8, k0: usize, cols: usize, room: *mut Tile);
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

    /// Prepares a part. Beyond its tokens and columns there are zeros, up to whole tiles of 16 tokens.
    ///
    /// # Safety
    /// It is there; the CPU has the tier's features.
    unsafe fn prepare(&mut self, m: &Matmul, part: Part);

    /// The rows of 16 tokens from `t`, a multiple of 16 in `part`, which is prepared: the first, and bytes to the next.
    fn rows(&self, m: &Matmul, part: Part, t: usize) -> (*const u8, usize);

    /// Bytes of a column of the rows of `m`.
    const COLUMN: usize;
}

/// Bytes of a row of [`Stage`]: a chunk of K, and a cache line, so that rows do not share the sets of the L1 cache.
const STAGE_ROW: usize = 2 * TILES * TILE_COLS + 64;

/// Columns of a chunk of K. All chunks are about as long: sums are loaded and stored for each. Two tiles of columns are
/// multiplied while half a tile is made, so that none should be left over.
const fn chunk(k: usize) -> usize {
    let tiles = k.div_ceil(TILE_COLS);
    let most = if tiles <= TILES {
        tiles
    } else {
        tiles.div_ceil(tiles.div_ceil(TILES)).next_multiple_of(PER_MADE)
    };
    most * TILE_COLS
}

const _: () = assert!(TILES.is_multiple_of(PER_MADE));

/// Room for the chunk of K of 16 tokens.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Stage([MaybeUninit<[u8; STAGE_ROW]>; ROWS]);

impl Stage {
    pub(super) const NEW: Stage = Stage([MaybeUninit::uninit(); ROWS]);

    /// Row `t`.
    pub(super) fn row(&mut self, t: usize) -> *mut u8 {
        self.0[t].as_mut_ptr().cast()
    }

    /// As [`Activations::rows`].
    pub(super) fn rows(&self) -> (*const u8, usize) {
        (self.0.as_ptr().cast(), STAGE_ROW)
    }
}

/// The sums of a square, a tile for each group of rows.
type Sums = [Tile; GROUPS];

/// A panel: some rows of weights, four groups at most, and a chunk of K. Where it is in the order of the work.
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
        if r + WIDTH < self.end(m) {
            Some(Panel { r: r + WIDTH, ..self })
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
        let last = self.r0 + (self.end(m) - self.r0 - 1) / WIDTH * WIDTH;
        Panel { r: last, ..self }.next(m)
    }

    /// Rows of weights before those whose sums wait later.
    fn end(self, m: &Matmul) -> usize {
        m.rows.min(self.r0 + outputs(m.k))
    }

    fn cols(self, m: &Matmul) -> usize {
        self.chunk.min(m.k - self.k0)
    }

    /// Tiles of a group.
    fn tiles(self, m: &Matmul) -> usize {
        self.cols(m).div_ceil(TILE_COLS)
    }

    /// Groups: a panel may lack some.
    fn groups(self, m: &Matmul) -> usize {
        (self.end(m) - self.r).div_ceil(GROUP).min(GROUPS)
    }

    fn group(self, m: &Matmul, dtype: DType, i: usize) -> *const u8 {
        m.w.wrapping_add((self.r / GROUP + i) * group_bytes(m, dtype))
    }

    /// The group of the panel's `i`th tile, and which tile of it that is.
    fn tile(self, m: &Matmul, dtype: DType, i: usize) -> (*const u8, usize) {
        let tiles = self.tiles(m);
        (self.group(m, dtype, i / tiles), self.k0 / TILE_COLS + i % tiles)
    }

    /// Its tiles.
    fn len(self, m: &Matmul) -> usize {
        self.groups(m) * self.tiles(m)
    }

    /// Its tiles, and bytes from a group's to the next's: where they are, if all of it is there as tiles, or in `room`.
    ///
    /// # Safety
    /// The weights are there; `room` is valid for the panel's tiles.
    unsafe fn weights<W: Weights>(self, m: &Matmul, room: *mut Tile) -> (*const Tile, usize) {
        let (cols, tiles) = (self.cols(m), self.tiles(m));
        if !W::MADE {
            let tile = W::DTYPE.row_bytes(TILE_COLS) * GROUP;
            if self.groups(m) == GROUPS && cols.is_multiple_of(TILE_COLS) {
                let first = self.group(m, W::DTYPE, 0).wrapping_add(self.k0 / TILE_COLS * tile);
                return (first.cast(), group_bytes(m, W::DTYPE));
            }
            for i in 0..self.groups(m) {
                // SAFETY: the group is there, and its part of the room.
                unsafe { W::copy(self.group(m, W::DTYPE, i), self.k0, cols, room.add(i * tiles)) };
            }
        }
        (room, tiles * size_of::<Tile>())
    }

    /// Its part of `n` things that are done once in all chunks of K, evenly.
    fn share(self, m: &Matmul, n: usize) -> core::ops::Range<usize> {
        let (chunks, i) = (m.k.div_ceil(self.chunk), self.k0 / self.chunk);
        n * i / chunks..n * (i + 1) / chunks
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

/// Bytes of a group of rows of weights.
fn group_bytes(m: &Matmul, dtype: DType) -> usize {
    GROUP * dtype.row_bytes(m.k)
}

/// Fetches bytes to the L2 cache, which takes lines by twos.
fn fetch(from: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(128) {
        // SAFETY: every CPU of this architecture has the instruction, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(at).cast()) };
    }
}

/// Tiles on their way, one behind the other: those of a square's halves and of the one before's last.
type Raws = [MaybeUninit<Raw>; TILES / PER_MADE];

/// Tiles of a panel that are being made.
struct Making {
    panel: Option<Panel>,
    /// Halves of tiles that are made.
    done: usize,
    /// The tile that is the first of [`Raws`].
    first: usize,
}

impl Making {
    fn new(panel: Option<Panel>) -> Making {
        Making {
            panel,
            done: 0,
            first: 0,
        }
    }

    /// Halves there are still to make.
    fn left<W: Weights>(&self, m: &Matmul) -> usize {
        self.panel
            .filter(|_| W::MADE)
            .map_or(0, |panel| 2 * panel.len(m) - self.done)
    }

    /// Readies the next halves, which the caller makes. Where a square ends in the midst of a tile, the next one begins
    /// there: an even number of halves after that the first tile has its place again.
    ///
    /// # Safety
    /// As many are left, and no more than [`Raws`] are tiles; every call is for as many, but for the last one and those
    /// for one; the CPU has the tier's features.
    unsafe fn raw<W: Weights>(&mut self, m: &Matmul, raws: &mut Raws, halves: usize) -> *const Half {
        let ready = self.done.div_ceil(2);
        if self.done.is_multiple_of(2) {
            self.first = ready;
        }
        let start = self.done - 2 * self.first;
        self.done += halves;
        if let Some(panel) = self.panel {
            for i in ready..self.done.div_ceil(2) {
                let (group, at) = panel.tile(m, W::DTYPE, i);
                // SAFETY: passed on.
                unsafe { W::raw(group, at, &mut raws[i - self.first]) };
            }
        }
        raws.as_ptr().cast::<Half>().wrapping_add(start)
    }

    /// Makes what is left.
    ///
    /// # Safety
    /// The CPU has the tier's features; `room` is valid for the panel's tiles.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn finish<W: Weights>(&mut self, m: &Matmul, raws: &mut Raws, room: *mut Tile) {
        for _ in 0..self.left::<W>(m) {
            let to = room.cast::<HalfTile>().wrapping_add(self.done);
            // SAFETY: one is left, which is then there.
            unsafe { widen(&*self.raw::<W>(m, raws, 1), to) };
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
    let mut waiting = [const { MaybeUninit::<Sums>::uninit() }; OUTPUTS / WIDTH * TOKENS / ROWS];
    let mut rooms: [Room; 2] = [[MaybeUninit::uninit(); _]; _];
    let mut raws: Raws = [const { MaybeUninit::uninit() }; _];
    let [mut room, mut other] = rooms.each_mut().map(|room| room.as_mut_ptr().cast::<Tile>());
    let squares = tokens.div_ceil(ROWS);
    let mut now = Panel::first(m);
    let mut making = Making::new(now);
    // SAFETY: rows, tokens and columns are inside `m`; a room is as many tiles as a panel has at most.
    unsafe {
        // Groups that are not there are multiplied, too.
        if !m.rows.is_multiple_of(WIDTH) {
            for room in [room, other] {
                room.write_bytes(0, GROUPS * TILES);
            }
        }
        making.finish::<W>(m, &mut raws, room);
        while let Some(panel) = now {
            let Panel { r0, k0, r, .. } = panel;
            let (end, cols, tiles) = (panel.end(m), panel.cols(m), panel.tiles(m));
            let part = Part { t0, tokens, k0, cols };
            if r == r0 {
                x.prepare(m, part);
            }
            let (w, w_stride) = panel.weights::<W>(m, room);
            let upcoming = panel.next(m);
            let after = if W::MADE {
                upcoming.and_then(|next| next.next(m))
            } else {
                upcoming
            };
            let chunk = panel.next_chunk(m);
            let panels = (end - r0).div_ceil(WIDTH);
            let last = k0 + cols == m.k;
            making = Making::new(upcoming);
            for (i, t) in (t0..t0 + tokens).step_by(ROWS).enumerate() {
                let nth = (r - r0) / WIDTH * squares + i;
                if let Some(after) = after {
                    let share = after.len(m).div_ceil(squares);
                    after.fetch(m, W::DTYPE, i * share..(i + 1) * share);
                }
                if let Some(chunk) = chunk {
                    let share = tokens.div_ceil(squares * panels);
                    let first = nth * share;
                    for t in first..tokens.min(first + share) {
                        let row = m.x.wrapping_add((t0 + t) * m.x_stride);
                        let column = W::Activations::COLUMN;
                        fetch(row.wrapping_add(column * chunk.k0), column * chunk.cols(m));
                    }
                }
                let out = m.out.wrapping_add(t * m.out_stride + r);
                for t in panel.share(m, ROWS) {
                    fetch(out.wrapping_add(t * m.out_stride).cast(), WIDTH * size_of::<f32>());
                }
                let makes = making.left::<W>(m).min(tiles / PER_MADE);
                let made = other.cast::<HalfTile>().wrapping_add(making.done);
                let raw = making.raw::<W>(m, &mut raws, makes);
                let (rows, x_stride) = x.rows(m, part, t);
                let next = if t + ROWS < t0 + tokens { t + ROWS } else { t0 };
                let from = waiting.as_mut_ptr().wrapping_add(nth).cast::<Tile>();
                let whole = m.tokens - t >= ROWS && end - r >= WIDTH;
                let (sums, sums_stride, sums_group) = if last && whole {
                    (out, m.out_stride * size_of::<f32>(), ROWS * size_of::<f32>())
                } else {
                    (from.cast(), ROW, size_of::<Tile>())
                };
                U::multiply(&Square {
                    x: rows,
                    next_x: x.rows(m, part, next).0,
                    x_stride,
                    w,
                    w_stride,
                    tiles,
                    from: if k0 == 0 { core::ptr::null() } else { from },
                    next_from: from.wrapping_add(GROUPS),
                    sums,
                    sums_stride,
                    sums_group,
                    raw,
                    raw_end: raw.wrapping_add(makes),
                    made,
                });
                if last && !whole {
                    store(from.cast(), out, m.out_stride, m.tokens - t, end - r);
                }
            }
            making.finish::<W>(m, &mut raws, other);
            (room, other) = (other, room);
            now = upcoming;
        }
    }
}

/// Puts the sums of a square of which `tokens` and `rows` count, or fewer than there are, where they belong.
///
/// # Safety
/// They are there, and so is their place.
#[target_feature(enable = "avx512f")]
unsafe fn store(sums: *const f32, out: *mut f32, out_stride: usize, tokens: usize, rows: usize) {
    for group in 0..GROUPS {
        let mask = tail_mask(rows.saturating_sub(group * GROUP));
        for t in 0..tokens.min(ROWS) {
            // SAFETY: the mask keeps to the sums that count.
            unsafe {
                let from = _mm512_loadu_ps(sums.add((group * ROWS + t) * ROWS));
                _mm512_mask_storeu_ps(out.wrapping_add(t * out_stride + group * GROUP), mask, from);
            }
        }
    }
}

const _: () = assert!(ROWS == GROUP, "a tile is a group of rows");

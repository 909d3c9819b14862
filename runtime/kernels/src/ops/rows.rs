//! Typed views of slots: every address a kernel hands to a primitive is checked here.

use super::{Ctx, Slot, Vector, Weight};
use crate::dtype::{ActType, GROUP, Q8};

/// Rows of f32 or Q8 inside the arena.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    base: *mut u8,
    stride: usize,
    count: usize,
    cols: usize,
    act: ActType,
}

impl Rows {
    /// `count` rows of `slot`, which holds `act`.
    ///
    /// # Panics
    /// If the slot holds another type or leaves the arena.
    pub(super) fn of(ctx: &Ctx<'_>, slot: &Slot, count: usize, act: ActType) -> Rows {
        assert!(slot.act == act, "operand of another type");
        Rows {
            base: ctx.rows(slot, count),
            stride: slot.stride(),
            count,
            cols: slot.cols,
            act,
        }
    }

    /// `count` rows of `cols` elements at byte `offset`.
    ///
    /// # Panics
    /// If they leave the arena.
    pub(super) fn at_offset(ctx: &Ctx<'_>, offset: usize, count: usize, cols: usize, act: ActType) -> Rows {
        Rows::of(ctx, &Slot { offset, cols, act }, count, act)
    }

    /// `count` f32 rows of `slot`.
    pub(super) fn f32(ctx: &Ctx<'_>, slot: &Slot, count: usize) -> Rows {
        Rows::of(ctx, slot, count, ActType::F32)
    }

    /// Elements of a row.
    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Floats from one row to the next.
    pub(super) fn floats(&self) -> usize {
        self.stride / size_of::<f32>()
    }

    /// The start of row `t`.
    pub(super) fn row(&self, t: usize) -> *mut u8 {
        assert!(t < self.count, "row outside its tensor");
        // SAFETY: the rows are inside the arena, and `t` is one of them.
        unsafe { self.base.add(t * self.stride) }
    }

    /// Column `col` of row `t`; at least `n` columns follow.
    pub(super) fn at(&self, t: usize, col: usize, n: usize) -> *mut f32 {
        assert!(self.act == ActType::F32, "not rows of f32");
        assert!(col + n <= self.cols, "column outside its tensor");
        // SAFETY: the row is inside the arena and has `cols` floats.
        unsafe { self.row(t).cast::<f32>().add(col) }
    }

    /// The Q8 row `t`.
    pub(super) fn q8(&self, t: usize) -> Q8Row {
        assert!(self.act == ActType::Q8, "not rows of Q8");
        Q8Row::new(self.row(t), self.cols)
    }
}

/// One Q8 row ([`ActType::Q8`]) in memory.
#[derive(Clone, Copy)]
pub(super) struct Q8Row {
    start: *mut u8,
    row: Q8,
}

impl Q8Row {
    /// The row of `cols` elements at `start`, which is valid for [`ActType::row_bytes`] of them.
    pub(super) fn new(start: *mut u8, cols: usize) -> Q8Row {
        assert!(cols.is_multiple_of(Q8::BLOCK), "a Q8 row is whole blocks");
        Q8Row {
            start,
            row: Q8 { cols },
        }
    }

    /// Copies `piece`, a whole Q8 row, into this row at column `col`.
    ///
    /// # Safety
    /// Both rows are valid memory and do not overlap.
    pub(super) unsafe fn put(&self, col: usize, piece: &Q8Row) {
        assert!(
            col.is_multiple_of(Q8::BLOCK) && col + piece.row.cols <= self.row.cols,
            "piece outside its row"
        );
        let (first, blocks) = (col / Q8::BLOCK, piece.row.blocks());
        let parts = [
            (0, 0, Q8::BLOCK_BYTES),
            (piece.row.scales(), self.row.scales(), 4),
            (piece.row.sums(), self.row.sums(), 4),
        ];
        for (from, to, size) in parts {
            // SAFETY: the piece lies inside the row, as just checked; each part is inside its own part.
            unsafe {
                let to = self.start.add(to + first * size);
                piece.start.add(from).copy_to_nonoverlapping(to, blocks * size);
            }
        }
    }
}

impl Vector {
    /// The elements `at..at + n`.
    ///
    /// # Panics
    /// If they are not all there, or not in the arena.
    pub(super) fn at(&self, ctx: &Ctx<'_>, at: usize, n: usize) -> *const f32 {
        assert!(at + n <= self.len, "vector shorter than its use");
        ctx.at(self.offset + at * size_of::<f32>(), n * size_of::<f32>())
            .cast::<f32>()
    }
}

impl Weight {
    /// The packed rows `first..first + rows`; `first` is a multiple of [`GROUP`].
    ///
    /// # Panics
    /// If they are not all there, or not in the arena.
    pub(super) fn rows_at(&self, ctx: &Ctx<'_>, first: usize, rows: usize) -> *const u8 {
        assert!(first.is_multiple_of(GROUP), "rows from the middle of a group");
        assert!(first + rows <= self.rows, "rows outside their matrix");
        let start = self.dtype.packed_bytes(first, self.cols);
        ctx.at(self.offset + start, self.dtype.packed_bytes(rows, self.cols))
    }
}

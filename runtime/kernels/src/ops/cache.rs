//! Into the KV cache.

use super::rows::Rows;
use super::{Cache, Ctx, Kernel, Slot};
use crate::dtype::ActType;
use crate::partition::Axis;

/// Positions in a tile of keys.
const LANES: usize = 16;
/// Elements of the largest head.
pub(super) const MAX_HEAD: usize = 256;

impl Cache {
    fn element_bytes(&self) -> usize {
        match self.act {
            ActType::F32 => 4,
            ActType::F16 => 2,
            ActType::U32 | ActType::Q8 => panic!("a cache holds f32 or f16"),
        }
    }

    /// The address of kv head `head` in the half of the cache at `offset`.
    ///
    /// # Panics
    /// If there is no such head, or the cache leaves the arena.
    pub(super) fn head(&self, ctx: &Ctx<'_>, offset: usize, head: usize) -> *mut u8 {
        assert!(head < self.kv_heads, "no such kv head");
        assert!(self.context.is_multiple_of(LANES), "the context is whole tiles");
        let bytes = self.context * self.head_dim * self.element_bytes();
        ctx.at(offset + head * bytes, bytes)
    }

    /// Stores elements `first..first + n` of the key of `head` at `position`.
    ///
    /// # Safety
    /// `x` is valid for `n` reads; nobody else uses that key meanwhile.
    pub(super) unsafe fn put_key(
        &self,
        ctx: &Ctx<'_>,
        head: usize,
        position: usize,
        first: usize,
        n: usize,
        x: *const f32,
    ) {
        assert!(position < self.context, "position outside the cache");
        assert!(first + n <= self.head_dim && n <= MAX_HEAD, "element outside its head");
        let base = self.head(ctx, self.k, head);
        let at = (position / LANES * self.head_dim + first) * LANES + position % LANES;
        if self.act == ActType::F16 {
            let mut halves = [0u16; MAX_HEAD];
            // SAFETY: there is room for `n`; element `d` of the key is `LANES * d` from the first, inside its tile.
            unsafe {
                (ctx.isa.to_f16)(x, n, halves.as_mut_ptr());
                for (d, half) in halves[..n].iter().enumerate() {
                    *base.cast::<u16>().add(at + d * LANES) = *half;
                }
            }
        } else {
            for d in 0..n {
                // SAFETY: as above.
                unsafe { *base.cast::<f32>().add(at + d * LANES) = *x.add(d) };
            }
        }
    }

    /// Stores elements `first..first + n` of the value of `head` at `position`.
    ///
    /// # Safety
    /// `x` is valid for `n` reads; nobody else uses that value meanwhile.
    pub(super) unsafe fn put_value(
        &self,
        ctx: &Ctx<'_>,
        head: usize,
        position: usize,
        first: usize,
        n: usize,
        x: *const f32,
    ) {
        assert!(position < self.context, "position outside the cache");
        assert!(first + n <= self.head_dim, "element outside its head");
        let base = self.head(ctx, self.v, head);
        let at = position * self.head_dim + first;
        // SAFETY: the elements are inside the value, which is inside the cache.
        unsafe {
            if self.act == ActType::F16 {
                (ctx.isa.to_f16)(x, n, base.cast::<u16>().add(at));
            } else {
                x.copy_to_nonoverlapping(base.cast::<f32>().add(at), n);
            }
        }
    }

    /// Calls `put(head, first, n, column)` for every head that columns `cols` of a row of all heads touch.
    pub(super) fn heads_of(&self, cols: core::ops::Range<usize>, mut put: impl FnMut(usize, usize, usize, usize)) {
        let mut col = cols.start;
        while col < cols.end {
            let (head, first) = (col / self.head_dim, col % self.head_dim);
            let n = (self.head_dim - first).min(cols.end - col);
            put(head, first, n, col);
            col += n;
        }
    }
}

/// Rows of `kv_heads * head_dim` into the cache as keys of the tokens' positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheKeys {
    /// f32 rows.
    pub x: Slot,
    /// The layer's cache.
    pub cache: Cache,
    /// `Tokens`, `Columns` or `Serial`.
    pub axis: Axis,
}

impl Kernel for CacheKeys {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let x = Rows::f32(ctx, &self.x, ctx.tokens);
        let share = self.axis.share(ctx.tokens, x.cols(), ctx.ith, ctx.nth);
        for t in share.tokens {
            self.cache.heads_of(share.cols.clone(), |head, first, n, col| {
                // SAFETY: the row has `n` columns at `col`; they belong to this worker, and so does their place.
                unsafe { self.cache.put_key(ctx, head, ctx.pos + t, first, n, x.at(t, col, n)) };
            });
        }
    }
}

/// Rows of `kv_heads * head_dim` into the cache as values of the tokens' positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheValues {
    /// f32 rows.
    pub x: Slot,
    /// The layer's cache.
    pub cache: Cache,
    /// `Tokens`, `Columns` or `Serial`.
    pub axis: Axis,
}

impl Kernel for CacheValues {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let x = Rows::f32(ctx, &self.x, ctx.tokens);
        let share = self.axis.share(ctx.tokens, x.cols(), ctx.ith, ctx.nth);
        for t in share.tokens {
            self.cache.heads_of(share.cols.clone(), |head, first, n, col| {
                // SAFETY: the row has `n` columns at `col`; they belong to this worker, and so does their place.
                unsafe { self.cache.put_value(ctx, head, ctx.pos + t, first, n, x.at(t, col, n)) };
            });
        }
    }
}

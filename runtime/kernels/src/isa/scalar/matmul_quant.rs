//! The meaning of [`Matmul`] with quantised weights, and what it shares with that of float weights.

use core::slice;

use crate::dtype::{DType, GROUP, Q8};
use crate::isa::Matmul;
use crate::quant::block::{header_byte, header_half};
use crate::quant::{Affine, Block, Centred, Scales, SubAffine, SubCentred, Values, scale_min};

/// One accumulator per row of a group.
pub(super) type Sums = [f32; GROUP];

/// 32 activations: whole numbers, their scale, their sum.
type Beside = ([i32; Q8::BLOCK], f32, i32);

/// A row of activations as [`crate::dtype::ActType::Q8`] stores it.
struct Row<'a> {
    blocks: &'a [[i8; Q8::BLOCK_BYTES]],
    scales: &'a [f32],
    sums: &'a [i32],
}

impl Row<'_> {
    /// # Safety
    /// `x` is a Q8 row of `cols` elements, aligned to 4.
    unsafe fn new(x: *const u8, cols: usize) -> Self {
        let row = Q8 { cols };
        // SAFETY: the layout of a row.
        unsafe {
            Self {
                blocks: slice::from_raw_parts(x.cast(), row.blocks()),
                scales: slice::from_raw_parts(x.add(row.scales()).cast(), row.blocks()),
                sums: slice::from_raw_parts(x.add(row.sums()).cast(), row.blocks()),
            }
        }
    }

    /// Columns `32 i..32 i + 32`.
    fn beside(&self, i: usize) -> Beside {
        let (high, low) = self.blocks[i].split_at(Q8::BLOCK);
        let whole = core::array::from_fn(|c| Q8::STEP * i32::from(high[c]) + i32::from(low[c]));
        (whole, self.scales[i], self.sums[i])
    }
}

/// Applies `dot` to every group of 16 rows and every token.
///
/// # Safety
/// As [`crate::isa::Isa::matmul`]; `row` makes a token's activations of its address.
pub(super) unsafe fn each<X>(
    m: &Matmul,
    dtype: DType,
    row: impl Fn(*const u8) -> X,
    dot: impl Fn(&[u8], &X, &mut Sums),
) {
    let group_bytes = GROUP * dtype.row_bytes(m.k);
    for g in 0..m.rows.div_ceil(GROUP) {
        // SAFETY: packed weights have whole groups.
        let group = unsafe { slice::from_raw_parts(m.w.add(g * group_bytes), group_bytes) };
        let rows = GROUP.min(m.rows - g * GROUP);
        for t in 0..m.tokens {
            // SAFETY: token `t` has a row of activations and `m.rows` outputs.
            let (x, out) = unsafe {
                (
                    row(m.x.add(t * m.x_stride)),
                    slice::from_raw_parts_mut(m.out.add(t * m.out_stride + g * GROUP), rows),
                )
            };
            let mut sums = [0.0; GROUP];
            dot(group, &x, &mut sums);
            out.copy_from_slice(&sums[..rows]);
        }
    }
}

/// How a tier without vectors scales.
pub trait Scale: Scales {
    /// `acc`, the products of the integers of a row's 32 columns, the `j`th of a block, with the activations beside them
    /// added.
    fn add(
        acc: f32,
        j: usize,
        half: impl Fn(usize) -> f32,
        byte: impl Fn(usize) -> u8,
        q: &[u8; 32],
        x: &Beside,
    ) -> f32;
}

/// Sum of products.
fn dot(q: &[u8], x: &[i32]) -> i32 {
    q.iter().zip(x).map(|(q, x)| i32::from(*q) * x).sum()
}

impl<const BIAS: i32> Scale for Centred<BIAS> {
    fn add(
        acc: f32,
        _: usize,
        half: impl Fn(usize) -> f32,
        _: impl Fn(usize) -> u8,
        q: &[u8; 32],
        &(ref x, scale, sum): &Beside,
    ) -> f32 {
        acc + (dot(q, x) - BIAS * sum) as f32 * (half(0) * scale)
    }
}

impl Scale for Affine {
    fn add(
        acc: f32,
        _: usize,
        half: impl Fn(usize) -> f32,
        _: impl Fn(usize) -> u8,
        q: &[u8; 32],
        &(ref x, scale, sum): &Beside,
    ) -> f32 {
        let acc = acc + half(0) * (scale * dot(q, x) as f32);
        acc + half(1) * (scale * sum as f32)
    }
}

impl Scale for SubAffine {
    fn add(
        acc: f32,
        j: usize,
        half: impl Fn(usize) -> f32,
        byte: impl Fn(usize) -> u8,
        q: &[u8; 32],
        &(ref x, scale, sum): &Beside,
    ) -> f32 {
        let (sc, min) = scale_min(j, byte);
        let acc = acc + (half(0) * f32::from(sc)) * (scale * dot(q, x) as f32);
        acc - (half(1) * f32::from(min)) * (scale * sum as f32)
    }
}

impl<const BIAS: i32> Scale for SubCentred<BIAS> {
    fn add(
        acc: f32,
        j: usize,
        half: impl Fn(usize) -> f32,
        byte: impl Fn(usize) -> u8,
        q: &[u8; 32],
        &(ref x, scale, _): &Beside,
    ) -> f32 {
        // The largest that fits: 16 products of 32 and [`Q8::MOST`], times 128.
        const { assert!(16 * 128 * BIAS as i64 * Q8::MOST as i64 <= i32::MAX as i64) };
        let part = |h: usize| {
            let x = &x[16 * h..16 * h + 16];
            let sum: i32 = x.iter().sum();
            let int = dot(&q[16 * h..], x) - BIAS * sum;
            (int * i32::from(byte(2 * j + h) as i8)) as f32
        };
        acc + (part(0) + part(1)) * (half(0) * scale)
    }
}

/// Weights of that kind of block.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn matmul<B: Block<Scales: Scale>>(m: &Matmul) {
    // SAFETY: quantised weights come with Q8 rows.
    let row = |x: *const u8| unsafe { Row::new(x, m.k) };
    let per = B::DTYPE.block_len() / 32;
    // SAFETY: passed on.
    unsafe {
        each(m, B::DTYPE, row, |group, x: &Row<'_>, sums| {
            for (b, block) in group.chunks_exact(GROUP * B::DTYPE.block_bytes()).enumerate() {
                let (header, slabs) = block.split_at(B::Scales::HEADER);
                for (j, slab) in slabs.chunks_exact(B::Values::SLAB).enumerate() {
                    let beside = x.beside(b * per + j);
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let half = |i| header_half(header, i, r);
                        let byte = |i| header_byte::<B>(header, i, r);
                        *sum = B::Scales::add(*sum, j, half, byte, &B::Values::get(slab, r), &beside);
                    }
                }
            }
        });
    }
}

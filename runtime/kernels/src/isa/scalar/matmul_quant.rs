//! The meaning of [`Matmul`] with quantised weights, and what it shares with that of float weights.

use core::slice;

use crate::dtype::{DType, GROUP, PLANES, plane_bytes};
use crate::isa::Matmul;
use crate::quant::block::{header_byte, header_half};
use crate::quant::{Affine, Block, Centred, Scales, SubAffine, SubCentred, Values, scale_min};

/// One accumulator per row of a group.
pub(super) type Sums = [f32; GROUP];

/// 32 activations: bytes, scale, sum of the bytes.
type Beside<'a> = (&'a [i8; 32], f32, i32);

/// A plane of a row of activations as [`crate::dtype::ActType::Q8`] stores it.
struct Plane<'a> {
    bytes: &'a [i8],
    scales: &'a [f32],
    sums: &'a [i32],
}

impl<'a> Plane<'a> {
    /// # Safety
    /// `x` is a plane of a Q8 row of `k` elements.
    unsafe fn new(x: *const u8, k: usize) -> Self {
        // SAFETY: the layout of a plane; `k` is a multiple of 32, so scales and sums are aligned as the row is.
        unsafe {
            Self {
                bytes: slice::from_raw_parts(x.cast(), k),
                scales: slice::from_raw_parts(x.add(k).cast(), k / 32),
                sums: slice::from_raw_parts(x.add(k + k / 8).cast(), k / 32),
            }
        }
    }

    /// Columns `32 i..32 i + 32`.
    fn beside(&self, i: usize) -> Beside<'a> {
        (&self.bytes.as_chunks().0[i], self.scales[i], self.sums[i])
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
        x: Beside<'_>,
    ) -> f32;
}

/// Sum of products.
fn dot(q: &[u8], x: &[i8]) -> i32 {
    q.iter().zip(x).map(|(q, x)| i32::from(*q) * i32::from(*x)).sum()
}

impl<const BIAS: i32> Scale for Centred<BIAS> {
    fn add(
        acc: f32,
        _: usize,
        half: impl Fn(usize) -> f32,
        _: impl Fn(usize) -> u8,
        q: &[u8; 32],
        (x, scale, sum): Beside<'_>,
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
        (x, scale, sum): Beside<'_>,
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
        (x, scale, sum): Beside<'_>,
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
        (x, scale, _): Beside<'_>,
    ) -> f32 {
        let part = |h: usize| {
            let x = &x[16 * h..16 * h + 16];
            let sum: i32 = x.iter().map(|x| i32::from(*x)).sum();
            let int = dot(&q[16 * h..], x) - BIAS * sum;
            int as f32 * (half(0) * f32::from(byte(2 * j + h) as i8))
        };
        acc + (part(0) + part(1)) * scale
    }
}

/// Weights of that kind of block.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn matmul<B: Block<Scales: Scale>>(m: &Matmul) {
    // SAFETY: quantised weights come with Q8 rows.
    let row = |x: *const u8| unsafe { [0, 1].map(|plane| Plane::new(x.add(plane * plane_bytes(m.k)), m.k)) };
    let per = B::DTYPE.block_len() / 32;
    // SAFETY: passed on.
    unsafe {
        each(m, B::DTYPE, row, |group, planes: &[Plane<'_>; PLANES], sums| {
            for (b, block) in group.chunks_exact(GROUP * B::DTYPE.block_bytes()).enumerate() {
                let (header, slabs) = block.split_at(B::Scales::HEADER);
                for (j, slab) in slabs.chunks_exact(B::Values::SLAB).enumerate() {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let half = |i| header_half(header, i, r);
                        let byte = |i| header_byte::<B>(header, i, r);
                        let q = B::Values::get(slab, r);
                        for plane in planes {
                            *sum = B::Scales::add(*sum, j, half, byte, &q, plane.beside(b * per + j));
                        }
                    }
                }
            }
        });
    }
}

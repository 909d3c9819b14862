//! The meaning of [`Matmul`].

use core::slice;

use crate::dtype::{DType, GROUP, PLANES, plane_bytes};
use crate::isa::Matmul;
use crate::quant::half::{bf16_to_f32, f16_to_f32};
use crate::quant::scale_min;

/// One accumulator per row of a group.
type Sums = [f32; GROUP];

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

    /// Per 32 columns: number, bytes, scale, sum of the bytes.
    fn blocks(&self) -> impl Iterator<Item = (&'a [i8; 32], f32, i32)> {
        let bytes = self.bytes.as_chunks().0;
        bytes
            .iter()
            .zip(self.scales)
            .zip(self.sums)
            .map(|((q, d), s)| (q, *d, *s))
    }
}

/// Applies `dot` to every group of 16 rows and every token.
///
/// # Safety
/// As [`crate::isa::Isa::matmul`]; `row` makes a token's activations of its address.
unsafe fn each<X>(m: &Matmul, dtype: DType, row: impl Fn(*const u8) -> X, dot: impl Fn(&[u8], &X, &mut Sums)) {
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

/// # Safety
/// As [`each`], for float weights; `weight` is the weight of a column and a row of a group.
unsafe fn floats(m: &Matmul, dtype: DType, weight: impl Fn(&[u8], usize, usize) -> f32) {
    // SAFETY: float weights come with rows of `k` floats.
    let row = |x: *const u8| unsafe { slice::from_raw_parts(x.cast::<f32>(), m.k) };
    // SAFETY: passed on.
    unsafe {
        each(m, dtype, row, |group, x, sums| {
            for (k, x) in x.iter().enumerate() {
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum += weight(group, k, r) * x;
                }
            }
        });
    }
}

/// # Safety
/// As [`each`], for quantised weights; `dot` adds the products of one block of weights and the Q8 blocks beside it.
unsafe fn blocks<const BYTES: usize>(m: &Matmul, dtype: DType, dot: impl Fn(&[u8; BYTES], &[Block<'_>], &mut Sums)) {
    debug_assert_eq!(BYTES, GROUP * dtype.block_bytes());
    const MOST: usize = 8;
    let per = dtype.block_len() / 32;
    // SAFETY: quantised weights come with Q8 rows.
    let row = |x: *const u8| unsafe { [0, 1].map(|plane| Plane::new(x.add(plane * plane_bytes(m.k)), m.k)) };
    // SAFETY: passed on.
    unsafe {
        each(m, dtype, row, |group, planes: &[Plane<'_>; PLANES], sums| {
            let mut planes = planes.each_ref().map(Plane::blocks);
            for block in group.as_chunks::<BYTES>().0 {
                for xs in &mut planes {
                    let mut beside = [(&[0; 32], 0.0, 0); MOST];
                    for (to, from) in beside[..per].iter_mut().zip(xs) {
                        *to = from;
                    }
                    dot(block, &beside[..per], sums);
                }
            }
        });
    }
}

/// 32 activations: bytes, scale, sum of the bytes.
type Block<'a> = (&'a [i8; 32], f32, i32);

fn u16_at(bytes: &[u8], i: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])
}

/// Sum of products of `q(i)` and `x[i]`.
fn int_dot(x: &[i8], q: impl Fn(usize) -> i32) -> i32 {
    x.iter().enumerate().map(|(i, x)| i32::from(*x) * q(i)).sum()
}

/// Column `i` of a slab of nibbles.
fn nibble(slab: &[u8], row: usize, i: usize) -> i32 {
    i32::from(slab[i / 8 * 64 + row * 4 + i % 4] >> (i % 8 / 4 * 4) & 15)
}

/// `f32` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn f32(m: &Matmul) {
    let weight = |group: &[u8], k, r| {
        let column: &[[u8; 4]] = group.as_chunks().0;
        f32::from_le_bytes(column[k * GROUP + r])
    };
    // SAFETY: passed on.
    unsafe { floats(m, DType::F32, weight) }
}

/// `f16` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn f16(m: &Matmul) {
    // SAFETY: passed on.
    unsafe { floats(m, DType::F16, |group, k, r| f16_to_f32(u16_at(group, k * GROUP + r))) }
}

/// `bf16` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn bf16(m: &Matmul) {
    let weight = |group: &[u8], k, r| {
        let paired = k / 2 * 2 * GROUP + 2 * r + k % 2;
        let last = k * GROUP + r;
        bf16_to_f32(u16_at(group, if k == m.k - 1 && m.k % 2 == 1 { last } else { paired }))
    };
    // SAFETY: passed on.
    unsafe { floats(m, DType::BF16, weight) }
}

/// `q8_0` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn q8_0(m: &Matmul) {
    let dot = |w: &[u8; 34 * GROUP], x: &[Block<'_>], sums: &mut Sums| {
        let (x, scale, sum) = x[0];
        for (r, acc) in sums.iter_mut().enumerate() {
            let int = int_dot(x, |i| i32::from(w[2 * GROUP + i / 4 * 64 + r * 4 + i % 4])) - 128 * sum;
            *acc += int as f32 * (f16_to_f32(u16_at(w, r)) * scale);
        }
    };
    // SAFETY: passed on.
    unsafe { blocks(m, DType::Q8_0, dot) }
}

/// `q4_0` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn q4_0(m: &Matmul) {
    let dot = |w: &[u8; 18 * GROUP], x: &[Block<'_>], sums: &mut Sums| {
        let (x, scale, sum) = x[0];
        for (r, acc) in sums.iter_mut().enumerate() {
            let int = int_dot(x, |i| nibble(&w[2 * GROUP..], r, i)) - 8 * sum;
            *acc += int as f32 * (f16_to_f32(u16_at(w, r)) * scale);
        }
    };
    // SAFETY: passed on.
    unsafe { blocks(m, DType::Q4_0, dot) }
}

/// `q4_k` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn q4_k(m: &Matmul) {
    let dot = |w: &[u8; 144 * GROUP], x: &[Block<'_>], sums: &mut Sums| {
        for (j, (x, scale, sum)) in x.iter().enumerate() {
            let slab = &w[16 * GROUP + j * 256..][..256];
            for (r, acc) in sums.iter_mut().enumerate() {
                let (sc, min) = scale_min(j, |i| w[(4 + i) * GROUP + r]);
                let (d, dmin) = (f16_to_f32(u16_at(w, r)), f16_to_f32(u16_at(w, GROUP + r)));
                let int = int_dot(*x, |i| nibble(slab, r, i));
                *acc += (d * f32::from(sc)) * (scale * int as f32);
                *acc -= (dmin * f32::from(min)) * (scale * *sum as f32);
            }
        }
    };
    // SAFETY: passed on.
    unsafe { blocks(m, DType::Q4K, dot) }
}

/// `q6_k` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn q6_k(m: &Matmul) {
    let dot = |w: &[u8; 210 * GROUP], x: &[Block<'_>], sums: &mut Sums| {
        for (j, (x, scale, _)) in x.iter().enumerate() {
            for (r, acc) in sums.iter_mut().enumerate() {
                let d = f16_to_f32(u16_at(w, r));
                let half = |h: usize| {
                    let sub = &w[18 * GROUP + (2 * j + h) * 192..][..192];
                    let int = int_dot(&x[16 * h..16 * h + 16], |i| {
                        let at = r * 4 + i % 4;
                        let low = sub[i / 8 * 64 + at] >> (i / 4 % 2 * 4) & 15;
                        let high = sub[128 + at] >> (i / 4 * 2) & 3;
                        i32::from(low | high << 4) - 32
                    });
                    let sc = w[(2 + 2 * j + h) * GROUP + r] as i8;
                    (int as f32, d * f32::from(sc))
                };
                let ((int0, d0), (int1, d1)) = (half(0), half(1));
                *acc += (int0 * d0 + int1 * d1) * scale;
            }
        }
    };
    // SAFETY: passed on.
    unsafe { blocks(m, DType::Q6K, dot) }
}

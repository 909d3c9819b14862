//! Matmuls with quantised weights: four rows a vector, four columns a lane, exact integer sums per block.

use core::arch::aarch64::*;
use core::marker::PhantomData;
use core::ops::Range;

use super::{Quad, halves, load, store};
use crate::dtype::{DType, GROUP, Q8};
use crate::isa::Matmul;
use crate::isa::blocking::{self, Fix, Fixed, Kernel, Panel, Quants};
use crate::quant::{self, Affine, Block, Centred, Fives, Nibbles, Scales, Sixes, SubAffine, SubCentred, Values};

/// Where the activations of 32 columns of some tokens are.
#[derive(Clone, Copy)]
struct X {
    bytes: *const i8,
    /// From one token's bytes to the next's.
    stride: usize,
    scales: *const f32,
    fixes: *const i32,
    /// From the fixes of the first 16 columns to those of the others.
    fix_stride: usize,
}

/// How four products of bytes are added to each lane.
pub trait Dot {
    /// `sum` and, lane by lane, the four products with quad `LANE` of `x`, whose bytes are -127 at least.
    ///
    /// # Safety
    /// The CPU has what it takes.
    unsafe fn dot<const LANE: i32>(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t;
}

/// NEON alone: two neighbours as words, which 128 times 127 fits twice, then pairs of them.
pub enum Widening {}

impl Dot for Widening {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn dot<const LANE: i32>(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        let x = vreinterpretq_s8_s32(vdupq_laneq_s32::<LANE>(vreinterpretq_s32_s8(x)));
        let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
        vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(w, x)))
    }
}

/// The instruction for it.
pub enum Dotprod {}

impl Dot for Dotprod {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn dot<const LANE: i32>(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // The intrinsic is not stable.
        // SAFETY: touches nothing but its registers; the CPU has the instruction, by the trait's contract.
        unsafe {
            core::arch::asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
                sum = inout(vreg) sum,
                w = in(vreg) w,
                x = in(vreg) x,
                lane = const LANE,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }
}

/// How this tier unpacks integers.
trait Unpack: Values {
    /// Whether they come out as signed numbers about 0, and need no fix.
    const SIGNED: bool = false;

    /// Quads `4 part..4 part + 4` of rows `4 r..4 r + 4` of a slab.
    ///
    /// # Safety
    /// The slab is there.
    unsafe fn four(slab: *const u8, r: usize, part: usize) -> [int8x16_t; 4];
}

/// How this tier scales.
trait Scale: Fixed {
    /// Adds to each token's sums the products of its bytes with columns `32 j..32 j + 32` of a block's rows
    /// `4 r..4 r + 4`, scaled.
    ///
    /// # Safety
    /// The block is there and has that many columns; what `x` points to is there; the CPU has what `D` takes.
    unsafe fn add<D: Dot, V: Unpack, const N: usize>(acc: &mut [Quad; N], block: *const u8, j: usize, r: usize, x: &X);
}

/// Blocks that this tier multiplies.
trait Packed: Block<Values: Unpack, Scales: Scale> {}

impl<B: Block<Values: Unpack, Scales: Scale>> Packed for B {}

/// The arithmetic of a kind of block.
struct Blocks<D, B>(PhantomData<(D, B)>);

impl<D: Dot, B: Packed> Kernel for Blocks<D, B> {
    const DTYPE: DType = B::DTYPE;
    const FIX: Fix = if <B::Values>::SIGNED {
        Fix::None
    } else {
        <B::Scales>::FIX
    };
    type Stage = Quants;

    #[target_feature(enable = "neon")]
    unsafe fn panel<const T: usize>(p: &Panel, x: &Quants) {
        // SAFETY: passed on.
        unsafe { panel::<D, B, T>(p, x) }
    }
}

/// Weights of that kind of block.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
#[expect(private_bounds, reason = "how the tier does it is its own affair")]
pub unsafe fn matmul<B: Packed>(m: &Matmul) {
    // SAFETY: passed on.
    unsafe { blocking::matmul::<Blocks<Widening, B>>(m) }
}

/// The same with the CPU's dot products.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`]; the CPU has `FEAT_DotProd`.
#[expect(private_bounds, reason = "how the tier does it is its own affair")]
pub unsafe fn matmul_dotprod<B: Packed>(m: &Matmul) {
    // SAFETY: passed on.
    unsafe { blocking::matmul::<Blocks<Dotprod, B>>(m) }
}

impl Unpack for quant::Bytes {
    const SIGNED: bool = true;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn four(slab: *const u8, r: usize, part: usize) -> [int8x16_t; 4] {
        // SAFETY: a slab is eight vectors of 64 bytes.
        let four = [0, 1, 2, 3].map(|i| unsafe { vector(slab, r, 4 * part + i) });
        four.map(|bytes| vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(128))))
    }
}

impl Unpack for Nibbles {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn four(slab: *const u8, r: usize, part: usize) -> [int8x16_t; 4] {
        // SAFETY: a slab is four vectors of 64 bytes.
        let pairs = [0, 1].map(|i| unsafe { vector(slab, r, 2 * part + i) });
        nibbles(pairs).map(|q| vreinterpretq_s8_u8(q))
    }
}

impl Unpack for Fives {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn four(slab: *const u8, r: usize, part: usize) -> [int8x16_t; 4] {
        // SAFETY: a slab is five vectors of 64 bytes.
        let (pairs, high) = unsafe { ([0, 1].map(|i| vector(slab, r, 2 * part + i)), vector(slab, r, 4)) };
        join(nibbles(pairs), high, 4 - 4 * part as i8, 1, 0x10)
    }
}

impl Unpack for Sixes {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn four(slab: *const u8, r: usize, part: usize) -> [int8x16_t; 4] {
        // SAFETY: a slab is six vectors of 64 bytes.
        let (pairs, high) = unsafe {
            (
                [0, 1].map(|i| vector(slab, r, 3 * part + i)),
                vector(slab, r, 3 * part + 2),
            )
        };
        join(nibbles(pairs), high, 4, 2, 0x30)
    }
}

impl<const BIAS: i32> Scale for Centred<BIAS> {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add<D: Dot, V: Unpack, const N: usize>(acc: &mut [Quad; N], block: *const u8, j: usize, r: usize, x: &X) {
        // SAFETY: 16 halves, then slabs.
        unsafe {
            let ints = dot::<D, V, N>(block.add(Self::HEADER + j * V::SLAB), r, 0..2, x);
            let d = four_halves(block, r);
            for t in 0..N {
                let int = vcvtq_f32_s32(fixed::<V>(ints[t], x.fixes.wrapping_add(t)));
                acc[t][r] = vfmaq_f32(acc[t][r], int, vmulq_n_f32(d, *x.scales.add(t)));
            }
        }
    }
}

impl Scale for Affine {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add<D: Dot, V: Unpack, const N: usize>(acc: &mut [Quad; N], block: *const u8, j: usize, r: usize, x: &X) {
        // SAFETY: twice 16 halves, then slabs.
        unsafe {
            let ints = dot::<D, V, N>(block.add(Self::HEADER + j * V::SLAB), r, 0..2, x);
            let (d, m) = (four_halves(block, r), four_halves(block.add(2 * GROUP), r));
            for t in 0..N {
                let scaled = vmulq_n_f32(vcvtq_f32_s32(ints[t]), *x.scales.add(t));
                let sum = vfmaq_f32(acc[t][r], d, scaled);
                acc[t][r] = vfmaq_n_f32(sum, m, *x.fixes.add(t).cast());
            }
        }
    }
}

impl Scale for SubAffine {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add<D: Dot, V: Unpack, const N: usize>(acc: &mut [Quad; N], block: *const u8, j: usize, r: usize, x: &X) {
        // SAFETY: 16 `d`, 16 `dmin`, twelve times 16 bytes, then slabs.
        unsafe {
            let ints = dot::<D, V, N>(block.add(Self::HEADER + j * V::SLAB), r, 0..2, x);
            let byte = |i: usize| widened(block.add((4 + i) * GROUP + 4 * r));
            // See `quant::scale_min`.
            let (sc, min) = if j < 4 {
                let six = vdupq_n_u32(63);
                (vandq_u32(byte(j), six), vandq_u32(byte(j + 4), six))
            } else {
                let low = byte(j + 4);
                let upper = |b| vshlq_n_u32::<4>(vshrq_n_u32::<6>(b));
                (
                    vorrq_u32(vandq_u32(low, vdupq_n_u32(15)), upper(byte(j - 4))),
                    vorrq_u32(vshrq_n_u32::<4>(low), upper(byte(j))),
                )
            };
            let d = vmulq_f32(four_halves(block, r), vcvtq_f32_u32(sc));
            let dmin = vmulq_f32(four_halves(block.add(2 * GROUP), r), vcvtq_f32_u32(min));
            for t in 0..N {
                let scaled = vmulq_n_f32(vcvtq_f32_s32(ints[t]), *x.scales.add(t));
                let sum = vfmaq_f32(acc[t][r], d, scaled);
                acc[t][r] = vfmsq_n_f32(sum, dmin, *x.fixes.add(t).cast());
            }
        }
    }
}

impl<const BIAS: i32> Scale for SubCentred<BIAS> {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add<D: Dot, V: Unpack, const N: usize>(acc: &mut [Quad; N], block: *const u8, j: usize, r: usize, x: &X) {
        // SAFETY: 16 `d`, sixteen times 16 bytes, then slabs.
        unsafe {
            let d = four_halves(block, r);
            let parts: [[float32x4_t; N]; 2] = core::array::from_fn(|part| {
                let slab = block.add(Self::HEADER + j * V::SLAB);
                let ints = dot::<D, V, N>(slab, r, part..part + 1, x);
                let sc = widened(block.add((2 + 2 * j + part) * GROUP + 4 * r));
                // Signed bytes.
                let sc = vshrq_n_s32::<24>(vreinterpretq_s32_u32(vshlq_n_u32::<24>(sc)));
                core::array::from_fn(|t| {
                    let fix = x.fixes.wrapping_add(part * x.fix_stride + t);
                    vcvtq_f32_s32(vmulq_s32(fixed::<V>(ints[t], fix), sc))
                })
            });
            for t in 0..N {
                let both = vaddq_f32(parts[0][t], parts[1][t]);
                acc[t][r] = vfmaq_f32(acc[t][r], both, vmulq_n_f32(d, *x.scales.add(t)));
            }
        }
    }
}

/// An integer with its fix, if it needs one.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn fixed<V: Unpack>(int: int32x4_t, fix: *const i32) -> int32x4_t {
    if V::SIGNED {
        return int;
    }
    // SAFETY: passed on.
    unsafe { vaddq_s32(int, vdupq_n_s32(*fix)) }
}

/// Rows `4 r..4 r + 4` of 16 f16.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn four_halves(at: *const u8, r: usize) -> float32x4_t {
    // SAFETY: passed on.
    unsafe { halves(at.add(8 * r).cast()) }
}

/// Four bytes as words.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn widened(at: *const u8) -> uint32x4_t {
    // SAFETY: passed on.
    let four = unsafe { at.cast::<u32>().read_unaligned() };
    vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(u64::from(four)))))
}

/// Rows `4 r..4 r + 4` of vector `v` of a slab.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn vector(slab: *const u8, r: usize, v: usize) -> uint8x16_t {
    // SAFETY: passed on.
    unsafe { vld1q_u8(slab.add(64 * v + 16 * r)) }
}

/// Lower and upper nibbles of each.
#[inline]
#[target_feature(enable = "neon")]
fn nibbles(pairs: [uint8x16_t; 2]) -> [uint8x16_t; 4] {
    let low = |i: usize| vandq_u8(pairs[i], vdupq_n_u8(15));
    let high = |i: usize| vshrq_n_u8::<4>(pairs[i]);
    [low(0), high(0), low(1), high(1)]
}

/// With the bits of `upper` that `mask` has: shifted left by `first` for the first quad, by `step` less for each next.
#[inline]
#[target_feature(enable = "neon")]
fn join(low: [uint8x16_t; 4], upper: uint8x16_t, first: i8, step: i8, mask: u8) -> [int8x16_t; 4] {
    core::array::from_fn(|i| {
        let shifted = vshlq_u8(upper, vdupq_n_s8(first - step * i as i8));
        vreinterpretq_s8_u8(vorrq_u8(low[i], vandq_u8(shifted, vdupq_n_u8(mask))))
    })
}

/// Products of some parts, of four quads each, of rows `4 r..4 r + 4` of a slab with those of every token: the weights
/// are unpacked once for high and low bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dot<D: Dot, V: Unpack, const N: usize>(
    slab: *const u8,
    r: usize,
    parts: Range<usize>,
    x: &X,
) -> [int32x4_t; N] {
    let mut ints = [[vdupq_n_s32(0); 2]; N];
    for part in parts {
        // SAFETY: passed on.
        unsafe {
            let w = V::four(slab, r, part);
            for (t, both) in ints.iter_mut().enumerate() {
                for (i, sum) in both.iter_mut().enumerate() {
                    let x = vld1q_s8(x.bytes.add(t * x.stride + i * Q8::BLOCK + 16 * part));
                    *sum = D::dot::<0>(*sum, w[0], x);
                    *sum = D::dot::<1>(*sum, w[1], x);
                    *sum = D::dot::<2>(*sum, w[2], x);
                    *sum = D::dot::<3>(*sum, w[3], x);
                }
            }
        }
    }
    ints.map(|[high, low]| vmlaq_n_s32(low, high, Q8::STEP))
}

/// Four tokens at once at most: more sums would not fit the registers.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn panel<D: Dot, B: Packed, const T: usize>(p: &Panel, x: &Quants) {
    for g in 0..p.rows.div_ceil(GROUP) {
        // SAFETY: the groups are in the panel, the tokens in the stage.
        unsafe {
            if T <= 4 {
                tile::<D, B, T, T>(p, g, 0, x);
            } else {
                for t0 in (0..T).step_by(4) {
                    tile::<D, B, T, 4>(p, g, t0, x);
                }
            }
        }
    }
}

/// Group `g` with `N` tokens from `t0` of the stage.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<D: Dot, B: Packed, const T: usize, const N: usize>(p: &Panel, g: usize, t0: usize, x: &Quants) {
    let mut w = p.w.wrapping_add(g * p.group_bytes);
    let rows = p.rows - g * GROUP;
    let out = |t: usize| p.out.wrapping_add((t0 + t) * p.out_stride + g * GROUP);
    let mut acc = [[vdupq_n_f32(0.0); 4]; N];
    if !p.first {
        for t in 0..N {
            // SAFETY: as many as the panel has rows left.
            acc[t] = unsafe { load(out(t), rows) };
        }
    }
    let block_bytes = B::DTYPE.block_bytes() * GROUP;
    let steps = B::DTYPE.block_len() / 32;
    let fixes = if let Fix::Halves(_) = <B::Scales>::FIX { 2 } else { 1 };
    let mut at = 0;
    while at < p.cols / 32 {
        for j in 0..steps {
            let x = X {
                bytes: x.row::<T>(t0).wrapping_add(at * Q8::BLOCK_BYTES),
                stride: Quants::stride::<T>(),
                scales: x.scales().wrapping_add(at * T + t0),
                fixes: x.fixes().wrapping_add(at * fixes * T + t0),
                fix_stride: T,
            };
            for r in 0..4 {
                // SAFETY: the block is in the chunk, the same columns are in the stage.
                unsafe { <B::Scales>::add::<D, B::Values, N>(&mut acc, w, j, r, &x) };
            }
            at += 1;
        }
        w = w.wrapping_add(block_bytes);
    }
    for t in 0..N {
        // SAFETY: as many as the panel has rows left.
        unsafe { store(out(t), rows, acc[t]) };
    }
}

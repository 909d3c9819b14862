//! Matmuls with quantised weights for few tokens: sixteen rows a vector, four columns a lane, exact integer sums per
//! block. Weights are unpacked in registers, as they come from memory.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::tail_mask;
use crate::dtype::{DType, GROUP, Q8};
use crate::isa::Matmul;
use crate::isa::blocking::{self, Fix, Fixed, Kernel, Panel};
use crate::quant::{self, Affine, Block, Centred, Fives, Nibbles, Scales, Sixes, SubAffine, SubCentred, Values};

/// Bytes ahead of the weights in use: far enough to cover memory's latency, near enough to stay in L1 until then.
const AHEAD: usize = 6144;

/// 32 columns of 16 rows, four columns a vector, unsigned.
pub(in crate::isa) type Quads = [__m512i; 8];

/// How this tier unpacks integers.
pub(in crate::isa) trait Unpack: Values {
    /// The integers of a slab.
    ///
    /// # Safety
    /// The slab is there.
    unsafe fn quads(slab: *const u8) -> Quads;
}

/// How this tier scales.
pub(in crate::isa) trait Scale: Fixed {
    /// What scales 32 columns.
    type Factors: Copy;

    /// The factors of columns `32 j..32 j + 32` of a block.
    ///
    /// # Safety
    /// The block's header is there.
    unsafe fn factors(header: *const u8, j: usize) -> Self::Factors;

    /// Words of half `h` of 32 columns, two a lane, times their whole scale, if they have one.
    ///
    /// # Safety
    /// The CPU has the tier's features.
    #[inline(always)]
    unsafe fn words(words: __m512i, _: Self::Factors, _h: usize) -> __m512i {
        words
    }

    /// The same of sums, as [`Scale::add`] takes them.
    ///
    /// # Safety
    /// The CPU has the tier's features.
    #[inline(always)]
    unsafe fn sums(sums: [__m512i; 2], _: Self::Factors) -> [__m512i; 2] {
        sums
    }

    /// Adds the products of 32 columns with a token's block, scaled: sums of both halves, or of all in the first, with
    /// their whole scales; the token's scale, and that times the sum of the token's block.
    ///
    /// # Safety
    /// The CPU has the tier's features.
    unsafe fn add(acc: __m512, sums: [__m512i; 2], factors: Self::Factors, scale: f32, shift: f32) -> __m512;
}

/// Blocks that this tier multiplies.
pub(super) trait Packed: Block<Values: Unpack, Scales: Scale> {}

impl<B: Block<Values: Unpack, Scales: Scale>> Packed for B {}

/// The arithmetic of a kind of block.
struct Blocks<B>(PhantomData<B>);

impl<B: Packed> Kernel for Blocks<B> {
    const DTYPE: DType = B::DTYPE;
    const FIX: Fix = <B::Scales>::FIX;
    type Stage = blocking::Quants;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
    unsafe fn panel<const T: usize>(p: &Panel, x: &blocking::Quants) {
        // SAFETY: passed on.
        unsafe { panel::<B, T>(p, x) }
    }
}

/// Weights of that kind of block.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`]; the CPU has this tier's features.
#[expect(private_bounds, reason = "how the tier does it is its own affair")]
pub unsafe fn matmul<B: Packed>(m: &Matmul) {
    // SAFETY: passed on.
    unsafe {
        blocking::matmul::<Blocks<B>>(m);
    }
}

impl Unpack for quant::Bytes {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn quads(slab: *const u8) -> Quads {
        // SAFETY: a slab is eight vectors.
        core::array::from_fn(|v| unsafe { _mm512_loadu_si512(slab.add(64 * v).cast()) })
    }
}

impl Unpack for Nibbles {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn quads(slab: *const u8) -> Quads {
        let low = _mm512_set1_epi32(0x0f0f_0f0f);
        let mut quads = [low; 8];
        for v in 0..4 {
            // SAFETY: a slab is four vectors.
            let pairs = unsafe { _mm512_loadu_si512(slab.add(64 * v).cast()) };
            quads[2 * v] = _mm512_and_si512(pairs, low);
            quads[2 * v + 1] = _mm512_and_si512(_mm512_srli_epi32::<4>(pairs), low);
        }
        quads
    }
}

/// The lower four bits of `nibble` and, of those that `all` has, the upper ones of `high`, by byte.
#[inline]
#[target_feature(enable = "avx512f")]
fn join(nibble: __m512i, high: __m512i, all: __m512i) -> __m512i {
    // `a & mask | b & !mask`, by bit.
    const SELECT: i32 = 0b1100_1010;
    let low = _mm512_set1_epi32(0x0f0f_0f0f);
    _mm512_and_si512(_mm512_ternarylogic_epi32::<SELECT>(low, nibble, high), all)
}

impl Unpack for Fives {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn quads(slab: *const u8) -> Quads {
        let five = _mm512_set1_epi32(0x1f1f_1f1f);
        // SAFETY: a slab is five vectors.
        let [p, q, r, s, high] = [0, 1, 2, 3, 4].map(|v| unsafe { _mm512_loadu_si512(slab.add(64 * v).cast()) });
        let odd = |pairs| _mm512_srli_epi32::<4>(pairs);
        [
            join(p, _mm512_slli_epi32::<4>(high), five),
            join(odd(p), _mm512_slli_epi32::<3>(high), five),
            join(q, _mm512_slli_epi32::<2>(high), five),
            join(odd(q), _mm512_slli_epi32::<1>(high), five),
            join(r, high, five),
            join(odd(r), _mm512_srli_epi32::<1>(high), five),
            join(s, _mm512_srli_epi32::<2>(high), five),
            join(odd(s), _mm512_srli_epi32::<3>(high), five),
        ]
    }
}

impl Unpack for Sixes {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn quads(slab: *const u8) -> Quads {
        let six = _mm512_set1_epi32(0x3f3f_3f3f);
        let odd = |pairs| _mm512_srli_epi32::<4>(pairs);
        // SAFETY: a slab is six vectors.
        let at = |v: usize| unsafe { _mm512_loadu_si512(slab.add(64 * v).cast()) };
        let half = |[p, q, high]: [__m512i; 3]| {
            [
                join(p, _mm512_slli_epi32::<4>(high), six),
                join(odd(p), _mm512_slli_epi32::<2>(high), six),
                join(q, high, six),
                join(odd(q), _mm512_srli_epi32::<2>(high), six),
            ]
        };
        let [a, b, c, d] = half([at(0), at(1), at(2)]);
        let [e, f, g, h] = half([at(3), at(4), at(5)]);
        [a, b, c, d, e, f, g, h]
    }
}

impl<const BIAS: i32> Scale for Centred<BIAS> {
    type Factors = __m512;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn factors(header: *const u8, _: usize) -> __m512 {
        // SAFETY: 16 halves.
        unsafe { halves(header) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add(acc: __m512, [sum, _]: [__m512i; 2], d: __m512, scale: f32, _: f32) -> __m512 {
        let scale = _mm512_mul_ps(d, _mm512_set1_ps(scale));
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, acc)
    }
}

impl Scale for Affine {
    /// `d`, `m`.
    type Factors = [__m512; 2];

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn factors(header: *const u8, _: usize) -> [__m512; 2] {
        // SAFETY: twice 16 halves.
        unsafe { [halves(header), halves(header.add(2 * GROUP))] }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add(acc: __m512, [sum, _]: [__m512i; 2], [d, m]: [__m512; 2], scale: f32, shift: f32) -> __m512 {
        let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(scale));
        _mm512_fmadd_ps(m, _mm512_set1_ps(shift), _mm512_fmadd_ps(d, scaled, acc))
    }
}

impl Scale for SubAffine {
    /// `d * sc`, `dmin * m`.
    type Factors = [__m512; 2];

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn factors(header: *const u8, j: usize) -> [__m512; 2] {
        // SAFETY: 16 `d`, 16 `dmin`, twelve times 16 bytes.
        unsafe {
            let byte = |i: usize| _mm_loadu_si128(header.add((4 + i) * GROUP).cast());
            // See `quant::scale_min`.
            let (sc, min) = if j < 4 {
                let six = _mm_set1_epi8(63);
                (_mm_and_si128(byte(j), six), _mm_and_si128(byte(j + 4), six))
            } else {
                let (four, top) = (_mm_set1_epi8(15), _mm_set1_epi8(0x30));
                let low = byte(j + 4);
                let upper = |b| _mm_and_si128(_mm_srli_epi16::<2>(b), top);
                (
                    _mm_or_si128(_mm_and_si128(low, four), upper(byte(j - 4))),
                    _mm_or_si128(_mm_and_si128(_mm_srli_epi16::<4>(low), four), upper(byte(j))),
                )
            };
            let float = |b| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(b));
            let d = _mm512_mul_ps(halves(header), float(sc));
            let dmin = _mm512_mul_ps(halves(header.add(2 * GROUP)), float(min));
            [d, dmin]
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add(acc: __m512, [sum, _]: [__m512i; 2], [d, dmin]: [__m512; 2], scale: f32, shift: f32) -> __m512 {
        let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(scale));
        _mm512_fnmadd_ps(dmin, _mm512_set1_ps(shift), _mm512_fmadd_ps(d, scaled, acc))
    }
}

impl<const BIAS: i32> Scale for SubCentred<BIAS> {
    /// `d`, `sc` of both halves.
    type Factors = (__m512, [__m512i; 2]);

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn factors(header: *const u8, j: usize) -> (__m512, [__m512i; 2]) {
        // SAFETY: 16 `d`, sixteen times 16 bytes.
        unsafe {
            let scale = |s: usize| _mm512_cvtepi8_epi32(_mm_loadu_si128(header.add((2 + s) * GROUP).cast()));
            (halves(header), [scale(2 * j), scale(2 * j + 1)])
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn words(words: __m512i, (_, sc): (__m512, [__m512i; 2]), h: usize) -> __m512i {
        // In both words of a lane.
        let twice = _mm512_mask_mov_epi16(_mm512_slli_epi32::<16>(sc[h]), 0x5555_5555, sc[h]);
        _mm512_mullo_epi16(words, twice)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn sums([low, high]: [__m512i; 2], (_, sc): (__m512, [__m512i; 2])) -> [__m512i; 2] {
        [_mm512_mullo_epi32(low, sc[0]), _mm512_mullo_epi32(high, sc[1])]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add(
        acc: __m512,
        [low, high]: [__m512i; 2],
        (d, _): (__m512, [__m512i; 2]),
        scale: f32,
        _: f32,
    ) -> __m512 {
        let both = _mm512_add_ps(_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(high));
        _mm512_fmadd_ps(both, _mm512_mul_ps(d, _mm512_set1_ps(scale)), acc)
    }
}

/// 16 halves.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn halves(at: *const u8) -> __m512 {
    // SAFETY: passed on.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
}

/// Adds to `int` the products of `w` with the high and low bytes at `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dot(int: __m512i, w: &[__m512i], x: *const i8) -> __m512i {
    let (mut low, mut high) = (int, _mm512_setzero_si512());
    for (v, w) in w.iter().enumerate() {
        // SAFETY: four bytes per vector of weights are there, twice.
        let quad = |at: usize| unsafe { _mm512_set1_epi32(x.add(at + 4 * v).cast::<i32>().read_unaligned()) };
        high = _mm512_dpbusd_epi32(high, *w, quad(0));
        low = _mm512_dpbusd_epi32(low, *w, quad(Q8::BLOCK));
    }
    const { assert!(Q8::STEP == (1 << 8) - 1) };
    _mm512_add_epi32(low, _mm512_sub_epi32(_mm512_slli_epi32::<8>(high), high))
}

/// One group after the other, so that memory is read front to back, unless there is so little to do for each that it
/// pays to share the activations.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
unsafe fn panel<B: Packed, const T: usize>(p: &Panel, x: &blocking::Quants) {
    let groups = p.rows.div_ceil(GROUP);
    let mut g = 0;
    // SAFETY: the groups are in the panel.
    unsafe {
        if T == 2 {
            while g + 2 <= groups {
                tile::<B, 2, T>(p, g, x);
                g += 2;
            }
        }
        while g < groups {
            tile::<B, 1, T>(p, g, x);
            g += 1;
        }
    }
}

/// Groups `g..g + G` with all tokens of the stage.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
unsafe fn tile<B: Packed, const G: usize, const T: usize>(p: &Panel, g: usize, x: &blocking::Quants) {
    let mut w: [*const u8; G] = core::array::from_fn(|i| p.w.wrapping_add((g + i) * p.group_bytes));
    let masks: [__mmask16; G] = core::array::from_fn(|i| tail_mask(p.rows - (g + i) * GROUP));
    let out = |i: usize, t: usize| p.out.wrapping_add(t * p.out_stride + (g + i) * GROUP);
    let mut acc = [[_mm512_setzero_ps(); T]; G];
    if !p.first {
        for i in 0..G {
            for t in 0..T {
                // SAFETY: the mask keeps to the panel's rows.
                acc[i][t] = unsafe { _mm512_maskz_loadu_ps(masks[i], out(i, t)) };
            }
        }
    }
    let block_bytes = B::DTYPE.block_bytes() * GROUP;
    let steps = B::DTYPE.block_len() / 32;
    let fixes = if let Fix::Halves(_) = <B::Scales>::FIX { 2 } else { 1 };
    let step_bytes = block_bytes / steps;
    let chunk_bytes = p.cols / 32 * step_bytes;
    let mut at = 0;
    while at < p.cols / 32 {
        for j in 0..steps {
            // Behind the end of these groups come the next `G`, not what lies there.
            let ahead = at * step_bytes + AHEAD;
            let ahead = if ahead < chunk_bytes {
                ahead
            } else {
                ahead + (G - 1) * p.group_bytes
            };
            for i in 0..G {
                for line in 0..step_bytes.div_ceil(64) {
                    let start = p.w.wrapping_add((g + i) * p.group_bytes);
                    _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(ahead + line * 64).cast());
                }
                // SAFETY: the block is in the chunk, the same columns are in the stage.
                unsafe {
                    let quads = <B::Values>::quads(w[i].add(<B::Scales>::HEADER + j * <B::Values>::SLAB));
                    let factors = <B::Scales>::factors(w[i], j);
                    for t in 0..T {
                        let fix = x.fixes().add(at * fixes * T + t);
                        let scale = *x.scales().add(at * T + t);
                        let x = x.row::<T>(t).add(at * Q8::BLOCK_BYTES);
                        let (sums, shift) = if <B::Scales>::HALVED {
                            let low = dot(_mm512_set1_epi32(*fix), &quads[..4], x);
                            let high = dot(_mm512_set1_epi32(*fix.add(T)), &quads[4..], x.add(16));
                            ([low, high], 0.0)
                        } else if let Fix::Scaled = <B::Scales>::FIX {
                            (
                                [dot(_mm512_setzero_si512(), &quads, x); 2],
                                f32::from_bits(fix.cast::<u32>().read()),
                            )
                        } else {
                            ([dot(_mm512_set1_epi32(*fix), &quads, x); 2], 0.0)
                        };
                        let sums = <B::Scales>::sums(sums, factors);
                        acc[i][t] = <B::Scales>::add(acc[i][t], sums, factors, scale, shift);
                    }
                }
            }
            at += 1;
        }
        for w in &mut w {
            *w = w.wrapping_add(block_bytes);
        }
    }
    for i in 0..G {
        for t in 0..T {
            // SAFETY: the mask keeps to the panel's rows.
            unsafe { _mm512_mask_storeu_ps(out(i, t), masks[i], acc[i][t]) };
        }
    }
}

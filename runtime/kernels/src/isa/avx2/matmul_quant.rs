//! Matmuls with quantised weights: eight rows a vector, four columns a lane, exact integer sums per block.

use core::arch::x86_64::*;
use core::marker::PhantomData;
use core::ops::Range;

use super::{load, store, tail_masks};
use crate::dtype::{DType, GROUP, Q8};
use crate::isa::Matmul;
use crate::isa::blocking::{self, Fix, Fixed, Kernel, Panel, Quants};
use crate::quant::{self, Affine, Block, Centred, Fives, Nibbles, Scales, Sixes, SubAffine, SubCentred, Values};

/// Bytes ahead of the weights in use: far enough to cover memory's latency, near enough to stay in L1 until then.
const AHEAD: usize = 6144;

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

/// How this tier unpacks and multiplies integers.
pub(super) trait Unpack: Values {
    /// Whether they come out as signed numbers about 0, and need no fix.
    const SIGNED: bool = false;
    /// Quads whose products fit a word together, each two of them added.
    const FIT: usize;

    /// Quads `2 v` and `2 v + 1` of half `h` of a slab, rows `8 h..8 h + 8`.
    ///
    /// # Safety
    /// The slab is there.
    unsafe fn two(slab: *const u8, h: usize, v: usize) -> [__m256i; 2];

    /// Products with bytes of at most 127, two neighbours added, as words.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn products(w: __m256i, x: __m256i) -> __m256i {
        _mm256_maddubs_epi16(w, x)
    }
}

/// How this tier scales.
pub(super) trait Scale: Fixed {
    /// What scales 32 columns of 8 rows.
    type Factors: Copy;

    /// The factors of columns `32 j..32 j + 32` of a block's rows `8 h..8 h + 8`.
    ///
    /// # Safety
    /// The block's header is there.
    unsafe fn factors(header: *const u8, j: usize, h: usize) -> Self::Factors;

    /// Words of half `h` of 32 columns, two a lane, times their whole scale, if they have one.
    ///
    /// # Safety
    /// The CPU has the tier's features.
    #[inline(always)]
    unsafe fn words(words: __m256i, _: Self::Factors, _h: usize) -> __m256i {
        words
    }

    /// The same of sums, as [`Scale::add`] takes them.
    ///
    /// # Safety
    /// The CPU has the tier's features.
    #[inline(always)]
    unsafe fn sums(sums: [__m256i; 2], _: Self::Factors) -> [__m256i; 2] {
        sums
    }

    /// Adds the products of 32 columns with a token's block, scaled: sums of both halves, or of all in the first, with
    /// their whole scales; the token's scale, and that times the sum of the token's block.
    ///
    /// # Safety
    /// The CPU has the tier's features.
    unsafe fn add(acc: __m256, sums: [__m256i; 2], factors: Self::Factors, scale: f32, shift: f32) -> __m256;
}

/// Blocks that this tier multiplies.
pub(super) trait Packed: Block<Values: Unpack, Scales: Scale> {}

impl<B: Block<Values: Unpack, Scales: Scale>> Packed for B {}

/// The arithmetic of a kind of block.
struct Blocks<B>(PhantomData<B>);

impl<B: Packed> Kernel for Blocks<B> {
    const DTYPE: DType = B::DTYPE;
    const FIX: Fix = if <B::Values>::SIGNED {
        Fix::None
    } else {
        <B::Scales>::FIX
    };
    type Stage = Quants;

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn panel<const T: usize>(p: &Panel, x: &Quants) {
        // SAFETY: passed on.
        unsafe { panel::<B, T>(p, x) }
    }
}

/// Weights of that kind of block.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`]; the CPU has this tier's features.
pub unsafe fn matmul<B: Packed>(m: &Matmul) {
    // SAFETY: passed on.
    unsafe { blocking::matmul::<Blocks<B>>(m) }
}

/// Bytes times bytes would saturate as unsigned ones: here `|w| <= 128`, two products are at most 32512.
impl Unpack for quant::Bytes {
    const SIGNED: bool = true;
    const FIT: usize = 1;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn two(slab: *const u8, h: usize, v: usize) -> [__m256i; 2] {
        // SAFETY: a slab is eight vectors of 64 bytes.
        [2 * v, 2 * v + 1].map(|v| unsafe { _mm256_xor_si256(vector(slab, h, v), _mm256_set1_epi8(-128)) })
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn products(w: __m256i, x: __m256i) -> __m256i {
        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
    }
}

/// Sixteen products of 15 and 127 fit a word.
impl Unpack for Nibbles {
    const FIT: usize = 8;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn two(slab: *const u8, h: usize, v: usize) -> [__m256i; 2] {
        // SAFETY: a slab is four vectors of 64 bytes.
        unsafe { nibbles(vector(slab, h, v)) }
    }
}

/// Eight products of 31 and 127 fit a word.
impl Unpack for Fives {
    const FIT: usize = 4;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn two(slab: *const u8, h: usize, v: usize) -> [__m256i; 2] {
        // SAFETY: a slab is five vectors of 64 bytes.
        let (low, high) = unsafe { (nibbles(vector(slab, h, v)), vector(slab, h, 4)) };
        let upper = match v {
            0 => [_mm256_slli_epi16::<4>(high), _mm256_slli_epi16::<3>(high)],
            1 => [_mm256_slli_epi16::<2>(high), _mm256_slli_epi16::<1>(high)],
            2 => [high, _mm256_srli_epi16::<1>(high)],
            _ => [_mm256_srli_epi16::<2>(high), _mm256_srli_epi16::<3>(high)],
        };
        join(low, upper, _mm256_set1_epi8(0x10))
    }
}

/// Four products of 63 and 127 fit a word.
impl Unpack for Sixes {
    const FIT: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn two(slab: *const u8, h: usize, v: usize) -> [__m256i; 2] {
        // SAFETY: a slab is six vectors of 64 bytes.
        let (low, high) = unsafe {
            (
                nibbles(vector(slab, h, v / 2 * 3 + v % 2)),
                vector(slab, h, v / 2 * 3 + 2),
            )
        };
        let upper = if v.is_multiple_of(2) {
            [_mm256_slli_epi16::<4>(high), _mm256_slli_epi16::<2>(high)]
        } else {
            [high, _mm256_srli_epi16::<2>(high)]
        };
        join(low, upper, _mm256_set1_epi8(0x30))
    }
}

impl<const BIAS: i32> Scale for Centred<BIAS> {
    type Factors = __m256;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn factors(header: *const u8, _: usize, h: usize) -> __m256 {
        // SAFETY: 16 halves.
        unsafe { halves(header, h) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add(acc: __m256, [sum, _]: [__m256i; 2], d: __m256, scale: f32, _: f32) -> __m256 {
        let scale = _mm256_mul_ps(d, _mm256_set1_ps(scale));
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, acc)
    }
}

impl Scale for Affine {
    /// `d`, `m`.
    type Factors = [__m256; 2];

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn factors(header: *const u8, _: usize, h: usize) -> [__m256; 2] {
        // SAFETY: twice 16 halves.
        unsafe { [halves(header, h), halves(header.add(2 * GROUP), h)] }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add(acc: __m256, [sum, _]: [__m256i; 2], [d, m]: [__m256; 2], scale: f32, shift: f32) -> __m256 {
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(scale));
        _mm256_fmadd_ps(m, _mm256_set1_ps(shift), _mm256_fmadd_ps(d, scaled, acc))
    }
}

impl Scale for SubAffine {
    /// `d * sc`, `dmin * m`.
    type Factors = [__m256; 2];

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn factors(header: *const u8, j: usize, h: usize) -> [__m256; 2] {
        // SAFETY: 16 `d`, 16 `dmin`, twelve times 16 bytes.
        unsafe {
            let byte = |i: usize| _mm_loadl_epi64(header.add((4 + i) * GROUP + 8 * h).cast());
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
            let float = |b| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b));
            let d = _mm256_mul_ps(halves(header, h), float(sc));
            let dmin = _mm256_mul_ps(halves(header.add(2 * GROUP), h), float(min));
            [d, dmin]
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add(acc: __m256, [sum, _]: [__m256i; 2], [d, dmin]: [__m256; 2], scale: f32, shift: f32) -> __m256 {
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(scale));
        _mm256_fnmadd_ps(dmin, _mm256_set1_ps(shift), _mm256_fmadd_ps(d, scaled, acc))
    }
}

impl<const BIAS: i32> Scale for SubCentred<BIAS> {
    /// `d`, `sc` of both halves.
    type Factors = (__m256, [__m256i; 2]);

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn factors(header: *const u8, j: usize, h: usize) -> (__m256, [__m256i; 2]) {
        // SAFETY: 16 `d`, sixteen times 16 bytes.
        unsafe {
            let scale = |s: usize| {
                let at = header.add((2 + s) * GROUP + 8 * h);
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()))
            };
            (halves(header, h), [scale(2 * j), scale(2 * j + 1)])
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn words(words: __m256i, (_, sc): (__m256, [__m256i; 2]), h: usize) -> __m256i {
        // In both words of a lane.
        let twice = _mm256_blend_epi16::<0b0101_0101>(_mm256_slli_epi32::<16>(sc[h]), sc[h]);
        _mm256_mullo_epi16(words, twice)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn sums([low, high]: [__m256i; 2], (_, sc): (__m256, [__m256i; 2])) -> [__m256i; 2] {
        [_mm256_mullo_epi32(low, sc[0]), _mm256_mullo_epi32(high, sc[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add(
        acc: __m256,
        [low, high]: [__m256i; 2],
        (d, _): (__m256, [__m256i; 2]),
        scale: f32,
        _: f32,
    ) -> __m256 {
        let both = _mm256_add_ps(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high));
        _mm256_fmadd_ps(both, _mm256_mul_ps(d, _mm256_set1_ps(scale)), acc)
    }
}

/// Half `h` of 16 f16.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn halves(at: *const u8, h: usize) -> __m256 {
    // SAFETY: passed on.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.add(16 * h).cast())) }
}

/// Half `h` of vector `v` of a slab.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn vector(slab: *const u8, h: usize, v: usize) -> __m256i {
    // SAFETY: passed on.
    unsafe { _mm256_loadu_si256(slab.add(64 * v + 32 * h).cast()) }
}

/// Lower and upper nibbles.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(pairs: __m256i) -> [__m256i; 2] {
    let low = _mm256_set1_epi8(15);
    [
        _mm256_and_si256(pairs, low),
        _mm256_and_si256(_mm256_srli_epi16::<4>(pairs), low),
    ]
}

/// With those bits of `upper` that are in `mask`.
#[inline]
#[target_feature(enable = "avx2")]
fn join(low: [__m256i; 2], upper: [__m256i; 2], mask: __m256i) -> [__m256i; 2] {
    [0, 1].map(|i| _mm256_or_si256(low[i], _mm256_and_si256(upper[i], mask)))
}

/// High or low bytes `4 q..4 q + 4` of token `t` in every lane.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn quad(x: &X, part: usize, t: usize, q: usize) -> __m256i {
    // SAFETY: passed on.
    unsafe {
        _mm256_set1_epi32(
            x.bytes
                .add(t * x.stride + part * Q8::BLOCK + 4 * q)
                .cast::<i32>()
                .read_unaligned(),
        )
    }
}

/// Sums of neighbouring words.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs(words: __m256i) -> __m256i {
    _mm256_madd_epi16(words, _mm256_set1_epi16(1))
}

/// Products of some quads, an even number, of half `h` of a slab with those of every token.
///
/// Weights are unpacked once for high and low bytes, where the sums of both fit the registers.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dot<V: Unpack, const N: usize>(slab: *const u8, h: usize, quads: Range<usize>, x: &X) -> [__m256i; N] {
    // SAFETY: passed on.
    let [high, low] = unsafe {
        if N <= 2 {
            parts::<V, N, 2>(slab, h, quads, x, 0)
        } else {
            let [high] = parts::<V, N, 1>(slab, h, quads.clone(), x, 0);
            let [low] = parts::<V, N, 1>(slab, h, quads, x, 1);
            [high, low]
        }
    };
    const { assert!(Q8::STEP == (1 << 8) - 1) };
    core::array::from_fn(|t| {
        let high = _mm256_sub_epi32(_mm256_slli_epi32::<8>(high[t]), high[t]);
        _mm256_add_epi32(low[t], high)
    })
}

/// The same with the `P` parts from `first`, high or low. As many products are added as words as fit.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn parts<V: Unpack, const N: usize, const P: usize>(
    slab: *const u8,
    h: usize,
    quads: Range<usize>,
    x: &X,
    first: usize,
) -> [[__m256i; N]; P] {
    let mut ints = [[_mm256_setzero_si256(); N]; P];
    let mut words = ints;
    for v in quads.start / 2..quads.end / 2 {
        // SAFETY: passed on.
        let w = unsafe { V::two(slab, h, v) };
        for i in 0..2 {
            let q = 2 * v + i;
            for p in 0..P {
                for t in 0..N {
                    // SAFETY: passed on.
                    let products = unsafe { V::products(w[i], quad(x, first + p, t, q)) };
                    words[p][t] = if q == quads.start || q % V::FIT == 0 {
                        products
                    } else {
                        _mm256_add_epi16(words[p][t], products)
                    };
                    if q + 1 == quads.end || q % V::FIT == V::FIT - 1 {
                        let wide = pairs(words[p][t]);
                        ints[p][t] = if q < quads.start + V::FIT {
                            wide
                        } else {
                            _mm256_add_epi32(ints[p][t], wide)
                        };
                    }
                }
            }
        }
    }
    ints
}

/// Four tokens at once at most: more sums would not fit the registers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn panel<B: Packed, const T: usize>(p: &Panel, x: &Quants) {
    for g in 0..p.rows.div_ceil(GROUP) {
        // SAFETY: the groups are in the panel, the tokens in the stage.
        unsafe {
            if T <= 4 {
                tile::<B, T, T>(p, g, 0, x);
            } else {
                for t0 in (0..T).step_by(4) {
                    tile::<B, T, 4>(p, g, t0, x);
                }
            }
        }
    }
}

/// Group `g` with `N` tokens from `t0` of the stage.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<B: Packed, const T: usize, const N: usize>(p: &Panel, g: usize, t0: usize, x: &Quants) {
    let mut w = p.w.wrapping_add(g * p.group_bytes);
    let masks = tail_masks(p.rows - g * GROUP);
    let out = |t: usize| p.out.wrapping_add((t0 + t) * p.out_stride + g * GROUP);
    let mut acc = [[_mm256_setzero_ps(); 2]; N];
    if !p.first {
        for t in 0..N {
            // SAFETY: the masks keep to the panel's rows.
            acc[t] = unsafe { load(out(t), masks) };
        }
    }
    let block_bytes = B::DTYPE.block_bytes() * GROUP;
    let steps = B::DTYPE.block_len() / 32;
    let step_bytes = block_bytes / steps;
    let fixes = if let Fix::Halves(_) = <B::Scales>::FIX { 2 } else { 1 };
    let mut at = 0;
    while at < p.cols / 32 {
        for j in 0..steps {
            for line in 0..step_bytes.div_ceil(64) {
                _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(j * step_bytes + line * 64 + AHEAD).cast());
            }
            let x = X {
                bytes: x.row::<T>(t0).wrapping_add(at * Q8::BLOCK_BYTES),
                stride: Quants::stride::<T>(),
                scales: x.scales().wrapping_add(at * T + t0),
                fixes: x.fixes().wrapping_add(at * fixes * T + t0),
                fix_stride: T,
            };
            for h in 0..2 {
                // SAFETY: the block is in the chunk, the same columns are in the stage.
                unsafe { block::<B, N>(&mut acc, w, j, h, &x) };
            }
            at += 1;
        }
        w = w.wrapping_add(block_bytes);
    }
    for t in 0..N {
        // SAFETY: the masks keep to the panel's rows.
        unsafe { store(out(t), masks, acc[t]) };
    }
}

/// Adds to each token's sums the products of its bytes with columns `32 j..32 j + 32` of a block's rows `8 h..8 h + 8`,
/// scaled.
///
/// # Safety
/// The block is there and has that many columns; what `x` points to is there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block<B: Packed, const N: usize>(acc: &mut [[__m256; 2]; N], block: *const u8, j: usize, h: usize, x: &X) {
    // SAFETY: passed on.
    unsafe {
        let slab = block.add(<B::Scales>::HEADER + j * <B::Values>::SLAB);
        let sums = if <B::Scales>::HALVED {
            let low = fixed::<B, N>(dot::<B::Values, N>(slab, h, 0..4, x), x.fixes);
            let fixes = x.fixes.wrapping_add(x.fix_stride);
            [low, fixed::<B, N>(dot::<B::Values, N>(slab, h, 4..8, x), fixes)]
        } else {
            [fixed::<B, N>(dot::<B::Values, N>(slab, h, 0..8, x), x.fixes); 2]
        };
        let factors = <B::Scales>::factors(block, j, h);
        for t in 0..N {
            let shift = if let Fix::Scaled = <B::Scales>::FIX {
                *x.fixes.add(t).cast::<f32>()
            } else {
                0.0
            };
            let sums = <B::Scales>::sums([sums[0][t], sums[1][t]], factors);
            acc[t][h] = <B::Scales>::add(acc[t][h], sums, factors, *x.scales.add(t), shift);
        }
    }
}

/// Integers with their fixes, if they are integers and needed.
///
/// # Safety
/// The fixes are there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn fixed<B: Packed, const N: usize>(ints: [__m256i; N], fixes: *const i32) -> [__m256i; N] {
    if let Fix::None | Fix::Scaled = <Blocks<B> as Kernel>::FIX {
        return ints;
    }
    // SAFETY: passed on.
    core::array::from_fn(|t| unsafe { _mm256_add_epi32(ints[t], _mm256_set1_epi32(*fixes.add(t))) })
}

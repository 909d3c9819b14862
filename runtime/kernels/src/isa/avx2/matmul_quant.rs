//! Matmuls with quantised weights: eight rows a vector, four columns a lane, exact integer sums per block.

use core::arch::x86_64::*;

use super::{load, store, tail_masks};
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::isa::blocking::{self, Bytes, Fix, Kernel, Panel, Plane};

/// Bytes ahead of the weights in use. Far, and only to L2: hardware reads on from there, and L1 has few misses to give.
const AHEAD: usize = 4096;

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

/// How the blocks of half a group, rows `8 h..8 h + 8`, are multiplied.
trait Blocks: Kernel<Stage = Bytes> {
    /// Adds to each token's sums the products of its bytes with columns `32 j..32 j + 32` of a block, scaled.
    ///
    /// # Safety
    /// The block is there and has that many columns; what `x` points to is there.
    unsafe fn add<const N: usize>(acc: &mut [[__m256; 2]; N], block: *const u8, j: usize, h: usize, x: X);
}

macro_rules! kernel {
    ($name:ident, $dtype:ident, $fix:expr, $entry:ident, $doc:literal) => {
        struct $name;

        impl Kernel for $name {
            const DTYPE: DType = DType::$dtype;
            const FIX: Fix = $fix;
            type Stage = Bytes;

            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn panel<const T: usize>(p: &Panel, x: &Bytes) {
                // SAFETY: passed on.
                unsafe { panel::<Self, T>(p, x) }
            }
        }

        #[doc = $doc]
        ///
        /// # Safety
        /// See [`crate::isa::Isa::matmul`]; the CPU has this tier's features.
        pub unsafe fn $entry(m: &Matmul) {
            // SAFETY: passed on.
            unsafe { blocking::matmul::<$name>(m) }
        }
    };
}

kernel!(Q8_0, Q8_0, Fix::None, q8_0, "`q8_0` weights.");
kernel!(Q4_0, Q4_0, Fix::Whole(-8), q4_0, "`q4_0` weights.");
kernel!(Q4K, Q4K, Fix::Scaled, q4_k, "`q4_k` weights.");
kernel!(Q6K, Q6K, Fix::Halves(-32), q6_k, "`q6_k` weights.");

impl Blocks for Q8_0 {
    /// Bytes times bytes would saturate: here `|w| <= 128` and `|x| <= 127`, two products are at most 32512.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add<const N: usize>(acc: &mut [[__m256; 2]; N], block: *const u8, _: usize, h: usize, x: X) {
        let bias = _mm256_set1_epi8(-128);
        let mut int = [_mm256_setzero_si256(); N];
        // SAFETY: 16 halves, then eight vectors.
        unsafe {
            for v in 0..8 {
                let w = _mm256_loadu_si256(block.add(2 * GROUP + 64 * v + 32 * h).cast());
                let w = _mm256_xor_si256(w, bias);
                let magnitude = _mm256_abs_epi8(w);
                for t in 0..N {
                    let products = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(quad(x, t, v), w));
                    int[t] = _mm256_add_epi32(int[t], pairs(products));
                }
            }
            let scale = halves(block, h);
            for t in 0..N {
                let scale = _mm256_mul_ps(scale, _mm256_set1_ps(*x.scales.add(t)));
                acc[t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(int[t]), scale, acc[t][h]);
            }
        }
    }
}

impl Blocks for Q4_0 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add<const N: usize>(acc: &mut [[__m256; 2]; N], block: *const u8, _: usize, h: usize, x: X) {
        // SAFETY: 16 halves, then a slab.
        unsafe {
            let words = dot_nibbles::<N>(block.add(2 * GROUP), h, x);
            let scale = halves(block, h);
            for t in 0..N {
                let int = _mm256_add_epi32(pairs(words[t]), _mm256_set1_epi32(*x.fixes.add(t)));
                let scale = _mm256_mul_ps(scale, _mm256_set1_ps(*x.scales.add(t)));
                acc[t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(int), scale, acc[t][h]);
            }
        }
    }
}

impl Blocks for Q4K {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add<const N: usize>(acc: &mut [[__m256; 2]; N], block: *const u8, j: usize, h: usize, x: X) {
        const SCALES: usize = 4 * GROUP;
        // SAFETY: 16 `d`, 16 `dmin`, twelve times 16 bytes, then eight slabs.
        unsafe {
            let words = dot_nibbles::<N>(block.add(SCALES + 12 * GROUP + j * 256), h, x);
            let byte = |i: usize| _mm_loadl_epi64(block.add(SCALES + i * GROUP + 8 * h).cast());
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
            let d = _mm256_mul_ps(halves(block, h), float(sc));
            let dmin = _mm256_mul_ps(halves(block.add(2 * GROUP), h), float(min));
            for t in 0..N {
                let int = _mm256_cvtepi32_ps(pairs(words[t]));
                let scaled = _mm256_mul_ps(int, _mm256_set1_ps(*x.scales.add(t)));
                let sum = _mm256_fmadd_ps(d, scaled, acc[t][h]);
                acc[t][h] = _mm256_fnmadd_ps(dmin, _mm256_set1_ps(*x.fixes.add(t).cast()), sum);
            }
        }
    }
}

impl Blocks for Q6K {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add<const N: usize>(acc: &mut [[__m256; 2]; N], block: *const u8, j: usize, h: usize, x: X) {
        const SCALES: usize = 2 * GROUP;
        const SUBS: usize = SCALES + 16 * GROUP;
        // SAFETY: 16 `d`, sixteen times 16 bytes, then sixteen times three vectors.
        unsafe {
            let d = halves(block, h);
            let mut both = [_mm256_setzero_ps(); N];
            for half in 0..2 {
                let sub = 2 * j + half;
                let ints = dot_six_bits::<N>(block.add(SUBS + sub * 192), h, half, x);
                let sc = _mm256_cvtepi8_epi32(_mm_loadl_epi64(block.add(SCALES + sub * GROUP + 8 * h).cast()));
                let scale = _mm256_mul_ps(d, _mm256_cvtepi32_ps(sc));
                for t in 0..N {
                    let fix = _mm256_set1_epi32(*x.fixes.add(half * x.fix_stride + t));
                    let int = _mm256_cvtepi32_ps(_mm256_add_epi32(ints[t], fix));
                    // Not an `fma` with zero, which would turn -0 to 0.
                    both[t] = if half == 0 {
                        _mm256_mul_ps(int, scale)
                    } else {
                        _mm256_fmadd_ps(int, scale, both[t])
                    };
                }
            }
            for t in 0..N {
                acc[t][h] = _mm256_fmadd_ps(both[t], _mm256_set1_ps(*x.scales.add(t)), acc[t][h]);
            }
        }
    }
}

/// Half `h` of 16 f16.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn halves(at: *const u8, h: usize) -> __m256 {
    // SAFETY: passed on.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.add(16 * h).cast())) }
}

/// Bytes `4 v..4 v + 4` of token `t` in every lane.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn quad(x: X, t: usize, v: usize) -> __m256i {
    // SAFETY: passed on.
    unsafe { _mm256_set1_epi32(x.bytes.add(t * x.stride + 4 * v).cast::<i32>().read_unaligned()) }
}

/// Sums of neighbouring words.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs(words: __m256i) -> __m256i {
    _mm256_madd_epi16(words, _mm256_set1_epi16(1))
}

/// Products with half `h` of a slab (see `quant::nibbles`), sums of two neighbouring columns of all quads: sixteen
/// products of 15 and 127 fit a word.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dot_nibbles<const N: usize>(slab: *const u8, h: usize, x: X) -> [__m256i; N] {
    let low = _mm256_set1_epi8(15);
    let mut words = [_mm256_setzero_si256(); N];
    // SAFETY: a slab is four vectors of 64 bytes.
    unsafe {
        for v in 0..4 {
            let two = _mm256_loadu_si256(slab.add(64 * v + 32 * h).cast());
            let (even, odd) = (
                _mm256_and_si256(two, low),
                _mm256_and_si256(_mm256_srli_epi16::<4>(two), low),
            );
            for t in 0..N {
                words[t] = _mm256_add_epi16(words[t], _mm256_maddubs_epi16(even, quad(x, t, 2 * v)));
                words[t] = _mm256_add_epi16(words[t], _mm256_maddubs_epi16(odd, quad(x, t, 2 * v + 1)));
            }
        }
    }
    words
}

/// Products of columns `16 half..16 half + 16` with half `h` of a sub-block of `quant::q6_k`: four products of 63 and
/// 127 fit a word, so two quads are added before they widen.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dot_six_bits<const N: usize>(sub: *const u8, h: usize, half: usize, x: X) -> [__m256i; N] {
    let (low, top) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    let mut int = [_mm256_setzero_si256(); N];
    // SAFETY: a sub-block is three vectors of 64 bytes.
    unsafe {
        let mut high = _mm256_loadu_si256(sub.add(128 + 32 * h).cast());
        for v in 0..2 {
            let two = _mm256_loadu_si256(sub.add(64 * v + 32 * h).cast());
            let top_even = _mm256_and_si256(_mm256_slli_epi16::<4>(high), top);
            let top_odd = _mm256_and_si256(_mm256_slli_epi16::<2>(high), top);
            let even = _mm256_or_si256(_mm256_and_si256(two, low), top_even);
            let odd = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16::<4>(two), low), top_odd);
            high = _mm256_srli_epi16::<4>(high);
            for t in 0..N {
                let a = _mm256_maddubs_epi16(even, quad(x, t, 4 * half + 2 * v));
                let b = _mm256_maddubs_epi16(odd, quad(x, t, 4 * half + 2 * v + 1));
                int[t] = _mm256_add_epi32(int[t], pairs(_mm256_add_epi16(a, b)));
            }
        }
    }
    int
}

/// Four tokens at once at most: more sums would not fit the registers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn panel<B: Blocks, const T: usize>(p: &Panel, x: &Bytes) {
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
unsafe fn tile<B: Blocks, const T: usize, const N: usize>(p: &Panel, g: usize, t0: usize, x: &Bytes) {
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
    let fixes = if let Fix::Halves(_) = B::FIX { 2 } else { 1 };
    let mut at = 0;
    while at < p.cols / 32 {
        for j in 0..steps {
            for line in 0..step_bytes.div_ceil(64) {
                _mm_prefetch::<_MM_HINT_T1>(w.wrapping_add(j * step_bytes + line * 64 + AHEAD).cast());
            }
            for x in x.planes() {
                let tokens = X {
                    bytes: x.row::<T>(t0).wrapping_add(at * 32),
                    stride: Plane::stride::<T>(),
                    scales: x.scales().wrapping_add(at * T + t0),
                    fixes: x.fixes().wrapping_add(at * fixes * T + t0),
                    fix_stride: T,
                };
                for h in 0..2 {
                    // SAFETY: the block is in the chunk, the same columns are in the stage.
                    unsafe { B::add(&mut acc, w, j, h, tokens) };
                }
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

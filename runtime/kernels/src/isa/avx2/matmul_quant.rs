//! Matmuls with quantised weights: eight rows a vector, four columns a lane, exact integer sums per block.

use core::arch::x86_64::*;

use super::{load, store, tail_masks};
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::isa::blocking::{self, Bytes, Fix, Kernel, Panel};

/// Bytes ahead of the weights in use. Far, and only to L2: hardware reads on from there, and L1 has few misses to give.
const AHEAD: usize = 4096;

/// 32 columns of 8 rows, four columns a vector.
type Quads = [__m256i; 8];

/// Where a token's activations of 32 columns are.
#[derive(Clone, Copy)]
struct X {
    bytes: *const i8,
    scale: *const f32,
    fix: *const i32,
    /// From the first half's fix to the second's.
    fix_stride: usize,
}

/// How the blocks of half a group, rows `8 h..8 h + 8`, become bytes and scales.
trait Blocks: Kernel<Stage = Bytes> {
    /// What scales 32 columns.
    type Scale: Copy;

    /// Columns `32 j..32 j + 32` of a block.
    ///
    /// # Safety
    /// The block is there and has that many.
    unsafe fn unpack(block: *const u8, j: usize, h: usize) -> (Quads, Self::Scale);

    /// Adds the products of 32 columns with a token's bytes, scaled.
    ///
    /// # Safety
    /// What `x` points to is there.
    unsafe fn add(acc: __m256, w: &Quads, scale: Self::Scale, x: X) -> __m256;
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
    type Scale = __m256;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack(block: *const u8, _: usize, h: usize) -> (Quads, __m256) {
        let bias = _mm256_set1_epi8(-128);
        // SAFETY: 16 halves, then eight vectors.
        unsafe {
            let at = block.add(2 * GROUP + 32 * h);
            let quads = core::array::from_fn(|v| _mm256_xor_si256(_mm256_loadu_si256(at.add(64 * v).cast()), bias));
            (quads, halves(block, h))
        }
    }

    /// Bytes times bytes would saturate: here `|w| <= 128` and `|x| <= 127`, two products are at most 32512.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add(acc: __m256, w: &Quads, scale: __m256, x: X) -> __m256 {
        let mut int = _mm256_setzero_si256();
        for (v, w) in w.iter().enumerate() {
            // SAFETY: passed on.
            let x = unsafe { quad(x.bytes, v) };
            let products = _mm256_maddubs_epi16(_mm256_abs_epi8(*w), _mm256_sign_epi8(x, *w));
            int = _mm256_add_epi32(int, pairs(products));
        }
        // SAFETY: passed on.
        let scale = unsafe { _mm256_mul_ps(scale, _mm256_set1_ps(*x.scale)) };
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(int), scale, acc)
    }
}

impl Blocks for Q4_0 {
    type Scale = __m256;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack(block: *const u8, _: usize, h: usize) -> (Quads, __m256) {
        // SAFETY: 16 halves, then a slab.
        unsafe { (nibbles(block.add(2 * GROUP), h), halves(block, h)) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add(acc: __m256, w: &Quads, scale: __m256, x: X) -> __m256 {
        // SAFETY: passed on.
        unsafe {
            let int = _mm256_add_epi32(dot_nibbles(w, x.bytes), _mm256_set1_epi32(*x.fix));
            _mm256_fmadd_ps(
                _mm256_cvtepi32_ps(int),
                _mm256_mul_ps(scale, _mm256_set1_ps(*x.scale)),
                acc,
            )
        }
    }
}

impl Blocks for Q4K {
    /// `d * sc`, `dmin * m`.
    type Scale = [__m256; 2];

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack(block: *const u8, j: usize, h: usize) -> (Quads, [__m256; 2]) {
        const SCALES: usize = 4 * GROUP;
        // SAFETY: 16 `d`, 16 `dmin`, twelve times 16 bytes, then eight slabs.
        unsafe {
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
            (nibbles(block.add(SCALES + 12 * GROUP + j * 256), h), [d, dmin])
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add(acc: __m256, w: &Quads, [d, dmin]: [__m256; 2], x: X) -> __m256 {
        // SAFETY: passed on.
        unsafe {
            let int = dot_nibbles(w, x.bytes);
            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(int), _mm256_set1_ps(*x.scale));
            let acc = _mm256_fmadd_ps(d, scaled, acc);
            _mm256_fnmadd_ps(dmin, _mm256_set1_ps(*x.fix.cast()), acc)
        }
    }
}

impl Blocks for Q6K {
    /// `d * sc` of both sub-blocks.
    type Scale = [__m256; 2];

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack(block: *const u8, j: usize, h: usize) -> (Quads, [__m256; 2]) {
        const SCALES: usize = 2 * GROUP;
        const SUBS: usize = SCALES + 16 * GROUP;
        // SAFETY: 16 `d`, sixteen times 16 bytes, then sixteen times three vectors.
        unsafe {
            let d = halves(block, h);
            let scale = |s: usize| {
                let sc = _mm256_cvtepi8_epi32(_mm_loadl_epi64(block.add(SCALES + s * GROUP + 8 * h).cast()));
                _mm256_mul_ps(d, _mm256_cvtepi32_ps(sc))
            };
            let [a, b] = [2 * j, 2 * j + 1].map(|s| six_bits(block.add(SUBS + s * 192), h));
            (
                [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]],
                [scale(2 * j), scale(2 * j + 1)],
            )
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add(acc: __m256, w: &Quads, [d0, d1]: [__m256; 2], x: X) -> __m256 {
        // SAFETY: passed on.
        unsafe {
            let int0 = _mm256_add_epi32(dot_six_bits(&w[..4], x.bytes), _mm256_set1_epi32(*x.fix));
            let fix1 = _mm256_set1_epi32(*x.fix.add(x.fix_stride));
            let int1 = _mm256_add_epi32(dot_six_bits(&w[4..], x.bytes.add(16)), fix1);
            let both = _mm256_mul_ps(_mm256_cvtepi32_ps(int0), d0);
            let both = _mm256_fmadd_ps(_mm256_cvtepi32_ps(int1), d1, both);
            _mm256_fmadd_ps(both, _mm256_set1_ps(*x.scale), acc)
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

/// Half `h` of a slab (see `quant::nibbles`).
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles(slab: *const u8, h: usize) -> Quads {
    let low = _mm256_set1_epi8(15);
    let mut quads = [low; 8];
    for v in 0..4 {
        // SAFETY: a slab is four vectors of 64 bytes.
        let two = unsafe { _mm256_loadu_si256(slab.add(64 * v + 32 * h).cast()) };
        quads[2 * v] = _mm256_and_si256(two, low);
        quads[2 * v + 1] = _mm256_and_si256(_mm256_srli_epi16::<4>(two), low);
    }
    quads
}

/// Half `h` of a sub-block of `quant::q6_k`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn six_bits(sub: *const u8, h: usize) -> [__m256i; 4] {
    let (low, top) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    // SAFETY: a sub-block is three vectors of 64 bytes.
    let [p, q, high] = [0, 1, 2].map(|v| unsafe { _mm256_loadu_si256(sub.add(64 * v + 32 * h).cast()) });
    let join = |nibble, pair| _mm256_or_si256(_mm256_and_si256(nibble, low), _mm256_and_si256(pair, top));
    [
        join(p, _mm256_slli_epi16::<4>(high)),
        join(_mm256_srli_epi16::<4>(p), _mm256_slli_epi16::<2>(high)),
        join(q, high),
        join(_mm256_srli_epi16::<4>(q), _mm256_srli_epi16::<2>(high)),
    ]
}

/// Bytes `4 v..4 v + 4` in every lane.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn quad(x: *const i8, v: usize) -> __m256i {
    // SAFETY: passed on.
    unsafe { _mm256_set1_epi32(x.add(4 * v).cast::<i32>().read_unaligned()) }
}

/// Sums of neighbouring words.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs(words: __m256i) -> __m256i {
    _mm256_madd_epi16(words, _mm256_set1_epi16(1))
}

/// The products of 32 columns; sixteen products of 15 and 127 fit a word.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dot_nibbles(w: &Quads, x: *const i8) -> __m256i {
    // Two chains, to halve the latency.
    let mut words = [_mm256_setzero_si256(); 2];
    for (v, w) in w.iter().enumerate() {
        // SAFETY: passed on.
        let products = unsafe { _mm256_maddubs_epi16(*w, quad(x, v)) };
        words[v % 2] = _mm256_add_epi16(words[v % 2], products);
    }
    pairs(_mm256_add_epi16(words[0], words[1]))
}

/// The products of 16 columns; four products of 63 and 127 fit a word.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dot_six_bits(w: &[__m256i], x: *const i8) -> __m256i {
    let mut int = _mm256_setzero_si256();
    for (i, two) in w.as_chunks::<2>().0.iter().enumerate() {
        // SAFETY: passed on.
        let products = [0, 1].map(|v| unsafe { _mm256_maddubs_epi16(two[v], quad(x, 2 * i + v)) });
        int = _mm256_add_epi32(int, pairs(_mm256_add_epi16(products[0], products[1])));
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
            for h in 0..2 {
                // SAFETY: the block is in the chunk, the same columns are in the stage.
                unsafe {
                    let (quads, scale) = B::unpack(w, j, h);
                    for t in 0..N {
                        let x = X {
                            bytes: x.row::<T>(t0 + t).add(at * 32),
                            scale: x.scales().add(at * T + t0 + t),
                            fix: x.fixes().add(at * fixes * T + t0 + t),
                            fix_stride: T,
                        };
                        acc[t][h] = B::add(acc[t][h], &quads, scale, x);
                    }
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

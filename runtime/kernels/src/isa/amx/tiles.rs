//! Tiles and what is done with them: by the matrix unit, or by an emulation of it.

use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::offset_of;

/// Rows of a tile.
pub const ROWS: usize = 16;
/// Bytes of a row of a tile: 32 bf16 or 16 f32.
pub const ROW: usize = 64;

/// A tile in memory, its rows dense: 16 by 32 bf16 (an operand), or 16 by 16 f32 (sums).
///
/// The left operand has a token a row. The right one has two columns a row: of each of 16 rows of weights, a pair.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Tile([u8; ROWS * ROW]);

impl Tile {
    pub const ZERO: Tile = Tile([0; ROWS * ROW]);
}

/// Tokens and rows of weights of a [`Square`]: two tiles.
pub const SIDE: usize = 2 * ROWS;

/// 32 columns of 16 rows of weights on their way into a tile: a weight is `factor * q + shift`, rounded.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Raw {
    /// Whole numbers, a byte each: of 16 rows, four columns a vector.
    pub quads: [__m512i; 8],
    /// Factors and shifts, of each half of the columns.
    pub lines: [[__m512; 2]; 2],
}

/// The sums of 32 tokens by 32 rows of weights, and what is multiplied for them.
///
/// While the unit multiplies, the CPU makes tiles for later squares, or it would wait: instructions for both alternate.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Square {
    /// The first token's bf16 activations.
    pub x: *const u8,
    /// Bytes from one token's to the next's.
    pub x_stride: usize,
    /// Tiles of both groups of rows, those of the same rows behind each other.
    pub w: [*const Tile; 2],
    /// How many: 32 columns each.
    pub tiles: usize,
    /// The sums so far, of the first token; null if they start here.
    pub from: *const f32,
    /// Bytes from one token's to the next's.
    pub from_stride: usize,
    /// Where the sums go.
    pub sums: *mut f32,
    /// Bytes from one token's to the next's.
    pub sums_stride: usize,
    /// What becomes tiles on the way.
    pub raw: *const Raw,
    /// Those tiles.
    pub made: *mut Tile,
    /// How many: one for [`PER_MADE`] of `tiles` at most.
    pub makes: usize,
}

/// Tiles of columns of a square that are multiplied while one tile is made.
pub const PER_MADE: usize = 4;

/// A matrix unit.
///
/// Sums are those of `TDPBF16PS` (Intel SDM vol. 2): within a tile even columns and odd ones are summed apart, from zero,
/// in order, each by a fused multiply-add; both sums are added, and that to what there was. Denormals are zero.
pub trait Unit: 'static {
    /// What `CKC_ISA` calls the tier.
    const NAME: &'static str;

    /// Takes the unit for this thread.
    ///
    /// # Safety
    /// The CPU has it, and the operating system lets this process use it.
    unsafe fn begin();

    /// Gives it back: nothing is left for the operating system to save.
    ///
    /// # Safety
    /// As [`Unit::begin`].
    unsafe fn end();

    /// Computes the sums, a tile of columns after the other.
    ///
    /// # Safety
    /// Between [`Unit::begin`] and [`Unit::end`]. `x` is valid for reads of 32 rows of `64 * tiles` bytes, `w` for reads
    /// of as many tiles, `from`, if not null, for reads of 32 rows of 32 floats, `sums` for writes of them, `raw` for reads
    /// and `made` for writes of `makes`. What is written is not inside anything else, but for `sums`, which may be `from`.
    unsafe fn multiply(square: &Square);
}

/// What `LDTILECFG` reads: all 64 bytes count.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of sixteen rows of 64 bytes.
static CONFIG: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Four columns of 16 rows, the `$quad`th of `{raw}`, as two rows of the tile at `{made}`: the first two columns, and the
/// others. `$factor` and `$shift` are registers; the constants are those of [`constants`].
macro_rules! widen {
    ($quad:literal, $factor:literal, $shift:literal) => {
        concat!(
            "vmovdqa64 zmm16, [{raw} + 64 * ",
            $quad,
            "]\n",
            "vpandd zmm17, zmm16, zmm24\n",
            "vpsrld zmm18, zmm16, 8\n",
            "vpandd zmm18, zmm18, zmm24\n",
            "vpsrld zmm19, zmm16, 16\n",
            "vpandd zmm19, zmm19, zmm24\n",
            "vpsrld zmm20, zmm16, 24\n",
            "vcvtdq2ps zmm17, zmm17\n",
            "vcvtdq2ps zmm18, zmm18\n",
            "vcvtdq2ps zmm19, zmm19\n",
            "vcvtdq2ps zmm20, zmm20\n",
            "vfmadd213ps zmm17, ",
            $factor,
            ", ",
            $shift,
            "\n",
            "vfmadd213ps zmm18, ",
            $factor,
            ", ",
            $shift,
            "\n",
            "vfmadd213ps zmm19, ",
            $factor,
            ", ",
            $shift,
            "\n",
            "vfmadd213ps zmm20, ",
            $factor,
            ", ",
            $shift,
            "\n",
            "vcvtne2ps2bf16 zmm17, zmm18, zmm17\n",
            "vcvtne2ps2bf16 zmm19, zmm20, zmm19\n",
            "vpermw zmm17, zmm25, zmm17\n",
            "vpermw zmm19, zmm25, zmm19\n",
            "vmovdqa64 [{made} + 128 * ",
            $quad,
            "], zmm17\n",
            "vmovdqa64 [{made} + 128 * ",
            $quad,
            " + 64], zmm19\n",
        )
    };
}

/// The lines of `{raw}`: of the first half zmm26 and zmm27, of the other zmm28 and zmm29.
macro_rules! lines {
    () => {
        concat!(
            "vmovaps zmm26, [{raw} + 512]\n",
            "vmovaps zmm27, [{raw} + 576]\n",
            "vmovaps zmm28, [{raw} + 640]\n",
            "vmovaps zmm29, [{raw} + 704]\n",
        )
    };
}

const _: () = assert!(offset_of!(Raw, lines) == 512 && size_of::<Raw>() == 768, "see `lines!`");

/// Prefetches a tile of columns of eight tokens from `{f}` on.
macro_rules! fetch {
    () => {
        concat!(
            "prefetcht0 [{f}]\n",
            "prefetcht0 [{f} + {s}]\n",
            "prefetcht0 [{f} + {s} * 2]\n",
            "prefetcht0 [{f} + {s3}]\n",
            "lea {f}, [{f} + {s} * 4]\n",
            "prefetcht0 [{f}]\n",
            "prefetcht0 [{f} + {s}]\n",
            "prefetcht0 [{f} + {s} * 2]\n",
            "prefetcht0 [{f} + {s3}]\n",
            "lea {f}, [{f} + {s} * 4]\n",
        )
    };
}

/// A tile of columns: four products, a prefetch of the activations of the one after the next, and two times something
/// else.
macro_rules! step {
    ($one:expr, $other:expr) => {
        concat!(
            "tileloadd tmm4, [{w0} + {row}]\n",
            "tileloadd tmm6, [{p} + {s}]\n",
            "lea {f}, [{p} + 128]\n",
            fetch!(),
            "tdpbf16ps tmm0, tmm6, tmm4\n",
            "tileloadd tmm5, [{w1} + {row}]\n",
            fetch!(),
            "tdpbf16ps tmm1, tmm6, tmm5\n",
            "tileloadd tmm7, [{p1} + {s}]\n",
            $one,
            fetch!(),
            "tdpbf16ps tmm2, tmm7, tmm4\n",
            $other,
            fetch!(),
            "tdpbf16ps tmm3, tmm7, tmm5\n",
            "add {p}, 64\n",
            "add {p1}, 64\n",
            "add {w0}, 1024\n",
            "add {w1}, 1024\n",
        )
    };
}

/// What `widen!` wants in zmm24 and zmm25: a byte of each lane, and where the words of a pair are once two vectors are one
/// behind the other.
#[inline]
#[target_feature(enable = "avx512f")]
fn constants() -> [__m512i; 2] {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: both are 32 words.
    [_mm512_set1_epi32(0xff), unsafe {
        core::mem::transmute::<[u16; 32], __m512i>(ORDER)
    }]
}

/// Makes a tile.
///
/// # Safety
/// `made` is valid for writes; the CPU has AVX-512 BW and BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn widen(raw: &Raw, made: *mut Tile) {
    let [byte, order] = constants();
    // SAFETY: reads `raw`, writes the tile, all of it aligned. Every register that is written is declared.
    unsafe {
        asm!(
            lines!(),
            widen!(0, "zmm26", "zmm27"),
            widen!(1, "zmm26", "zmm27"),
            widen!(2, "zmm26", "zmm27"),
            widen!(3, "zmm26", "zmm27"),
            widen!(4, "zmm28", "zmm29"),
            widen!(5, "zmm28", "zmm29"),
            widen!(6, "zmm28", "zmm29"),
            widen!(7, "zmm28", "zmm29"),
            raw = in(reg) raw,
            made = in(reg) made,
            in("zmm24") byte,
            in("zmm25") order,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _, out("zmm20") _,
            out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _,
            options(nostack, preserves_flags)
        );
    }
}

/// AMX.
pub enum Hardware {}

impl Unit for Hardware {
    const NAME: &'static str = "amx";

    #[inline]
    unsafe fn begin() {
        // SAFETY: the CPU has the instruction; the configuration is a valid one of palette 1, all of it in memory. No tile
        // is live across the statement: the compiler has none.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, preserves_flags)) }
    }

    #[inline]
    unsafe fn end() {
        // SAFETY: as for the configuration.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags)) }
    }

    // Once for all types of weights.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn multiply(square: &Square) {
        let [byte, order] = constants();
        // SAFETY: tiles are configured as 16 rows of 64 bytes, and read and written at the strides of the places that the
        // caller vouches for. Prefetches read nothing. Every register that is written is declared.
        unsafe {
            asm!(
                // The sums of 16 tokens are at `p`, those of 16 more at `p1`, `s` bytes apart.
                "mov {p}, [{o} + {FROM}]",
                "test {p}, {p}",
                "jz 3f",
                "mov {s}, [{o} + {FROM_STRIDE}]",
                "mov {p1}, {s}",
                "shl {p1}, 4",
                "add {p1}, {p}",
                "tileloadd tmm0, [{p} + {s}]",
                "tileloadd tmm1, [{p} + {s} + 64]",
                "tileloadd tmm2, [{p1} + {s}]",
                "tileloadd tmm3, [{p1} + {s} + 64]",
                "jmp 4f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "4:",
                // Now the activations are, `s3` is three strides.
                "mov {p}, [{o} + {X}]",
                "mov {s}, [{o} + {X_STRIDE}]",
                "lea {s3}, [{s} + {s} * 2]",
                "mov {p1}, {s}",
                "shl {p1}, 4",
                "add {p1}, {p}",
                "mov {w0}, [{o} + {W}]",
                "mov {w1}, [{o} + {W} + 8]",
                "mov {raw}, [{o} + {RAW}]",
                "mov {made}, [{o} + {MADE}]",
                "mov {m}, [{o} + {MAKES}]",
                "mov {n}, [{o} + {TILES}]",
                "mov {row}, 64",
                "test {m}, {m}",
                "jz 6f",
                // Four tiles of columns, and one tile made.
                "7:",
                lines!(),
                step!(widen!(0, "zmm26", "zmm27"), widen!(1, "zmm26", "zmm27")),
                step!(widen!(2, "zmm26", "zmm27"), widen!(3, "zmm26", "zmm27")),
                step!(widen!(4, "zmm28", "zmm29"), widen!(5, "zmm28", "zmm29")),
                step!(widen!(6, "zmm28", "zmm29"), widen!(7, "zmm28", "zmm29")),
                "add {raw}, {RAW_BYTES}",
                "add {made}, 1024",
                "sub {n}, {PER_MADE}",
                "dec {m}",
                "jnz 7b",
                "6:",
                "test {n}, {n}",
                "jz 5f",
                "2:",
                step!("", ""),
                "dec {n}",
                "jnz 2b",
                "5:",
                "mov {p}, [{o} + {SUMS}]",
                "mov {s}, [{o} + {SUMS_STRIDE}]",
                "mov {p1}, {s}",
                "shl {p1}, 4",
                "add {p1}, {p}",
                "tilestored [{p} + {s}], tmm0",
                "tilestored [{p} + {s} + 64], tmm1",
                "tilestored [{p1} + {s}], tmm2",
                "tilestored [{p1} + {s} + 64], tmm3",
                o = in(reg) square,
                p = out(reg) _,
                p1 = out(reg) _,
                f = out(reg) _,
                s = out(reg) _,
                s3 = out(reg) _,
                w0 = out(reg) _,
                w1 = out(reg) _,
                raw = out(reg) _,
                made = out(reg) _,
                m = out(reg) _,
                n = out(reg) _,
                row = out(reg) _,
                X = const offset_of!(Square, x),
                X_STRIDE = const offset_of!(Square, x_stride),
                W = const offset_of!(Square, w),
                TILES = const offset_of!(Square, tiles),
                FROM = const offset_of!(Square, from),
                FROM_STRIDE = const offset_of!(Square, from_stride),
                SUMS = const offset_of!(Square, sums),
                SUMS_STRIDE = const offset_of!(Square, sums_stride),
                RAW = const offset_of!(Square, raw),
                RAW_BYTES = const size_of::<Raw>(),
                MADE = const offset_of!(Square, made),
                MAKES = const offset_of!(Square, makes),
                PER_MADE = const PER_MADE,
                in("zmm24") byte,
                in("zmm25") order,
                out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _, out("zmm20") _,
                out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }
}

/// The arithmetic of the unit without the unit.
pub enum Emulated {}

/// Denormals to zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn flush(x: __m512) -> __m512 {
    let large = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(x), _mm512_set1_ps(f32::MIN_POSITIVE));
    _mm512_maskz_mov_ps(large, x)
}

/// The bf16 pairs of a row: the even ones, and the odd ones.
#[inline]
#[target_feature(enable = "avx512f")]
fn floats(row: __m512i) -> [__m512; 2] {
    let odd = _mm512_and_si512(row, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
    [_mm512_slli_epi32::<16>(row), odd].map(|bits| flush(_mm512_castsi512_ps(bits)))
}

/// `sums += x * w`.
///
/// # Safety
/// There are 16 rows of activations, `x_stride` bytes apart, a tile of weights, and 16 rows of 16 sums, `sums_stride` bytes
/// apart; the CPU has AVX-512F.
#[target_feature(enable = "avx512f,fma")]
unsafe fn product(x: *const u8, x_stride: usize, w: *const Tile, sums: *mut f32, sums_stride: usize) {
    for t in 0..ROWS {
        // SAFETY: sixteen pairs of a row of activations, sixteen rows of the tile, a row of sums.
        unsafe {
            let mut halves = [_mm512_setzero_ps(); 2];
            for k in 0..ROWS {
                let pair = x.add(t * x_stride).cast::<i32>().add(k).read_unaligned();
                let x = floats(_mm512_set1_epi32(pair));
                let w = floats(_mm512_loadu_si512(w.cast::<__m512i>().add(k)));
                for i in 0..2 {
                    halves[i] = flush(_mm512_fmadd_ps(x[i], w[i], halves[i]));
                }
            }
            let sum = flush(_mm512_add_ps(halves[0], halves[1]));
            let to = sums.byte_add(t * sums_stride);
            _mm512_storeu_ps(to, flush(_mm512_add_ps(flush(_mm512_loadu_ps(to)), sum)));
        }
    }
}

impl Unit for Emulated {
    const NAME: &'static str = "amx-emulated";

    unsafe fn begin() {}

    unsafe fn end() {}

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16,fma")]
    unsafe fn multiply(square: &Square) {
        let Square {
            x_stride,
            from_stride,
            sums_stride,
            ..
        } = *square;
        for i in 0..square.makes {
            // SAFETY: passed on.
            unsafe { widen(&*square.raw.add(i), square.made.add(i)) };
        }
        for t in 0..SIDE {
            // SAFETY: passed on: a token's sums so far, and where they go.
            unsafe {
                let to = square.sums.byte_add(t * sums_stride);
                if square.from.is_null() {
                    to.write_bytes(0, SIDE);
                } else {
                    square.from.byte_add(t * from_stride).copy_to(to, SIDE);
                }
            }
        }
        for half in 0..2 {
            for (j, w) in square.w.into_iter().enumerate() {
                // SAFETY: passed on: half of the tokens, half of the rows.
                unsafe {
                    let sums = square.sums.byte_add(half * ROWS * sums_stride).add(j * ROWS);
                    for k in 0..square.tiles {
                        let x = square.x.add(half * ROWS * x_stride + k * ROW);
                        product(x, x_stride, w.add(k), sums, sums_stride);
                    }
                }
            }
        }
    }
}

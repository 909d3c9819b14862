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

/// Groups of rows of weights of a [`Square`].
pub const GROUPS: usize = 4;
/// Rows of weights of a [`Square`].
pub const WIDTH: usize = GROUPS * ROWS;

/// 16 columns of 16 rows of weights on their way into half a tile: a weight is `factor * q + shift`, rounded.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Half {
    /// Whole numbers, a byte each: of 16 rows, four columns a vector.
    pub quads: [__m512i; 4],
    /// Factor and shift.
    pub line: [__m512; 2],
}

/// A tile on its way.
pub type Raw = [Half; 2];

/// The sums of 16 tokens by 64 rows of weights, and what is multiplied for them.
///
/// While the unit multiplies, the CPU makes tiles for later squares, or it would wait: instructions for both alternate.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Square {
    /// The first token's bf16 activations.
    pub x: *const u8,
    /// Those of the square after this, which are fetched in time.
    pub next_x: *const u8,
    /// Bytes from one token's to the next's.
    pub x_stride: usize,
    /// Tiles of the first group of rows, behind each other.
    pub w: *const Tile,
    /// Bytes from one group's to the next's.
    pub w_stride: usize,
    /// Tiles of a group: 32 columns each.
    pub tiles: usize,
    /// The sums so far, a tile for each group; null if they start here.
    pub from: *const Tile,
    /// Those of the square after this, which are fetched in time.
    pub next_from: *const Tile,
    /// Where the sums go, of the first token.
    pub sums: *mut f32,
    /// Bytes from one token's to the next's.
    pub sums_stride: usize,
    /// Bytes from one group's to the next's.
    pub sums_group: usize,
    /// What becomes tiles on the way: halves of them.
    pub raw: *const Half,
    /// Where they begin that do not.
    pub raw_end: *const Half,
    /// The halves of tiles made.
    pub made: *mut HalfTile,
}

impl Square {
    /// Halves of tiles to make, one for [`PER_MADE`] of `tiles` at most.
    fn makes(&self) -> usize {
        (self.raw_end.addr() - self.raw.addr()) / size_of::<Half>()
    }
}

/// Tiles of columns of a square that are multiplied while half a tile is made.
pub const PER_MADE: usize = 2;

/// Half of a [`Tile`]: eight of its rows.
pub type HalfTile = [u8; ROWS * ROW / 2];

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
    /// Between [`Unit::begin`] and [`Unit::end`]. `x` is valid for reads of 16 rows of `64 * tiles` bytes, `w` for reads
    /// of as many tiles of each group, `from`, if not null, for reads of four tiles, `sums` for writes of 16 rows of 16
    /// floats of each group, `raw` for reads up to its end and `made`, aligned to cache lines, for writes of as many. What
    /// is written is not inside anything else, but for `sums`, which may be `from`.
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
/// others. The line is in zmm26 and zmm27; the constants are those of [`constants`].
macro_rules! widen {
    ($quad:literal) => {
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
            "vfmadd213ps zmm17, zmm26, zmm27\n",
            "vfmadd213ps zmm18, zmm26, zmm27\n",
            "vfmadd213ps zmm19, zmm26, zmm27\n",
            "vfmadd213ps zmm20, zmm26, zmm27\n",
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

/// The line of `{raw}`.
macro_rules! line {
    () => {
        concat!("vmovaps zmm26, [{raw} + 256]\n", "vmovaps zmm27, [{raw} + 320]\n",)
    };
}

const _: () = assert!(offset_of!(Half, line) == 256 && size_of::<Half>() == 384, "see `line!`");

/// Prefetches a tile of columns of four tokens from `{f}` on.
macro_rules! fetch {
    () => {
        concat!(
            "prefetcht0 [{f}]\n",
            "prefetcht0 [{f} + {s}]\n",
            "lea {f}, [{f} + {s} * 2]\n",
            "prefetcht0 [{f}]\n",
            "prefetcht0 [{f} + {s}]\n",
            "lea {f}, [{f} + {s} * 2]\n",
        )
    };
}

/// Cache lines of the next sums that a step prefetches: a square of some steps gets most of them.
const SUMS_FETCHED: usize = 12;

/// Prefetches a quarter of them, from `64 * $line` bytes behind `{q}` on.
macro_rules! fetch_sums {
    ($line:literal) => {
        concat!(
            "prefetcht0 [{q} + 64 * ",
            $line,
            "]\n",
            "prefetcht0 [{q} + 64 * ",
            $line,
            " + 64]\n",
            "prefetcht0 [{q} + 64 * ",
            $line,
            " + 128]\n",
        )
    };
}

/// A tile of columns, of activations in `$x`: four products, a prefetch of the activations at `{next}` and of some of the
/// next sums, and two times something else.
macro_rules! step {
    ($x:literal, $one:expr, $other:expr) => {
        concat!(
            "tileloadd ",
            $x,
            ", [{p} + {s}]\n",
            "tileloadd tmm4, [{w} + {row}]\n",
            "mov {f}, {next}\n",
            "lea {t}, [{w} + {g}]\n",
            "tdpbf16ps tmm0, ",
            $x,
            ", tmm4\n",
            "tileloadd tmm5, [{t} + {row}]\n",
            "add {t}, {g}\n",
            fetch!(),
            fetch_sums!(0),
            $one,
            "tdpbf16ps tmm1, ",
            $x,
            ", tmm5\n",
            "tileloadd tmm4, [{t} + {row}]\n",
            "add {t}, {g}\n",
            fetch!(),
            fetch_sums!(3),
            "tdpbf16ps tmm2, ",
            $x,
            ", tmm4\n",
            "tileloadd tmm5, [{t} + {row}]\n",
            fetch!(),
            fetch_sums!(6),
            $other,
            "tdpbf16ps tmm3, ",
            $x,
            ", tmm5\n",
            fetch!(),
            fetch_sums!(9),
            "add {p}, 64\n",
            "add {next}, 64\n",
            "add {w}, 1024\n",
            "add {q}, 64 * {SUMS_FETCHED}\n",
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

/// Makes half a tile.
///
/// # Safety
/// `made` is valid for writes and aligned to a cache line; the CPU has AVX-512 BW and BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub unsafe fn widen(raw: &Half, made: *mut HalfTile) {
    let [byte, order] = constants();
    // SAFETY: reads `raw`, writes half a tile, all of it aligned. Every register that is written is declared.
    unsafe {
        asm!(
            line!(),
            widen!(0),
            widen!(1),
            widen!(2),
            widen!(3),
            raw = in(reg) raw,
            made = in(reg) made,
            in("zmm24") byte,
            in("zmm25") order,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _, out("zmm20") _,
            out("zmm26") _, out("zmm27") _,
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
                "mov {row}, 64",
                "mov {p}, [{o} + {FROM}]",
                "test {p}, {p}",
                "jz 3f",
                "tileloadd tmm0, [{p} + {row}]",
                "tileloadd tmm1, [{p} + {row} + 1024]",
                "tileloadd tmm2, [{p} + {row} + 2048]",
                "tileloadd tmm3, [{p} + {row} + 3072]",
                "jmp 4f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "4:",
                "mov {p}, [{o} + {X}]",
                "mov {s}, [{o} + {X_STRIDE}]",
                "mov {w}, [{o} + {W}]",
                "mov {g}, [{o} + {W_STRIDE}]",
                "mov {q}, [{o} + {NEXT_FROM}]",
                "mov {raw}, [{o} + {RAW}]",
                "mov {made}, [{o} + {MADE}]",
                "mov {n}, [{o} + {TILES}]",
                // Activations are fetched two steps ahead: at last those of the next square.
                "lea {next}, [{p} + 128]",
                "cmp {raw}, [{o} + {RAW_END}]",
                "je 6f",
                // Two tiles of columns, and half a tile made.
                "7:",
                "cmp {n}, 2",
                "cmove {next}, [{o} + {NEXT_X}]",
                line!(),
                step!("tmm6", widen!(0), widen!(1)),
                step!("tmm7", widen!(2), widen!(3)),
                "add {raw}, {HALF}",
                "add {made}, 512",
                "sub {n}, 2",
                "cmp {raw}, [{o} + {RAW_END}]",
                "jne 7b",
                "6:",
                "sub {n}, 2",
                "jb 8f",
                "2:",
                "cmove {next}, [{o} + {NEXT_X}]",
                step!("tmm6", "", ""),
                step!("tmm7", "", ""),
                "sub {n}, 2",
                "jae 2b",
                "8:",
                // None is left, or one.
                "cmp {n}, -2",
                "je 5f",
                step!("tmm6", "", ""),
                "5:",
                "mov {p}, [{o} + {SUMS}]",
                "mov {s}, [{o} + {SUMS_STRIDE}]",
                "mov {g}, [{o} + {SUMS_GROUP}]",
                "tilestored [{p} + {s}], tmm0",
                "add {p}, {g}",
                "tilestored [{p} + {s}], tmm1",
                "add {p}, {g}",
                "tilestored [{p} + {s}], tmm2",
                "add {p}, {g}",
                "tilestored [{p} + {s}], tmm3",
                o = in(reg) square,
                p = out(reg) _,
                next = out(reg) _,
                f = out(reg) _,
                s = out(reg) _,
                w = out(reg) _,
                g = out(reg) _,
                t = out(reg) _,
                q = out(reg) _,
                raw = out(reg) _,
                made = out(reg) _,
                n = out(reg) _,
                row = out(reg) _,
                X = const offset_of!(Square, x),
                NEXT_X = const offset_of!(Square, next_x),
                X_STRIDE = const offset_of!(Square, x_stride),
                W = const offset_of!(Square, w),
                W_STRIDE = const offset_of!(Square, w_stride),
                TILES = const offset_of!(Square, tiles),
                FROM = const offset_of!(Square, from),
                NEXT_FROM = const offset_of!(Square, next_from),
                SUMS = const offset_of!(Square, sums),
                SUMS_STRIDE = const offset_of!(Square, sums_stride),
                SUMS_GROUP = const offset_of!(Square, sums_group),
                SUMS_FETCHED = const SUMS_FETCHED,
                RAW = const offset_of!(Square, raw),
                RAW_END = const offset_of!(Square, raw_end),
                HALF = const size_of::<Half>(),
                MADE = const offset_of!(Square, made),
                in("zmm24") byte,
                in("zmm25") order,
                out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _, out("zmm20") _,
                out("zmm26") _, out("zmm27") _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }
}

const _: () = assert!(PER_MADE == 2, "what the loop does while it makes half a tile");

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
        for i in 0..square.makes() {
            // SAFETY: passed on.
            unsafe { widen(&*square.raw.add(i), square.made.add(i)) };
        }
        for group in 0..GROUPS {
            // SAFETY: passed on: a group's sums so far, where they go, and what is multiplied for them.
            unsafe {
                let sums = square.sums.byte_add(group * square.sums_group);
                for t in 0..ROWS {
                    let to = sums.byte_add(t * square.sums_stride);
                    if square.from.is_null() {
                        to.write_bytes(0, ROWS);
                    } else {
                        square.from.add(group).byte_add(t * ROW).cast::<f32>().copy_to(to, ROWS);
                    }
                }
                for k in 0..square.tiles {
                    let w = square.w.byte_add(group * square.w_stride).add(k);
                    product(square.x.add(k * ROW), square.x_stride, w, sums, square.sums_stride);
                }
            }
        }
    }
}

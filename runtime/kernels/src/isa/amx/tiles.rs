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

/// The sums of 32 tokens by 32 rows of weights, and what is multiplied for them.
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
    /// The sums of the first token.
    pub sums: *mut f32,
    /// Bytes from one token's to the next's.
    pub sums_stride: usize,
    /// Whether the sums start here; otherwise they go on from what is there.
    pub first: bool,
}

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
    /// of as many tiles, `sums` for reads and writes of 32 rows of 32 floats, none of them inside the former.
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

    #[inline]
    unsafe fn multiply(square: &Square) {
        // SAFETY: tiles are configured as 16 rows of 64 bytes, and read and written at the strides of the places that the
        // caller vouches for. Prefetches read nothing. Every register that is written is declared.
        unsafe {
            asm!(
                // The sums of 16 tokens are at `p`, those of 16 more at `p1`, `s` bytes apart.
                "mov {p}, [{o} + {SUMS}]",
                "mov {s}, [{o} + {SUMS_STRIDE}]",
                "mov {p1}, {s}",
                "shl {p1}, 4",
                "add {p1}, {p}",
                "cmp byte ptr [{o} + {FIRST}], 0",
                "jne 3f",
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
                // Now the activations are, and those of nine tokens further at `q` and `q1`; `s3` is three strides, and so on.
                "mov {p}, [{o} + {X}]",
                "mov {s}, [{o} + {X_STRIDE}]",
                "lea {s3}, [{s} + {s} * 2]",
                "lea {s5}, [{s} + {s} * 4]",
                "lea {s7}, [{s3} + {s} * 4]",
                "lea {q}, [{p} + {s} * 8]",
                "add {q}, {s}",
                "mov {p1}, {s}",
                "shl {p1}, 4",
                "lea {q1}, [{q} + {p1}]",
                "add {p1}, {p}",
                "mov {w0}, [{o} + {W}]",
                "mov {w1}, [{o} + {W} + 8]",
                "mov {n}, [{o} + {TILES}]",
                "mov {row}, 64",
                "test {n}, {n}",
                "jz 5f",
                // Each tile of columns: four products, and a prefetch of the activations of the one after the next.
                "2:",
                "tileloadd tmm4, [{w0} + {row}]",
                "tileloadd tmm6, [{p} + {s}]",
                "prefetcht0 [{p} + 128]",
                "prefetcht0 [{p} + {s} + 128]",
                "prefetcht0 [{p} + {s} * 2 + 128]",
                "prefetcht0 [{p} + {s3} + 128]",
                "prefetcht0 [{p} + {s} * 4 + 128]",
                "prefetcht0 [{p} + {s5} + 128]",
                "prefetcht0 [{p} + {s3} * 2 + 128]",
                "prefetcht0 [{p} + {s7} + 128]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tileloadd tmm5, [{w1} + {row}]",
                "prefetcht0 [{p} + {s} * 8 + 128]",
                "prefetcht0 [{q} + 128]",
                "prefetcht0 [{p} + {s5} * 2 + 128]",
                "prefetcht0 [{q} + {s} * 2 + 128]",
                "prefetcht0 [{p} + {s3} * 4 + 128]",
                "prefetcht0 [{q} + {s} * 4 + 128]",
                "prefetcht0 [{p} + {s7} * 2 + 128]",
                "prefetcht0 [{q} + {s3} * 2 + 128]",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tileloadd tmm7, [{p1} + {s}]",
                "prefetcht0 [{p1} + 128]",
                "prefetcht0 [{p1} + {s} + 128]",
                "prefetcht0 [{p1} + {s} * 2 + 128]",
                "prefetcht0 [{p1} + {s3} + 128]",
                "prefetcht0 [{p1} + {s} * 4 + 128]",
                "prefetcht0 [{p1} + {s5} + 128]",
                "prefetcht0 [{p1} + {s3} * 2 + 128]",
                "prefetcht0 [{p1} + {s7} + 128]",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "prefetcht0 [{p1} + {s} * 8 + 128]",
                "prefetcht0 [{q1} + 128]",
                "prefetcht0 [{p1} + {s5} * 2 + 128]",
                "prefetcht0 [{q1} + {s} * 2 + 128]",
                "prefetcht0 [{p1} + {s3} * 4 + 128]",
                "prefetcht0 [{q1} + {s} * 4 + 128]",
                "prefetcht0 [{p1} + {s7} * 2 + 128]",
                "prefetcht0 [{q1} + {s3} * 2 + 128]",
                "tdpbf16ps tmm3, tmm7, tmm5",
                "add {p}, 64",
                "add {q}, 64",
                "add {p1}, 64",
                "add {q1}, 64",
                "add {w0}, 1024",
                "add {w1}, 1024",
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
                q = out(reg) _,
                p1 = out(reg) _,
                q1 = out(reg) _,
                s = out(reg) _,
                s3 = out(reg) _,
                s5 = out(reg) _,
                s7 = out(reg) _,
                w0 = out(reg) _,
                w1 = out(reg) _,
                n = out(reg) _,
                row = out(reg) _,
                X = const offset_of!(Square, x),
                X_STRIDE = const offset_of!(Square, x_stride),
                W = const offset_of!(Square, w),
                TILES = const offset_of!(Square, tiles),
                SUMS = const offset_of!(Square, sums),
                SUMS_STRIDE = const offset_of!(Square, sums_stride),
                FIRST = const offset_of!(Square, first),
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
fn widen(row: __m512i) -> [__m512; 2] {
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
                let x = widen(_mm512_set1_epi32(pair));
                let w = widen(_mm512_loadu_si512(w.cast::<__m512i>().add(k)));
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

    unsafe fn multiply(square: &Square) {
        let Square {
            x_stride, sums_stride, ..
        } = *square;
        for half in 0..2 {
            for (j, w) in square.w.into_iter().enumerate() {
                // SAFETY: passed on: half of the tokens, half of the rows.
                unsafe {
                    let sums = square.sums.byte_add(half * ROWS * sums_stride).add(j * ROWS);
                    if square.first {
                        (0..ROWS).for_each(|t| sums.byte_add(t * sums_stride).write_bytes(0, ROWS));
                    }
                    for k in 0..square.tiles {
                        let x = square.x.add(half * ROWS * x_stride + k * ROW);
                        product(x, x_stride, w.add(k), sums, sums_stride);
                    }
                }
            }
        }
    }
}

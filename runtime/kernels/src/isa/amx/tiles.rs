//! Tiles and what is done with them: by the matrix unit, or by an emulation of it.

use core::arch::asm;
use core::arch::x86_64::*;

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

/// Tile products that are computed at once.
pub const BATCH: usize = 4;

/// Sums of 32 tokens by 32 rows, dense.
#[repr(C, align(64))]
pub struct Square(pub [[f32; 2 * ROWS]; 2 * ROWS]);

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

    /// `c[i] = a[i / SUBS] * b[i]`, `i` in `0..BATCH`, from zero.
    ///
    /// # Safety
    /// Between [`Unit::begin`] and [`Unit::end`]. `a` is valid for reads of `BATCH / SUBS` tiles, `b` for reads and `c`
    /// for writes of `BATCH`.
    unsafe fn products<const SUBS: usize>(a: *const Tile, b: *const Tile, c: *mut Tile);

    /// `c[i][j] += a[i] * b[j]`, `i` and `j` in `0..2`, over `n` tiles of columns, `a` in two parts: first all columns
    /// of the first part's tile, then those of the second's.
    ///
    /// # Safety
    /// Between [`Unit::begin`] and [`Unit::end`]. `n > 0`; each of `a` is valid for reads of `n` pairs of tiles, each of
    /// `b` of `n` tiles.
    unsafe fn square(a: [*const [Tile; 2]; 2], b: [*const Tile; 2], n: usize, c: &mut Square);
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
    unsafe fn products<const SUBS: usize>(a: *const Tile, b: *const Tile, c: *mut Tile) {
        // SAFETY: tiles are configured as 16 rows of 64 bytes, and read and written at 64 bytes a row: the tiles that the
        // caller vouches for. Every tile register that is written is declared.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tileloadd tmm4, [{a} + {row}]",
                "tileloadd tmm5, [{b} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tilezero tmm1",
                "tileloadd tmm6, [{a} + {row} + {a1}]",
                "tileloadd tmm7, [{b} + {row} + 0x400]",
                "tdpbf16ps tmm1, tmm6, tmm7",
                "tilezero tmm2",
                "tileloadd tmm4, [{a} + {row} + {a2}]",
                "tileloadd tmm5, [{b} + {row} + 0x800]",
                "tdpbf16ps tmm2, tmm4, tmm5",
                "tilezero tmm3",
                "tileloadd tmm6, [{a} + {row} + {a3}]",
                "tileloadd tmm7, [{b} + {row} + 0xc00]",
                "tdpbf16ps tmm3, tmm6, tmm7",
                "tilestored [{c} + {row}], tmm0",
                "tilestored [{c} + {row} + 0x400], tmm1",
                "tilestored [{c} + {row} + 0x800], tmm2",
                "tilestored [{c} + {row} + 0xc00], tmm3",
                a = in(reg) a,
                b = in(reg) b,
                c = in(reg) c,
                row = in(reg) ROW,
                a1 = const size_of::<Tile>() * (1 / SUBS),
                a2 = const size_of::<Tile>() * (2 / SUBS),
                a3 = const size_of::<Tile>() * (3 / SUBS),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline]
    unsafe fn square(a: [*const [Tile; 2]; 2], b: [*const Tile; 2], n: usize, c: &mut Square) {
        let [c0, c1] = [0, ROWS].map(|row| (&raw mut c.0).cast::<[f32; 2 * ROWS]>().wrapping_add(row));
        // SAFETY: as for `products`; sums are read and written at 128 bytes a row, two tiles side by side. The loop runs
        // `n > 0` times.
        unsafe {
            asm!(
                "tileloadd tmm0, [{c0} + {wide}]",
                "tileloadd tmm1, [{c0} + {wide} + 0x40]",
                "tileloadd tmm2, [{c1} + {wide}]",
                "tileloadd tmm3, [{c1} + {wide} + 0x40]",
                "2:",
                "tileloadd tmm4, [{b0} + {row}]",
                "tileloadd tmm5, [{b1} + {row}]",
                "tileloadd tmm6, [{a0} + {row}]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tileloadd tmm7, [{a1} + {row}]",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
                "tileloadd tmm6, [{a0} + {row} + 0x400]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tileloadd tmm7, [{a1} + {row} + 0x400]",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
                "add {a0}, 0x800",
                "add {a1}, 0x800",
                "add {b0}, 0x400",
                "add {b1}, 0x400",
                "dec {n}",
                "jnz 2b",
                "tilestored [{c0} + {wide}], tmm0",
                "tilestored [{c0} + {wide} + 0x40], tmm1",
                "tilestored [{c1} + {wide}], tmm2",
                "tilestored [{c1} + {wide} + 0x40], tmm3",
                a0 = inout(reg) a[0] => _,
                a1 = inout(reg) a[1] => _,
                b0 = inout(reg) b[0] => _,
                b1 = inout(reg) b[1] => _,
                c0 = in(reg) c0,
                c1 = in(reg) c1,
                n = inout(reg) n => _,
                row = in(reg) ROW,
                wide = in(reg) 2 * ROW,
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

/// `c += a * b`, `c` `width` floats a row.
///
/// # Safety
/// The tiles are there, and so are 16 rows of 16 floats; the CPU has AVX-512F.
#[target_feature(enable = "avx512f,fma")]
unsafe fn product(a: *const Tile, b: *const Tile, c: *mut f32, width: usize) {
    for m in 0..ROWS {
        // SAFETY: sixteen pairs of the left tile, sixteen rows of the right one, a row of sums.
        unsafe {
            let mut sums = [_mm512_setzero_ps(); 2];
            for k in 0..ROWS {
                let pair = a.cast::<i32>().add(m * ROWS + k).read();
                let x = widen(_mm512_set1_epi32(pair));
                let w = widen(_mm512_loadu_si512(b.cast::<__m512i>().add(k)));
                for i in 0..2 {
                    sums[i] = flush(_mm512_fmadd_ps(x[i], w[i], sums[i]));
                }
            }
            let sum = flush(_mm512_add_ps(sums[0], sums[1]));
            let c = c.add(m * width);
            _mm512_storeu_ps(c, flush(_mm512_add_ps(flush(_mm512_loadu_ps(c)), sum)));
        }
    }
}

impl Unit for Emulated {
    const NAME: &'static str = "amx-emulated";

    unsafe fn begin() {}

    unsafe fn end() {}

    unsafe fn products<const SUBS: usize>(a: *const Tile, b: *const Tile, c: *mut Tile) {
        for i in 0..BATCH {
            // SAFETY: passed on.
            unsafe {
                *c.add(i) = Tile::ZERO;
                product(a.add(i / SUBS), b.add(i), c.add(i).cast(), ROWS);
            }
        }
    }

    unsafe fn square(a: [*const [Tile; 2]; 2], b: [*const Tile; 2], n: usize, c: &mut Square) {
        for k in 0..n {
            for part in 0..2 {
                for i in 0..2 {
                    for (j, b) in b.iter().enumerate() {
                        let to = c.0[i * ROWS][j * ROWS..].as_mut_ptr();
                        // SAFETY: passed on; a square has 16 rows of as many floats from there on.
                        unsafe { product(a[i].add(k).cast::<Tile>().add(part), b.add(k), to, 2 * ROWS) };
                    }
                }
            }
        }
    }
}

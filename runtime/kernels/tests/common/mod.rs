//! Random weights and activations, and a plain way to call a matmul.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod arena;
pub mod reference;

use ck_kernels::dtype::{ALIGN, ActType, DType, GROUP};
use ck_kernels::isa::{Choices, Isa, Matmul};
use ck_kernels::quant::{format, half};

/// Of a program whose steps take either kernel.
pub const CHOICES: Choices = Choices::all_from(8);

/// xorshift64*: reproducible, and no dependency of the benchmark.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in -1..1.
    pub fn f32(&mut self) -> f32 {
        (self.u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.f32()).collect()
    }
}

/// Bytes that start on a cache line.
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

impl Aligned {
    pub fn new(len: usize) -> Self {
        let lines = vec![Line([0; ALIGN]); len.div_ceil(ALIGN)];
        Self { lines, len }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `Line` is bytes without padding.
        let all = unsafe { core::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * ALIGN) };
        &all[..self.len]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `Line` is bytes without padding.
        let all = unsafe { core::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * ALIGN) };
        &mut all[..self.len]
    }

    pub fn ptr(&self) -> *const u8 {
        self.lines.as_ptr().cast()
    }
}

/// Rows in ggml's format: encoded random floats, or random bytes with sane scales where there is no encoder.
pub fn random_rows(dtype: DType, rows: usize, k: usize, rng: &mut Rng) -> Vec<u8> {
    let mut out = vec![0; rows * dtype.row_bytes(k)];
    if k == 0 {
        return out;
    }
    for row in out.chunks_exact_mut(dtype.row_bytes(k)) {
        if format(dtype).encode_row(&rng.floats(k), row) {
            continue;
        }
        row.fill_with(|| rng.u64() as u8);
        format(dtype).tame(row, 0.5);
    }
    out
}

/// A matrix: its rows as ggml has them, and packed.
pub struct Matrix {
    pub dtype: DType,
    pub rows: usize,
    pub k: usize,
    pub ggml: Vec<u8>,
    pub packed: Aligned,
}

impl Matrix {
    pub fn new(dtype: DType, rows: usize, k: usize, ggml: Vec<u8>) -> Self {
        let mut packed = Aligned::new(dtype.packed_bytes(rows, k));
        let group = GROUP * dtype.row_bytes(k);
        for (from, to) in ggml.chunks(group).zip(packed.bytes_mut().chunks_exact_mut(group)) {
            format(dtype).pack_group(from, k, to);
        }
        Self {
            dtype,
            rows,
            k,
            ggml,
            packed,
        }
    }

    pub fn random(dtype: DType, rows: usize, k: usize, rng: &mut Rng) -> Self {
        Self::new(dtype, rows, k, random_rows(dtype, rows, k, rng))
    }

    pub fn row(&self, r: usize) -> Vec<f32> {
        let n = self.dtype.row_bytes(self.k);
        let mut out = vec![0.0; self.k];
        format(self.dtype).decode_row(&self.ggml[r * n..][..n], &mut out);
        out
    }
}

/// Activations as a matmul with weights of some type reads them.
pub struct Activations<'a> {
    pub isa: &'a Isa,
    pub act: ActType,
    pub k: usize,
    pub tokens: usize,
    pub bytes: Aligned,
}

impl<'a> Activations<'a> {
    pub fn new(dtype: DType, k: usize, x: &[f32], isa: &'a Isa) -> Self {
        let act = if dtype.quantised() { ActType::Q8 } else { ActType::F32 };
        let (tokens, stride) = (x.len() / k, act.row_bytes(k));
        let mut bytes = Aligned::new(tokens * stride);
        for (from, to) in x.chunks_exact(k).zip(bytes.bytes_mut().chunks_mut(stride)) {
            if act == ActType::Q8 {
                // SAFETY: `to` is a whole, aligned row.
                unsafe { (isa.quantize_row)(from.as_ptr(), k, to.as_mut_ptr()) };
            } else {
                for (x, b) in from.iter().zip(to.as_chunks_mut().0) {
                    *b = x.to_ne_bytes();
                }
            }
        }
        Self {
            isa,
            act,
            k,
            tokens,
            bytes,
        }
    }

    /// What the row of a token stands for, to a matmul with weights of `dtype`.
    pub fn seen(&self, dtype: DType, t: usize) -> Vec<f64> {
        let row = self.row(t);
        if !rounds(self.isa, dtype) {
            return row;
        }
        row.into_iter().map(|x| f64::from(nearest_bf16(x as f32))).collect()
    }

    /// What the row of a token stands for.
    pub fn row(&self, t: usize) -> Vec<f64> {
        let row = &self.bytes.bytes()[t * self.act.row_bytes(self.k)..];
        let f32_at = |at: usize| f64::from(f32::from_ne_bytes(*row[at..].first_chunk().expect("in the row")));
        match self.act {
            ActType::Q8 => {
                let mut floats = vec![0.0; self.k];
                // SAFETY: a whole row, quantised by the same table, and as many floats.
                unsafe { (self.isa.dequantize_row)(row.as_ptr(), self.k, floats.as_mut_ptr()) };
                floats.into_iter().map(f64::from).collect()
            }
            _ => (0..self.k).map(|i| f32_at(4 * i)).collect(),
        }
    }
}

/// Multiplies `rows` rows from `first_row` (a multiple of 16) with `tokens` tokens from `first_token`; rows of
/// `out_stride` floats, `f32::MAX` where nothing was written.
pub fn matmul(
    isa: &Isa,
    w: &Matrix,
    x: &Activations<'_>,
    rows: core::ops::Range<usize>,
    tokens: core::ops::Range<usize>,
    out_stride: usize,
) -> Vec<f32> {
    matmul_as(&CHOICES, isa, w, x, rows, tokens, out_stride)
}

/// [`matmul`] of a program with other choices.
pub fn matmul_as(
    choices: &Choices,
    isa: &Isa,
    w: &Matrix,
    x: &Activations<'_>,
    rows: core::ops::Range<usize>,
    tokens: core::ops::Range<usize>,
    out_stride: usize,
) -> Vec<f32> {
    assert!(
        rows.start.is_multiple_of(GROUP) && rows.end <= w.rows && tokens.end <= x.tokens && out_stride >= rows.len()
    );
    let mut out = vec![f32::MAX; tokens.len() * out_stride];
    let x_stride = x.act.row_bytes(x.k);
    // SAFETY: the ranges were checked to lie inside the matrix, the activations and `out`.
    unsafe {
        isa.matmul_of(w.dtype, tokens.len(), choices)(&Matmul {
            w: w.packed.ptr().add(rows.start * w.dtype.row_bytes(w.k)),
            k: w.k,
            rows: rows.len(),
            x: x.bytes.ptr().add(tokens.start * x_stride),
            x_stride,
            tokens: tokens.len(),
            out: out.as_mut_ptr(),
            out_stride,
        });
    }
    out
}

/// Whether the tier's matmuls with weights of that type multiply bf16: a matrix unit's do.
pub fn rounds(isa: &Isa, dtype: DType) -> bool {
    isa.few.is_some() && (dtype.quantised() || dtype == DType::BF16)
}

/// Weights as a matmul of the tier multiplies them.
pub fn as_multiplied(isa: &Isa, dtype: DType, w: &[f32]) -> Vec<f32> {
    let round = rounds(isa, dtype);
    w.iter().map(|w| if round { nearest_bf16(*w) } else { *w }).collect()
}

/// Denormals are none to a matrix unit.
fn nearest_bf16(x: f32) -> f32 {
    let near = half::bf16_to_f32(half::f32_to_bf16(x));
    if near.is_subnormal() { 0.0 } else { near }
}

//! Plain computations, and the comparison of a kernel with them for every tier and division of the work.

#![allow(dead_code, reason = "each test binary uses its own part")]

use ck_kernels::dtype::DType;
use ck_kernels::isa::{Isa, supported};
use ck_kernels::ops::*;
use ck_kernels::partition::Axis;

use super::Activations;
use super::arena::{Arena, Call, Ran, assert_close, bits};

pub const THREADS: [usize; 5] = [1, 2, 3, 7, MAX_WORKERS];
pub const TOKENS: Axis = Axis::Tokens { granule: 1 };
pub const COLUMNS: Axis = Axis::Columns { granule: 16 };
pub const EPS: f32 = 1e-5;

/// Runs with every number of threads on every tier, compares `read` with `want`, and its bits with one another.
/// `make` gives the kernel for an axis.
pub fn check(
    arena: &Arena,
    call: Call,
    axes: &[Axis],
    make: &dyn Fn(Axis) -> Box<dyn Kernel + Sync>,
    read: &dyn Fn(&Ran) -> Vec<f32>,
    want: &dyn Fn(&Isa) -> Vec<f32>,
    tolerance: f32,
) {
    for isa in supported() {
        // An input that differs in its last bit may be rounded to another bf16.
        let tolerance = if isa.few.is_some() {
            tolerance.max(1e-3)
        } else {
            tolerance
        };
        let mut first = None;
        for &axis in axes {
            let kernel = make(axis);
            for nth in THREADS {
                let got = read(&arena.run(isa, nth, call, &[kernel.as_ref()]));
                let what = format!("{} {axis:?} by {nth}", isa.name);
                assert_close(&what, &got, &want(isa), tolerance);
                let got = bits(&got);
                assert_eq!(&got, first.get_or_insert_with(|| got.clone()), "{what}: other bits");
            }
        }
    }
}

pub fn rmsnorm(x: &[f32], w: &[f32]) -> Vec<f32> {
    let n = w.len();
    x.chunks(n)
        .flat_map(|row| {
            let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n as f64;
            let factor = 1.0 / (mean + f64::from(EPS)).sqrt();
            row.iter()
                .zip(w)
                .map(move |(v, w)| (f64::from(*v) * factor * f64::from(*w)) as f32)
        })
        .collect()
}

pub fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

pub fn silu_glu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    gate.iter()
        .zip(up)
        .map(|(g, u)| (f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u)) as f32)
        .collect()
}

/// Rows as a matmul with weights of the type sees them.
pub fn seen(dtype: DType, isa: &Isa, x: &[f32], k: usize) -> Vec<f64> {
    let a = Activations::new(dtype, k, x, isa);
    (0..a.tokens).flat_map(|t| a.seen(dtype, t)).collect()
}

pub fn linear(x: &[f64], w: &[f32], k: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let rows = w.len() / k;
    x.chunks(k)
        .flat_map(|x| {
            (0..rows).map(move |r| {
                let dot: f64 = x.iter().zip(&w[r * k..]).map(|(x, w)| x * f64::from(*w)).sum();
                (dot + bias.map_or(0.0, |b| f64::from(b[r]))) as f32
            })
        })
        .collect()
}

/// A rotary table and its operand.
pub fn rope(arena: &mut Arena, head_dim: usize, dims: usize, pairing: Pairing, positions: usize) -> (Rope, Vec<f32>) {
    let mut table = Vec::new();
    for p in 0..positions {
        let angle = |i: usize| p as f64 * 10_000f64.powf(-2.0 * i as f64 / dims as f64);
        table.extend((0..dims / 2).map(|i| angle(i).cos() as f32));
        table.extend((0..dims / 2).map(|i| angle(i).sin() as f32));
    }
    let offset = arena.vector(&table).offset;
    (
        Rope {
            table: offset,
            positions,
            head_dim,
            dims,
            pairing,
        },
        table,
    )
}

pub fn rotate(x: &[f32], cols: usize, pos: usize, rope: &Rope, table: &[f32]) -> Vec<f32> {
    let mut out = x.to_vec();
    let half = rope.dims / 2;
    for (t, row) in out.chunks_mut(cols).enumerate() {
        let row_of = &table[(pos + t) * rope.dims..];
        for head in row.chunks_mut(rope.head_dim) {
            for i in 0..half {
                let (a, b) = match rope.pairing {
                    Pairing::Halves => (i, i + half),
                    Pairing::Interleaved => (2 * i, 2 * i + 1),
                };
                let (x, y, c, s) = (head[a], head[b], row_of[i], row_of[half + i]);
                head[a] = x * c - y * s;
                head[b] = y * c + x * s;
            }
        }
    }
    out
}

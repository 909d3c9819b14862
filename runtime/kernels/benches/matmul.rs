//! Matmul speed of every weight type on every instruction set of this machine:
//! `cargo bench -p ck-kernels --bench matmul [-- ISA [DTYPE]]`.
//!
//! One thread. *decode*: one token, several matrices in turn so that none stays in a cache, GB/s of packed weights
//! beside a plain read of the same memory. *prefill*: 512 tokens, 2 * rows * cols * tokens operations. Best of several.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use ck_kernels::dtype::{DType, GROUP};
use ck_kernels::isa::{Isa, Matmul, supported};
use common::{Activations, Aligned, CHOICES, Matrix, Rng};

/// Outputs, inputs.
const SHAPES: [(usize, usize); 3] = [(2048, 2048), (8192, 2048), (2048, 8192)];
/// Bytes of weights a decode pass goes through.
const STREAM: usize = 192 << 20;
const TOKENS: usize = 512;

/// Seconds of the fastest of several runs.
fn best(runs: usize, mut f: impl FnMut()) -> f64 {
    let time = |()| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    std::iter::repeat_n((), runs).map(time).fold(f64::INFINITY, f64::min)
}

/// Calls the matmul as one of `copies` whole matrices, which lie behind each other.
fn run(isa: &Isa, w: &Matrix, copies: &Aligned, x: &Activations, tokens: usize, copy: usize, out: &mut [f32]) {
    let bytes = w.dtype.packed_bytes(w.rows, w.k);
    assert!((copy + 1) * bytes <= copies.bytes().len() && tokens * w.rows <= out.len() && tokens <= x.tokens);
    // SAFETY: just checked.
    unsafe {
        isa.matmul_of(w.dtype, tokens, &CHOICES)(&Matmul {
            w: copies.ptr().add(copy * bytes),
            k: w.k,
            rows: w.rows,
            x: x.bytes.ptr(),
            x_stride: x.act.row_bytes(x.k),
            tokens,
            out: out.as_mut_ptr(),
            out_stride: w.rows,
        });
    }
}

fn main() {
    let (flags, args): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|a| a.starts_with('-'));
    // `cargo test --all-targets` runs benchmarks too, without this flag.
    if !flags.iter().any(|f| f == "--bench") {
        return;
    }
    let wanted = |i: usize, name: &str| args.get(i).is_none_or(|a| a == name);
    let mut memory = Aligned::new(STREAM);
    memory.bytes_mut().fill(1);
    let read = best(5, || {
        let sum = memory.bytes().as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b));
        std::hint::black_box(sum.fold(0, u64::wrapping_add));
    });
    println!("plain read: {:.1} GB/s", STREAM as f64 / read / 1e9);
    println!(
        "{:8} {:6} {:>11} {:>13} {:>15}",
        "isa", "type", "shape", "decode GB/s", "prefill Gop/s"
    );
    for isa in supported().filter(|i| i.name != "scalar" && wanted(0, i.name)) {
        for dtype in DType::ALL.into_iter().filter(|d| wanted(1, d.name())) {
            for (rows, k) in SHAPES {
                let mut rng = Rng::new(1);
                // One group's worth of random rows, repeated: making more takes longer than measuring.
                let some = common::random_rows(dtype, GROUP, k, &mut rng);
                let w = Matrix::new(dtype, rows, k, some.repeat(rows / GROUP));
                let bytes = w.packed.bytes().len();
                let copies = STREAM / bytes;
                for to in memory.bytes_mut().chunks_exact_mut(bytes) {
                    to.copy_from_slice(w.packed.bytes());
                }
                let x = Activations::new(dtype, k, &rng.floats(TOKENS * k), isa);
                let mut out = vec![0.0; TOKENS * rows];
                let decode = best(8, || {
                    for copy in 0..copies {
                        run(isa, &w, &memory, &x, 1, copy, &mut out);
                    }
                });
                let prefill = best(3, || run(isa, &w, &memory, &x, TOKENS, 0, &mut out));
                let shape = format!("{rows}x{k}");
                let gb = (copies * bytes) as f64 / decode / 1e9;
                let gop = 2e-9 * (rows * k * TOKENS) as f64 / prefill;
                println!("{:8} {:6} {shape:>11} {gb:13.1} {gop:15.0}", isa.name, dtype.name());
            }
        }
    }
}

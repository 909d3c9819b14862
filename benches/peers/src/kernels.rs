//! Matmuls, at the shapes that `ckc bench kernels` measures by default.

use std::fmt::Write;
use std::time::Instant;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};
use serde::Serialize;

use crate::Error;

/// Outputs and inputs of the matrices.
const SHAPES: [(usize, usize); 2] = [(8192, 2048), (2048, 8192)];
/// Types of candle's weights. What candle would hold as bf16 or f16 becomes f32 when it is loaded.
const DTYPES: [(GgmlDType, &str); 5] = [
    (GgmlDType::F32, "f32"),
    (GgmlDType::Q8_0, "q8_0"),
    (GgmlDType::Q4_0, "q4_0"),
    (GgmlDType::Q4K, "q4_k"),
    (GgmlDType::Q6K, "q6_k"),
];
/// Bytes of matrices behind each other: no cache of a core holds them.
const STREAM: usize = 512 << 20;
/// Arithmetic takes its time: so many operations of a sample are enough.
const ENOUGH: usize = 20 << 30;
/// Samples of which the median counts, after one that does not.
const SAMPLES: usize = 7;

/// What `peers kernels` prints.
#[derive(Serialize)]
pub struct Report {
    threads: usize,
    kernels: Vec<Row>,
}

/// A matmul at one shape.
#[derive(Serialize)]
struct Row {
    peer: &'static str,
    dtype: &'static str,
    shape: String,
    tokens: usize,
    microseconds: f64,
    gb_per_s: f64,
    gop_per_s: f64,
}

/// `tokens` rows of `cols` floats, times matrices of `rows` by `cols` that have `bytes` each.
struct Case {
    peer: &'static str,
    dtype: &'static str,
    rows: usize,
    cols: usize,
    bytes: usize,
    tokens: usize,
}

impl Case {
    /// Measures `call`, which gets the number of the matrix, below `copies`: one matrix after the other.
    fn measure(&self, copies: usize, mut call: impl FnMut(usize) -> Result<(), Error>) -> Result<Row, Error> {
        let ops = 2 * self.rows * self.cols * self.tokens;
        let calls = copies.min(1 + ENOUGH / ops);
        let mut samples = Vec::with_capacity(SAMPLES);
        for i in 0..=SAMPLES {
            let begin = Instant::now();
            (0..calls).try_for_each(&mut call)?;
            if i > 0 {
                samples.push(begin.elapsed().as_secs_f64() / calls as f64);
            }
        }
        samples.sort_unstable_by(f64::total_cmp);
        let seconds = samples[SAMPLES / 2];
        Ok(Row {
            peer: self.peer,
            dtype: self.dtype,
            shape: format!("{}x{}", self.rows, self.cols),
            tokens: self.tokens,
            microseconds: (seconds * 1e7).round() / 10.0,
            gb_per_s: giga(self.bytes as f64 / seconds),
            gop_per_s: giga(ops as f64 / seconds),
        })
    }
}

/// To three digits behind the point.
fn giga(x: f64) -> f64 {
    (x / 1e6).round() / 1e3
}

/// Small numbers of both signs, none of them denormal.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 251) as f32 / 251.0 - 0.498).collect()
}

/// Measures every peer at every shape.
pub fn measure(threads: usize, tokens: &[usize]) -> Result<Report, Error> {
    let mut kernels = Vec::new();
    for (rows, cols) in SHAPES {
        gemm(threads, rows, cols, tokens, &mut kernels)?;
    }
    for (dtype, name) in DTYPES {
        for (rows, cols) in SHAPES {
            candle(dtype, name, rows, cols, tokens, &mut kernels)?;
        }
    }
    Ok(Report { threads, kernels })
}

/// The `gemm` crate: row-major activations, and weights with one output a row.
fn gemm(threads: usize, rows: usize, cols: usize, tokens: &[usize], into: &mut Vec<Row>) -> Result<(), Error> {
    let copies = (STREAM / (4 * rows * cols)).max(1);
    let weights = numbers(copies * rows * cols);
    for &tokens in tokens {
        let x = numbers(tokens * cols);
        let mut out = vec![0.0_f32; tokens * rows];
        let case = Case {
            peer: "gemm",
            dtype: "f32",
            rows,
            cols,
            bytes: 4 * rows * cols,
            tokens,
        };
        into.push(case.measure(copies, |copy| {
            let matrix = &weights[copy * rows * cols..][..rows * cols];
            // SAFETY: `out` is `tokens` by `rows`, `x` `tokens` by `cols`, and the matrix, seen as `cols` by `rows`, has
            // steps of 1 and `cols`: every index is inside, and `out` is nobody else's.
            unsafe {
                gemm::gemm(
                    tokens,
                    rows,
                    cols,
                    out.as_mut_ptr(),
                    1,
                    rows as isize,
                    false,
                    x.as_ptr(),
                    1,
                    cols as isize,
                    matrix.as_ptr(),
                    cols as isize,
                    1,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    match threads {
                        1 => gemm::Parallelism::None,
                        n => gemm::Parallelism::Rayon(n),
                    },
                );
            }
            Ok(())
        })?);
    }
    Ok(())
}

/// Candle's matmul by a tensor of a GGUF file. Each call quantises its activations.
fn candle(
    dtype: GgmlDType,
    name: &'static str,
    rows: usize,
    cols: usize,
    tokens: &[usize],
    into: &mut Vec<Row>,
) -> Result<(), Error> {
    let cpu = Device::Cpu;
    let first = QTensor::quantize(&Tensor::from_vec(numbers(rows * cols), (rows, cols), &cpu)?, dtype)?;
    let bytes = first.storage_size_in_bytes();
    let matrices = (0..(STREAM / bytes).max(1))
        .map(|_| {
            let storage = QStorage::from_data(first.data()?, &cpu, dtype)?;
            QMatMul::from_qtensor(QTensor::new(storage, (rows, cols))?)
        })
        .collect::<Result<Vec<_>, _>>()?;
    for &tokens in tokens {
        let x = Tensor::from_vec(numbers(tokens * cols), (tokens, cols), &cpu)?;
        let case = Case {
            peer: "candle",
            dtype: name,
            rows,
            cols,
            bytes,
            tokens,
        };
        into.push(case.measure(matrices.len(), |copy| {
            matrices[copy].forward(&x)?;
            Ok(())
        })?);
    }
    Ok(())
}

impl Report {
    /// As a table.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} threads\n{:<9} {:<5} {:<20} {:>6} {:>11} {:>9} {:>9}\n",
            self.threads, "peer", "type", "shape", "tokens", "us", "GB/s", "GOP/s"
        );
        for row in &self.kernels {
            let _ = writeln!(
                text,
                "{:<9} {:<5} {:<20} {:>6} {:>11.1} {:>9.1} {:>9.1}",
                row.peer, row.dtype, row.shape, row.tokens, row.microseconds, row.gb_per_s, row.gop_per_s
            );
        }
        text
    }
}

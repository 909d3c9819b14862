//! Random weights of the right shapes, for benchmarks and tests.
//!
//! The file is a GGUF v3 with the tensor names of the model description. The numbers come from a generator of our own
//! and integer arithmetic up to the last step, so that a seed means the same bytes on every machine. Types without an
//! encoder are blocks of random bytes with scales that fit.

use std::{
    collections::BTreeSet,
    io::{self, BufWriter, Write},
    path::Path,
};

use ck_kernels::{dtype::DType, quant};
use ck_runtime::hash::xxh64;

use crate::{
    diag::Diagnostic,
    graph::{Graph, OpKind, RopeScaling},
    source::codes,
};

/// Standard deviation of matrices and biases.
const SIGMA: f32 = 0.02;
const ALIGNMENT: u64 = 32;
const FORMAT_VERSION: u32 = 3;
/// GGUF's type of string values.
const STRING: u32 = 8;

/// One tensor of the file.
struct Tensor<'a> {
    name: &'a str,
    rows: usize,
    cols: usize,
    vector: bool,
    dtype: DType,
    /// Norms and rotary factors are ones, everything else is random.
    ones: bool,
}

impl Tensor<'_> {
    fn bytes(&self) -> u64 {
        (self.rows * self.dtype.row_bytes(self.cols)) as u64
    }
}

/// Writes random weights for the model's unfused graph; matrices as `dtype`, or as the description packs them.
/// `progress` is told the bytes that are done, and how many there are. Returns the bytes of the file.
///
/// # Errors
/// A type whose blocks do not fit the rows; whatever goes wrong while writing. Nothing is left
/// behind then.
pub fn synth(
    graph: &Graph,
    out: &Path,
    seed: u64,
    dtype: Option<DType>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, Vec<Diagnostic>> {
    let tensors = tensors(graph, dtype);
    let problems: Vec<Diagnostic> = tensors.iter().filter_map(problem).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    write(graph, &tensors, out, seed, progress).map_err(|e| {
        vec![Diagnostic::new(codes::UNWRITABLE, format!("cannot write: {e}")).in_file(out.display().to_string())]
    })
}

fn problem(t: &Tensor<'_>) -> Option<Diagnostic> {
    let (name, dtype) = (t.name, t.dtype.name());
    if !t.cols.is_multiple_of(t.dtype.block_len()) {
        let message = format!(
            "tensor `{name}` has rows of {}, not a multiple of {dtype}'s block of {}",
            t.cols,
            t.dtype.block_len()
        );
        return Some(Diagnostic::new(codes::BLOCKS, message));
    }
    None
}

fn tensors(graph: &Graph, dtype: Option<DType>) -> Vec<Tensor<'_>> {
    let norms: BTreeSet<u32> = graph
        .ops
        .iter()
        .filter(|op| matches!(op.kind, OpKind::RmsNorm { .. }))
        .map(|op| op.weights[0].0)
        .collect();
    let weights = graph.weights.iter().enumerate().map(|(i, w)| Tensor {
        name: &w.source,
        rows: w.rows,
        cols: w.cols,
        vector: w.vector,
        dtype: if w.vector { DType::F32 } else { dtype.unwrap_or(w.dtype) },
        ones: norms.contains(&(i as u32)),
    });
    let factors = graph.ropes.iter().filter_map(|rope| match &rope.scaling {
        RopeScaling::Factors { source } => {
            let cols = rope.dims / 2;
            Some(Tensor {
                name: source,
                rows: 1,
                cols,
                vector: true,
                dtype: DType::F32,
                ones: true,
            })
        }
        _ => None,
    });
    let mut names = BTreeSet::new();
    weights.chain(factors).filter(|t| names.insert(t.name)).collect()
}

fn write(
    graph: &Graph,
    tensors: &[Tensor<'_>],
    path: &Path,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<u64> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let (file, _pending) = crate::output::unfinished(folder)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let header = header(graph, tensors);
    out.write_all(&header)?;
    let total = tensors.iter().map(Tensor::bytes).sum();
    let (mut done, mut written) = (0, header.len() as u64);
    progress(0, total);
    for tensor in tensors {
        let padding = written.next_multiple_of(ALIGNMENT) - written;
        out.write_all(&[0; ALIGNMENT as usize][..padding as usize])?;
        let mut random = Random::new(seed ^ xxh64(tensor.name.as_bytes()));
        let mut values = vec![1.0f32; tensor.cols];
        let mut row = vec![0; tensor.dtype.row_bytes(tensor.cols)];
        for _ in 0..tensor.rows {
            let format = quant::format(tensor.dtype);
            if format.can_encode() {
                if !tensor.ones {
                    values.fill_with(|| SIGMA * random.normal());
                }
                let encoded = format.encode_row(&values, &mut row);
                debug_assert!(encoded, "it can");
            } else {
                row.fill_with(|| random.next() as u8);
                format.tame(&mut row, SIGMA);
            }
            out.write_all(&row)?;
            done += row.len() as u64;
            progress(done, total);
        }
        written += padding + tensor.bytes();
    }
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .persist(path)
        .map_err(|e| e.error)?;
    Ok(written)
}

/// Everything before the tensor data, padded.
fn header(graph: &Graph, tensors: &[Tensor<'_>]) -> Vec<u8> {
    let pairs = [("general.architecture", "synthetic"), ("general.name", &graph.name)];
    let mut out = Vec::new();
    let string = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.bytes());
    };
    out.extend(crate::source::gguf::MAGIC);
    out.extend(FORMAT_VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        string(&mut out, key);
        out.extend(STRING.to_le_bytes());
        string(&mut out, value);
    }
    let mut offset: u64 = 0;
    for tensor in tensors {
        string(&mut out, tensor.name);
        // Innermost first; a vector has one dimension.
        let dims = [tensor.cols as u64, tensor.rows as u64];
        let dims = &dims[..if tensor.vector { 1 } else { 2 }];
        out.extend((dims.len() as u32).to_le_bytes());
        out.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
        out.extend(tensor.dtype.ggml_id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = (offset + tensor.bytes()).next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Nearly normal, mean 0, variance 1: the sum of eight uniform 16-bit numbers. No logarithm and no cosine, whose
    /// last bits differ between machines.
    fn normal(&mut self) -> f32 {
        const MEAN: i32 = 8 * 65_535 / 2;
        // The variance of one is (65536^2 - 1) / 12.
        const SCALE: f32 = 1.0 / 53_509.92;
        let lanes = |word: u64| (0..4).map(move |i| (word >> (16 * i) & 0xFFFF) as i32).sum::<i32>();
        (lanes(self.next()) + lanes(self.next()) - MEAN) as f32 * SCALE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{graph::Weight, source::Source};

    fn graph() -> Graph {
        let weight = |source: &str, rows, vector| Weight {
            source: source.into(),
            rows,
            cols: 64,
            vector,
            dtype: DType::Q8_0,
        };
        Graph {
            name: "g".into(),
            weights: vec![weight("m", 48, false), weight("b", 1, true)],
            ..Graph::default()
        }
    }

    fn made(seed: u64, dtype: Option<DType>) -> (Source, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.gguf");
        let bytes = synth(&graph(), &path, seed, dtype, &mut |_, _| {}).unwrap();
        let file = std::fs::read(&path).unwrap();
        assert_eq!(file.len() as u64, bytes);
        (Source::open(&path).unwrap(), file)
    }

    #[test]
    fn reads_back_with_shapes_and_types() {
        let (source, _) = made(1, None);
        let tensors: Vec<_> = source
            .tensors()
            .iter()
            .map(|t| (t.name.as_str(), t.dtype.name(), t.shape.clone()))
            .collect();
        assert_eq!(tensors, [("m", "q8_0", vec![48, 64]), ("b", "f32", vec![64])]);
    }

    #[test]
    fn seeds_decide_the_bytes() {
        assert_eq!(made(1, None).1, made(1, None).1);
        assert_ne!(made(1, None).1, made(2, None).1);
    }

    #[test]
    fn values_are_nearly_normal() {
        let (source, _) = made(7, Some(DType::F32));
        let mut raw = Vec::new();
        source.read_rows("m", 0..48, &mut raw).unwrap();
        let values: Vec<f64> = raw
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let sigma = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!(
            mean.abs() < 0.002 && (sigma - 0.02).abs() < 0.001,
            "mean {mean}, sigma {sigma}"
        );
    }

    /// Every type, those without an encoder too.
    #[test]
    fn all_types_have_the_same_spread() {
        let mut graph = graph();
        graph.weights[0].cols = 512;
        for dtype in DType::ALL {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("w.gguf");
            synth(&graph, &path, 5, Some(dtype), &mut |_, _| {}).unwrap();
            let source = Source::open(&path).unwrap();
            assert_eq!(source.tensor("m").unwrap().dtype.known(), Some(dtype));
            let mut raw = Vec::new();
            source.read_rows("m", 0..48, &mut raw).unwrap();
            let mut squares = 0.0;
            let mut row = vec![0.0; 512];
            for bytes in raw.chunks_exact(dtype.row_bytes(512)) {
                quant::format(dtype).decode_row(bytes, &mut row);
                squares += row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            }
            let sigma = (squares / (48.0 * 512.0)).sqrt();
            assert!((sigma / 0.02 - 1.0).abs() < 0.1, "{}: {sigma}", dtype.name());
        }
    }

    #[test]
    fn rows_that_do_not_fill_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.gguf");
        let problems = synth(&graph(), &path, 1, Some(DType::Q4K), &mut |_, _| {}).unwrap_err();
        assert!(problems[0].message.contains("block of 256"), "{problems:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

//! The weight formats against ggml's own Python package, and packing against decoding.
//!
//! `data/gguf.bin` was made with `gguf` 0.19's `gguf.quants`, little-endian throughout: for each type in the order of
//! `DType::ALL`, 512 weights of random bytes and what `dequantize` makes of them; then 512 floats (normal, a random
//! power of two per 32, some blocks constant) and what `quantize` makes of them as each type that has
//! an encoder.

mod common;

use ck_kernels::dtype::{DType, GROUP};
use ck_kernels::quant::{FORMATS, format};
use common::{Matrix, Rng};
use proptest::prelude::*;

const N: usize = 512;

/// The golden file, read front to back.
struct Golden(&'static [u8]);

impl Golden {
    fn open() -> Self {
        Self(include_bytes!("data/gguf.bin"))
    }

    fn bytes(&mut self, n: usize) -> &'static [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        self.bytes(4 * n)
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    }
}

#[test]
fn decodes_and_encodes_as_ggml_does() {
    let mut golden = Golden::open();
    for f in &FORMATS {
        let row = golden.bytes(f.dtype().row_bytes(N));
        let want = golden.floats(N);
        let mut got = vec![0.0; N];
        f.decode_row(row, &mut got);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
            assert!(same, "{} {i}: {got} for {want}", f.dtype().name());
        }
    }
    let x = golden.floats(N);
    for dtype in [
        DType::F16,
        DType::BF16,
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
    ] {
        let want = golden.bytes(dtype.row_bytes(N));
        let mut got = vec![0; want.len()];
        assert!(format(dtype).encode_row(&x, &mut got));
        assert_eq!(got, want, "{}", dtype.name());
    }
    assert!(golden.0.is_empty());
}

#[test]
fn formats_without_an_encoder_say_so() {
    for dtype in [DType::Q4K, DType::Q5K, DType::Q6K] {
        assert!(!format(dtype).can_encode());
        assert!(!format(dtype).encode_row(&[1.0; 256], &mut vec![0; dtype.block_bytes()]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn unpacking_gives_the_bits_of_decoding(d in 0..DType::ALL.len(), rows in 1..=GROUP, n in 1..9usize, seed in any::<u64>()) {
        let dtype = DType::ALL[d];
        let k = n * dtype.block_len();
        let mut rng = Rng::new(seed);
        let bytes = (0..rows * dtype.row_bytes(k)).map(|_| rng.u64() as u8).collect();
        let w = Matrix::new(dtype, rows, k, bytes);
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let mut got = vec![f32::NAN; k];
        for r in 0..GROUP {
            format(dtype).unpack_row(w.packed.bytes(), r, &mut got);
            if r < rows {
                prop_assert_eq!(bits(&got), bits(&w.row(r)));
            } else {
                prop_assert!(got.iter().all(|v| *v == 0.0), "row {} is not there", r);
            }
        }
    }

    #[test]
    fn encoding_stays_within_half_a_step(blocks in 1..5usize, seed in any::<u64>()) {
        let x = Rng::new(seed).floats(32 * blocks);
        for (dtype, steps) in [
            (DType::Q8_0, 127.0),
            (DType::Q4_0, 8.0),
            (DType::Q4_1, 7.5),
            (DType::Q5_0, 16.0),
            (DType::Q5_1, 15.5),
        ] {
            let mut row = vec![0; dtype.row_bytes(x.len())];
            prop_assert!(format(dtype).encode_row(&x, &mut row));
            let mut back = vec![0.0; x.len()];
            format(dtype).decode_row(&row, &mut back);
            for (x, back) in x.as_chunks::<32>().0.iter().zip(back.as_chunks::<32>().0) {
                let step = x.iter().fold(0f32, |m, x| m.max(x.abs())) / steps;
                for (x, back) in x.iter().zip(back) {
                    // The scale is a half: 2^-11 off. Four bits have no +8, five no +16: the far end may be a whole
                    // step off.
                    let slack = if matches!(dtype, DType::Q4_0 | DType::Q5_0) { 1.02 } else { 0.57 };
                    prop_assert!((x - back).abs() <= slack * step);
                }
            }
        }
    }
}

/// Blocks of random bytes become weights of the size that was asked for.
#[test]
fn random_blocks_are_tamed() {
    const SIGMA: f64 = 0.02;
    for dtype in DType::ALL.into_iter().filter(|d| d.quantised()) {
        let n = 64 * 1024;
        let mut rng = Rng::new(9);
        let mut row: Vec<u8> = (0..dtype.row_bytes(n)).map(|_| rng.u64() as u8).collect();
        format(dtype).tame(&mut row, SIGMA as f32);
        let mut x = vec![0.0; n];
        format(dtype).decode_row(&row, &mut x);
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
        let sigma = (x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        assert!(
            mean.abs() < 0.15 * SIGMA && (sigma / SIGMA - 1.0).abs() < 0.1,
            "{}: {mean} {sigma}",
            dtype.name()
        );
    }
}

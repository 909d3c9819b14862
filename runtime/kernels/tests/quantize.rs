//! Activations to Q8 rows.

mod common;

use ck_kernels::dtype::{ActType, DType, Q8};
use ck_kernels::isa::{Isa, by_name, supported};
use common::{Activations, Rng};
use proptest::prelude::*;

/// The tiers that quantise to bytes.
fn to_bytes() -> impl Iterator<Item = &'static Isa> {
    supported().filter(|isa| isa.few.is_none())
}

/// Those that round to bf16, for a matrix unit.
fn to_bf16() -> impl Iterator<Item = &'static Isa> {
    supported().filter(|isa| isa.few.is_some())
}

fn quantize(isa: &Isa, x: &[f32]) -> Vec<u8> {
    let rows = Activations::new(DType::Q8_0, x.len(), x, isa);
    rows.bytes.bytes()[..Q8 { cols: x.len() }.bytes()].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_instruction_set_gives_the_same_bytes(blocks in 1..9usize, seed in any::<u64>(), exp in -44..38i32) {
        let mut rng = Rng::new(seed);
        let scale = 10f32.powi(exp);
        let mut x: Vec<f32> = rng.floats(32 * blocks).iter().map(|x| x * scale).collect();
        // Values half way between two whole numbers.
        for x in x.iter_mut().take(16) {
            *x = (*x / scale * 32_000.0).trunc() + 0.5;
        }
        x[31] = 32_512.0;
        let want = quantize(by_name("scalar").unwrap(), &x);
        for isa in to_bytes() {
            prop_assert_eq!(&quantize(isa, &x), &want, "{}", isa.name);
        }
    }
}

#[test]
fn bytes_scales_and_sums_are_what_the_format_says() {
    let mut x = vec![0.0; 96];
    for (i, x) in x[..32].iter_mut().enumerate() {
        *x = i as f32 * 2.0 - 31.0;
    }
    x[64] = -4.0;
    for isa in to_bytes() {
        let row = quantize(isa, &x);
        assert!(row.len() <= ActType::Q8.row_bytes(96));
        let word = |at: usize| <[u8; 4]>::try_from(&row[at..at + 4]).unwrap();
        let scales = [0, 1, 2].map(|b| f32::from_ne_bytes(word(192 + 4 * b)));
        assert_eq!(scales, [31.0 / 32_512.0, 0.0, 4.0 / 32_512.0]);
        let whole = |b: usize, i: usize| {
            let at = |part: usize| i32::from(row[64 * b + 32 * part + i] as i8);
            255 * at(0) + at(1)
        };
        assert_eq!(
            [whole(0, 0), whole(0, 31), whole(1, 0), whole(2, 0)],
            [-32_512, 32_512, 0, -32_512]
        );
        // 29 / 31 of 32512, rounded.
        assert_eq!(whole(0, 30), 30_414);
        for b in 0..3 {
            let sum: i32 = (0..32).map(|i| whole(b, i)).sum();
            assert_eq!(i32::from_ne_bytes(word(204 + 4 * b)), sum);
        }
    }
}

#[test]
fn fifteen_bits_and_a_sign_are_what_a_block_keeps() {
    for isa in to_bytes() {
        let x = Rng::new(7).floats(256);
        let rows = Activations::new(DType::Q8_0, x.len(), &x, isa);
        for (block, got) in x.chunks(32).zip(rows.row(0).chunks(32)) {
            let most = block.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (x, got) in block.iter().zip(got) {
                assert!(
                    (f64::from(*x) - got).abs() <= f64::from(most) / 64_000.0,
                    "{}: {x} {got}",
                    isa.name
                );
            }
        }
    }
}

#[test]
fn what_is_not_a_number_is_not_swallowed() {
    for isa in to_bytes() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..32 {
                let mut x = [1.0; 64];
                x[at] = bad;
                let row = quantize(isa, &x);
                let scale = f32::from_ne_bytes(row[128..132].try_into().unwrap());
                assert_eq!(scale.is_nan(), bad.is_nan(), "{} {bad} at {at}", isa.name);
                assert!(!scale.is_finite());
                assert!(row[..64].iter().all(|q| *q == 0) && row[64..128].iter().all(|q| *q == 127));
            }
        }
    }
}

#[test]
fn for_tiles_every_element_is_rounded_once() {
    for isa in to_bf16() {
        let mut x = Rng::new(9).floats(256);
        // Ties: to even.
        (x[3], x[4]) = (1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0);
        let rows = Activations::new(DType::Q8_0, x.len(), &x, isa);
        let got = rows.row(0);
        assert_eq!((got[3], got[4]), (1.0, 1.0 + 4.0 / 256.0));
        for (x, got) in x.iter().zip(&got) {
            assert!((f64::from(*x) - got).abs() <= f64::from(x.abs()) / 256.0, "{x} {got}");
        }
        // Nobody asks for scales and sums.
        assert!(
            rows.bytes.bytes()[2 * x.len()..][..8 * x.len() / 32]
                .iter()
                .all(|byte| *byte == 0)
        );
    }
}

#[test]
fn for_tiles_what_is_not_a_number_stays() {
    for isa in to_bf16() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..32 {
                let mut x = [1.0; 64];
                x[at] = bad;
                let rows = Activations::new(DType::Q8_0, 64, &x, isa);
                let got = rows.row(0)[at];
                assert!(got.is_nan() == bad.is_nan() && !got.is_finite(), "{bad} at {at}");
            }
        }
    }
}

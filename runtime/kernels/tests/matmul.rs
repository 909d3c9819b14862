//! Every weight type on every instruction set of this machine.

mod common;

use ck_kernels::dtype::DType;
use ck_kernels::isa::{Choices, Isa, supported};
use ck_kernels::quant::format;
use common::{Activations, Matrix, Rng, as_multiplied, matmul, matmul_as};
use proptest::prelude::*;

/// Shapes with cut groups, cut token tiles and, for floats, any K.
fn shapes() -> impl Strategy<Value = (DType, usize, usize, usize, usize, u64)> {
    (
        0..DType::ALL.len(),
        1..90usize,
        1..400usize,
        1..40usize,
        0..5usize,
        any::<u64>(),
    )
        .prop_map(|(d, rows, k, tokens, pad, seed)| {
            let dtype = DType::ALL[d];
            let k = if dtype.quantised() {
                k.div_ceil(100) * dtype.block_len()
            } else {
                k
            };
            (dtype, rows, k, tokens, pad, seed)
        })
}

/// Compares with a sum in f64 of the values that weights and activations stand for.
fn check(isa: &Isa, w: &Matrix, x: &Activations<'_>, out: &[f32], out_stride: usize) {
    for t in 0..x.tokens {
        let xs = x.seen(w.dtype, t);
        for r in 0..out_stride {
            let got = out[t * out_stride + r];
            if r >= w.rows {
                assert_eq!(got, f32::MAX, "{} wrote beyond row {}", isa.name, w.rows);
                continue;
            }
            let (mut want, mut magnitude) = (0.0, 0.0);
            for (w, x) in as_multiplied(isa, w.dtype, &w.row(r)).into_iter().zip(&xs) {
                want += f64::from(w) * x;
                magnitude += (f64::from(w) * x).abs();
            }
            // Two sums that are larger than the products themselves.
            let shifted = matches!(w.dtype, DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K);
            let slack = if shifted { 64.0 } else { 8.0 };
            let bound = slack * magnitude.max(1e-3) * f64::from(f32::EPSILON) * (w.k as f64).sqrt();
            assert!(
                (f64::from(got) - want).abs() <= bound,
                "{} {} {}x{} token {t} row {r}: {got} for {want} +- {bound}",
                isa.name,
                w.dtype.name(),
                w.rows,
                w.k,
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_double_precision((dtype, rows, k, tokens, pad, seed) in shapes()) {
        let mut rng = Rng::new(seed);
        let w = Matrix::random(dtype, rows, k, &mut rng);
        let xs = rng.floats(tokens * k);
        for isa in supported() {
            let x = Activations::new(dtype, k, &xs, isa);
            let out = matmul(isa, &w, &x, 0..rows, 0..tokens, rows + pad);
            check(isa, &w, &x, &out, rows + pad);
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_tiling((dtype, rows, k, tokens, pad, seed) in shapes(), cut in any::<(u16, u16)>()) {
        let mut rng = Rng::new(seed);
        let w = Matrix::random(dtype, rows, k, &mut rng);
        let xs = rng.floats(tokens * k);
        for isa in supported() {
            let x = Activations::new(dtype, k, &xs, isa);
            let whole = matmul(isa, &w, &x, 0..rows, 0..tokens, rows);
            let row_cut = usize::from(cut.0) % (rows.div_ceil(16)) * 16;
            let token_cut = usize::from(cut.1) % tokens;
            let cuts = [(0..row_cut, 0..token_cut), (row_cut..rows, 0..token_cut), (0..row_cut, token_cut..tokens),
                (row_cut..rows, token_cut..tokens)];
            for (rs, ts) in cuts {
                if rs.is_empty() || ts.is_empty() {
                    continue;
                }
                let stride = rs.len() + pad;
                let part = matmul(isa, &w, &x, rs.clone(), ts.clone(), stride);
                for (i, t) in ts.clone().enumerate() {
                    let got = part[i * stride..][..rs.len()].iter().map(|v| v.to_bits());
                    prop_assert!(whole[t * rows..][rs.clone()].iter().map(|v| v.to_bits()).eq(got));
                }
                // Whatever a program chose.
                for choices in [1, usize::MAX].map(Choices::all_from) {
                    let other = matmul_as(&choices, isa, &w, &x, rs.clone(), ts.clone(), stride);
                    prop_assert!(other.iter().map(|v| v.to_bits()).eq(part.iter().map(|v| v.to_bits())));
                }
            }
        }
    }
}

/// The SIMD tiers round at the same places: a model gives the same tokens on either. A matrix unit adds in its own order.
#[test]
fn vector_tiers_agree_to_the_bit() {
    let tiers: Vec<_> = supported().filter(|i| i.name != "scalar" && i.few.is_none()).collect();
    for dtype in DType::ALL {
        for (rows, k, tokens) in [(37, 512, 11), (16, 1_280, 1)] {
            let mut rng = Rng::new(rows as u64);
            let w = Matrix::random(dtype, rows, k, &mut rng);
            let xs = rng.floats(tokens * k);
            let mut results = tiers.iter().map(|isa| {
                let x = Activations::new(dtype, k, &xs, isa);
                let out = matmul(isa, &w, &x, 0..rows, 0..tokens, rows);
                out.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            });
            if let Some(first) = results.next() {
                assert!(results.all(|r| r == first), "{}", dtype.name());
            }
        }
    }
}

/// The emulation of a matrix unit is no approximation.
#[test]
fn a_matrix_unit_and_its_emulation_agree_to_the_bit() {
    let find = |name| supported().find(|i| i.name == name);
    let (Some(unit), Some(emulation)) = (find("amx"), find("amx-emulated")) else {
        println!("not run: this machine has no matrix unit");
        return;
    };
    for dtype in DType::ALL {
        for (rows, k, tokens) in [
            (37, 512usize, 11),
            (16, 1_280, 1),
            (80, 768, 70),
            (560, 768, 9),
            (16, 256, 300),
            (48, 576, 260),
            (70, 896, 33),
        ] {
            if !k.is_multiple_of(dtype.block_len()) {
                continue;
            }
            let mut rng = Rng::new(rows as u64);
            let w = Matrix::random(dtype, rows, k, &mut rng);
            let xs = rng.floats(tokens * k);
            let [got, want] = [unit, emulation].map(|isa| {
                let x = Activations::new(dtype, k, &xs, isa);
                let out = matmul(isa, &w, &x, 0..rows, 0..tokens, rows);
                check(isa, &w, &x, &out, rows);
                out.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            });
            assert!(got == want, "{} {rows}x{k}, {tokens} tokens", dtype.name());
        }
    }
}

/// K beyond whatever a tier stages at once, panels beyond what it keeps in cache.
#[test]
fn long_rows_and_many_of_them() {
    for isa in supported() {
        for dtype in DType::ALL {
            for (rows, k, tokens) in [(20, 17_920, 1), (20, 9_472, 3), (40, 2_304, 19), (1200, 1_280, 9)] {
                if isa.name == "scalar" && rows > 1000 {
                    continue;
                }
                let mut rng = Rng::new(k as u64);
                let w = Matrix::random(dtype, rows, k, &mut rng);
                let x = Activations::new(dtype, k, &rng.floats(tokens * k), isa);
                let out = matmul(isa, &w, &x, 0..rows, 0..tokens, rows);
                check(isa, &w, &x, &out, rows);
                for t in 0..tokens {
                    let one = matmul(isa, &w, &x, 0..rows, t..t + 1, rows);
                    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert_eq!(
                        bits(&one),
                        bits(&out[t * rows..][..rows]),
                        "{} {}",
                        isa.name,
                        dtype.name()
                    );
                }
            }
        }
    }
}

/// The largest sums the integer parts can meet: every weight byte the same extreme, every activation +-127.
#[test]
fn extremes_do_not_saturate() {
    let k = 512;
    for isa in supported() {
        for dtype in DType::ALL.into_iter().filter(|d| d.quantised()) {
            for fill in [0x00, 0x0f, 0x7f, 0x80, 0xf0, 0xff, 0x81] {
                let mut rows = vec![fill; 16 * dtype.row_bytes(k)];
                for block in rows.chunks_exact_mut(dtype.block_bytes()) {
                    for at in format(dtype).halves() {
                        block[at..at + 2].copy_from_slice(&0x3c00u16.to_le_bytes());
                    }
                }
                let w = Matrix::new(dtype, 16, k, rows);
                let patterns: [fn(usize) -> f32; 3] =
                    [|_| 127.0, |_| -127.0, |i| if i % 2 == 0 { 127.0 } else { -127.0 }];
                for pattern in patterns {
                    // Of one token, the kernel for few of them; of nine, that for many.
                    for tokens in [1, 9] {
                        let x = Activations::new(dtype, k, &(0..tokens * k).map(pattern).collect::<Vec<_>>(), isa);
                        let out = matmul(isa, &w, &x, 0..16, 0..tokens, 16);
                        check(isa, &w, &x, &out, 16);
                    }
                }
            }
        }
    }
}

//! The scalar functions against `std`, and every tier's row primitives against the scalar ones.

mod common;

use ck_kernels::isa::scalar::SCALAR;
use ck_kernels::isa::{Isa, supported};
use ck_kernels::math;
use ck_kernels::ops::Gate;
use common::arena::{assert_close, bits};
use proptest::prelude::*;

/// Distance in units of the last place of `want`.
fn ulps(got: f32, want: f64) -> f64 {
    let nearest = want as f32;
    if got == nearest || (got.is_nan() && want.is_nan()) {
        return 0.0;
    }
    let place = f64::from(nearest.abs().max(f32::MIN_POSITIVE)).log2().floor() - 23.0;
    (f64::from(got) - want).abs() / place.exp2()
}

fn worst(name: &str, limit: f64, inputs: impl Iterator<Item = f32>, got: fn(f32) -> f32, want: fn(f64) -> f64) {
    for x in inputs {
        let error = ulps(got(x), want(f64::from(x)));
        assert!(error <= limit, "{name}({x}) = {}, {error} ulp off", got(x));
    }
}

fn grid(lo: f32, hi: f32) -> impl Iterator<Item = f32> {
    (0..=200_000).map(move |i| lo + (hi - lo) * (i as f32 / 200_000.0))
}

/// Maclaurin series, and the continued fraction of `erfc` by Lentz where the series loses digits.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 3.0 {
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..60).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (a + f));
    (1.0 - (-a * a).exp() / (a + fraction) / std::f64::consts::PI.sqrt()).copysign(x)
}

#[test]
fn functions_are_close_to_std() {
    worst("exp", 2.0, grid(-87.0, 88.7), math::exp, f64::exp);
    worst("exp", 2.0, grid(-104.5, -87.0), math::exp, f64::exp);
    worst("tanh", 2.0, grid(-12.0, 12.0), math::tanh, f64::tanh);
    worst("tanh", 2.0, grid(-1e-3, 1e-3), math::tanh, f64::tanh);
    worst("erf", 3.0, grid(-6.0, 6.0), math::erf, erf);
    worst("sqrt", 0.5, grid(0.0, 1e4), math::sqrt, f64::sqrt);
    worst(
        "sqrt",
        0.5,
        (0..2000).map(|i| f32::from_bits(i * 1_060_001)),
        math::sqrt,
        f64::sqrt,
    );
    worst(
        "ln",
        0.501,
        (1..2000).map(|i| f32::from_bits(i * 1_060_001)),
        math::ln,
        f64::ln,
    );
    worst("sigmoid", 4.0, grid(-80.0, 80.0), math::sigmoid, |x| {
        1.0 / (1.0 + (-x).exp())
    });
}

#[test]
fn functions_at_their_ends() {
    assert_eq!(math::exp(f32::NEG_INFINITY), 0.0);
    assert_eq!(math::exp(f32::INFINITY), f32::INFINITY);
    assert_eq!(math::exp(f32::MAX), f32::INFINITY);
    assert_eq!(math::exp(0.0), 1.0);
    assert!(math::exp(f32::NAN).is_nan());
    assert_eq!(math::tanh(f32::INFINITY), 1.0);
    assert_eq!(math::tanh(f32::NEG_INFINITY), -1.0);
    assert!(math::tanh(f32::NAN).is_nan());
    assert_eq!(math::erf(f32::INFINITY), 1.0);
    assert_eq!(math::erf(f32::NEG_INFINITY), -1.0);
    assert!(math::erf(f32::NAN).is_nan());
    assert_eq!(math::ln(0.0), f32::NEG_INFINITY);
    assert!(math::ln(-1.0).is_nan() && math::sqrt(-1.0).is_nan());
    assert_eq!(math::sqrt(f32::INFINITY), f32::INFINITY);
    assert_eq!(math::silu(-1e4), 0.0);
    assert_eq!(math::gelu_tanh(-1e4), 0.0);
}

fn glu(isa: &Isa, kind: Gate, gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut out = gate.to_vec();
    // SAFETY: all have the same length; the output may be the gate.
    unsafe { (isa.glu_row)(kind, out.as_ptr(), up.as_ptr(), gate.len(), out.as_mut_ptr()) };
    out
}

proptest! {
    #[test]
    fn rows_agree_with_scalar(n in 1usize..200, seed: u64, factor in -2.0f32..2.0, spread in 0.1f32..120.0) {
        let mut rng = common::Rng::new(seed);
        let a: Vec<f32> = rng.floats(n).iter().map(|x| x * spread).collect();
        let b = rng.floats(n);
        for isa in supported() {
            // SAFETY: all rows have `n` elements.
            unsafe {
                let (got, want) = ((isa.sum_squares)(a.as_ptr(), n), (SCALAR.sum_squares)(a.as_ptr(), n));
                prop_assert!((got - want).abs() <= 1e-5 * want, "{}: {got} {want}", isa.name);
            }
            let [mut sum, mut scaled, mut want_sum, mut want_scaled] = [const { Vec::new() }; 4].map(|mut v: Vec<f32>| { v.resize(n, 7.0); v });
            // SAFETY: all rows have `n` elements.
            unsafe {
                (isa.add_row)(a.as_ptr(), b.as_ptr(), n, sum.as_mut_ptr());
                (SCALAR.add_row)(a.as_ptr(), b.as_ptr(), n, want_sum.as_mut_ptr());
                (isa.scale_row)(a.as_ptr(), factor, b.as_ptr(), n, scaled.as_mut_ptr());
                (SCALAR.scale_row)(a.as_ptr(), factor, b.as_ptr(), n, want_scaled.as_mut_ptr());
            }
            prop_assert_eq!(bits(&sum), bits(&want_sum));
            prop_assert_eq!(bits(&scaled), bits(&want_scaled));
            for kind in [Gate::Silu, Gate::GeluTanh] {
                assert_close(isa.name, &glu(isa, kind, &a, &b), &glu(&SCALAR, kind, &a, &b), 2e-6);
            }
        }
    }

    #[test]
    fn halves_are_the_same_bits(words in prop::collection::vec(any::<u32>(), 1..70)) {
        let x: Vec<f32> = words.into_iter().map(f32::from_bits).collect();
        let mut want = vec![0u16; x.len()];
        // SAFETY: both have the same length.
        unsafe { (SCALAR.to_f16)(x.as_ptr(), x.len(), want.as_mut_ptr()) };
        for isa in supported() {
            let mut got = vec![0u16; x.len()];
            // SAFETY: both have the same length.
            unsafe { (isa.to_f16)(x.as_ptr(), x.len(), got.as_mut_ptr()) };
            prop_assert_eq!(&got, &want);
        }
    }
}

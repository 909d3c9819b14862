//! How much two tensors differ, and how much they may.

use ck_kernels::dtype::{ActType, DType};

use crate::graph::Graph;

/// The difference of a tensor from what it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The largest absolute difference; infinite where only one is a number.
    pub max_abs: f64,
    /// Euclidean length of the difference over that of what should be.
    pub relative: f64,
    /// The largest magnitude of what should be.
    pub magnitude: f64,
}

impl Difference {
    /// Compares; both have the same length.
    pub fn of(got: &[f32], want: &[f32]) -> Difference {
        assert_eq!(got.len(), want.len(), "tensors of one name have one shape");
        let (mut max_abs, mut magnitude) = (0.0f64, 0.0f64);
        let (mut error, mut length) = (0.0f64, 0.0f64);
        for (&got, &want) in got.iter().zip(want) {
            let (got, want) = (f64::from(got), f64::from(want));
            let apart = (got - want).abs();
            let apart = if apart.is_nan() { f64::INFINITY } else { apart };
            max_abs = max_abs.max(apart);
            magnitude = magnitude.max(want.abs());
            error += apart * apart;
            length += want * want;
        }
        let relative = if error == 0.0 { 0.0 } else { (error / length).sqrt() };
        Difference {
            max_abs,
            relative,
            magnitude,
        }
    }
}

/// How much a program may differ from the interpreter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Largest absolute difference, where values are at most 1; larger ones may differ by that much relative to the
    /// largest.
    Absolute(f64),
    /// Relative Euclidean length.
    Relative(f64),
}

/// Weights are floats: what is left is the order of f32 sums.
const FLOAT: f64 = 2e-4;

/// Keys and values are rounded to f16, each by 2^-11 of itself at most: what is linear in them is off by that much, and
/// the softmax multiplies the error of a score by the score. Four times that covers both, over the layers of a model.
const HALF_CACHE: f64 = 4.0 / 2048.0;

/// Activations are rounded in front of quantised weights, by 2^-16 of a block's largest; with an f16 cache, whose rounding
/// is larger, a model of 16 layers with random weights is off by 1.3e-3 in its worst tensor.
const QUANTISED: f64 = 5e-3;

/// For a matrix unit they and the weights are rounded to bf16, by 2^-8 of themselves at most: the same model is off by 2.4e-2.
const TILES: f64 = 4e-2;

impl Tolerance {
    /// The tolerance of a model's program, by what it rounds; `tiles` if a matrix unit does.
    pub fn of(graph: &Graph, tiles: bool) -> Tolerance {
        let matrices = || graph.weights.iter().filter(|w| !w.vector);
        if tiles && matrices().any(|w| w.dtype.quantised() || w.dtype == DType::BF16) {
            Tolerance::Relative(TILES)
        } else if matrices().any(|w| w.dtype.quantised()) {
            Tolerance::Relative(QUANTISED)
        } else if graph.caches.iter().any(|c| c.act == ActType::F16) {
            Tolerance::Relative(HALF_CACHE)
        } else {
            Tolerance::Absolute(FLOAT)
        }
    }

    /// Whether a difference is within it.
    pub fn allows(self, difference: &Difference) -> bool {
        match self {
            Tolerance::Absolute(limit) => {
                difference.max_abs.is_finite() && difference.max_abs <= limit * difference.magnitude.max(1.0)
            }
            Tolerance::Relative(limit) => difference.relative <= limit,
        }
    }
}

impl std::fmt::Display for Tolerance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Tolerance::Absolute(limit) => write!(f, "{limit:.1e} absolute, times the largest value if that is above 1"),
            Tolerance::Relative(limit) => write!(f, "{limit:.1e} relative L2"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Difference, Tolerance};

    #[test]
    fn measures() {
        let d = Difference::of(&[3.0, 4.5], &[3.0, 4.0]);
        assert_eq!((d.max_abs, d.relative, d.magnitude), (0.5, 0.1, 4.0));
        assert!(Tolerance::Absolute(0.125).allows(&d) && !Tolerance::Absolute(0.124).allows(&d));
        assert!(Tolerance::Relative(0.1).allows(&d) && !Tolerance::Relative(0.099).allows(&d));
    }

    #[test]
    fn not_a_number_is_never_allowed() {
        for (got, want) in [
            ([f32::NAN], [0.0]),
            ([0.0], [f32::NAN]),
            ([f32::INFINITY], [f32::INFINITY]),
        ] {
            let d = Difference::of(&got, &want);
            assert!(!Tolerance::Absolute(1.0).allows(&d), "{got:?} {want:?}");
            assert!(!Tolerance::Relative(1.0).allows(&d), "{got:?} {want:?}");
        }
    }

    #[test]
    fn zeros_are_equal() {
        let d = Difference::of(&[0.0, -0.0], &[0.0, 0.0]);
        assert_eq!((d.max_abs, d.relative), (0.0, 0.0));
    }
}

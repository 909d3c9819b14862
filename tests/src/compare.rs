//! Comparing rows of floats.

/// How two runs of floats differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The largest absolute difference; infinite if a value is not a number in only one of them.
    pub max_abs: f32,
    /// The first index whose difference is over the tolerance.
    pub first_bad: Option<usize>,
}

impl Difference {
    /// The difference of two runs of the same length.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn of(got: &[f32], want: &[f32], tolerance: f32) -> Difference {
        assert_eq!(got.len(), want.len(), "different lengths");
        let mut found = Difference {
            max_abs: 0.0,
            first_bad: None,
        };
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let same = got.to_bits() == want.to_bits();
            let error = match (got - want).abs() {
                _ if same => 0.0,
                error if error.is_nan() => f32::INFINITY,
                error => error,
            };
            found.max_abs = found.max_abs.max(error);
            if error > tolerance && found.first_bad.is_none() {
                found.first_bad = Some(i);
            }
        }
        found
    }
}

/// Checks that two runs agree within an absolute tolerance; gives the largest difference.
///
/// # Panics
/// If they do not, with the first bad index and both values.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f32], tolerance: f32) -> f32 {
    assert_eq!(got.len(), want.len(), "{what}: different lengths");
    let difference = Difference::of(got, want, tolerance);
    if let Some(i) = difference.first_bad {
        panic!(
            "{what}: first bad index {i} of {}: got {}, want {}; max abs error {} over tolerance {tolerance}",
            got.len(),
            got[i],
            want[i],
            difference.max_abs
        );
    }
    difference.max_abs
}

/// Checks that two runs are the same to the bit.
///
/// # Panics
/// If they are not, with the first index and both values.
#[track_caller]
pub fn assert_same_bits(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: different lengths");
    let other = got.iter().zip(want).position(|(a, b)| a.to_bits() != b.to_bits());
    if let Some(i) = other {
        panic!(
            "{what}: other bits at {i} of {}: {:e} and {:e}",
            got.len(),
            got[i],
            want[i]
        );
    }
}

/// The Euclidean length of the difference of two runs, in parts of that of the second one.
///
/// # Panics
/// If the lengths differ.
pub fn relative(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len(), "different lengths");
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = got.iter().zip(want).map(|(a, b)| square(a - b)).sum();
    (error / want.iter().map(|b| square(*b)).sum::<f64>()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::{Difference, assert_same_bits, relative};

    #[test]
    fn the_first_bad_index_and_the_largest_error_are_reported() {
        let found = Difference::of(&[1.0, 2.0, 3.5, 9.0], &[1.0, 2.001, 3.0, 4.0], 0.01);
        assert_eq!((found.first_bad, found.max_abs), (Some(2), 5.0));
    }

    #[test]
    fn nan_is_never_close_to_a_number() {
        assert_eq!(Difference::of(&[f32::NAN], &[0.0], 1e9).first_bad, Some(0));
        assert_eq!(Difference::of(&[0.0], &[f32::NAN], 1e9).first_bad, Some(0));
        assert_eq!(Difference::of(&[f32::NAN], &[f32::NAN], 0.0).first_bad, None);
    }

    #[test]
    fn bits_tell_zeros_apart_and_lengths_are_those_of_vectors() {
        assert_same_bits("the same", &[f32::NAN, 0.0], &[f32::NAN, 0.0]);
        assert!(std::panic::catch_unwind(|| assert_same_bits("zeros", &[0.0], &[-0.0])).is_err());
        assert_eq!(relative(&[3.0, 0.0], &[3.0, 4.0]), 0.8);
    }
}

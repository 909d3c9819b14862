//! Rotary tables, made at compile time.

use std::f64::consts::TAU;

use crate::{
    diag::Diagnostic,
    graph::{Rope, RopeScaling},
    source::{Source, codes},
};

/// Bytes of the table of `positions` positions.
pub fn table_bytes(rope: &Rope, positions: usize) -> usize {
    positions * rope.dims * size_of::<f32>()
}

/// The table of `rope` for positions `0..positions`: for each, `dims / 2` cosines, then `dims / 2` sines, f32, little
/// endian. Angles and functions are computed in f64 and rounded once.
///
/// # Errors
/// Scaling factors that `source` does not have, or that are no numbers to divide by.
pub fn table(rope: &Rope, positions: usize, source: &Source) -> Result<Vec<u8>, Diagnostic> {
    let factors = match &rope.scaling {
        RopeScaling::Factors { source: name } => Some(factors(source, name, rope.dims / 2)?),
        _ => None,
    };
    let frequencies = frequencies(rope, factors.as_deref());
    let mut bytes = Vec::with_capacity(table_bytes(rope, positions));
    for position in 0..positions {
        let angles = || frequencies.iter().map(|f| f * position as f64);
        bytes.extend(angles().flat_map(|a| (a.cos() as f32).to_le_bytes()));
        bytes.extend(angles().flat_map(|a| (a.sin() as f32).to_le_bytes()));
    }
    Ok(bytes)
}

fn factors(source: &Source, name: &str, n: usize) -> Result<Vec<f32>, Diagnostic> {
    let factors = source.read_vector(name)?;
    let bad =
        |message: String| Err(Diagnostic::new(codes::FACTORS, message).in_file(source.path().display().to_string()));
    if factors.len() != n {
        return bad(format!(
            "tensor `{name}` has {} elements, the rotary embedding needs {n}",
            factors.len()
        ));
    }
    if let Some((i, x)) = factors.iter().enumerate().find(|(_, x)| !(x.is_finite() && **x > 0.0)) {
        return bad(format!(
            "element {i} of `{name}` is {x}, not a factor to divide a frequency by"
        ));
    }
    Ok(factors)
}

/// The angle per position of each pair, `dims / 2` of them. `factors` are those of [`RopeScaling::Factors`].
pub fn frequencies(rope: &Rope, factors: Option<&[f32]>) -> Vec<f64> {
    let base = (0..rope.dims / 2).map(|i| rope.theta.powf(-((2 * i) as f64) / rope.dims as f64));
    match rope.scaling {
        RopeScaling::None => base.collect(),
        RopeScaling::Linear { factor } => base.map(|f| f / factor).collect(),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original,
        } => base
            .map(|f| llama3(f, factor, low_freq_factor, high_freq_factor, original))
            .collect(),
        RopeScaling::Factors { .. } => base
            .zip(factors.unwrap_or_default())
            .map(|(f, &factor)| f / f64::from(factor))
            .collect(),
    }
}

/// `_compute_llama3_parameters` of transformers' `modeling_rope_utils.py`.
fn llama3(frequency: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let wavelength = TAU / frequency;
    if wavelength < original / high {
        frequency
    } else if wavelength > original / low {
        frequency / factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

#[cfg(test)]
mod tests {
    use ck_kernels::ops::Pairing;

    use super::*;

    fn rope(scaling: RopeScaling) -> Rope {
        Rope {
            theta: 10_000.0,
            dims: 8,
            head_dim: 8,
            pairing: Pairing::Halves,
            scaling,
        }
    }

    #[track_caller]
    fn check(scaling: RopeScaling, factors: Option<&[f32]>, expected: [f64; 4]) {
        let got = frequencies(&rope(scaling), factors);
        assert!(
            got.iter().zip(expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-12),
            "{got:?}"
        );
    }

    #[test]
    fn scalings() {
        check(RopeScaling::None, None, [1.0, 0.1, 0.01, 0.001]);
        check(
            RopeScaling::Linear { factor: 4.0 },
            None,
            [0.25, 0.025, 0.0025, 0.00025],
        );
        let factors = RopeScaling::Factors { source: "f".into() };
        check(factors, Some(&[1.0, 2.0, 4.0, 8.0]), [1.0, 0.05, 0.0025, 0.000125]);
    }

    /// Wavelengths are 6.28, 62.8, 628 and 6283 positions: kept, on the ramp, divided, divided.
    #[test]
    fn llama3_keeps_short_waves_and_divides_long_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original: 100.0,
        };
        let smooth = (100.0 / (TAU / 0.1) - 1.0) / 3.0;
        let ramp = (1.0 - smooth) * 0.1 / 8.0 + smooth * 0.1;
        check(scaling, None, [1.0, ramp, 0.01 / 8.0, 0.001 / 8.0]);
    }
}

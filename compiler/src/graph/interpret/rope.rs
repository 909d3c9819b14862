//! Rotary frequencies (Su et al. 2021) and their scalings for longer contexts.

use std::f64::consts::TAU;

use crate::graph::{Rope, RopeScaling};

/// The `dims / 2` frequencies of a rotary embedding, in radians a position, scaled. Element `i` turns by
/// `position * frequency[i]`.
///
/// `factors` are the divisors of [`RopeScaling::Factors`], one a frequency; other scalings ignore them.
pub fn frequencies(rope: &Rope, factors: &[f32]) -> Vec<f64> {
    let half = rope.dims / 2;
    let base = (0..half).map(|i| rope.theta.powf(-2.0 * i as f64 / rope.dims as f64));
    match rope.scaling {
        RopeScaling::None => base.collect(),
        RopeScaling::Linear { factor } => base.map(|frequency| frequency / factor).collect(),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original,
        } => base
            .map(|f| llama3(f, factor, low_freq_factor, high_freq_factor, original))
            .collect(),
        RopeScaling::Factors { .. } => base.zip(factors).map(|(f, &factor)| f / f64::from(factor)).collect(),
    }
}

/// `_compute_llama3_parameters` of Hugging Face transformers, `modeling_rope_utils.py`.
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

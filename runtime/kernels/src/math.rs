//! The scalar functions `core` does not have.
//!
//! [`exp`] and [`tanh`] are the ones the SIMD tiers repeat lane by lane, with the coefficients in [`coefficients`].

/// Constants of the approximations, shared with the SIMD tiers.
///
/// The polynomials are those of the Cephes library (Moshier), single precision.
pub(crate) mod coefficients {
    /// `exp` below this is zero.
    pub(crate) const EXP_LO: f32 = -104.0;
    /// `exp` above this is infinite.
    pub(crate) const EXP_HI: f32 = 89.0;
    /// The leading bits of ln 2, few enough that a product with an exponent is exact.
    pub(crate) const LN2_HI: f32 = 0.693_359_4;
    /// The rest of ln 2.
    pub(crate) const LN2_LO: f32 = -2.121_944_4e-4;
    /// `exp(r) = 1 + r + r^2 P(r)` for `|r| <= ln(2) / 2`, from the highest power down.
    pub(crate) const EXP: [f32; 6] = [
        1.987_569_1e-4,
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    /// Below this, `tanh` is a polynomial; above, it goes through `exp`.
    pub(crate) const TANH_SMALL: f32 = 0.625;
    /// `tanh(x) = x + x z P(z)`, `z = x^2`, from the highest power down.
    pub(crate) const TANH: [f32; 5] = [
        -5.704_988_7e-3,
        2.063_908_8e-2,
        -5.373_971_5e-2,
        1.333_144_2e-1,
        -3.333_328e-1,
    ];
    /// sqrt(2 / pi), of the tanh form of GELU.
    pub(crate) const GELU_SCALE: f32 = 0.797_884_6;
    /// The cubic term of the tanh form of GELU.
    pub(crate) const GELU_CUBIC: f32 = 0.044_715;
}

use coefficients::*;

/// Nearest integer, ties to even, for `|x| < 2^22`.
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// `2^n` for `-126 <= n <= 127`.
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// `e^x`, within 2 ulp; 0 for `-inf`, subnormal where the result is, `inf` on overflow, NaN for NaN.
pub fn exp(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let x = x.clamp(EXP_LO, EXP_HI);
    let n = round(x * core::f32::consts::LOG2_E);
    let r = (x - n * LN2_HI) - n * LN2_LO;
    let p = EXP.iter().fold(0.0, |p, &c| p * r + c);
    let y = (p * (r * r) + r) + 1.0;
    // In two steps, because 2^n alone may overflow where the product does not, and so that subnormals round once.
    let n = n as i32;
    let half = n >> 1;
    y * power_of_two(half) * power_of_two(n - half)
}

/// Natural logarithm, correctly rounded but for rare ties; `-inf` at 0, NaN below.
pub fn ln(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return f32::NAN;
    }
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x.is_infinite() {
        return x;
    }
    let bits = f64::from(x).to_bits();
    let mut e = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mut m = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if m > core::f64::consts::SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    // ln m = 2 artanh(s), |s| <= 0.172: nine odd powers reach 2^-50.
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = (0..9).rev().fold(0.0, |p, i| p * z + 1.0 / f64::from(2 * i + 1));
    (f64::from(e) * core::f64::consts::LN_2 + 2.0 * s * series) as f32
}

/// Hyperbolic tangent, within 2 ulp.
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    if a < TANH_SMALL {
        let z = x * x;
        let p = TANH.iter().fold(0.0, |p, &c| p * z + c);
        return p * z * x + x;
    }
    (1.0 - 2.0 / (exp(2.0 * a) + 1.0)).copysign(x)
}

/// Error function, within 2 ulp.
///
/// Minimax polynomials for `erf(x) / x` near zero and for `ln(1 - erf(x))` elsewhere.
pub fn erf(x: f32) -> f32 {
    const NEAR: [f32; 6] = [
        -5.967_617e-4,
        4.991_194e-3,
        -2.676_813_5e-2,
        1.128_199_25e-1,
        -3.761_253_4e-1,
        1.283_791_7e-1,
    ];
    const FAR: [f32; 7] = [
        -1.728_534_7e-5,
        3.831_972e-4,
        -3.883_964_4e-3,
        2.425_462_2e-2,
        -1.067_778_8e-1,
        -6.348_467e-1,
        -1.287_175_1e-1,
    ];
    let a = x.abs();
    if a <= 0.927_734_4 {
        let z = x * x;
        let p = NEAR.iter().fold(0.0, |p, &c| p * z + c);
        return p * x + x;
    }
    // Beyond, 1 - erf is below half an ulp of 1.
    let a = if a > 4.0 { 4.0 } else { a };
    let p = FAR.iter().fold(0.0, |p, &c| p * a + c);
    (1.0 - exp(p * a - a)).copysign(x)
}

/// Square root, correctly rounded; NaN below zero.
pub fn sqrt(x: f32) -> f32 {
    if x == 0.0 || x.is_nan() || x == f32::INFINITY {
        return x;
    }
    if x < 0.0 {
        return f32::NAN;
    }
    // Halving the exponent gives a guess within 6 %; each Newton step squares the error. In f64, so that the one
    // rounding to f32 decides.
    let v = f64::from(x);
    let guess = f64::from_bits((v.to_bits() >> 1) + (1023 << 51));
    (0..5).fold(guess, |y, _| 0.5 * (y + v / y)) as f32
}

/// `1 / (1 + e^-x)`.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x * sigmoid(x)`.
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// GELU, tanh form: `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, computed as `x * sigmoid` of twice the argument.
pub fn gelu_tanh(x: f32) -> f32 {
    let u = GELU_SCALE * (x + GELU_CUBIC * x * x * x);
    x / (1.0 + exp(-2.0 * u))
}

/// GELU, exact form: `x/2 (1 + erf(x / sqrt(2)))`.
pub fn gelu_erf(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * core::f32::consts::FRAC_1_SQRT_2))
}

//! 16-bit floats by integer arithmetic: exact, round to nearest even, the same bits as F16C.

/// An IEEE half, widened. Signalling NaNs become quiet.
pub const fn f16_to_f32(h: u16) -> f32 {
    let sign = ((h & 0x8000) as u32) << 16;
    let exp = (h >> 10 & 0x1f) as u32;
    let man = (h & 0x3ff) as u32;
    let magnitude = match (exp, man) {
        (0, 0) => 0,
        // A subnormal is man * 2^-24: shift until bit 10 is the hidden one.
        (0, _) => {
            let shift = man.leading_zeros() - 21;
            (113 - shift) << 23 | (man << shift & 0x3ff) << 13
        }
        (31, 0) => 0x7f80_0000,
        (31, _) => 0x7fc0_0000 | man << 13,
        _ => (exp + 112) << 23 | man << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The nearest IEEE half, ties to even; too large becomes infinite, NaN stays a quiet NaN.
pub const fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00 | (magnitude >> 13 & 0x3ff) as u16;
    }
    // 65520, half way from the largest half to the next power of two.
    if magnitude >= 0x477f_f000 {
        return sign | 0x7c00;
    }
    // 2^-14, the smallest normal half.
    if magnitude >= 0x3880_0000 {
        let odd = magnitude >> 13 & 1;
        return sign | ((magnitude - 0x3800_0000 + 0xfff + odd) >> 13) as u16;
    }
    // 2^-25 rounds to even, zero; anything above it does not.
    if magnitude <= 0x3300_0000 {
        return sign;
    }
    let man = magnitude & 0x7f_ffff | 0x80_0000;
    let shift = 126 - (magnitude >> 23);
    let (kept, lost, tie) = (man >> shift, man & ((1 << shift) - 1), 1 << (shift - 1));
    let up = lost > tie || (lost == tie && kept & 1 == 1);
    sign | (kept + up as u32) as u16
}

/// A bfloat16, widened.
pub const fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits((h as u32) << 16)
}

/// The nearest bfloat16, ties to even; NaN stays a quiet NaN.
pub const fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits as u64 + 0x7fff + (bits >> 16 & 1) as u64) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_halves() {
        for (h, x) in [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x03ff, 6.097_555e-5),
            (0x0001, 5.960_464_5e-8),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(f16_to_f32(h).to_bits(), x.to_bits(), "{h:#x}");
            assert_eq!(f32_to_f16(x), h, "{x}");
        }
    }

    #[test]
    fn every_half_survives_the_round_trip() {
        for h in 0..=u16::MAX {
            let back = f32_to_f16(f16_to_f32(h));
            let quiet = if h & 0x7fff > 0x7c00 { h | 0x200 } else { h };
            assert_eq!(back, quiet, "{h:#x}");
            let bf = f32_to_bf16(bf16_to_f32(h));
            let quiet = if h & 0x7fff > 0x7f80 { h | 0x40 } else { h };
            assert_eq!(bf, quiet, "{h:#x}");
        }
    }

    #[test]
    fn midpoints_go_to_even() {
        for h in 0..0x7bffu16 {
            let (lo, hi) = (f16_to_f32(h), f16_to_f32(h + 1));
            let mid = f32::midpoint(lo, hi);
            assert_eq!(f32_to_f16(mid), h + (h & 1), "{h:#x}");
            assert_eq!(f32_to_f16(mid.next_down()), h, "{h:#x}");
            assert_eq!(f32_to_f16(mid.next_up()), h + 1, "{h:#x}");
        }
        assert_eq!(f32_to_f16(65519.996), 0x7bff);
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(f32_to_bf16(f32::MAX), 0x7f80);
    }
}

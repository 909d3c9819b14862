//! Activations to [`crate::dtype::ActType::Q8`].

use crate::dtype::Q8;

/// One Q8 row of `n` floats.
///
/// A block with a NaN gets the scale NaN and one with an infinity the scale infinity, so that a matmul's result is NaN
/// as it would be without quantisation. Blocks whose scale would not be a normal number are zero.
///
/// # Safety
/// `n` is a multiple of 32, `x` is valid for reads of `n` floats, `out` for writes of [`Q8::bytes`] and aligned to 4; they
/// do not overlap.
pub unsafe fn quantize_row(x: *const f32, n: usize, out: *mut u8) {
    debug_assert!(n.is_multiple_of(Q8::BLOCK));
    let row = Q8 { cols: n };
    // SAFETY: the caller vouches for the floats.
    let blocks = unsafe { core::slice::from_raw_parts(x, n) }
        .as_chunks::<{ Q8::BLOCK }>()
        .0;
    for (b, block) in blocks.iter().enumerate() {
        let (scale, inverse) = scale(block);
        let whole = block.map(|x| if inverse == 0.0 { 0 } else { round(x * inverse) });
        let high = whole.map(|q| (q + Q8::STEP / 2).div_euclid(Q8::STEP));
        let mut bytes = [0_i8; Q8::BLOCK_BYTES];
        for (i, (q, high)) in whole.into_iter().zip(high).enumerate() {
            bytes[i] = high as i8;
            bytes[Q8::BLOCK + i] = (q - Q8::STEP * high) as i8;
        }
        // SAFETY: the parts of a row; blocks are whole words, which keeps the alignment of 4.
        unsafe {
            out.add(Q8::BLOCK_BYTES * b)
                .cast::<[i8; Q8::BLOCK_BYTES]>()
                .write(bytes);
            out.add(row.scales() + 4 * b).cast::<f32>().write(scale);
            out.add(row.sums() + 4 * b).cast::<i32>().write(whole.iter().sum());
        }
    }
}

/// What a Q8 row of `n` columns stands for.
///
/// # Safety
/// `q8` is such a row, `out` valid for writes of `n` floats.
pub unsafe fn dequantize_row(q8: *const u8, n: usize, out: *mut f32) {
    for i in 0..n {
        let (b, at) = (i / Q8::BLOCK, i % Q8::BLOCK);
        // SAFETY: two bytes and a scale of the row; a float of `out`.
        unsafe {
            let block = q8.add(Q8::BLOCK_BYTES * b).cast::<i8>();
            let (high, low) = (block.add(at).read(), block.add(Q8::BLOCK + at).read());
            let scale = q8.add(Q8 { cols: n }.scales() + 4 * b).cast::<f32>().read_unaligned();
            out.add(i)
                .write(scale * (Q8::STEP * i32::from(high) + i32::from(low)) as f32);
        }
    }
}

/// To the nearest integer, halves away from zero.
fn round(x: f32) -> i32 {
    let whole = x as i32;
    let fraction = x - whole as f32;
    whole + i32::from(fraction >= 0.5) - i32::from(fraction <= -0.5)
}

/// The scale of a block and what to multiply with; the latter is zero if the bytes are to be zero.
fn scale(xs: &[f32; 32]) -> (f32, f32) {
    let mut max = 0.0;
    for x in xs.map(f32::abs) {
        if x.is_nan() {
            return (f32::NAN, 0.0);
        }
        if x > max {
            max = x;
        }
    }
    scale_of_max(max)
}

/// The same from the largest magnitude.
pub fn scale_of_max(max: f32) -> (f32, f32) {
    let scale = max / Q8::MOST as f32;
    if scale.is_normal() {
        (scale, 1.0 / scale)
    } else if scale.is_finite() {
        (0.0, 0.0)
    } else {
        (scale, 0.0)
    }
}

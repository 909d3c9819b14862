//! The training loss, in plain Rust.

use crate::math;

/// The target that is not one.
pub const IGNORE: i32 = -100;

/// Mean of `-log softmax(logits[i])[targets[i]]` over the rows whose target is not [`IGNORE`]; `None` if there is no
/// such row, or a target is not a column.
///
/// Through log-sum-exp, so that no probability underflows.
///
/// # Panics
/// If `logits` is not `targets.len()` rows of `classes`.
pub fn cross_entropy(logits: &[f32], targets: &[i32], classes: usize) -> Option<f32> {
    assert!(logits.len() == targets.len() * classes, "one row of logits per target");
    let (mut sum, mut count) = (0.0f64, 0u32);
    for (i, &target) in targets.iter().enumerate() {
        if target == IGNORE {
            continue;
        }
        let row = &logits[i * classes..][..classes];
        let at = *row.get(usize::try_from(target).ok()?)?;
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = row.iter().map(|v| math::exp(v - max)).sum();
        sum += f64::from(math::ln(total)) + f64::from(max) - f64::from(at);
        count += 1;
    }
    (count > 0).then(|| (sum / f64::from(count)) as f32)
}

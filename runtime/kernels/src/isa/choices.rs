//! What whoever made a program chose between kernels of the same meaning.

use crate::dtype::DType;

/// From how many tokens on which kernels are used. A constant of a program: its compiler derives it from a table of costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// By [`DType`]: tokens of a call to [`crate::isa::Isa::many`]. Changes no bit.
    pub many: [usize; DType::ALL.len()],
    /// Tokens of a run on the matrix unit, where there is one; with fewer of them it runs on
    /// [`crate::isa::Isa::few`]. Changes what activations are rounded to.
    pub tiles: usize,
}

impl Choices {
    /// These thresholds; types that are not among them never take [`crate::isa::Isa::many`].
    pub const fn new(many: &[(DType, usize)], tiles: usize) -> Choices {
        let mut choices = Choices {
            many: [usize::MAX; _],
            tiles,
        };
        let mut i = 0;
        while i < many.len() {
            choices.many[many[i].0 as usize] = many[i].1;
            i += 1;
        }
        choices
    }
}

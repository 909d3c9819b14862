//! What whoever made a program chose between kernels of the same meaning.

use crate::dtype::DType;

/// Tokens of a call from which on it takes [`crate::isa::Isa::many`], by [`DType`].
pub type Thresholds = [usize; DType::ALL.len()];

/// From how many tokens on which kernels are used. A constant of a program: its compiler derives it from a table of costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// On `avx2`. Changes no bit.
    pub avx2: Thresholds,
    /// On `avx512`. Changes no bit.
    pub avx512: Thresholds,
    /// Tokens of a run on the matrix unit, where there is one; with fewer of them it runs on
    /// [`crate::isa::Isa::few`]. Changes what activations are rounded to.
    pub tiles: usize,
}

impl Choices {
    /// These thresholds; types that are not among them never take the kernel for many.
    pub const fn thresholds(of: &[(DType, usize)]) -> Thresholds {
        let mut all = [usize::MAX; _];
        let mut i = 0;
        while i < of.len() {
            all[of[i].0 as usize] = of[i].1;
            i += 1;
        }
        all
    }

    /// The kernels for many, and the matrix unit, from that many tokens on.
    pub const fn all_from(tokens: usize) -> Choices {
        Choices {
            avx2: [tokens; _],
            avx512: [tokens; _],
            tiles: tokens,
        }
    }

    /// From how many tokens on the tier of that name takes its kernel for many.
    pub fn many_from(&self, tier: &str, dtype: DType) -> usize {
        match tier {
            "avx2" => self.avx2[dtype as usize],
            "avx512" => self.avx512[dtype as usize],
            _ => usize::MAX,
        }
    }
}

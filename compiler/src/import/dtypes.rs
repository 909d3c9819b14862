//! One type for most matrices, and the exceptions.

use std::collections::BTreeMap;

use ck_kernels::dtype::DType;

/// What matrices are packed as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The type of most.
    pub dtype: DType,
    /// The others, in execution order.
    pub exceptions: Vec<(String, DType)>,
}

impl Chosen {
    /// From the type of every matrix: the most frequent one, of two equally frequent ones the first in
    /// [`DType::ALL`].
    pub fn of<'a>(matrices: impl Iterator<Item = (&'a str, DType)> + Clone) -> Chosen {
        let mut counts: BTreeMap<DType, usize> = BTreeMap::new();
        for (_, dtype) in matrices.clone() {
            *counts.entry(dtype).or_default() += 1;
        }
        // `max_by_key` takes the last of equals.
        let dtype = counts
            .iter()
            .rev()
            .max_by_key(|(_, n)| **n)
            .map_or(DType::F32, |(dtype, _)| *dtype);
        let exceptions = matrices
            .filter(|(_, d)| *d != dtype)
            .map(|(name, d)| (name.to_owned(), d))
            .collect();
        Chosen { dtype, exceptions }
    }
}

//! Reproducible numbers.

use ckc::graph::Graph;

use crate::Tensors;

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; `n` is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n as u64) as usize
    }

    /// A number in `-1.0..1.0`.
    pub fn next_f32(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `len` numbers in `-1.0..1.0`.
    pub fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next_f32()).collect()
    }
}

/// Random weights of the shapes that a graph wants.
pub fn random_weights(graph: &Graph, seed: u64) -> Tensors {
    let mut random = Random::new(seed);
    let mut tensors = Tensors::default();
    for weight in &graph.weights {
        let data = random.floats(weight.rows * weight.cols);
        let shape = [weight.rows, weight.cols];
        tensors.insert(&weight.source, if weight.vector { &shape[1..] } else { &shape }, data);
    }
    tensors
}

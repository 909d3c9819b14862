//! From logits to the next token.
//!
//! The chain has llama.cpp's order: repeat penalty, top-k, top-p, min-p, temperature, then one draw. The filters therefore
//! look at the distribution before the temperature flattens it.
//!
//! Deterministic: the same settings, logits and seed give the same ids on every machine of the same `exp`. Equal logits are
//! ordered by lower id everywhere.

use std::cmp::Ordering;
use std::fmt;

/// How to choose a token. The default is greedy.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerConfig {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Keeps the `top_k` most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest tokens whose probabilities reach `top_p`; 1 keeps all. At least one token is kept.
    pub top_p: f32,
    /// Keeps tokens at least `min_p` times as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Positive logits of recent tokens are divided by it, negative ones multiplied; 1 is no penalty.
    pub repeat_penalty: f32,
    /// How many of the last tokens count as recent.
    pub repeat_last_n: usize,
    /// Seed of the generator.
    pub seed: u64,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

/// Why there is no next token, or no sampler.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SampleError {
    /// A setting outside of its range.
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f32,
        /// What it has to be.
        expected: &'static str,
    },
    /// Logits of another length than the vocabulary.
    Length {
        /// Logits given.
        found: usize,
        /// Size of the vocabulary.
        expected: usize,
    },
    /// A logit is NaN or +infinity: the model's numbers are broken, and any choice would hide it.
    NotFinite {
        /// The first such token.
        id: u32,
    },
    /// No token has a probability: the vocabulary is empty or every logit is -infinity.
    NothingLeft,
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { name, value, expected } => write!(f, "{name} is {value}; it has to be {expected}"),
            Self::Length { found, expected } => write!(f, "{found} logits for a vocabulary of {expected}"),
            Self::NotFinite { id } => write!(f, "the logit of token {id} is not a finite number"),
            Self::NothingLeft => f.write_str("no token has a probability above zero"),
        }
    }
}

impl std::error::Error for SampleError {}

/// A token that may be chosen; `weight` is a logit first and a probability later.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
    weight: f32,
}

/// More likely first, lower id first among equals. Logits are finite or -infinity.
fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit
        .partial_cmp(&a.logit)
        .unwrap_or(Ordering::Equal)
        .then(a.id.cmp(&b.id))
}

/// Chooses tokens. Memory is taken once, in [`Sampler::new`].
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplerConfig,
    rng: Rng,
    candidates: Vec<Candidate>,
    /// Ring of the last `repeat_last_n` tokens; `recent_count[id]` says how often each is in it.
    recent: Vec<u32>,
    oldest: usize,
    recent_count: Vec<u32>,
}

impl Sampler {
    /// A sampler for logits of `vocab_len` tokens.
    ///
    /// # Errors
    /// A setting is outside of its range.
    pub fn new(vocab_len: usize, config: SamplerConfig) -> Result<Self, SampleError> {
        let checks = [
            (
                "temperature",
                config.temperature,
                "finite and at least 0",
                0.0..=f32::MAX,
            ),
            ("top_p", config.top_p, "from 0 to 1", 0.0..=1.0),
            ("min_p", config.min_p, "from 0 to 1", 0.0..=1.0),
            (
                "repeat_penalty",
                config.repeat_penalty,
                "finite and above 0",
                f32::MIN_POSITIVE..=f32::MAX,
            ),
        ];
        for (name, value, expected, range) in checks {
            if !range.contains(&value) {
                return Err(SampleError::Setting { name, value, expected });
            }
        }
        let penalised = if config.repeat_penalty == 1.0 {
            0
        } else {
            config.repeat_last_n
        };
        Ok(Self {
            rng: Rng::new(config.seed),
            candidates: Vec::with_capacity(vocab_len),
            recent: Vec::with_capacity(penalised),
            oldest: 0,
            recent_count: vec![0; vocab_len],
            config: SamplerConfig {
                repeat_last_n: penalised,
                ..config
            },
        })
    }

    /// Size of the vocabulary.
    pub fn vocab_len(&self) -> usize {
        self.recent_count.len()
    }

    /// Notes a token of the text for the repeat penalty: those of the prompt and every one that was chosen.
    /// An id outside of the vocabulary has no logit to lower and is ignored.
    pub fn accept(&mut self, id: u32) {
        if self.config.repeat_last_n == 0 || id as usize >= self.vocab_len() {
            return;
        }
        if self.recent.len() < self.config.repeat_last_n {
            self.recent.push(id);
        } else {
            let old = std::mem::replace(&mut self.recent[self.oldest], id);
            self.recent_count[old as usize] -= 1;
            self.oldest = (self.oldest + 1) % self.config.repeat_last_n;
        }
        self.recent_count[id as usize] += 1;
    }

    /// Forgets the text and starts the generator again.
    pub fn reset(&mut self) {
        self.rng = Rng::new(self.config.seed);
        self.recent.clear();
        self.oldest = 0;
        self.recent_count.fill(0);
    }

    /// Chooses the next token and does not note it: see [`Sampler::accept`].
    ///
    /// # Errors
    /// The logits have another length than the vocabulary, one of them is NaN or +infinity, or all are -infinity.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        if logits.len() != self.vocab_len() {
            return Err(SampleError::Length {
                found: logits.len(),
                expected: self.vocab_len(),
            });
        }
        if let Some(id) = logits
            .iter()
            .position(|logit| logit.is_nan() || *logit == f32::INFINITY)
        {
            return Err(SampleError::NotFinite { id: id as u32 });
        }
        if self.config.temperature == 0.0 {
            return self.greedy(logits);
        }
        self.candidates.clear();
        for (id, &logit) in logits.iter().enumerate() {
            let logit = self.penalised(id, logit);
            if logit > f32::NEG_INFINITY {
                self.candidates.push(Candidate {
                    id: id as u32,
                    logit,
                    weight: 0.0,
                });
            }
        }
        self.keep_top_k();
        self.keep_top_p();
        self.keep_min_p();
        self.draw()
    }

    /// The logit after the repeat penalty (Keskar et al. 2019, CTRL, with the sign rule of llama.cpp).
    fn penalised(&self, id: usize, logit: f32) -> f32 {
        match self.recent_count[id] {
            0 => logit,
            _ if logit > 0.0 => (logit / self.config.repeat_penalty).min(f32::MAX),
            _ => logit * self.config.repeat_penalty,
        }
    }

    fn greedy(&self, logits: &[f32]) -> Result<u32, SampleError> {
        let mut best = None;
        let mut highest = f32::NEG_INFINITY;
        for (id, &logit) in logits.iter().enumerate() {
            let logit = self.penalised(id, logit);
            if logit > highest {
                (best, highest) = (Some(id as u32), logit);
            }
        }
        best.ok_or(SampleError::NothingLeft)
    }

    fn keep_top_k(&mut self) {
        let k = self.config.top_k;
        if k == 0 || k >= self.candidates.len() {
            return;
        }
        self.candidates.select_nth_unstable_by(k - 1, by_likelihood);
        self.candidates.truncate(k);
    }

    /// The fewest most likely candidates whose probabilities sum to `top_p`.
    ///
    /// Sorting a whole vocabulary for a nucleus of a few tokens is waste: sorted prefixes of doubling length are tried.
    fn keep_top_p(&mut self) {
        let len = self.candidates.len();
        if self.config.top_p >= 1.0 || len < 2 {
            return;
        }
        self.weigh(1.0);
        let target = f64::from(self.config.top_p) * self.candidates.iter().map(|c| f64::from(c.weight)).sum::<f64>();
        let (mut sorted, mut prefix, mut sum) = (0, 64.min(len), 0.0);
        loop {
            let tail = &mut self.candidates[sorted..];
            if prefix < len {
                tail.select_nth_unstable_by(prefix - sorted - 1, by_likelihood);
            }
            tail[..prefix - sorted].sort_unstable_by(by_likelihood);
            for at in sorted..prefix {
                sum += f64::from(self.candidates[at].weight);
                if sum >= target {
                    self.candidates.truncate(at + 1);
                    return;
                }
            }
            if prefix == len {
                return;
            }
            sorted = prefix;
            prefix = (2 * prefix).min(len);
        }
    }

    fn keep_min_p(&mut self) {
        if self.config.min_p > 0.0 {
            let threshold = self.highest() + self.config.min_p.ln();
            self.candidates.retain(|candidate| candidate.logit >= threshold);
        }
    }

    fn highest(&self) -> f32 {
        self.candidates
            .iter()
            .map(|candidate| candidate.logit)
            .fold(f32::NEG_INFINITY, f32::max)
    }

    /// Weights relative to the most likely candidate, whose weight is 1.
    fn weigh(&mut self, temperature: f32) {
        let highest = self.highest();
        for candidate in &mut self.candidates {
            candidate.weight = ((candidate.logit - highest) / temperature).exp();
        }
    }

    fn draw(&mut self) -> Result<u32, SampleError> {
        // The order in which weights are added up must not depend on how the filters left the candidates.
        self.candidates.sort_unstable_by_key(|candidate| candidate.id);
        self.weigh(self.config.temperature);
        let total: f64 = self
            .candidates
            .iter()
            .map(|candidate| f64::from(candidate.weight))
            .sum();
        let mut left = self.rng.next_unit() * total;
        for candidate in &self.candidates {
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                return Ok(candidate.id);
            }
        }
        // Rounding can leave a little over; it belongs to the last candidate with a weight.
        let last = self.candidates.iter().rfind(|candidate| candidate.weight > 0.0);
        last.map(|candidate| candidate.id).ok_or(SampleError::NothingLeft)
    }
}

/// xoshiro256++ (Blackman and Vigna 2019), its state filled by SplitMix64 as its authors advise.
#[derive(Clone, Debug)]
struct Rng([u64; 4]);

impl Rng {
    fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1), 53 bits.
    fn next_unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(vocab_len: usize, config: SamplerConfig) -> Sampler {
        Sampler::new(vocab_len, config).unwrap()
    }

    /// Ids that come up in many draws, ascending.
    fn reachable(config: SamplerConfig, logits: &[f32]) -> Vec<u32> {
        let mut sampler = sampler(logits.len(), config);
        let mut seen = vec![false; logits.len()];
        for _ in 0..4000 {
            seen[sampler.sample(logits).unwrap() as usize] = true;
        }
        (0..logits.len() as u32).filter(|&id| seen[id as usize]).collect()
    }

    fn warm() -> SamplerConfig {
        SamplerConfig {
            temperature: 1.0,
            ..SamplerConfig::default()
        }
    }

    #[test]
    fn greedy_takes_the_highest_and_the_lower_id_of_equals() {
        let mut greedy = sampler(4, SamplerConfig::default());
        assert_eq!(greedy.sample(&[0.0, 2.0, 2.0, 1.0]), Ok(1));
        assert_eq!(greedy.sample(&[-5.0, f32::NEG_INFINITY, -3.0, -4.0]), Ok(2));
    }

    #[test]
    fn filters_keep_what_they_say() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits: Vec<f32> = [0.125f32, 0.5, 0.125, 0.25].iter().map(|p| p.ln()).collect();
        let cases = [
            (warm(), vec![0, 1, 2, 3]),
            (SamplerConfig { top_k: 1, ..warm() }, vec![1]),
            (SamplerConfig { top_k: 3, ..warm() }, vec![0, 1, 3]),
            (SamplerConfig { top_k: 9, ..warm() }, vec![0, 1, 2, 3]),
            (SamplerConfig { top_p: 0.0, ..warm() }, vec![1]),
            (SamplerConfig { top_p: 0.6, ..warm() }, vec![1, 3]),
            (SamplerConfig { top_p: 0.8, ..warm() }, vec![0, 1, 3]),
            (SamplerConfig { min_p: 0.4, ..warm() }, vec![1, 3]),
            (SamplerConfig { min_p: 1.0, ..warm() }, vec![1]),
            // After top-k the two that are left have 2/3 and 1/3.
            (
                SamplerConfig {
                    top_k: 2,
                    top_p: 0.6,
                    ..warm()
                },
                vec![1],
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(reachable(config.clone(), &logits), expected, "{config:?}");
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits: Vec<f32> = [0.1f32, 0.6, 0.3].iter().map(|p| p.ln()).collect();
        let mut sampler = sampler(3, SamplerConfig { seed: 7, ..warm() });
        let mut counts = [0u32; 3];
        for _ in 0..100_000 {
            counts[sampler.sample(&logits).unwrap() as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([10_000i64, 60_000, 30_000]) {
            // Five standard deviations are at most 775.
            assert!((i64::from(count) - expected).abs() < 800, "{counts:?}");
        }
    }

    #[test]
    fn a_nucleus_wider_than_the_first_sorted_prefix_is_complete() {
        let logits = vec![0.0; 1000];
        assert_eq!(
            reachable(SamplerConfig { top_p: 0.25, ..warm() }, &logits),
            (0..250).collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_seed_decides() {
        let logits: Vec<f32> = (0..500).map(|id| ((id * 37 % 101) as f32) / 25.0).collect();
        let run = |seed| {
            let mut sampler = sampler(
                500,
                SamplerConfig {
                    seed,
                    top_k: 50,
                    top_p: 0.95,
                    ..warm()
                },
            );
            (0..64).map(|_| sampler.sample(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn the_penalty_reaches_exactly_the_window() {
        let config = SamplerConfig {
            repeat_penalty: 4.0,
            repeat_last_n: 2,
            ..SamplerConfig::default()
        };
        let mut sampler = sampler(3, config);
        let logits = [3.0, 2.0, -1.0];
        assert_eq!(sampler.sample(&logits), Ok(0));
        sampler.accept(0);
        assert_eq!(sampler.sample(&logits), Ok(1));
        sampler.accept(1);
        assert_eq!(sampler.sample(&logits), Ok(0));
        sampler.accept(2);
        sampler.accept(2);
        assert_eq!(sampler.sample(&logits), Ok(0));
        sampler.accept(99);
        sampler.reset();
        assert_eq!(sampler.sample(&logits), Ok(0));
    }

    #[test]
    fn bad_numbers_are_errors() {
        let mut warm_sampler = sampler(3, warm());
        assert_eq!(
            warm_sampler.sample(&[0.0, f32::NAN, 0.0]),
            Err(SampleError::NotFinite { id: 1 })
        );
        assert_eq!(
            warm_sampler.sample(&[0.0, 0.0, f32::INFINITY]),
            Err(SampleError::NotFinite { id: 2 })
        );
        assert_eq!(
            warm_sampler.sample(&[f32::NEG_INFINITY; 3]),
            Err(SampleError::NothingLeft)
        );
        assert_eq!(
            warm_sampler.sample(&[0.0]),
            Err(SampleError::Length { found: 1, expected: 3 })
        );
        assert_eq!(
            sampler(0, SamplerConfig::default()).sample(&[]),
            Err(SampleError::NothingLeft)
        );
        for (name, config) in [
            (
                "temperature",
                SamplerConfig {
                    temperature: -1.0,
                    ..warm()
                },
            ),
            (
                "temperature",
                SamplerConfig {
                    temperature: f32::NAN,
                    ..warm()
                },
            ),
            ("top_p", SamplerConfig { top_p: 1.5, ..warm() }),
            ("min_p", SamplerConfig { min_p: -0.1, ..warm() }),
            (
                "repeat_penalty",
                SamplerConfig {
                    repeat_penalty: 0.0,
                    ..warm()
                },
            ),
        ] {
            let error = Sampler::new(3, config).unwrap_err();
            assert!(
                matches!(error, SampleError::Setting { name: found, .. } if found == name),
                "{error}"
            );
        }
    }

    /// First outputs of the reference implementation, state 1, 2, 3, 4.
    #[test]
    fn the_generator_is_xoshiro256plusplus() {
        let mut rng = Rng([1, 2, 3, 4]);
        let first: [u64; 4] = std::array::from_fn(|_| rng.next());
        assert_eq!(
            first,
            [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]
        );
    }
}

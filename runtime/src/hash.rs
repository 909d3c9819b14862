//! The checksum of packed files: XXH64 (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>), seed 0.
//!
//! It finds damage, not malice.

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

/// Bytes of a stripe: one round of each of the four accumulators.
const STRIPE: usize = 32;

/// XXH64 of `bytes`.
///
/// ```
/// assert_eq!(ck_runtime::hash::xxh64(b"abc"), 0x44BC2CF5AD770999);
/// ```
pub fn xxh64(bytes: &[u8]) -> u64 {
    let mut hash = Xxh64::new();
    hash.update(bytes);
    hash.digest()
}

/// XXH64 of bytes that come in pieces; how they are cut does not matter.
#[derive(Clone, Debug)]
pub struct Xxh64 {
    acc: [u64; 4],
    /// The first `total % STRIPE` bytes wait for the rest of their stripe.
    tail: [u8; STRIPE],
    total: u64,
}

impl Xxh64 {
    /// The hash of nothing yet.
    pub fn new() -> Self {
        Self {
            acc: [P1.wrapping_add(P2), P2, 0, P1.wrapping_neg()],
            tail: [0; STRIPE],
            total: 0,
        }
    }

    /// Appends `bytes`.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let held = (self.total % STRIPE as u64) as usize;
        self.total = self.total.wrapping_add(bytes.len() as u64);
        if held > 0 {
            let take = bytes.len().min(STRIPE - held);
            self.tail[held..held + take].copy_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if held + take < STRIPE {
                return;
            }
            let tail = self.tail;
            self.stripe(&tail);
        }
        let mut stripes = bytes.chunks_exact(STRIPE);
        for stripe in &mut stripes {
            self.stripe(stripe);
        }
        let rest = stripes.remainder();
        self.tail[..rest.len()].copy_from_slice(rest);
    }

    /// The hash of everything appended so far.
    pub fn digest(&self) -> u64 {
        let [a, b, c, d] = self.acc;
        let mut h = if self.total < STRIPE as u64 {
            P5
        } else {
            let sum = (a.rotate_left(1))
                .wrapping_add(b.rotate_left(7))
                .wrapping_add(c.rotate_left(12))
                .wrapping_add(d.rotate_left(18));
            self.acc
                .iter()
                .fold(sum, |h, &acc| (h ^ round(0, acc)).wrapping_mul(P1).wrapping_add(P4))
        };
        h = h.wrapping_add(self.total);
        let mut words = self.tail[..(self.total % STRIPE as u64) as usize].chunks_exact(8);
        for word in &mut words {
            h = (h ^ round(0, le64(word)))
                .rotate_left(27)
                .wrapping_mul(P1)
                .wrapping_add(P4);
        }
        let mut rest = words.remainder();
        if let Some((half, bytes)) = rest.split_first_chunk::<4>() {
            h = (h ^ u64::from(u32::from_le_bytes(*half)).wrapping_mul(P1))
                .rotate_left(23)
                .wrapping_mul(P2)
                .wrapping_add(P3);
            rest = bytes;
        }
        for &byte in rest {
            h = (h ^ u64::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
        }
        h = (h ^ h >> 33).wrapping_mul(P2);
        h = (h ^ h >> 29).wrapping_mul(P3);
        h ^ h >> 32
    }

    fn stripe(&mut self, stripe: &[u8]) {
        for (acc, word) in self.acc.iter_mut().zip(stripe.chunks_exact(8)) {
            *acc = round(*acc, le64(word));
        }
    }
}

impl Default for Xxh64 {
    fn default() -> Self {
        Self::new()
    }
}

fn round(acc: u64, word: u64) -> u64 {
    acc.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

/// `word` has 8 bytes.
fn le64(word: &[u8]) -> u64 {
    word.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's sanity buffer: the bytes its own test suite hashes (`sanity_test_vectors.h`).
    fn sanity(len: usize) -> Vec<u8> {
        let mut gen_ = 2654435761u64;
        (0..len)
            .map(|_| {
                let byte = (gen_ >> 56) as u8;
                gen_ = gen_.wrapping_mul(11400714785074694797);
                byte
            })
            .collect()
    }

    #[test]
    fn published_vectors() {
        let text: &[(&[u8], u64)] = &[
            (b"", 0xEF46DB3751D8E999),
            (b"a", 0xD24EC4F1A98C6E5B),
            (b"abc", 0x44BC2CF5AD770999),
            (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
        ];
        for (bytes, hash) in text {
            assert_eq!(xxh64(bytes), *hash, "{:?}", String::from_utf8_lossy(bytes));
        }
        for (len, hash) in [
            (1, 0xE934A84ADB052768),
            (4, 0x9136A0DCA57457EE),
            (14, 0x8282DCC4994E35C8),
            (222, 0xB641AE8CB691C174),
        ] {
            assert_eq!(xxh64(&sanity(len)), hash, "sanity buffer of {len} bytes");
        }
    }

    #[test]
    fn pieces_do_not_matter() {
        let bytes = sanity(200);
        let whole = xxh64(&bytes);
        for piece in 1..=bytes.len() {
            let mut hash = Xxh64::new();
            bytes.chunks(piece).for_each(|p| hash.update(p));
            assert_eq!(hash.digest(), whole, "pieces of {piece}");
        }
    }
}

//! A word that threads wait on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most nanoseconds of spinning on the word: several times the price of a sleep and a wake.
const SPIN_MOST: u32 = 64_000;
/// The least: a cache line's trip to another core and back.
const SPIN_LEAST: u32 = 1_000;
/// After this much spinning and yielding, a waiter sleeps.
const AWAKE: Duration = Duration::from_micros(120);
/// Spins between two looks at the clock, about a microsecond's worth.
const SPINS: u32 = 32;

/// A word that some threads change and others wait on.
///
/// A change is visible to a waiter together with everything its writer wrote before.
pub(super) struct Gate {
    word: AtomicU32,
    /// Waiters that sleep or are about to.
    sleepers: AtomicU32,
    /// Nanoseconds of spinning before a waiter offers its core to others. Halved when that was not enough, doubled
    /// when it was: where threads share a core, spinning only keeps the others from doing what is waited for.
    spin: AtomicU32,
    bed: Mutex<()>,
    bell: Condvar,
}

impl Gate {
    pub(super) fn new(word: u32) -> Self {
        Self {
            word: AtomicU32::new(word),
            sleepers: AtomicU32::new(0),
            spin: AtomicU32::new(SPIN_MOST),
            bed: Mutex::new(()),
            bell: Condvar::new(),
        }
    }

    /// The word now.
    pub(super) fn get(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Sets the word, while nobody waits.
    pub(super) fn set(&self, word: u32) {
        self.word.store(word, Ordering::Release);
    }

    /// Changes the word with one sequentially consistent operation and wakes who sleeps; returns what the operation
    /// does.
    pub(super) fn publish<T>(&self, change: impl FnOnce(&AtomicU32) -> T) -> T {
        let result = change(&self.word);
        // Sequentially consistent with `sleep`: either we see the sleeper here, or it saw the new word there.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // Who counts as a sleeper but has not looked at the word yet holds the lock until it truly sleeps.
            drop(self.bed.lock().unwrap_or_else(PoisonError::into_inner));
            self.bell.notify_all();
        }
        result
    }

    /// Waits until the word satisfies `ready`, returns it. Spins, yields, then sleeps.
    pub(super) fn wait(&self, ready: impl Fn(u32) -> bool) -> u32 {
        let word = self.get();
        if ready(word) {
            return word;
        }
        let begin = Instant::now();
        let spin = self.spin.load(Ordering::Relaxed);
        loop {
            for _ in 0..SPINS {
                let word = self.get();
                if ready(word) {
                    self.learn(spin, (spin * 2).min(SPIN_MOST));
                    return word;
                }
                std::hint::spin_loop();
            }
            if begin.elapsed() >= Duration::from_nanos(u64::from(spin)) {
                break;
            }
        }
        self.learn(spin, (spin / 2).max(SPIN_LEAST));
        while begin.elapsed() < AWAKE {
            std::thread::yield_now();
            let word = self.get();
            if ready(word) {
                return word;
            }
        }
        self.sleep(ready)
    }

    /// Waiters race here, and any of them may win: it is a guess. Not written while it stays, to keep the line shared.
    fn learn(&self, old: u32, new: u32) {
        if old != new {
            self.spin.store(new, Ordering::Relaxed);
        }
    }

    #[cold]
    fn sleep(&self, ready: impl Fn(u32) -> bool) -> u32 {
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let word = loop {
            let word = self.word.load(Ordering::SeqCst);
            if ready(word) {
                break word;
            }
            bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        word
    }
}

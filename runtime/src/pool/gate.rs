//! A word that threads wait on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a waiter stays awake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Spinning on the word; ten times the price of a sleep and a wake.
    spin: Duration,
    /// Then giving the core away, but coming back.
    doze: Duration,
}

impl Patience {
    /// With more workers than cores, some other worker needs the core of the one that waits: it goes to sleep at once.
    pub(super) fn for_workers(nth: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if nth <= cores {
            Self {
                spin: Duration::from_micros(80),
                doze: Duration::from_micros(40),
            }
        } else {
            Self {
                spin: Duration::ZERO,
                doze: Duration::ZERO,
            }
        }
    }
}

/// Spins between two looks at the clock, about a microsecond's worth.
const SPINS: u32 = 32;

/// A word that some threads change and others wait on.
///
/// A change is visible to a waiter together with everything its writer wrote before.
pub(super) struct Gate {
    word: AtomicU32,
    /// Waiters that sleep or are about to.
    sleepers: AtomicU32,
    bed: Mutex<()>,
    bell: Condvar,
}

impl Gate {
    pub(super) fn new(word: u32) -> Self {
        Self {
            word: AtomicU32::new(word),
            sleepers: AtomicU32::new(0),
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

    /// Changes the word with one sequentially consistent operation and wakes who sleeps; returns what the operation does.
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

    /// Waits until the word satisfies `ready`, returns it. Spins, dozes, then sleeps.
    pub(super) fn wait(&self, patience: &Patience, ready: impl Fn(u32) -> bool) -> u32 {
        let word = self.get();
        if ready(word) {
            return word;
        }
        let begin = Instant::now();
        loop {
            for _ in 0..SPINS {
                let word = self.get();
                if ready(word) {
                    return word;
                }
                std::hint::spin_loop();
            }
            let waited = begin.elapsed();
            if waited >= patience.spin + patience.doze {
                return self.sleep(ready);
            }
            if waited >= patience.spin {
                std::thread::yield_now();
            }
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

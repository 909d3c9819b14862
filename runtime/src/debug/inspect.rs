//! What worker 0 does around a step while all others wait.

use std::ops::Range;

use ck_kernels::dtype::{ALIGN, ActType, GROUP};
use ck_kernels::ops::{Cache, Ctx, Slot};

use super::finding::{Fault, Finding};
use super::poison::{self, Bad};
use super::{Entry, Step, Watched, What, canary_byte};

/// The bytes of something that a step must not change.
pub(crate) struct Kept {
    watched: Watched,
    bytes: Vec<u8>,
}

/// One step of one entry, and the arena.
pub(crate) struct Inspector<'a> {
    entry: &'a Entry,
    step: &'a Step,
    ctx: &'a Ctx<'a>,
}

impl<'a> Inspector<'a> {
    /// # Safety
    /// The arena of `ctx` is valid, and nobody else touches it while this lives.
    pub(crate) unsafe fn new(entry: &'a Entry, step: &'a Step, ctx: &'a Ctx<'a>) -> Self {
        Inspector { entry, step, ctx }
    }

    /// What must be right before an entry starts: its surroundings get their canaries, and a new sequence its caches.
    pub(crate) fn enter(&self) -> Result<(), Box<Finding>> {
        let all = || self.everywhere();
        for (i, a) in all().enumerate() {
            self.place(a, all().skip(i + 1))?;
        }
        all().for_each(|w| self.put_canary(w));
        if self.entry.starts && self.ctx.pos == 0 {
            self.entry.caches.iter().for_each(|c| self.put_poison(c));
        }
        Ok(())
    }

    /// What must be right before the step: its newborn have places of their own, and get canaries and poison. Returns
    /// what the step must not change.
    pub(crate) fn before(&self) -> Result<Vec<Kept>, Box<Finding>> {
        let Step {
            born, in_place, live, ..
        } = self.step;
        let taken = |a: &Watched, b: &Watched| in_place.contains(&(*a, *b)) || in_place.contains(&(*b, *a));
        for new in *born {
            let others = self.everywhere().chain(*live);
            self.place(new, others.filter(|other| !taken(new, other)))?;
        }
        for new in *born {
            self.put_canary(new);
            if !in_place.iter().any(|(taker, _)| taker == new) {
                self.put_poison(new);
            }
        }
        let kept = |w: &&Watched| {
            let written = self.step.writes.contains(w) || born.contains(w) || in_place.iter().any(|(_, old)| old == *w);
            self.entry.canaries && matches!(w.what, What::Rows(..)) && !written
        };
        let copy = |w: &Watched| Kept {
            watched: *w,
            bytes: self.bytes(w.bytes()).to_vec(),
        };
        Ok(self.everywhere().chain(*live).filter(kept).map(copy).collect())
    }

    /// What must be right after the step: canaries stand, what it does not write is as it was, what it writes is
    /// written. Its dead get their poison.
    pub(crate) fn after(&self, kept: &[Kept]) -> Result<(), Box<Finding>> {
        if self.entry.canaries {
            self.everywhere()
                .chain(self.step.live)
                .try_for_each(|w| self.canary(w))?;
            kept.iter().try_for_each(|kept| self.unchanged(kept))?;
        }
        if self.entry.poison {
            self.step.writes.iter().try_for_each(|w| self.written(w))?;
            self.step.dies.iter().for_each(|w| self.put_poison(w));
        }
        Ok(())
    }

    /// What is alive in every step.
    fn everywhere(&self) -> impl Iterator<Item = &'static Watched> + Clone {
        let Entry {
            caches,
            resident,
            given,
            ..
        } = *self.entry;
        resident.iter().chain(caches).chain(given)
    }

    /// The bytes that nobody else may use while it is alive.
    fn own(&self, w: &Watched) -> Range<usize> {
        let canary = w.canary().filter(|_| self.entry.canaries);
        w.bytes().start..canary.map_or(w.bytes().end, |canary| canary.end)
    }

    fn place<'w>(&self, new: &Watched, mut others: impl Iterator<Item = &'w Watched>) -> Result<(), Box<Finding>> {
        let own = self.own(new);
        if !own.start.is_multiple_of(ALIGN) {
            let (expected, found) = ("a multiple of 64".into(), own.start.to_string());
            return Err(self.finding(Fault::Misaligned, new, None, own.start, [expected, found]));
        }
        let shared = |other: &Watched| {
            let theirs = self.own(other);
            (own.start.max(theirs.start)..own.end.min(theirs.end)).len()
        };
        match others.find(|other| *other != new && shared(other) > 0) {
            None => Ok(()),
            Some(other) => {
                let at = own.start.max(other.bytes().start);
                let found = format!("{} bytes in common", shared(other));
                Err(self.finding(Fault::Overlap, new, Some(other), at, ["none".into(), found]))
            }
        }
    }

    fn canary(&self, w: &Watched) -> Result<(), Box<Finding>> {
        let Some(place) = w.canary() else { return Ok(()) };
        let found = self.bytes(place.clone());
        let expected: Vec<u8> = (0..place.len()).map(|i| canary_byte(place.start, i)).collect();
        let Some(at) = (0..place.len()).find(|i| found[*i] != expected[*i]) else {
            return Ok(());
        };
        let word = at..(at + 8).min(place.len());
        let shown = [hex(&expected[word.clone()]), hex(&found[word])];
        let offset = place.start + at;
        // Whoever wrote here is one of what the step writes: the one that ends closest before, or around, the byte.
        let before = |s: &&Watched| s.bytes().start <= offset;
        let suspects = || self.step.writes.iter().chain(self.step.born);
        let suspect = suspects()
            .filter(before)
            .max_by_key(|s| (s.bytes().end.min(offset), s.bytes().start));
        match suspect.or(suspects().next()) {
            Some(suspect) if suspect != w => Err(self.finding(Fault::Canary, suspect, Some(w), offset, shown)),
            _ => {
                let next = self.everywhere().chain(self.step.live);
                let next = next
                    .filter(|n| n.bytes().start >= place.end)
                    .min_by_key(|n| n.bytes().start);
                Err(self.finding(Fault::PastEnd, w, next, offset, shown))
            }
        }
    }

    /// Whether what the step does not write is as it was.
    fn unchanged(&self, kept: &Kept) -> Result<(), Box<Finding>> {
        let (w, before) = (&kept.watched, &kept.bytes);
        let after = self.bytes(w.bytes());
        let Some(at) = (0..before.len()).find(|i| before[*i] != after[*i]) else {
            return Ok(());
        };
        let word = at..(at + 8).min(before.len());
        let shown = [hex(&before[word.clone()]), hex(&after[word])];
        // What it should have written instead is still poisoned; or it is scratch, of which nobody can tell.
        let Step { born, writes, .. } = self.step;
        let unwritten = writes.iter().find(|w| self.written(w).is_err());
        let scratch = || born.iter().find(|w| matches!(w.what, What::Scratch(..)));
        let suspect = unwritten.or_else(scratch).or(writes.first()).unwrap_or(w);
        Err(self.finding(Fault::Changed, suspect, Some(w), w.bytes().start + at, shown))
    }

    /// Whether a tensor that the step writes is written, and no more of it than the call has tokens.
    fn written(&self, w: &Watched) -> Result<(), Box<Finding>> {
        match w.what {
            What::Rows(slot, rows) => self.rows(w, &slot, rows),
            What::Keys(cache) => self.positions(w, &cache, |cache, p, d| {
                (p / GROUP * cache.head_dim + d) * GROUP + p % GROUP
            }),
            What::Values(cache) => self.positions(w, &cache, |cache, p, d| p * cache.head_dim + d),
            What::Scratch(..) | What::Fixed(..) => Ok(()),
        }
    }

    fn rows(&self, w: &Watched, slot: &Slot, rows: usize) -> Result<(), Box<Finding>> {
        let tokens = rows.min(self.ctx.tokens);
        let start = |row: usize| slot.offset + row * slot.stride();
        for row in 0..tokens {
            let bytes = self.bytes(start(row)..start(row + 1));
            if let Some((at, bad, bits)) = poison::look(slot.act, slot.cols, bytes) {
                return Err(self.bad(w, start(row) + at, bad, &format!("{bits:#010x} in row {row}")));
            }
        }
        let rest = self.bytes(start(tokens)..start(rows));
        let from = tokens * slot.stride();
        match (0..rest.len()).find(|i| rest[*i] != poison::byte(&w.what, from + i)) {
            None => Ok(()),
            Some(i) => {
                let word = i / 4 * 4..i / 4 * 4 + 4;
                let poison: Vec<u8> = word.clone().map(|i| poison::byte(&w.what, from + i)).collect();
                Err(self.past(w, start(tokens) + word.start, &poison, &rest[word]))
            }
        }
    }

    /// The positions of the call, and the one behind them, in every head of a cache whose element `at(cache, position,
    /// d)` of a head is known.
    fn positions(&self, w: &Watched, cache: &Cache, at: fn(&Cache, usize, usize) -> usize) -> Result<(), Box<Finding>> {
        let size = if cache.act == ActType::F16 { 2 } else { 4 };
        let head = cache.context * cache.head_dim;
        let end = self.ctx.pos + self.ctx.tokens;
        for h in 0..cache.kv_heads {
            for p in self.ctx.pos..(end + 1).min(cache.context) {
                for d in 0..cache.head_dim {
                    let i = (h * head + at(cache, p, d)) * size;
                    let offset = w.bytes().start + i;
                    let found = self.bytes(offset..offset + size);
                    let mut word = [0; 4];
                    word[..size].copy_from_slice(found);
                    let bits = u32::from_le_bytes(word);
                    match poison::element(cache.act, bits) {
                        Some(Bad::Unwritten) if p == end => {}
                        _ if p == end => {
                            let poison: Vec<u8> = (i..i + size).map(|i| poison::byte(&w.what, i)).collect();
                            return Err(self.past(w, offset, &poison, found));
                        }
                        Some(bad) => return Err(self.bad(w, offset, bad, &format!("{bits:#x} at position {p}"))),
                        None => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn bad(&self, w: &Watched, offset: usize, bad: Bad, found: &str) -> Box<Finding> {
        let fault = match bad {
            Bad::Unwritten => Fault::Unwritten,
            Bad::FromPoison => Fault::FromPoison,
            Bad::NotANumber => Fault::NotANumber,
        };
        let poison = if bad == Bad::Unwritten { "poison " } else { "" };
        self.finding(fault, w, None, offset, ["a number".into(), format!("{poison}{found}")])
    }

    fn past(&self, w: &Watched, offset: usize, poison: &[u8], found: &[u8]) -> Box<Finding> {
        let shown = [format!("poison {}", hex(poison)), hex(found)];
        self.finding(Fault::PastTokens, w, None, offset, shown)
    }

    fn finding(
        &self,
        fault: Fault,
        w: &Watched,
        other: Option<&Watched>,
        offset: usize,
        shown: [String; 2],
    ) -> Box<Finding> {
        let [expected, found] = shown;
        Box::new(Finding {
            entry: self.entry.name.into(),
            step: self.step.id.into(),
            fault,
            tensor: w.into(),
            other: other.map(Into::into),
            offset,
            expected,
            found,
        })
    }

    fn put_canary(&self, w: &Watched) {
        if let Some(place) = w.canary().filter(|_| self.entry.canaries) {
            self.put(place.clone(), |i| canary_byte(place.start, i));
        }
    }

    fn put_poison(&self, w: &Watched) {
        if self.entry.poison {
            self.put(w.bytes(), |i| poison::byte(&w.what, i));
        }
    }

    /// The bytes at `place`.
    fn bytes(&self, place: Range<usize>) -> &[u8] {
        let start = self.ctx.at(place.start, place.len());
        // SAFETY: `at` keeps the range in the arena, whose memory is initialised (zero at first, or weights); by the
        // contract of `new` nobody writes meanwhile, and this worker does only in `put`, which borrows nothing.
        unsafe { std::slice::from_raw_parts(start, place.len()) }
    }

    fn put(&self, place: Range<usize>, byte: impl Fn(usize) -> u8) {
        let start = self.ctx.at(place.start, place.len());
        for i in 0..place.len() {
            // SAFETY: inside the arena, by `at`; nobody else uses it, by the contract of `new`. That these are no bytes
            // of weights, which may be read-only, `place` and `enter` have seen.
            unsafe { start.add(i).write(byte(i)) };
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    bytes.join(" ")
}

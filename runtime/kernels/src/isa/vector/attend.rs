//! Attention: online softmax over tiles of positions.
//!
//! A tile of keys and values stays in the L1 cache while all queries of the call pass it; several queries at once share
//! its loads. What is computed for one query never depends on the others: a lane of a score adds up over the head in
//! order, a value is added position by position in order, and positions a query does not see are left out, not
//! multiplied by zero (they may hold anything).
//!
//! Every chunk of positions begins anew: whoever looks at it need not know those before. A call over several of them
//! puts them together as it comes along, one over a single chunk has nothing to put together.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::part::{Part, begin, copy, divide, join};
use super::{LANES, Pack, exp, keep, load_half_first, tanh};
use crate::isa::Attend;
use crate::isa::chunks::{CHUNK, MAX_HEAD, PART_VALUES, PART_WEIGHTS};

/// Positions of a tile; tiles start at multiples of it.
const TILE: usize = 64;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Queries that share loads.
const QUERIES: usize = 4;
/// Queries that pass a tile before the next one comes: their states stay in the L2 cache.
const ROWS: usize = 64;
/// The same of a call of few queries: their states are small enough for the stack not to be walked page by page.
const FEW: usize = 8;
/// By how much a score may exceed what weights are relative to: no weight is above `exp` of that, and what came before is
/// rarely worth shrinking.
const SLACK: f32 = 8.0;

/// Online softmax of one query.
#[repr(align(64))]
pub(in crate::isa) struct State {
    /// Scores of a tile, then their weights.
    weights: [MaybeUninit<f32>; TILE],
    /// The chunk so far.
    own: Part,
    /// The chunks before, if the call is for several.
    found: Part,
    /// The query.
    query: *const f32,
    /// Where its result goes.
    out: *mut f32,
    /// The positions of the call that it sees.
    visible: Range<usize>,
}

impl State {
    /// Of row `row` of the call.
    ///
    /// # Safety
    /// As [`pass`]; there is such a row.
    #[inline(always)]
    unsafe fn new(a: &Attend, row: usize) -> State {
        let (token, head) = (row / a.heads, row % a.heads * a.head_dim);
        // SAFETY: the head of a token of the call.
        let (query, out) = unsafe {
            (
                a.q.add(token * a.q_stride + head),
                // With a chunk, nothing need be there.
                a.out.wrapping_add(token * a.out_stride + head),
            )
        };
        State {
            weights: [MaybeUninit::uninit(); TILE],
            own: Part::uninit(),
            found: Part::uninit(),
            query,
            out,
            visible: a.seen(token),
        }
    }

    /// What the query sees of the tile at `start`, counted from there.
    fn seen(&self, start: usize) -> Range<usize> {
        let lo = self.visible.start.saturating_sub(start).min(TILE);
        let hi = self.visible.end.saturating_sub(start).min(TILE);
        if lo < hi { lo..hi } else { 0..0 }
    }

    /// The tile's scores or weights.
    fn weights(&mut self) -> *mut f32 {
        self.weights.as_mut_ptr().cast()
    }
}

/// The work of a call, with a place for the states.
pub(in crate::isa) type Pass = unsafe fn(&Attend, &mut [MaybeUninit<State>]);

/// See [`Attend`]; all the work is `pass`'s.
///
/// # Safety
/// As [`pass`].
pub(in crate::isa) unsafe fn attend(a: &Attend, pass: Pass) {
    // SAFETY: the caller's contract.
    unsafe {
        match a.tokens * a.heads <= FEW {
            true => on_stack::<FEW>(a, pass),
            false => on_stack::<ROWS>(a, pass),
        }
    }
}

/// With as many states on the stack, which the compiler touches page by page: not in one frame with any other number.
///
/// # Safety
/// As [`pass`].
#[inline(never)]
unsafe fn on_stack<const N: usize>(a: &Attend, pass: Pass) {
    let mut states = [const { MaybeUninit::<State>::uninit() }; N];
    // SAFETY: the caller's contract.
    unsafe { pass(a, &mut states) };
}

/// As many queries at a time as there is place for. `KEYS` and `DIMS` are tiles of keys and packs of a value held in
/// registers for [`QUERIES`] queries, `KEYS1` and `DIMS1` for one.
///
/// # Safety
/// As [`Pack`], and as [`crate::isa::scalar::attend::attend`]. `HALF` is `a.half`.
#[inline(always)]
pub(in crate::isa) unsafe fn pass<
    P: Pack,
    const HALF: bool,
    const KEYS: usize,
    const DIMS: usize,
    const KEYS1: usize,
    const DIMS1: usize,
>(
    a: &Attend,
    states: &mut [MaybeUninit<State>],
) {
    assert!(a.head_dim <= MAX_HEAD, "a head has at most 256 elements");
    let (all, most) = (a.tokens * a.heads, states.len());
    for row in (0..all).step_by(most) {
        let rows = most.min(all - row);
        for (i, state) in states[..rows].iter_mut().enumerate() {
            // SAFETY: `row + i < all`.
            unsafe { begin::<P>(state.write(State::new(a, row + i)).own.at_mut(), a.head_dim) };
        }
        // SAFETY: the first `rows` states have just been written.
        let states = unsafe { core::slice::from_raw_parts_mut(states.as_mut_ptr().cast::<State>(), rows) };
        // Both ends of what is seen grow from row to row.
        let (first, last) = (states[0].visible.start, states[rows - 1].visible.end);
        for chunk in first / CHUNK..last.div_ceil(CHUNK) {
            let (from, to) = (first.max(chunk * CHUNK), last.min((chunk + 1) * CHUNK));
            for start in (from / TILE * TILE..to).step_by(TILE) {
                let (shared, single) = states.as_chunks_mut::<QUERIES>();
                // SAFETY: the caller's contract.
                unsafe {
                    for states in shared {
                        block::<P, HALF, QUERIES, KEYS, DIMS, DIMS1>(a, start, states);
                    }
                    for state in single {
                        block::<P, HALF, 1, KEYS1, DIMS1, DIMS1>(a, start, core::array::from_mut(state));
                    }
                }
            }
            for (i, state) in states.iter_mut().enumerate() {
                // SAFETY: the caller's contract; the queries have passed all of the chunk that they see.
                unsafe {
                    match &a.chunk {
                        Some(part) => copy::<P>(part.out.add((row + i) * part.stride), state.own.at(), a.head_dim),
                        None => close::<P>(a, state, chunk),
                    }
                }
            }
        }
    }
}

/// Some queries and the tile at `start`.
///
/// # Safety
/// As [`pass`].
#[inline(always)]
unsafe fn block<P: Pack, const HALF: bool, const Q: usize, const KEYS: usize, const DIMS: usize, const DIMS1: usize>(
    a: &Attend,
    start: usize,
    states: &mut [State; Q],
) {
    let mut seen = [const { 0..0 }; Q];
    for (seen, state) in seen.iter_mut().zip(states.iter()) {
        *seen = state.seen(start);
    }
    let some = || seen.iter().filter(|r| !r.is_empty());
    let Some(lo) = some().map(|r| r.start).min() else {
        return;
    };
    let hi = some().map(|r| r.end).max().unwrap_or(0);
    // SAFETY: the positions `lo..hi` of the tile are in the cache, and keys are there in whole tiles of `LANES`.
    unsafe {
        score::<P, HALF, Q, KEYS>(a, start, lo / LANES..hi.div_ceil(LANES), states);
        for (state, seen) in states.iter_mut().zip(&seen) {
            weigh::<P>(a, state, seen);
        }
        let common =
            seen.iter().map(|r| r.start).max().unwrap_or(0).max(lo)..seen.iter().map(|r| r.end).min().unwrap_or(0);
        if Q == 1 || common.is_empty() {
            for (state, seen) in states.iter_mut().zip(&seen) {
                add_values::<P, HALF, 1, DIMS1>(a, start, seen.clone(), core::array::from_mut(state));
            }
        } else {
            for (state, seen) in states.iter_mut().zip(&seen) {
                let lead = seen.start..common.start;
                add_values::<P, HALF, 1, DIMS1>(a, start, lead, core::array::from_mut(state));
            }
            add_values::<P, HALF, Q, DIMS>(a, start, common.clone(), states);
            for (state, seen) in states.iter_mut().zip(&seen) {
                let rest = common.end..seen.end;
                add_values::<P, HALF, 1, DIMS1>(a, start, rest, core::array::from_mut(state));
            }
        }
    }
}

/// Ends `chunk`: puts what the query found there to what it found before, and writes the result if it sees nothing behind.
///
/// # Safety
/// As [`pass`]; the query has passed the tiles of the chunk.
#[inline(always)]
unsafe fn close<P: Pack>(a: &Attend, state: &mut State, chunk: usize) {
    let n = a.head_dim;
    let (first, last) = (state.visible.start / CHUNK, (state.visible.end - 1) / CHUNK);
    if !(first..=last).contains(&chunk) {
        return;
    }
    let (own, found) = (state.own.at_mut(), state.found.at_mut());
    // SAFETY: parts of a head's elements, and `out` has room for these.
    unsafe {
        if first == last {
            return divide::<P>(own, n, state.out);
        }
        if chunk == first {
            copy::<P>(found, own, n);
        } else {
            join::<P>(found, own, n);
        }
        if chunk == last {
            divide::<P>(found, n, state.out);
        } else {
            begin::<P>(own, n);
        }
    }
}

/// Sixteen elements of a cache, from element `i`.
///
/// # Safety
/// As [`Pack`].
#[inline(always)]
unsafe fn load<P: Pack, const HALF: bool>(base: *const u8, i: usize) -> P {
    // SAFETY: the caller's contract.
    unsafe {
        if HALF {
            P::load_half(base.cast::<u16>().add(i))
        } else {
            P::load(base.cast::<f32>().add(i))
        }
    }
}

/// `n` elements of a cache, from element `i`.
///
/// # Safety
/// As [`Pack`].
#[inline(always)]
unsafe fn load_first<P: Pack, const HALF: bool>(base: *const u8, i: usize, n: usize) -> P {
    // SAFETY: the caller's contract.
    unsafe {
        if HALF {
            load_half_first(base.cast::<u16>().add(i), n)
        } else {
            P::load_first(base.cast::<f32>().add(i), n)
        }
    }
}

/// Asks for the lines of as many elements of the next tile, from element `element` of a cache, as a step over this one uses.
///
/// # Safety
/// As [`Pack`]. Nothing need be there.
#[inline(always)]
unsafe fn prefetch<P: Pack, const HALF: bool>(base: *const u8, element: usize, elements: usize) {
    let size = if HALF { size_of::<u16>() } else { size_of::<f32>() };
    let at = base.wrapping_add(element * size);
    for byte in (0..elements * size).step_by(LINE) {
        // SAFETY: the caller's contract.
        unsafe { P::prefetch(at.wrapping_add(byte)) };
    }
}

/// Dot products of `Q` queries with the keys of `groups` (of `LANES` positions) of the tile at `start`.
///
/// # Safety
/// As [`pass`]; the groups are in the cache.
#[inline(always)]
unsafe fn score<P: Pack, const HALF: bool, const Q: usize, const KEYS: usize>(
    a: &Attend,
    start: usize,
    groups: Range<usize>,
    states: &mut [State; Q],
) {
    let mut g = groups.start;
    // SAFETY: the caller's contract.
    unsafe {
        while g + KEYS <= groups.end {
            score_groups::<P, HALF, Q, KEYS>(a, start, g, states);
            g += KEYS;
        }
        while g < groups.end {
            score_groups::<P, HALF, Q, 1>(a, start, g, states);
            g += 1;
        }
    }
}

/// [`score`] for `KEYS` groups from group `g`.
///
/// # Safety
/// As [`score`].
#[inline(always)]
unsafe fn score_groups<P: Pack, const HALF: bool, const Q: usize, const KEYS: usize>(
    a: &Attend,
    start: usize,
    g: usize,
    states: &mut [State; Q],
) {
    let tile = a.head_dim * LANES;
    let base = (start / LANES + g) * tile;
    // SAFETY: element `d` of each group's keys and of each query is there.
    unsafe {
        let mut dots = [[P::splat(0.0); KEYS]; Q];
        for d in 0..a.head_dim {
            let mut keys = [P::splat(0.0); KEYS];
            for (j, key) in keys.iter_mut().enumerate() {
                *key = load::<P, HALF>(a.k, base + j * tile + d * LANES);
            }
            let next = base + TILE / LANES * tile + d * KEYS * LANES;
            prefetch::<P, HALF>(a.k, next, KEYS * LANES);
            for (dots, state) in dots.iter_mut().zip(states.iter()) {
                let x = P::splat(*state.query.add(d));
                for (dot, key) in dots.iter_mut().zip(keys) {
                    *dot = x.fma(key, *dot);
                }
            }
        }
        for (state, dots) in states.iter_mut().zip(dots) {
            for (j, dot) in dots.into_iter().enumerate() {
                dot.store(state.weights().add((g + j) * LANES));
            }
        }
    }
}

/// Turns the dot products of the tile's positions `seen` into weights. What they are relative to is the largest score so
/// far or up to [`SLACK`] below it: what came before has to shrink only where a score is above that.
///
/// # Safety
/// As [`Pack`].
#[inline(always)]
unsafe fn weigh<P: Pack>(a: &Attend, state: &mut State, seen: &Range<usize>) {
    if seen.is_empty() {
        return;
    }
    let groups = seen.start / LANES..seen.end.div_ceil(LANES);
    let weights = state.weights();
    let own = state.own.at_mut();
    // SAFETY: the groups are inside the tile, a head's packs inside its part.
    unsafe {
        let nothing = P::splat(f32::NEG_INFINITY);
        let mut top = nothing;
        for g in groups.clone() {
            let at = weights.add(g * LANES);
            let mut score = P::load(at).mul(P::splat(a.scale));
            if a.softcap > 0.0 {
                let cap = P::splat(a.softcap);
                score = tanh(score.div(cap)).mul(cap);
            }
            let lo = seen.start.saturating_sub(g * LANES);
            let hi = (seen.end - g * LANES).min(LANES);
            score = keep(score, lo, hi, nothing);
            score.store(at);
            top = score.max(top);
        }
        let top = top.largest();
        if top > *own + SLACK {
            let shrink = exp(P::splat(*own - top));
            for i in (PART_WEIGHTS..PART_VALUES + a.head_dim).step_by(LANES) {
                P::load(own.add(i)).mul(shrink).store(own.add(i));
            }
            *own = top;
        }
        let base = P::splat(*own);
        let mut total = P::load(own.add(PART_WEIGHTS));
        for g in groups {
            let at = weights.add(g * LANES);
            let weight = exp(P::load(at).sub(base));
            weight.store(at);
            total = total.add(weight);
        }
        total.store(own.add(PART_WEIGHTS));
    }
}

/// Adds the values of the tile's `positions`, weighted.
///
/// # Safety
/// As [`pass`]; the positions are in the cache, and every query sees them.
#[inline(always)]
unsafe fn add_values<P: Pack, const HALF: bool, const Q: usize, const DIMS: usize>(
    a: &Attend,
    start: usize,
    positions: Range<usize>,
    states: &mut [State; Q],
) {
    if positions.is_empty() {
        return;
    }
    let whole = a.head_dim / LANES * LANES;
    let mut d = 0;
    // SAFETY: the packs are inside a value and inside the part.
    unsafe {
        while d + DIMS * LANES <= whole {
            add_packs::<P, HALF, Q, DIMS>(a, start, positions.clone(), states, d, LANES);
            d += DIMS * LANES;
        }
        while d < whole {
            add_packs::<P, HALF, Q, 1>(a, start, positions.clone(), states, d, LANES);
            d += LANES;
        }
        if d < a.head_dim {
            add_packs::<P, HALF, Q, 1>(a, start, positions, states, d, a.head_dim - d);
        }
    }
}

/// [`add_values`] for `DIMS` packs of each value from element `d`; `n` elements of a pack are there.
///
/// # Safety
/// As [`add_values`].
#[inline(always)]
unsafe fn add_packs<P: Pack, const HALF: bool, const Q: usize, const DIMS: usize>(
    a: &Attend,
    start: usize,
    positions: Range<usize>,
    states: &mut [State; Q],
    d: usize,
    n: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut sums = [[P::splat(0.0); DIMS]; Q];
        for (sums, state) in sums.iter_mut().zip(states.iter()) {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = P::load(state.own.at().add(PART_VALUES + d + j * LANES));
            }
        }
        for p in positions {
            let row = (start + p) * a.head_dim + d;
            let mut values = [P::splat(0.0); DIMS];
            for (j, value) in values.iter_mut().enumerate() {
                *value = if n == LANES {
                    load::<P, HALF>(a.v, row + j * LANES)
                } else {
                    load_first::<P, HALF>(a.v, row + j * LANES, n)
                };
            }
            prefetch::<P, HALF>(a.v, row + TILE * a.head_dim, DIMS * LANES);
            for (sums, state) in sums.iter_mut().zip(states.iter()) {
                let weight = P::splat(*state.weights.as_ptr().cast::<f32>().add(p));
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = weight.fma(value, *sum);
                }
            }
        }
        for (sums, state) in sums.iter().zip(states.iter_mut()) {
            for (j, sum) in sums.iter().enumerate() {
                sum.store(state.own.at_mut().add(PART_VALUES + d + j * LANES));
            }
        }
    }
}

//! Attention: online softmax over tiles of positions.
//!
//! A tile of keys and values stays in the L1 cache while all queries of the call pass it; several queries at once share
//! its loads. What is computed for one query never depends on the others: a lane of a score adds up over the head in
//! order, a value is added position by position in order, and positions a query does not see are left out, not
//! multiplied by zero (they may hold anything).

use core::mem::MaybeUninit;
use core::ops::Range;

use super::{LANES, Pack, exp, keep, load_half_first, tanh};
use crate::isa::{Attend, visible};

/// Positions of a tile; tiles start at multiples of it.
const TILE: usize = 64;
/// Elements of the largest head.
const MAX_HEAD: usize = 256;
/// Queries that share loads.
const QUERIES: usize = 4;
/// Queries that pass a tile before the next one comes: their states stay in the L2 cache.
const ROWS: usize = 64;

/// Online softmax of one query.
#[repr(align(64))]
struct State {
    /// Scores of a tile, then their weights.
    weights: [f32; TILE],
    /// Weighted values so far; as many as a head has elements.
    sums: [f32; MAX_HEAD],
    /// Weights so far, by lane.
    total: [f32; LANES],
    /// Largest score so far.
    max: f32,
    /// The query.
    query: *const f32,
    /// Where its result goes.
    out: *mut f32,
    /// The positions that it sees.
    visible: Range<usize>,
}

impl State {
    /// Of row `row` of the call.
    ///
    /// # Safety
    /// As [`attend`]; there is such a row.
    unsafe fn new(a: &Attend, row: usize) -> State {
        let (token, head) = (row / a.heads, row % a.heads * a.head_dim);
        // SAFETY: the head of a token of the call.
        let (query, out) = unsafe {
            (
                a.q.add(token * a.q_stride + head),
                a.out.add(token * a.out_stride + head),
            )
        };
        State {
            weights: [0.0; TILE],
            sums: [0.0; MAX_HEAD],
            total: [0.0; LANES],
            max: f32::NEG_INFINITY,
            query,
            out,
            visible: visible(a.pos + token, a.window),
        }
    }

    /// What the query sees of the tile at `start`, counted from there.
    fn seen(&self, start: usize) -> Range<usize> {
        let lo = self.visible.start.saturating_sub(start).min(TILE);
        let hi = self.visible.end.saturating_sub(start).min(TILE);
        if lo < hi { lo..hi } else { 0..0 }
    }
}

/// See [`Attend`]. `KEYS` and `DIMS` are tiles of keys and packs of a value held in registers for [`QUERIES`] queries,
/// `KEYS1` and `DIMS1` for one.
///
/// # Safety
/// As [`Pack`], and as [`crate::isa::scalar::attend::attend`]. `HALF` is `a.half`.
#[inline(always)]
pub(in crate::isa) unsafe fn attend<
    P: Pack,
    const HALF: bool,
    const KEYS: usize,
    const DIMS: usize,
    const KEYS1: usize,
    const DIMS1: usize,
>(
    a: &Attend,
) {
    assert!(a.head_dim <= MAX_HEAD, "a head has at most 256 elements");
    let mut states = [const { MaybeUninit::<State>::uninit() }; ROWS];
    let all = a.tokens * a.heads;
    for row in (0..all).step_by(ROWS) {
        let rows = ROWS.min(all - row);
        for (i, state) in states[..rows].iter_mut().enumerate() {
            // SAFETY: `row + i < all`.
            state.write(unsafe { State::new(a, row + i) });
        }
        // SAFETY: the first `rows` states have just been written.
        let states = unsafe { core::slice::from_raw_parts_mut(states.as_mut_ptr().cast::<State>(), rows) };
        // Both ends of what is seen grow from row to row.
        let (first, last) = (states[0].visible.start, states[rows - 1].visible.end);
        for start in (first / TILE * TILE..last).step_by(TILE) {
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
        for state in states {
            // SAFETY: the query of this row is not needed any more.
            unsafe { finish::<P>(a, state) };
        }
    }
}

/// Some queries and the tile at `start`.
///
/// # Safety
/// As [`attend`].
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

/// Writes the result of a query that has seen all tiles.
///
/// # Safety
/// As [`attend`]; the query is not needed any more.
#[inline(always)]
unsafe fn finish<P: Pack>(a: &Attend, state: &State) {
    // SAFETY: a head's packs are inside `sums`, and `out` has a head's elements.
    unsafe {
        let total = P::splat(P::load(state.total.as_ptr()).sum());
        for d in (0..a.head_dim).step_by(LANES) {
            let y = P::load(state.sums.as_ptr().add(d)).div(total);
            y.store_first(state.out.add(d), (a.head_dim - d).min(LANES));
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

/// Dot products of `Q` queries with the keys of `groups` (of `LANES` positions) of the tile at `start`.
///
/// # Safety
/// As [`attend`]; the groups are in the cache.
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
            for (dots, state) in dots.iter_mut().zip(states.iter()) {
                let x = P::splat(*state.query.add(d));
                for (dot, key) in dots.iter_mut().zip(keys) {
                    *dot = x.fma(key, *dot);
                }
            }
        }
        for (state, dots) in states.iter_mut().zip(dots) {
            for (j, dot) in dots.into_iter().enumerate() {
                dot.store(state.weights.as_mut_ptr().add((g + j) * LANES));
            }
        }
    }
}

/// Turns the dot products of the tile's positions `seen` into weights, and shrinks what came before to the new maximum.
///
/// # Safety
/// As [`Pack`].
#[inline(always)]
unsafe fn weigh<P: Pack>(a: &Attend, state: &mut State, seen: &Range<usize>) {
    if seen.is_empty() {
        return;
    }
    let groups = seen.start / LANES..seen.end.div_ceil(LANES);
    let weights = state.weights.as_mut_ptr();
    // SAFETY: the groups are inside the tile, a head's packs inside `sums`.
    unsafe {
        let nothing = P::splat(f32::NEG_INFINITY);
        let mut max = nothing;
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
            max = score.max(max);
        }
        let max = max.largest().max(state.max);
        let shrink = exp(P::splat(state.max).sub(P::splat(max)));
        let mut total = P::load(state.total.as_ptr()).mul(shrink);
        for g in groups {
            let at = weights.add(g * LANES);
            let weight = exp(P::load(at).sub(P::splat(max)));
            weight.store(at);
            total = total.add(weight);
        }
        total.store(state.total.as_mut_ptr());
        if max != state.max {
            for d in (0..a.head_dim).step_by(LANES) {
                let at = state.sums.as_mut_ptr().add(d);
                P::load(at).mul(shrink).store(at);
            }
        }
        state.max = max;
    }
}

/// Adds the values of the tile's `positions`, weighted.
///
/// # Safety
/// As [`attend`]; the positions are in the cache, and every query sees them.
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
    // SAFETY: the packs are inside a value and inside `sums`.
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
                *sum = P::load(state.sums.as_ptr().add(d + j * LANES));
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
            for (sums, state) in sums.iter_mut().zip(states.iter()) {
                let weight = P::splat(*state.weights.get_unchecked(p));
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = weight.fma(value, *sum);
                }
            }
        }
        for (sums, state) in sums.iter().zip(states.iter_mut()) {
            for (j, sum) in sums.iter().enumerate() {
                sum.store(state.sums.as_mut_ptr().add(d + j * LANES));
            }
        }
    }
}

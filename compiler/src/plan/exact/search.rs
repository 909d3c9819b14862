//! Is there a layout within a capacity? A depth-first search that can be paused.
//!
//! Looked for is a layout in which nothing can be moved down, so that each block stands on another or on the ground. A
//! block that nothing else can go under either stands at the lowest base that the placed ones leave, its slot, with
//! everything else above it; or it does not. Both are tried, in this order:
//!
//! * placed: its neighbours' lowest bases rise to its top;
//! * pushed: another block must lie in its slot, and the block stands on that or higher. So its bound is the lowest top
//!   of the blocks that can still reach into the slot, and rises with theirs. When there are none, it fails at once.
//!
//! What is left to place in a section of time, released at the bound of each block, must fit. Where no unplaced block
//! crosses a cut between sections, both sides are solved apart, and a failure goes back to the placement that made the cut.

use super::instance::{Block, Instance, aligned};
use super::orders::{self, Order, Rule};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// [`Search::bases`] is a layout.
    Found,
    /// There is none.
    Exhausted,
    /// The budget is spent; the next run goes on.
    Paused,
}

const NONE: usize = usize::MAX;

/// A placement counts as one node, and one more for each so many section entries that it makes the search look at, so
/// that a budget means about the same time on wide and on narrow problems.
const ENTRIES: u64 = 256;

/// A set of unplaced blocks that can be solved apart from all others.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Where in `Search::lists` the blocks stand, in static order.
    blocks: (usize, usize),
    /// Sections they span.
    sections: (usize, usize),
    /// The frame whose placement made this part.
    maker: usize,
    /// The next part to be solved.
    next: usize,
}

/// One choice: a block of a part that is placed, or pushed for the choice after it.
#[derive(Clone, Copy, Debug)]
struct Frame {
    part: Part,
    /// Lengths of the stacks before the frame, and before its placement.
    entry: Marks,
    marks: Marks,
    /// The block that is placed, or [`NONE`].
    placed: usize,
    /// Placements that were taken back on the way here after something was placed on top of them.
    doubts: u32,
}

#[derive(Clone, Copy, Debug)]
struct Marks {
    lists: usize,
    parts: usize,
    held: usize,
    trail: usize,
}

/// What was overwritten.
#[derive(Clone, Copy, Debug)]
enum Old {
    Low(u32, u64),
    Bound(u32, u64),
    Slot(u32, u64),
    Floor(u32, u64),
}

/// A search for one capacity by one rule, in one static order.
pub(super) struct Search<'i> {
    instance: &'i Instance,
    rule: Rule,
    order: Order,
    capacity: u64,
    /// Base of each placed block.
    bases: Vec<u64>,
    placed: Vec<bool>,
    /// The lowest base that the placed blocks leave each block.
    low: Vec<u64>,
    /// No layout has it lower; above `low` for a block that is pushed.
    bound: Vec<u64>,
    /// The base at which a pushed block does not stand, and a block that may be in its way there.
    slot: Vec<u64>,
    witness: Vec<(u32, u64)>,
    /// Blocks that were pushed; they are as long as their bound is above `low`.
    held: Vec<u32>,
    /// Bytes left to place in each section, and the lowest bound of anything left.
    left: Vec<u64>,
    floor: Vec<u64>,
    /// Unplaced blocks that cross the cut after each section.
    crossing: Vec<u32>,
    frames: Vec<Frame>,
    parts: Vec<Part>,
    lists: Vec<u32>,
    trail: Vec<Old>,
    /// The first part to be solved; [`NONE`] when all are.
    agenda: usize,
    descend: bool,
    started: bool,
    /// The agenda to begin with.
    first: usize,
    /// The last placement failed at once, so that it was no choice.
    refused: bool,
    /// How many placements one after another may be doubted, and whether more were to be.
    most: u32,
    cut: bool,
    /// Sections that are to be looked at, and whether a section is one of them.
    touched: Vec<u32>,
    stamp: Vec<bool>,
    /// Scratch.
    releases: Vec<(u64, u64)>,
    /// Section entries looked at for this placement.
    looked_at: u64,
}

impl<'i> Search<'i> {
    /// With `doubts`, layouts are looked at first in which at most so many placements differ from the first choice; when
    /// there is none, more.
    pub fn new(instance: &'i Instance, rule: Rule, order: Order, capacity: u64, doubts: Option<u32>) -> Self {
        let (n, m) = (instance.blocks.len(), instance.sections.len());
        let low: Vec<u64> = instance.blocks.iter().map(|b| b.pinned.unwrap_or(0)).collect();
        let mut search = Self {
            instance,
            rule,
            order,
            capacity,
            bases: vec![0; n],
            placed: vec![false; n],
            bound: low.clone(),
            slot: low.clone(),
            low,
            witness: vec![(0, 0); n],
            held: Vec::new(),
            left: vec![0; m],
            floor: vec![0; m],
            crossing: vec![0; m],
            frames: Vec::new(),
            parts: Vec::new(),
            lists: Vec::new(),
            trail: Vec::new(),
            agenda: NONE,
            descend: true,
            started: false,
            refused: false,
            first: NONE,
            most: doubts.unwrap_or(u32::MAX),
            cut: false,
            touched: Vec::new(),
            stamp: vec![false; m],
            releases: Vec::new(),
            looked_at: 0,
        };
        for block in &instance.blocks {
            for &(s, height) in &block.cover {
                search.left[s as usize] += height;
            }
            let (first, last) = block.span();
            search.crossing[first..last.saturating_sub(1)]
                .iter_mut()
                .for_each(|c| *c += 1);
        }
        search
    }

    /// The bases found, one a block.
    pub fn bases(&self) -> &[u64] {
        &self.bases
    }

    /// Goes on until `budget` nodes are spent, which it takes off.
    pub fn run(&mut self, budget: &mut u64) -> Verdict {
        if !self.started {
            self.started = true;
            let all = (0..self.instance.sections.len()).all(|s| self.fits(s));
            let tall = |b: &Block| b.pinned.unwrap_or(0) + b.size > self.capacity;
            if !all || self.instance.blocks.iter().any(tall) {
                self.descend = false;
            } else {
                let cuts: Vec<usize> = (1..self.instance.sections.len())
                    .filter(|&s| self.crossing[s - 1] == 0)
                    .collect();
                self.lists.extend(0..self.instance.blocks.len() as u32);
                let whole = Part {
                    blocks: (0, self.lists.len()),
                    sections: (0, self.instance.sections.len()),
                    maker: NONE,
                    next: NONE,
                };
                self.split(whole, &cuts, NONE, NONE);
                self.first = self.agenda;
            }
        }
        loop {
            if self.descend {
                if self.agenda == NONE {
                    return Verdict::Found;
                }
                let (part, entry) = (self.parts[self.agenda], self.marks());
                self.frames.push(Frame {
                    part,
                    entry,
                    marks: entry,
                    placed: NONE,
                    doubts: self.frames.last().map_or(0, |f| f.doubts),
                });
                self.descend = false;
            }
            let Some(top) = self.frames.len().checked_sub(1) else {
                if !std::mem::take(&mut self.cut) {
                    return Verdict::Exhausted;
                }
                self.most = self.most.saturating_add(self.most / 2 + 1);
                (self.agenda, self.descend) = (self.first, true);
                continue;
            };
            let Frame {
                part, marks, placed, ..
            } = self.frames[top];
            if placed != NONE && !std::mem::take(&mut self.refused) {
                self.frames[top].doubts += 1;
            }
            let mut open = self.frames[top].doubts <= self.most;
            self.cut |= !open;
            if open && placed != NONE {
                self.take_back(top, marks);
                open = self.push(placed);
                self.frames[top].marks = self.marks();
            }
            let Some(block) = open.then(|| self.choose(&part)).flatten() else {
                // Nothing can be placed next in this part: the placement that made the part is wrong.
                while self.frames.len() > part.maker.wrapping_add(1) {
                    let last = self.frames.len() - 1;
                    self.take_back(last, self.frames[last].entry);
                    self.frames.pop();
                }
                continue;
            };
            if *budget == 0 {
                return Verdict::Paused;
            }
            self.looked_at = 0;
            self.descend = self.place(top, block);
            self.refused = !self.descend;
            *budget = budget.saturating_sub(1 + self.looked_at / ENTRIES);
        }
    }

    fn marks(&self) -> Marks {
        Marks {
            lists: self.lists.len(),
            parts: self.parts.len(),
            held: self.held.len(),
            trail: self.trail.len(),
        }
    }

    /// The block to be placed next: one that stands on what is placed, and that nothing can go under.
    fn choose(&self, part: &Part) -> Option<usize> {
        let blocks = &self.instance.blocks;
        let list = || {
            self.lists[part.blocks.0..part.blocks.1]
                .iter()
                .map(|&b| b as usize)
                .filter(|&b| !self.placed[b])
        };
        let free = |&b: &usize| self.bound[b] == self.low[b];
        let lowest = match self.rule {
            Rule::Lowest => list().filter(free).min_by_key(|&b| self.low[b]),
            Rule::Tightest => {
                let sections = (part.sections.0..part.sections.1).filter(|&s| self.left[s] > 0);
                let spare = |&s: &usize| (self.capacity - self.left[s] - self.floor[s], self.floor[s]);
                let tightest = sections.min_by_key(spare)? as u32;
                let live = |&b: &usize| blocks[b].cover.binary_search_by_key(&tightest, |c| c.0).is_ok();
                list()
                    .filter(free)
                    .filter(live)
                    .min_by_key(|&b| self.low[b])
                    .or_else(|| list().filter(free).min_by_key(|&b| self.low[b]))
            }
        };
        let mut next = lowest?;
        // Each step goes to a lower bound: to what can go under a block, or to what pushes it up.
        loop {
            let (low, pushed) = (self.low[next], self.bound[next] > self.low[next]);
            let below = |&&(k, own, height): &&(u32, u64, u64)| {
                let at = self.bound[k as usize];
                let meets = if pushed {
                    at < self.slot[next] + own
                } else {
                    at + height <= low
                };
                meets && !self.placed[k as usize]
            };
            let neighbours = blocks[next].neighbours.iter().filter(below);
            match neighbours.min_by_key(|n| self.bound[n.0 as usize] + n.2) {
                Some(lower) => next = lower.0 as usize,
                None => return Some(next),
            }
        }
    }

    /// Undoes the placement of the frame, if it has one, and all else since `to`.
    fn take_back(&mut self, frame: usize, to: Marks) {
        let placed = std::mem::replace(&mut self.frames[frame].placed, NONE);
        if placed != NONE {
            let block = &self.instance.blocks[placed];
            self.placed[placed] = false;
            for &(s, height) in &block.cover {
                self.left[s as usize] += height;
            }
            let (first, last) = block.span();
            self.crossing[first..last - 1].iter_mut().for_each(|c| *c += 1);
        }
        for old in self.trail.drain(to.trail..).rev() {
            match old {
                Old::Low(b, low) => self.low[b as usize] = low,
                Old::Bound(b, bound) => self.bound[b as usize] = bound,
                Old::Slot(b, slot) => self.slot[b as usize] = slot,
                Old::Floor(s, floor) => self.floor[s as usize] = floor,
            }
        }
        self.lists.truncate(to.lists);
        self.parts.truncate(to.parts);
        self.held.truncate(to.held);
    }

    fn touch(&mut self, section: usize) {
        if !std::mem::replace(&mut self.stamp[section], true) {
            self.touched.push(section as u32);
        }
    }

    /// Raises a block's bound.
    fn raise(&mut self, b: usize, to: u64) {
        let instance = self.instance;
        let from = std::mem::replace(&mut self.bound[b], to);
        self.trail.push(Old::Bound(b as u32, from));
        for &(s, _) in &instance.blocks[b].cover {
            let s = s as usize;
            // Otherwise neither the section's floor nor what is released late in it changes.
            if from == self.floor[s] || to + self.left[s] > self.capacity {
                self.touch(s);
            }
        }
    }

    /// Notes that the block is not at the lowest base that it has, and so none of its twins is. False when it must be.
    fn push(&mut self, b: usize) -> bool {
        let block = &self.instance.blocks[b];
        if block.pinned.is_some() {
            return false;
        }
        let first = self.held.len();
        for twin in std::iter::once(b as u32).chain(block.twins.iter().copied()) {
            let t = twin as usize;
            if !self.placed[t] {
                self.trail.push(Old::Slot(twin, self.slot[t]));
                self.slot[t] = self.low[t];
                self.held.push(twin);
            }
        }
        (first..self.held.len()).all(|at| self.derive(self.held[at] as usize)) && self.settle()
    }

    /// Raises the bound of a pushed block to the lowest top of what can lie in its slot. False when nothing can.
    fn derive(&mut self, b: usize) -> bool {
        let block = &self.instance.blocks[b];
        let mut lowest: Option<u64> = None;
        for &(k, own, height) in &block.neighbours {
            let at = self.bound[k as usize];
            if self.placed[k as usize] || at >= self.slot[b] + own {
                continue;
            }
            let top = aligned(at + height, block);
            if lowest.is_none_or(|lowest| top < lowest) {
                lowest = Some(top);
                self.witness[b] = (k, height);
                if top <= self.bound[b] {
                    return true;
                }
            }
        }
        if let Some(lowest) = lowest {
            self.raise(b, lowest);
        }
        lowest.is_some()
    }

    /// Looks at all touched sections and pushed blocks until nothing changes. False when something cannot be.
    fn settle(&mut self) -> bool {
        let ok = self.settled();
        for s in self.touched.drain(..) {
            self.stamp[s as usize] = false;
        }
        ok
    }

    fn settled(&mut self) -> bool {
        loop {
            while let Some(s) = self.touched.pop() {
                self.stamp[s as usize] = false;
                if !self.fits(s as usize) {
                    return false;
                }
            }
            for at in 0..self.held.len() {
                let b = self.held[at] as usize;
                if self.placed[b] || self.bound[b] == self.low[b] {
                    continue;
                }
                let (k, height) = self.witness[b];
                let bound = self.bound[k as usize];
                let holds = !self.placed[k as usize] && bound <= self.slot[b] && bound + height <= self.bound[b];
                if !holds && !self.derive(b) {
                    return false;
                }
            }
            if self.touched.is_empty() {
                return true;
            }
        }
    }

    /// Places a block as the next of the frame's part, and makes the agenda for what is left. False when that cannot be.
    fn place(&mut self, frame: usize, chosen: usize) -> bool {
        let instance = self.instance;
        let block = &instance.blocks[chosen];
        let base = self.low[chosen];
        self.frames[frame].placed = chosen;
        self.placed[chosen] = true;
        self.bases[chosen] = base;
        let mut cuts = Vec::new();
        let (first, last) = block.span();
        for s in first..last - 1 {
            self.crossing[s] -= 1;
            if self.crossing[s] == 0 {
                cuts.push(s + 1);
            }
        }
        for &(s, height) in &block.cover {
            self.left[s as usize] -= height;
            if base == self.floor[s as usize] {
                self.touch(s as usize);
            }
        }
        let mut pins_hold = true;
        for &(k, height, _) in &block.neighbours {
            let k = k as usize;
            let other = &instance.blocks[k];
            let low = aligned(base + height, other);
            if self.placed[k] || low <= self.low[k] {
                continue;
            }
            self.trail.push(Old::Low(k as u32, self.low[k]));
            self.low[k] = low;
            if low > self.bound[k] {
                pins_hold &= other.pinned.is_none();
                self.raise(k, low);
            }
        }
        if !self.settle() || !pins_hold {
            return false;
        }
        let part = self.frames[frame].part;
        self.split(part, &cuts, frame, part.next);
        true
    }

    /// Whether what is left in the section can still be placed: as on one machine with release times, work left when each
    /// block may start at its bound. Notes the section's floor.
    fn fits(&mut self, section: usize) -> bool {
        if self.left[section] == 0 {
            return true;
        }
        self.releases.clear();
        self.looked_at += self.instance.sections[section].len() as u64;
        // What is released at or below this can wait for everything else.
        let Some(easy) = self.capacity.checked_sub(self.left[section]) else {
            return false;
        };
        let (mut floor, mut last, mut late) = (u64::MAX, 0, 0);
        for &(b, height) in &self.instance.sections[section] {
            if !self.placed[b as usize] {
                let bound = self.bound[b as usize];
                floor = floor.min(bound);
                if bound > easy {
                    last = last.max(bound);
                    late += height;
                    self.releases.push((bound, height));
                }
            }
        }
        if floor > self.floor[section] {
            self.trail.push(Old::Floor(section as u32, self.floor[section]));
            self.floor[section] = floor;
        }
        if floor > easy || last + late <= self.capacity {
            return floor <= easy;
        }
        self.releases.sort_unstable();
        let mut later = 0;
        self.releases.iter().rev().all(|&(bound, height)| {
            later += height;
            bound + later <= self.capacity
        })
    }

    /// Puts what is left of `part` on the agenda, cut before each of the sections `cuts`.
    fn split(&mut self, part: Part, cuts: &[usize], maker: usize, next: usize) {
        let (from, to) = part.blocks;
        self.agenda = next;
        if cuts.is_empty() && maker != NONE {
            let start = self.lists.len();
            for at in from..to {
                let b = self.lists[at];
                if !self.placed[b as usize] {
                    self.lists.push(b);
                }
            }
            if self.lists.len() > start {
                let blocks = (start, self.lists.len());
                self.agenda = self.parts.len();
                self.parts.push(Part {
                    blocks,
                    maker,
                    next,
                    ..part
                });
            }
            return;
        }
        let mut ends = cuts.to_vec();
        ends.push(part.sections.1);
        let mut begin = part.sections.0;
        for end in ends {
            let start = self.lists.len();
            for at in from..to {
                let b = self.lists[at] as usize;
                let (first, _) = self.instance.blocks[b].span();
                if !self.placed[b] && (begin..end).contains(&first) {
                    self.lists.push(b as u32);
                }
            }
            if self.lists.len() > start {
                let (blocks, left, order) = (&self.instance.blocks, &self.left, self.order);
                let hottest = orders::hottest(left, (begin, end));
                self.lists[start..]
                    .sort_by_cached_key(|&b| (orders::key(order, &blocks[b as usize], left, hottest), b));
                let part = Part {
                    blocks: (start, self.lists.len()),
                    sections: (begin, end),
                    maker,
                    next: self.agenda,
                };
                self.agenda = self.parts.len();
                self.parts.push(part);
            }
            begin = end;
        }
    }
}

//! Is there a layout within a capacity? A depth-first search that can be paused.
//!
//! A layout in which nothing can be moved down has each block at the top of a block below it, so it is found by placing
//! blocks in order of their bases, each at the lowest place that those before it leave. Of layouts that differ in the
//! order of equal bases one is looked at. What is cut off:
//!
//! * sections: what is left to place in a section of time, released at the lowest base of each block, must fit;
//! * dominance: a block is not placed at or above the top that another could have at once, since that other could be
//!   slid under it;
//! * decomposition: where no unplaced block crosses a cut between sections, both sides are solved apart, and a failure
//!   goes back to the placement that made the cut.

use super::instance::{Block, Instance, aligned};
use super::orders::{self, Order};

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
    /// Bases before this have been decided: the base of the last placed block and its place in the order.
    floor: (u64, usize),
    /// The frame whose placement made this part.
    maker: usize,
    /// The next part to be solved.
    next: usize,
}

/// One choice: a part, and the blocks that could be its lowest.
#[derive(Clone, Copy, Debug)]
struct Frame {
    part: Part,
    /// Where in `Search::choices` the candidates stand, and the next one to try.
    choices: (usize, usize),
    /// Lengths of the stacks before the placement.
    marks: Marks,
    /// The block that is placed, or [`NONE`].
    placed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Marks {
    lists: usize,
    parts: usize,
    lows: usize,
    floors: usize,
}

/// A search for one capacity in one static order.
pub(super) struct Search<'i> {
    instance: &'i Instance,
    order: Order,
    capacity: u64,
    /// Base of each placed block.
    bases: Vec<u64>,
    placed: Vec<bool>,
    /// The lowest base that the placed blocks leave each block.
    low: Vec<u64>,
    /// Bytes left to place in each section, and the lowest base of anything left.
    left: Vec<u64>,
    floor: Vec<u64>,
    /// Unplaced blocks that cross the cut after each section.
    crossing: Vec<u32>,
    frames: Vec<Frame>,
    parts: Vec<Part>,
    lists: Vec<u32>,
    choices: Vec<(u64, u32, u32)>,
    old_lows: Vec<(u32, u64)>,
    old_floors: Vec<(u32, u64)>,
    /// The first part to be solved; [`NONE`] when all are.
    agenda: usize,
    descend: bool,
    started: bool,
    /// Scratch: sections whose floors may rise, and a stamp for each section.
    touched: Vec<u32>,
    stamp: Vec<u64>,
    now: u64,
    releases: Vec<(u64, u64)>,
    /// Section entries looked at for this placement.
    looked_at: u64,
}

impl<'i> Search<'i> {
    pub fn new(instance: &'i Instance, order: Order, capacity: u64) -> Self {
        let (n, m) = (instance.blocks.len(), instance.sections.len());
        let mut search = Self {
            instance,
            order,
            capacity,
            bases: vec![0; n],
            placed: vec![false; n],
            low: instance.blocks.iter().map(|b| b.pinned.unwrap_or(0)).collect(),
            left: vec![0; m],
            floor: vec![0; m],
            crossing: vec![0; m],
            frames: Vec::new(),
            parts: Vec::new(),
            lists: Vec::new(),
            choices: Vec::new(),
            old_lows: Vec::new(),
            old_floors: Vec::new(),
            agenda: NONE,
            descend: true,
            started: false,
            touched: Vec::new(),
            stamp: vec![0; m],
            now: 0,
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
            let all = (0..self.instance.sections.len()).all(|s| self.fits(s, 0));
            let tall = |b: &Block| b.pinned.unwrap_or(0) + b.size > self.capacity;
            if !all || self.instance.blocks.iter().any(tall) {
                self.descend = false;
            } else {
                let cuts: Vec<usize> = (1..self.instance.sections.len())
                    .filter(|&s| self.crossing[s - 1] == 0)
                    .collect();
                let everything: Vec<u32> = (0..self.instance.blocks.len() as u32).collect();
                self.lists.extend(everything);
                let whole = Part {
                    blocks: (0, self.lists.len()),
                    sections: (0, self.instance.sections.len()),
                    floor: (0, 0),
                    maker: NONE,
                    next: NONE,
                };
                self.split(whole, &cuts, NONE, NONE);
            }
        }
        loop {
            if self.descend {
                if self.agenda == NONE {
                    return Verdict::Found;
                }
                self.open();
                self.descend = false;
            }
            let Some(top) = self.frames.len().checked_sub(1) else {
                return Verdict::Exhausted;
            };
            self.take_back(top);
            let (from, next) = self.frames[top].choices;
            if next == self.choices.len() {
                // Nothing can be this part's lowest block: the placement that made the part is wrong.
                let maker = self.frames[top].part.maker;
                self.choices.truncate(from);
                self.frames.pop();
                while self.frames.len() > maker.wrapping_add(1) {
                    let last = self.frames.len() - 1;
                    self.take_back(last);
                    self.choices.truncate(self.frames[last].choices.0);
                    self.frames.pop();
                }
                continue;
            }
            if *budget == 0 {
                return Verdict::Paused;
            }
            self.frames[top].choices.1 += 1;
            let (base, rank, block) = self.choices[next];
            self.looked_at = 0;
            self.descend = self.place(top, base, rank as usize, block as usize);
            *budget = budget.saturating_sub(1 + self.looked_at / ENTRIES);
        }
    }

    /// Makes a frame for the first part of the agenda.
    fn open(&mut self) {
        let part = self.parts[self.agenda];
        // No block may be placed at or above `ceiling`.
        let mut ceiling = u64::MAX;
        for at in part.blocks.0..part.blocks.1 {
            let b = self.lists[at];
            if !self.placed[b as usize] {
                let block = &self.instance.blocks[b as usize];
                if block.pinned.is_none() {
                    ceiling = ceiling.min(self.low[b as usize] + block.size);
                }
            }
        }
        let from = self.choices.len();
        for (rank, at) in (part.blocks.0..part.blocks.1).enumerate() {
            let b = self.lists[at];
            let low = self.low[b as usize];
            if low < ceiling && !self.placed[b as usize] && (low, rank) >= part.floor {
                self.choices.push((low, rank as u32, b));
            }
        }
        self.choices[from..].sort_unstable();
        self.frames.push(Frame {
            part,
            choices: (from, from),
            marks: Marks {
                lists: self.lists.len(),
                parts: self.parts.len(),
                lows: self.old_lows.len(),
                floors: self.old_floors.len(),
            },
            placed: NONE,
        });
    }

    /// Undoes the placement of the frame, if it has one.
    fn take_back(&mut self, frame: usize) {
        let Frame { placed, marks, .. } = self.frames[frame];
        if placed == NONE {
            return;
        }
        let block = &self.instance.blocks[placed];
        self.placed[placed] = false;
        for &(s, height) in &block.cover {
            self.left[s as usize] += height;
        }
        let (first, last) = block.span();
        self.crossing[first..last - 1].iter_mut().for_each(|c| *c += 1);
        while self.old_lows.len() > marks.lows {
            if let Some((b, low)) = self.old_lows.pop() {
                self.low[b as usize] = low;
            }
        }
        while self.old_floors.len() > marks.floors {
            if let Some((s, floor)) = self.old_floors.pop() {
                self.floor[s as usize] = floor;
            }
        }
        self.lists.truncate(marks.lists);
        self.parts.truncate(marks.parts);
        self.frames[frame].placed = NONE;
    }

    /// Places a block as the lowest of the frame's part, and makes the agenda for what is left. False when that cannot be.
    fn place(&mut self, frame: usize, base: u64, rank: usize, chosen: usize) -> bool {
        let instance = self.instance;
        let block = &instance.blocks[chosen];
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
        self.now += 1;
        self.touched.clear();
        for &(s, height) in &block.cover {
            self.left[s as usize] -= height;
            self.stamp[s as usize] = self.now;
            self.touched.push(s);
        }
        let mut pins_hold = true;
        for &(k, height) in &block.neighbours {
            let k = k as usize;
            let other = &instance.blocks[k];
            if self.placed[k] {
                continue;
            }
            let low = aligned(base + height, other);
            if low > self.low[k] {
                self.old_lows.push((k as u32, self.low[k]));
                self.low[k] = low;
                pins_hold &= other.pinned.is_none_or(|pin| low <= pin);
                for &(s, _) in &other.cover {
                    if self.stamp[s as usize] != self.now {
                        self.stamp[s as usize] = self.now;
                        self.touched.push(s);
                    }
                }
            }
        }
        if !pins_hold {
            return false;
        }
        let part = self.frames[frame].part;
        for at in 0..self.touched.len() {
            let s = self.touched[at] as usize;
            if !self.fits(s, base) {
                return false;
            }
        }
        if base > part.floor.0 {
            for s in part.sections.0..part.sections.1 {
                if self.left[s] > 0 && base.max(self.floor[s]) + self.left[s] > self.capacity {
                    return false;
                }
            }
        }
        let rest = Part {
            floor: (base, rank),
            ..part
        };
        self.split(rest, &cuts, frame, part.next);
        true
    }

    /// Whether what is left in the section can still be placed when nothing goes below `base`: as on one machine with
    /// release times, work left when each block may start at its lowest base. Notes the section's floor.
    fn fits(&mut self, section: usize, base: u64) -> bool {
        if self.left[section] == 0 {
            return true;
        }
        self.releases.clear();
        self.looked_at += self.instance.sections[section].len() as u64;
        // What is released at or below this can wait for everything else.
        let Some(easy) = self.capacity.checked_sub(self.left[section]) else {
            return false;
        };
        let mut floor = u64::MAX;
        for &(b, height) in &self.instance.sections[section] {
            if !self.placed[b as usize] {
                let low = self.low[b as usize];
                floor = floor.min(low);
                if low > easy {
                    self.releases.push((low, height));
                }
            }
        }
        if floor > self.floor[section] {
            self.old_floors.push((section as u32, self.floor[section]));
            self.floor[section] = floor;
        }
        if floor.max(base) > easy {
            return false;
        }
        self.releases.sort_unstable();
        let mut later = 0;
        self.releases.iter().rev().all(|&(low, height)| {
            later += height;
            low + later <= self.capacity
        })
    }

    /// Puts what is left of `part` on the agenda, cut before each of the sections `cuts`.
    fn split(&mut self, part: Part, cuts: &[usize], maker: usize, next: usize) {
        let (from, to) = part.blocks;
        self.agenda = next;
        if cuts.is_empty() && maker != NONE {
            let start = self.lists.len();
            let mut rank = 0;
            for at in from..to {
                let b = self.lists[at];
                if at - from < part.floor.1 && !self.placed[b as usize] {
                    rank += 1;
                }
                if !self.placed[b as usize] {
                    self.lists.push(b);
                }
            }
            if self.lists.len() > start {
                let blocks = (start, self.lists.len());
                self.agenda = self.parts.len();
                self.parts.push(Part {
                    blocks,
                    floor: (part.floor.0, rank),
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
                    floor: (part.floor.0, 0),
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

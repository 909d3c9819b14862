//! Items as the search sees them: boxes that stand on their base, over the sections of time that matter.

use std::collections::BTreeMap;

use crate::plan::item::{Item, round_up};

/// One item.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Bytes from base to highest end.
    pub size: u64,
    /// The base is a multiple of it.
    pub align: u64,
    /// The base, if given.
    pub pinned: Option<u64>,
    /// Clock ticks from first to last use.
    pub length: u64,
    /// Sections it is live in, ascending, with its height there.
    pub cover: Vec<(u32, u64)>,
    /// Blocks that share a section with it: `(other, own height as the other sees it, the other's as this one sees it)`.
    pub neighbours: Vec<(u32, u64, u64)>,
    /// Free blocks like it: of its size and alignment, and live in the same sections. They can change places.
    pub twins: Vec<u32>,
}

impl Block {
    /// First and one-past-last section. A lifetime's gaps are inside.
    pub fn span(&self) -> (usize, usize) {
        let first = self.cover.first().map_or(0, |c| c.0);
        let last = self.cover.last().map_or(0, |c| c.0 + 1);
        (first as usize, last as usize)
    }
}

/// What is to be placed.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    /// The blocks, in an order that depends on geometry alone.
    pub blocks: Vec<Block>,
    /// Position in the list of items of each block.
    pub item: Vec<usize>,
    /// Blocks live in each section, with their heights there. No section's blocks are all live in a neighbouring section.
    pub sections: Vec<Vec<(u32, u64)>>,
    /// Blocks are what the items are; otherwise some item has free bytes below or inside a rectangle, which its block
    /// occupies, and that no layout exists proves nothing.
    pub faithful: bool,
}

/// Pairs of neighbours, and entries of sections, beyond which nothing is searched.
const MAX_PAIRS: usize = 4_000_000;

impl Instance {
    /// The instance for some of the items; `None` when it is too large to search.
    pub fn new(items: &[Item], part: &[usize]) -> Option<Self> {
        let mut item = part.to_vec();
        item.sort_by_cached_key(|&i| {
            let it = &items[i];
            (
                it.span(),
                std::cmp::Reverse(it.extent()),
                it.rects.clone(),
                it.align,
                it.members.first(),
            )
        });
        let lists = sections(items, &item)?;
        let mut blocks: Vec<Block> = item
            .iter()
            .map(|&i| {
                let (lo, hi) = items[i].span();
                Block {
                    size: items[i].extent(),
                    align: items[i].align,
                    pinned: items[i].pinned,
                    length: u64::from(hi - lo),
                    cover: Vec::new(),
                    neighbours: Vec::new(),
                    twins: Vec::new(),
                }
            })
            .collect();
        for (s, members) in lists.iter().enumerate() {
            for &(block, height) in members {
                blocks[block as usize].cover.push((s as u32, height));
            }
        }
        twins(&mut blocks);
        let mut pairs = 0;
        let mut seen = vec![u64::MAX; blocks.len()];
        for b in 0..blocks.len() {
            let mut near = Vec::new();
            for &(s, height) in &blocks[b].cover {
                for &(other, _) in &lists[s as usize] {
                    let known = &mut seen[other as usize];
                    if *known == u64::MAX {
                        near.push(other);
                        *known = height;
                    } else {
                        *known = height.max(*known);
                    }
                }
            }
            near.sort_unstable();
            let own: Vec<(u32, u64, u64)> = near
                .iter()
                .map(|&other| (other, std::mem::replace(&mut seen[other as usize], u64::MAX), 0))
                .filter(|&(other, ..)| other as usize != b)
                .collect();
            pairs += own.len();
            blocks[b].neighbours = own;
        }
        for b in 0..blocks.len() {
            for n in 0..blocks[b].neighbours.len() {
                let other = blocks[b].neighbours[n].0 as usize;
                let theirs = &blocks[other].neighbours;
                let height = theirs
                    .binary_search_by_key(&(b as u32), |t| t.0)
                    .map_or(0, |at| theirs[at].1);
                blocks[b].neighbours[n].2 = height;
            }
        }
        let flat = |i: usize| items[i].rects.iter().all(|r| r.start == 0);
        (pairs <= MAX_PAIRS).then(|| Self {
            faithful: item.iter().all(|&i| flat(i)),
            blocks,
            sections: lists,
            item,
        })
    }
}

/// Notes for each block which others are like it.
fn twins(blocks: &mut [Block]) {
    let mut alike = BTreeMap::new();
    for (b, block) in blocks.iter().enumerate().filter(|(_, block)| block.pinned.is_none()) {
        let look = (block.size, block.align, block.cover.as_slice());
        alike.entry(look).or_insert_with(Vec::new).push(b as u32);
    }
    let alike: Vec<Vec<u32>> = alike.into_values().filter(|class| class.len() > 1).collect();
    for class in alike {
        for &b in &class {
            blocks[b as usize].twins = class.iter().copied().filter(|&other| other != b).collect();
        }
    }
}

/// The step between peaks that a layout can have: every base and every end is a multiple of it.
pub(super) fn step(items: &[Item]) -> u64 {
    let live = || items.iter().filter(|item| !item.rects.is_empty());
    let edges = live().flat_map(|item| &item.rects).flat_map(|r| [r.start, r.end]);
    let grain = live().filter_map(|item| item.pinned).chain(edges).fold(0, gcd);
    // A base that is rounded up to an alignment which does not divide the step is a multiple of both their gcd.
    let step = if live().all(|item| grain.is_multiple_of(item.align)) {
        grain
    } else {
        live().map(|item| item.align).fold(grain, gcd)
    };
    step.max(1)
}

/// Items that can be placed without regard to all others.
pub(super) struct Part {
    pub items: Vec<usize>,
    /// Where its lowest bytes are: above the items that are live as long as any of it.
    pub ground: u64,
}

/// Splits the items at the times that no lifetime crosses, and after taking out what is live all the time, again. Moves
/// what is taken out to the bottom of the layout `bases`, which costs nothing.
pub(super) fn parts(items: &[Item], bases: &mut [u64]) -> Vec<Part> {
    let mut order: Vec<usize> = (0..items.len()).filter(|&i| !items[i].rects.is_empty()).collect();
    order.sort_by_key(|&i| (items[i].span(), i));
    let (mut open, mut done) = (
        vec![Part {
            items: order,
            ground: 0,
        }],
        Vec::new(),
    );
    while let Some(Part { items: list, ground }) = open.pop() {
        if list.is_empty() {
            done.push(Part { items: list, ground });
            continue;
        }
        let mut split: Vec<Part> = Vec::new();
        let mut end = 0;
        for i in list {
            let (lo, hi) = items[i].span();
            match split.last_mut() {
                Some(part) if lo < end => part.items.push(i),
                _ => split.push(Part { items: vec![i], ground }),
            }
            end = end.max(hi);
        }
        for mut part in split {
            if sink(items, bases, &mut part) {
                open.push(part);
            } else {
                done.push(part);
            }
        }
    }
    done.sort_by_key(|part| part.items.first().map(|&i| (items[i].span(), i)));
    done
}

/// Moves one item that is live as long as any of the part to its bottom, and out of the part. False when there is none.
fn sink(items: &[Item], bases: &mut [u64], part: &mut Part) -> bool {
    let lo = part.items.iter().map(|&i| items[i].span().0).min();
    let hi = part.items.iter().map(|&i| items[i].span().1).max();
    let align = part.items.iter().map(|&i| items[i].align).max().unwrap_or(1);
    let whole = |&i: &usize| {
        let [rect] = items[i].rects[..] else { return false };
        (Some(rect.lo), Some(rect.hi)) == (lo, hi) && rect.start == 0 && rect.end.is_multiple_of(align)
    };
    let simple = |&i: &usize| items[i].pinned.is_none() && items[i].rects.iter().all(|r| r.start == 0);
    let at = part.items.iter().position(whole);
    let Some(at) = at.filter(|_| part.items.iter().all(simple)) else {
        return false;
    };
    let sunk = part.items.remove(at);
    let (size, from) = (items[sunk].extent(), bases[sunk]);
    for &i in &part.items {
        if bases[i] < from {
            bases[i] += size;
        }
    }
    bases[sunk] = part.ground;
    part.ground += size;
    true
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The sections that are not contained in a neighbour. Blocks are numbered by their position in `order`.
/// `None` when they are too many to search.
fn sections(items: &[Item], order: &[usize]) -> Option<Vec<Vec<(u32, u64)>>> {
    // (time, 0 = ends | 1 = starts, block, height)
    let mut events = Vec::new();
    for (b, &i) in order.iter().enumerate() {
        for r in &items[i].rects {
            events.push((r.lo, 1u8, b as u32, r.end));
            events.push((r.hi, 0u8, b as u32, r.end));
        }
    }
    events.sort_unstable();
    let mut live: Vec<(u32, u64)> = Vec::new();
    let mut out = Vec::new();
    // A section is maximal when something starts before it and the next event is an end.
    let mut grown = false;
    let (mut entries, mut pairs) = (0, 0usize);
    for &(_, kind, block, height) in &events {
        if kind == 1 {
            live.push((block, height));
            grown = true;
            continue;
        }
        if grown {
            let mut now = live.clone();
            now.sort_unstable_by_key(|&(b, h)| (b, std::cmp::Reverse(h)));
            now.dedup_by_key(|m| m.0);
            entries += now.len();
            pairs = pairs.saturating_add(now.len() * now.len());
            if entries > MAX_PAIRS || pairs > 8 * MAX_PAIRS {
                return None;
            }
            out.push(now);
            grown = false;
        }
        if let Some(at) = live.iter().position(|&m| m == (block, height)) {
            live.swap_remove(at);
        }
    }
    Some(out)
}

/// `base` moved up to the block's alignment.
pub(super) fn aligned(base: u64, block: &Block) -> u64 {
    round_up(base, block.align)
}

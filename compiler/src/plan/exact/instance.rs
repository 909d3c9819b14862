//! Items as the search sees them: boxes that stand on their base, over the sections of time that matter.

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
    /// Blocks that share a section with it: `(other, own height as the other sees it)`.
    pub neighbours: Vec<(u32, u64)>,
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
    /// The greatest common divisor of where rectangles start and end above their base.
    grain: u64,
}

/// Pairs of neighbours, and entries of sections, beyond which nothing is searched.
const MAX_PAIRS: usize = 4_000_000;

impl Instance {
    /// The instance for the items for which `wanted` holds; `None` when it is too large to search.
    pub fn new(items: &[Item], wanted: impl Fn(usize) -> bool) -> Option<Self> {
        let mut item: Vec<usize> = (0..items.len())
            .filter(|&i| !items[i].rects.is_empty() && wanted(i))
            .collect();
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
                }
            })
            .collect();
        for (s, members) in lists.iter().enumerate() {
            for &(block, height) in members {
                blocks[block as usize].cover.push((s as u32, height));
            }
        }
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
            let own: Vec<(u32, u64)> = near
                .iter()
                .map(|&other| (other, std::mem::replace(&mut seen[other as usize], u64::MAX)))
                .filter(|&(other, _)| other as usize != b)
                .collect();
            pairs += own.len();
            blocks[b].neighbours = own;
        }
        let flat = |i: usize| items[i].rects.iter().all(|r| r.start == 0);
        let edges = item
            .iter()
            .flat_map(|&i| &items[i].rects)
            .flat_map(|r| [r.start, r.end]);
        let grain = edges.fold(0, gcd);
        (pairs <= MAX_PAIRS).then(|| Self {
            grain,
            faithful: item.iter().all(|&i| flat(i)),
            blocks,
            sections: lists,
            item,
        })
    }

    /// The step between peaks that a layout can have: every base and every end is a multiple of it.
    pub fn step(&self) -> u64 {
        let sizes = self
            .blocks
            .iter()
            .fold(self.grain, |g, b| gcd(g, b.pinned.unwrap_or(0)));
        // A base that is rounded up to an alignment which does not divide the step is a multiple of both their gcd.
        self.blocks.iter().fold(sizes, |g, b| gcd(g, b.align.max(1))).max(
            if self.blocks.iter().all(|b| sizes.is_multiple_of(b.align)) {
                sizes
            } else {
                1
            },
        )
    }

    /// Splits at the times that no lifetime crosses: the items of each part.
    pub fn parts(items: &[Item]) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..items.len()).filter(|&i| !items[i].rects.is_empty()).collect();
        order.sort_by_key(|&i| (items[i].span(), i));
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let mut end = 0;
        for i in order {
            let (lo, hi) = items[i].span();
            match parts.last_mut() {
                Some(part) if lo < end => part.push(i),
                _ => parts.push(vec![i]),
            }
            end = end.max(hi);
        }
        parts
    }
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

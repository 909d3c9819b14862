//! Which memory each place of a stride layout is in. Nothing shares bytes, so that only sums decide.

use std::collections::BTreeMap;

use super::joint::Joint;
use super::regions;
use crate::graph::Graph;
use crate::layout::debug::DebugMode;
use crate::layout::stride::{Item, What, place_name};
use crate::layout::{LayoutError, Memory, MemoryPlan, Shortage};
use crate::plan::{self, Buffer, Problem, Status};
use crate::schedule::Entry;
use crate::schedule::access::Operand;

/// The memories of a stride layout.
pub struct Homes {
    joint: Joint,
    /// The memory of each item.
    pub of: Vec<usize>,
    /// The item of each operand of the joint problem.
    items: Vec<Option<usize>>,
}

/// Puts each of the items, which take so many bytes of the arena, into a memory.
///
/// # Errors
/// Sizes beyond the address space.
pub fn homes(
    model: &Graph,
    entries: &[Entry],
    items: &[Item],
    memories: &[Memory],
    debug: DebugMode,
) -> Result<Homes, LayoutError> {
    let joint = Joint::new(model, entries, debug);
    let index: BTreeMap<&What, usize> = items.iter().map(|i| &i.what).zip(0..).collect();
    let item = |(owner, buffer): (&(Option<usize>, Operand), &Buffer)| {
        let what = match owner {
            (_, Operand::Keys(c)) => What::Keys(*c),
            (_, Operand::Values(c)) => What::Values(*c),
            (None, _) => What::Named(buffer.id.clone()),
            (Some(e), operand) => What::Named(place_name(&entries[*e], *operand)),
        };
        index.get(&what).copied()
    };
    let owned: Vec<Option<usize>> = joint.owners.iter().zip(&joint.problem.buffers).map(item).collect();
    let mut traffic = vec![0u128; items.len()];
    for (b, item) in owned.iter().enumerate() {
        if let Some(item) = item {
            traffic[*item] += joint.traffic(b);
        }
    }
    let last = memories.len() - 1;
    let fixed: u64 = items.iter().filter(|i| i.what.is_weight()).map(|i| i.size(debug)).sum();
    let mut problem = Problem {
        regions: regions(memories, |m| debug.canary() + if m == last { fixed } else { 0 }),
        ..Problem::default()
    };
    let free: Vec<usize> = (0..items.len()).filter(|i| !items[*i].what.is_weight()).collect();
    for &i in &free {
        let mut buffer = Buffer::new(i.to_string(), items[i].size(debug), 1, 0..1);
        let each = traffic[i].div_ceil(u128::from(buffer.size.max(1)));
        buffer.accesses = u64::try_from(each).unwrap_or(u64::MAX);
        problem.buffers.push(buffer);
    }
    let solution = plan::solve(&problem)?;
    let mut of = vec![last; items.len()];
    for (i, region) in free.into_iter().zip(&solution.region) {
        of[i] = *region;
    }
    Ok(Homes {
        joint,
        of,
        items: owned,
    })
}

impl Homes {
    /// For each memory, the least that what lives there could need if bytes were shared.
    ///
    /// # Errors
    /// The planner's.
    pub fn least(&self, memories: &[Memory]) -> Result<Vec<u64>, LayoutError> {
        let mut problem = self.joint.problem.clone();
        problem.regions = regions(memories, |_| 0);
        problem.regions.iter_mut().for_each(|r| r.capacity = None);
        for (buffer, item) in problem.buffers.iter_mut().zip(&self.items) {
            buffer.region = Some(item.map_or(memories.len() - 1, |i| self.of[i]));
        }
        let solution = plan::solve(&problem)?;
        Ok(solution.regions.iter().map(|r| r.lower_bound).collect())
    }

    /// Memory `m` with the items in it, which end at `bytes`.
    pub fn memory(
        &self,
        items: &[Item],
        memory: &Memory,
        m: usize,
        bytes: u64,
        lower_bound: u64,
        debug: DebugMode,
    ) -> MemoryPlan {
        let inside = |b: &usize| self.items[*b].is_some_and(|i| self.of[i] == m);
        let buffers: Vec<usize> = (0..self.items.len()).filter(inside).collect();
        let (accesses, coolest) = self.joint.accessed(&buffers);
        let short = memory.capacity.map_or(0, |capacity| bytes.saturating_sub(capacity));
        let here: Vec<&Item> = items
            .iter()
            .zip(&self.of)
            .filter(|(_, of)| **of == m)
            .map(|(i, _)| i)
            .collect();
        let weights = here.iter().filter(|i| i.what.is_weight()).map(|i| i.bytes).sum();
        MemoryPlan {
            memory: memory.clone(),
            weights,
            bytes,
            lower_bound,
            status: match (short, bytes - lower_bound) {
                (0, 0) => Status::Optimal,
                (0, gap) => Status::Feasible { gap },
                (by, _) => Status::OverBudget { by },
            },
            plan: None,
            accesses,
            coolest,
            shortage: (short > 0).then(|| shortage(&here, short, debug)),
        }
    }

    /// How often each byte of an operand of entry `e` is touched.
    pub fn accesses(&self, e: usize, operand: Operand) -> Option<u64> {
        let found = self
            .joint
            .position((Some(e), operand))
            .or(self.joint.position((None, operand)));
        found.map(|b| self.joint.problem.buffers[b].accesses)
    }
}

/// Where a memory overflows in the order of execution, and what lives there: all of it, always.
fn shortage(here: &[&Item], short: u64, debug: DebugMode) -> Shortage {
    let total: u64 = here.iter().map(|i| i.size(debug)).sum();
    let mut end = 0;
    let over = here.iter().find(|i| {
        end += i.size(debug);
        end > total.saturating_sub(short)
    });
    let (entry, step) = over.map_or(("", String::new()), |i| i.at.clone());
    let weights: u64 = here.iter().filter(|i| i.what.is_weight()).map(|i| i.size(debug)).sum();
    let others = here.iter().filter(|i| !i.what.is_weight());
    let mut live: Vec<(String, u64)> = others.map(|i| (i.name.clone(), i.size(debug))).collect();
    if weights > 0 {
        live.push(("weights".to_owned(), weights));
    }
    live.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Shortage {
        entry,
        step,
        live,
        short,
    }
}

//! Fusion sites, and what each saves.

use std::collections::BTreeMap;

use crate::fuse::{Flag, Site};
use crate::graph::Graph;
use crate::layout::{EntryLayout, tensor_bytes};
use crate::report::{FuseOutcome, Fusion};
use crate::schedule::{Halves, Step};

/// Sites with what they save: bytes of tensors that are no longer written, and barriers and passes, shared out over the
/// sites of a flag from the difference that its pass made.
pub(super) fn fusions(planned: &EntryLayout) -> Vec<Fusion> {
    let saved = saved(planned);
    let tensors = &planned.entry.graph.tensors;
    let named: BTreeMap<&str, u32> = tensors.iter().map(|t| t.name.as_str()).zip(0..).collect();
    let mut sites: BTreeMap<Flag, usize> = BTreeMap::new();
    for site in planned.entry.sites.iter().filter(|s| s.outcome.is_ok()) {
        *sites.entry(site.flag).or_default() += 1;
    }
    let mut ranks: BTreeMap<Flag, usize> = BTreeMap::new();
    let fusion = |site: &Site| {
        let Ok(away) = &site.outcome else {
            return fusion(planned, site);
        };
        // The first sites of a flag carry the remainder.
        let (rank, sites) = (ranks.entry(site.flag).or_default(), sites[&site.flag]);
        *rank += 1;
        let share = |total: usize| (total / sites + usize::from(*rank <= total % sites)) as u64;
        let total = saved.get(&site.flag).copied().unwrap_or_default();
        let graph = &planned.entry.graph;
        let bytes = |name: &String| {
            let found = named.get(name.as_str());
            found.map_or(0, |t| tensor_bytes(graph, crate::graph::TensorId(*t)))
        };
        Fusion {
            outcome: FuseOutcome::Applied,
            bytes_saved: away.iter().map(bytes).sum(),
            barriers_saved: share(total.barriers),
            passes_saved: share(total.passes),
            ..fusion(planned, site)
        }
    };
    planned.entry.sites.iter().map(fusion).collect()
}

/// What the pass of a flag took away.
#[derive(Clone, Copy, Default)]
struct Saved {
    barriers: usize,
    passes: usize,
}

/// Barriers by data alone, and steps, that each flag's pass took away: the entry before and after it.
fn saved(planned: &EntryLayout) -> BTreeMap<Flag, Saved> {
    let with = |steps: &Vec<Step>, graph: &Graph| crate::schedule::Entry {
        name: planned.entry.name,
        graph: graph.clone(),
        steps: steps.clone(),
        sites: Vec::new(),
        stages: Vec::new(),
        division: planned.entry.division,
    };
    let barriers = |steps: &Vec<Step>, graph| {
        let before = with(steps, graph)
            .data_barriers()
            .into_iter()
            .flatten()
            .map(|b| b.unless);
        let within = steps.iter().filter_map(|s| s.halves).map(Halves::unless);
        before.chain(within).filter(Option::is_none).count()
    };
    let Some((_, steps, graph)) = planned.entry.stages.first() else {
        return BTreeMap::new();
    };
    let mut before = (barriers(steps, graph), steps.len());
    let mut saved = BTreeMap::new();
    for (flag, steps, graph) in &planned.entry.stages[1..] {
        let after = (barriers(steps, graph), steps.len());
        let less = Saved {
            barriers: before.0.saturating_sub(after.0),
            passes: before.1.saturating_sub(after.1),
        };
        saved.extend(flag.map(|flag| (flag, less)));
        before = after;
    }
    saved
}

/// A site without what it saves.
fn fusion(planned: &EntryLayout, site: &Site) -> Fusion {
    Fusion {
        flag: site.flag.name().into(),
        entry: planned.entry.name.into(),
        site: site.site.clone(),
        outcome: FuseOutcome::Refused,
        reason: site.outcome.as_ref().err().map_or(String::new(), ToString::to_string),
        ..Fusion::default()
    }
}

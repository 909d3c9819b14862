//! The layout report of a layout.

mod fusions;
mod rows;
mod totals;

use ck_kernels::ops::MAX_WORKERS;

use super::{EntryLayout, Kind, Layout};
use crate::costs::Chosen;
use crate::graph::Graph;
use crate::model::Budget;
use crate::report::{Costs, Entry, Header, Limit, ManyFrom, Options, Plan, Report, SCHEMA, Status, Step, StepOrder};
use crate::schedule::Halves;
use crate::schedule::cost::cost;
use fusions::fusions;
use rows::{divisions, steps, tensors, weights};
use totals::totals;

/// What the report says of the compilation besides the layout.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// The model.
    pub model: &'a Graph,
    /// SHA-256 of the canonical YAML, lower-case hex.
    pub yaml_sha256: &'a str,
    /// Fusions that are allowed.
    pub fuse: crate::fuse::Flags,
    /// The type that matrices are packed as.
    pub weights_dtype: &'a str,
    /// Sizes that must not be exceeded.
    pub budget: Budget,
    /// What kernels cost, and what is chosen by it.
    pub chosen: &'a Chosen<'a>,
}

/// Describes a layout. Hashes and source types of weights are filled in by whoever packs them.
pub fn describe(layout: &Layout, about: &About<'_>) -> Report {
    let steps: Vec<Step> = layout
        .entries
        .iter()
        .flat_map(|e| steps(layout, e, about.chosen))
        .collect();
    let mut report = Report {
        header: header(layout, about, &steps),
        totals: totals(layout, about.model),
        fusions: layout.entries.iter().flat_map(fusions).collect(),
        partitions: divisions(&steps),
        steps,
        tensors: tensors(layout, about.model),
        weights: weights(layout, about.model),
        moves: Vec::new(),
    };
    limit(&mut report, layout, about.budget);
    report.normalise();
    report
}

/// Writes down the budgets; what exceeds one has that for its status.
fn limit(report: &mut Report, layout: &Layout, budget: Budget) {
    let totals = &mut report.totals;
    let region = |name: &str| totals.regions.iter().find(|r| r.name == name).map_or(0, |r| r.bytes);
    // Memories and the stride layout have no regions by role.
    let (kv, activations) = match layout.memories.is_empty() && layout.kind == Kind::Packed {
        true => (region("kv"), region("activations")),
        false => (layout.kv_bytes(), layout.activations_bytes()),
    };
    let scratch = report.steps.iter().map(|s| s.workspace_bytes).max().unwrap_or(0);
    let sizes = [
        ("arena", budget.arena, totals.arena_bytes),
        ("weights", budget.weights, layout.payload_bytes),
        ("kv", budget.kv, kv),
        ("activations", budget.activations, activations),
        ("scratch", budget.scratch, scratch),
    ];
    for (name, limit, bytes) in sizes {
        let Some(limit) = limit else { continue };
        totals.budgets.push(Limit {
            name: name.into(),
            limit,
            bytes,
        });
        if bytes > limit {
            let over = Status::OverBudget { by: bytes - limit };
            // A memory may be called `arena`.
            let region = totals.regions.iter_mut().find(|r| r.name == name && name != "arena");
            region.into_iter().for_each(|r| r.status = over);
            // The arena's own budget comes first, and says the most.
            if !matches!(totals.status, Status::OverBudget { .. }) {
                totals.status = over;
            }
        }
    }
}

fn header(layout: &Layout, about: &About<'_>, steps: &[Step]) -> Header {
    let model = about.model;
    let kv = model.caches.first().map_or("none", |c| c.act.name());
    Header {
        schema: SCHEMA.into(),
        ckc_version: env!("CARGO_PKG_VERSION").into(),
        model: model.name.clone(),
        yaml_sha256: about.yaml_sha256.into(),
        target: "any".into(),
        options: Options {
            mode: "infer".into(),
            context: model.context as u64,
            batch: model.batch as u64,
            fuse: about.fuse.names().into_iter().map(String::from).collect(),
            layout: layout.kind.name().into(),
            kv_dtype: kv.into(),
            weights_dtype: about.weights_dtype.into(),
            max_threads: MAX_WORKERS as u64,
            debug: layout.debug.names().into_iter().map(String::from).collect(),
        },
        costs: Some(costs(about)),
        entries: layout.entries.iter().map(|e| entry(layout, e, steps)).collect(),
    }
}

/// The thresholds that concern this program's weights.
fn costs(about: &About<'_>) -> Costs {
    let Chosen { costs, choices } = about.chosen;
    let matrices = about.model.weights.iter().filter(|w| !w.vector);
    let from = |tokens: usize| (tokens != usize::MAX).then_some(tokens as u64);
    Costs {
        machine: costs.machine.clone(),
        isa: costs.isa.into(),
        workers: costs.workers as u64,
        many_from: matrices
            .map(|w| {
                let many = ManyFrom {
                    avx2: from(choices.avx2[w.dtype as usize]),
                    avx512: from(choices.avx512[w.dtype as usize]),
                };
                (w.dtype.name().to_owned(), many)
            })
            .filter(|(_, many)| *many != ManyFrom::default())
            .collect(),
        tiles_from: from(choices.tiles),
    }
}

fn entry(layout: &Layout, planned: &EntryLayout, steps: &[Step]) -> Entry {
    let before = planned.barriers.iter().flatten().map(|b| b.unless);
    let within = planned.entry.steps.iter().filter_map(|s| s.halves).map(Halves::unless);
    let (always, unless): (Vec<_>, Vec<_>) = before.chain(within).partition(Option::is_none);
    let mut row = Entry {
        name: planned.entry.name.into(),
        steps: planned.entry.steps.len() as u64,
        barriers: always.len() as u64,
        barriers_unless: unless.len() as u64,
        peak_bytes: planned.solution.peak,
        plan: (layout.kind == Kind::Packed).then(|| Plan::from(&planned.solution)),
        order: planned.order.map(step_order),
        ..Entry::default()
    };
    for i in 0..planned.entry.steps.len() {
        let (flops, read, written) = traffic(planned, i);
        row.flops += flops;
        row.bytes_read += read;
        row.bytes_written += written;
    }
    let own = steps.iter().filter(|s| s.entry == row.name);
    row.predicted_ns = own.filter_map(|s| s.predicted.as_ref()).map(|p| p.nanoseconds).sum();
    row
}

fn step_order(order: crate::layout::StepOrder) -> StepOrder {
    StepOrder {
        changed: order.changed,
        source_bound: order.source,
        bound: order.bound,
        least: order.least,
    }
}

/// Operations, bytes read and bytes written of a step at the upper bounds.
fn traffic(planned: &EntryLayout, index: usize) -> (u64, u64, u64) {
    let graph = &planned.entry.graph;
    let cost = cost(graph, &graph.ops[planned.entry.steps[index].op]);
    let tokens = graph.batch as u64;
    let flops = (cost.flops_per_token + cost.attention_flops) * tokens;
    (flops, cost.weight_bytes + cost.read, cost.written)
}

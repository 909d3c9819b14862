//! `layout.html`: one page without scripts and without requests: the arena over time, tables, reasons.

use std::collections::BTreeMap;

use serde::Serialize;
use tera::{Context, Tera};

use super::chart::{Chart, HEIGHT, WIDTH, charts, colour, human};
use super::text::{percent, shape};
use super::types::{FuseOutcome, Plan, Report, Step, order_words};
use crate::glob::any_layer;

const TEMPLATE: &str = include_str!("templates/layout.html");

/// Lists longer than this are folded away.
const OPEN_ROWS: usize = 40;

/// What the template sees.
#[derive(Serialize)]
struct Page<'a> {
    report: &'a Report,
    status: String,
    arena: String,
    fuse: String,
    weights_bytes: Vec<(&'a String, &'a u64)>,
    regions: Vec<Region<'a>>,
    memories: Vec<Memory<'a>>,
    budgets: Vec<Budget<'a>>,
    plans: Vec<Candidates<'a>>,
    /// Each entry and the order of its steps.
    orders: Vec<(&'a str, String)>,
    charts: Vec<Chart<'a>>,
    fusions: Vec<Sites<'a>>,
    barriers: Vec<Wait<'a>>,
    all_barriers: Vec<&'a Step>,
    steps: Vec<Row>,
    tensors: Vec<Row>,
    weights: Vec<Row>,
    open_rows: usize,
    width: u64,
    height: u64,
}

#[derive(Serialize)]
struct Region<'a> {
    name: &'a str,
    bytes: u64,
    human: String,
    lower_bound: u64,
    naive: u64,
    status: String,
    by: &'a str,
    colour: usize,
}

#[derive(Serialize)]
struct Memory<'a> {
    memory: &'a super::types::Memory,
    capacity: String,
    serves: String,
    status: String,
}

#[derive(Serialize)]
struct Budget<'a> {
    name: &'a str,
    limit: u64,
    bytes: u64,
    over: bool,
    verdict: String,
}

/// The layouts that were tried for one entry.
#[derive(Serialize)]
struct Candidates<'a> {
    entry: &'a str,
    plan: &'a Plan,
    status: String,
    tried: Vec<(&'a String, &'a u64)>,
}

/// The sites of one flag in one entry that came out alike.
#[derive(Serialize, Default)]
struct Sites<'a> {
    flag: &'a str,
    entry: &'a str,
    outcome: String,
    reason: String,
    count: usize,
    bytes_saved: u64,
    barriers_saved: u64,
    passes_saved: u64,
}

/// Barriers that are alike in every layer.
#[derive(Serialize)]
struct Wait<'a> {
    entry: &'a str,
    step: String,
    reason: String,
    count: usize,
}

/// A row of one of the long tables.
type Row = Vec<String>;

/// The report as a page.
///
/// # Errors
/// The template engine's message; the template is part of the program, so this is a defect of ours and not of the input.
pub fn to_html(report: &Report) -> Result<String, tera::Error> {
    let mut report = report.clone();
    report.normalise();
    let fuse = &report.header.options.fuse;
    let page = Page {
        status: report.totals.status.to_string(),
        arena: human(report.totals.arena_bytes),
        fuse: if fuse.is_empty() {
            "none".to_owned()
        } else {
            fuse.join(", ")
        },
        weights_bytes: report.totals.weights_bytes.iter().collect(),
        regions: report.totals.regions.iter().map(region).collect(),
        memories: memories(&report),
        budgets: report.totals.budgets.iter().map(budget).collect(),
        plans: report.header.entries.iter().filter_map(candidates).collect(),
        orders: report
            .header
            .entries
            .iter()
            .map(|e| (e.name.as_str(), order_words(e.order)))
            .collect(),
        charts: report
            .header
            .entries
            .iter()
            .flat_map(|e| charts(&report, &e.name))
            .collect(),
        fusions: sites(&report),
        barriers: waits(&report),
        all_barriers: report.steps.iter().filter(|s| s.barrier.is_some()).collect(),
        steps: steps(&report),
        tensors: tensors(&report),
        weights: weights(&report),
        open_rows: OPEN_ROWS,
        width: WIDTH,
        height: HEIGHT,
        report: &report,
    };
    Tera::one_off(TEMPLATE, &Context::from_serialize(&page)?, true)
}

fn region(r: &super::types::Region) -> Region<'_> {
    Region {
        name: &r.name,
        bytes: r.bytes,
        human: human(r.bytes),
        lower_bound: r.lower_bound,
        naive: r.naive,
        status: r.status.to_string(),
        by: r.plan.as_ref().map_or("", |p| &p.chosen),
        colour: colour(&r.name),
    }
}

fn memories(report: &Report) -> Vec<Memory<'_>> {
    let memories = &report.totals.memories;
    let all = memories.iter().map(|m| m.accesses).fold(0, u64::saturating_add);
    let row = |m| Memory {
        memory: m,
        capacity: m.capacity.map_or_else(|| "any".to_owned(), |c| c.to_string()),
        serves: percent(m.accesses, all),
        status: m.status.to_string(),
    };
    memories.iter().map(row).collect()
}

fn budget(b: &super::types::Limit) -> Budget<'_> {
    Budget {
        name: &b.name,
        limit: b.limit,
        bytes: b.bytes,
        over: b.bytes > b.limit,
        verdict: b.verdict(),
    }
}

fn candidates(entry: &super::types::Entry) -> Option<Candidates<'_>> {
    let plan = entry.plan.as_ref()?;
    Some(Candidates {
        entry: &entry.name,
        plan,
        status: plan.status.to_string(),
        tried: plan.candidates.iter().collect(),
    })
}

/// Sites by what came of them. Layers are alike, so that reasons are compared without their numbers.
fn sites(report: &Report) -> Vec<Sites<'_>> {
    let mut groups: BTreeMap<(&str, &str, FuseOutcome, String), Sites<'_>> = BTreeMap::new();
    for f in &report.fusions {
        let reason = any_layer(&f.reason);
        let group = groups
            .entry((&f.flag, &f.entry, f.outcome, reason.clone()))
            .or_insert_with(|| Sites {
                flag: &f.flag,
                entry: &f.entry,
                outcome: f.outcome.to_string(),
                reason,
                ..Sites::default()
            });
        group.count += 1;
        group.bytes_saved += f.bytes_saved;
        group.barriers_saved += f.barriers_saved;
        group.passes_saved += f.passes_saved;
    }
    groups.into_values().collect()
}

/// Barriers by step and reason, in the order of the first of each.
fn waits(report: &Report) -> Vec<Wait<'_>> {
    let mut waits: Vec<Wait<'_>> = Vec::new();
    for s in &report.steps {
        let within = s.halves.iter().map(|b| (format!("within {}", any_layer(&s.id)), b));
        for (step, barrier) in s.barrier.iter().map(|b| (any_layer(&s.id), b)).chain(within) {
            let reason = any_layer(&barrier.reason);
            let same = |w: &&mut Wait<'_>| w.entry == s.entry && w.step == step && w.reason == reason;
            match waits.iter_mut().find(same) {
                Some(wait) => wait.count += 1,
                None => waits.push(Wait {
                    entry: &s.entry,
                    step,
                    reason,
                    count: 1,
                }),
            }
        }
    }
    waits
}

fn steps(report: &Report) -> Vec<Row> {
    let row = |s: &Step| {
        vec![
            s.entry.clone(),
            s.index.to_string(),
            s.id.clone(),
            s.kernel.clone(),
            s.inputs.join(", "),
            s.outputs.join(", "),
            s.in_place_of.clone().unwrap_or_default(),
            s.partition.to_string(),
            s.live_bytes.to_string(),
            s.workspace_bytes.to_string(),
            s.flops.to_string(),
            s.bytes_read.to_string(),
            s.bytes_written.to_string(),
            s.predicted
                .as_ref()
                .map_or_else(String::new, |p| format!("{} in {} ns", p.kernels, p.nanoseconds)),
        ]
    };
    report.steps.iter().map(row).collect()
}

fn tensors(report: &Report) -> Vec<Row> {
    let rows = report.tensors.iter().map(|t| {
        vec![
            t.entry.clone(),
            match &t.memory {
                None => t.region.clone(),
                Some(memory) => format!("{}, in {memory}", t.region),
            },
            t.id.clone(),
            format!("{}{}", t.dtype, shape(&t.shape)),
            format!("{:#x}", t.offset),
            t.bytes.to_string(),
            match t.entry.as_str() {
                "" => "always".to_owned(),
                _ => format!("{} to {}", t.first, t.last),
            },
            t.alias_of.clone().unwrap_or_default(),
        ]
    });
    rows.collect()
}

fn weights(report: &Report) -> Vec<Row> {
    let rows = report.weights.iter().map(|w| {
        vec![
            w.name.clone(),
            format!("{}{}", w.dtype, shape(&w.shape)),
            w.packed_layout.clone(),
            format!("{:#x}", w.offset),
            w.bytes.to_string(),
        ]
    });
    rows.collect()
}

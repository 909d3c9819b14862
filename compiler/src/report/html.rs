//! `layout.html`: one page without scripts and without requests: the arena over time, tables, reasons.

use serde::Serialize;
use tera::{Context, Tera};

use super::text::shape;
use super::types::{Report, Step, Tensor};

const TEMPLATE: &str = include_str!("templates/layout.html");

/// Width of a chart in its own units.
const WIDTH: u64 = 1000;
/// Height of a chart in its own units.
const HEIGHT: u64 = 420;

/// What the template sees.
#[derive(Serialize)]
struct Page<'a> {
    report: &'a Report,
    status: String,
    fuse: String,
    weights_bytes: Vec<(&'a String, &'a u64)>,
    regions: Vec<Region<'a>>,
    charts: Vec<Chart<'a>>,
    barriers: Vec<&'a Step>,
    width: u64,
    height: u64,
}

#[derive(Serialize)]
struct Region<'a> {
    name: &'a str,
    bytes: u64,
    lower_bound: u64,
    naive: u64,
    status: String,
    by: &'a str,
    colour: usize,
}

/// One entry's tensors over its steps.
#[derive(Serialize)]
struct Chart<'a> {
    entry: &'a str,
    steps: u64,
    bytes: u64,
    boxes: Vec<Slot>,
    /// Points of the live-bytes line.
    live: String,
    /// The fullest step.
    peak: Option<Column<'a>>,
}

/// One tensor, in chart units.
#[derive(Serialize)]
struct Slot {
    x: String,
    y: String,
    width: String,
    height: String,
    colour: usize,
    title: String,
}

#[derive(Serialize)]
struct Column<'a> {
    x: String,
    width: String,
    step: &'a str,
    bytes: u64,
}

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
        fuse: if fuse.is_empty() {
            "none".to_owned()
        } else {
            fuse.join(", ")
        },
        weights_bytes: report.totals.weights_bytes.iter().collect(),
        regions: regions(&report),
        charts: report
            .header
            .entries
            .iter()
            .filter_map(|e| chart(&report, &e.name))
            .collect(),
        barriers: report.steps.iter().filter(|s| s.barrier.is_some()).collect(),
        width: WIDTH,
        height: HEIGHT,
        report: &report,
    };
    Tera::one_off(TEMPLATE, &Context::from_serialize(&page)?, true)
}

/// Position of a region among the colours of the style sheet.
fn colour(region: &str) -> usize {
    const NAMES: [&str; 7] = [
        "weights",
        "kv",
        "activations",
        "scratch",
        "gradients",
        "optimizer",
        "io",
    ];
    NAMES.iter().position(|&name| name == region).unwrap_or(NAMES.len())
}

fn regions(report: &Report) -> Vec<Region<'_>> {
    let row = |r: &'_ super::types::Region| (r.status.to_string(), colour(&r.name));
    report
        .totals
        .regions
        .iter()
        .map(|r| {
            let (status, colour) = row(r);
            let by = r.plan.as_ref().map_or("", |p| &p.chosen);
            Region {
                name: &r.name,
                bytes: r.bytes,
                lower_bound: r.lower_bound,
                naive: r.naive,
                status,
                by,
                colour,
            }
        })
        .collect()
}

/// The chart of one entry: regions that hold tensors of it, stacked; nothing when there are none.
fn chart<'a>(report: &'a Report, entry: &'a str) -> Option<Chart<'a>> {
    let tensors: Vec<&Tensor> = report.tensors.iter().filter(|t| t.entry == entry).collect();
    let steps: Vec<&Step> = report.steps.iter().filter(|s| s.entry == entry).collect();
    let count = steps.len() as u64;
    // Each region's first byte on the chart.
    let mut stack = Vec::new();
    let mut bytes = 0u64;
    for region in report
        .totals
        .regions
        .iter()
        .filter(|r| tensors.iter().any(|t| t.region == r.name))
    {
        stack.push((region, bytes));
        bytes = bytes.saturating_add(region.bytes);
    }
    if count == 0 || bytes == 0 {
        return None;
    }
    let slot = |t: &Tensor| {
        let (region, base) = stack.iter().find(|(r, _)| r.name == t.region)?;
        let start = base.saturating_add(t.offset.saturating_sub(region.offset)).min(bytes);
        let end = start.saturating_add(t.bytes).min(bytes);
        let (first, after) = (t.first.min(count), t.last.saturating_add(1).min(count));
        let alias = t
            .alias_of
            .as_ref()
            .map_or(String::new(), |of| format!(", alias of {of}"));
        Some(Slot {
            x: scale(first, count, WIDTH),
            width: scale(after.saturating_sub(first), count, WIDTH),
            // Byte 0 is at the bottom.
            y: scale(bytes - end, bytes, HEIGHT),
            height: scale(end - start, bytes, HEIGHT),
            colour: colour(&t.region),
            title: format!(
                "{}: {}{}, {} B at {:#x}, steps {}..={}{alias}",
                t.id,
                t.dtype,
                shape(&t.shape),
                t.bytes,
                t.offset,
                t.first,
                t.last
            ),
        })
    };
    let point = |(i, s): (usize, &&Step)| {
        let y = scale(bytes - s.live_bytes.min(bytes), bytes, HEIGHT);
        format!(
            "{},{y} {},{y}",
            scale(i as u64, count, WIDTH),
            scale(i as u64 + 1, count, WIDTH)
        )
    };
    let points: Vec<String> = steps.iter().enumerate().map(point).collect();
    // The first of the fullest.
    let fullest = (0..steps.len()).rev().max_by_key(|&i| steps[i].live_bytes);
    let peak = fullest.map(|i| Column {
        x: scale(i as u64, count, WIDTH),
        width: scale(1, count, WIDTH),
        step: &steps[i].id,
        bytes: steps[i].live_bytes,
    });
    let boxes = tensors.iter().filter_map(|t| slot(t)).collect();
    Some(Chart {
        entry,
        steps: count,
        bytes,
        boxes,
        live: points.join(" "),
        peak,
    })
}

/// `value / total * span` with two decimals, without floating point.
fn scale(value: u64, total: u64, span: u64) -> String {
    let hundredths = u128::from(value) * u128::from(span) * 100 / u128::from(total.max(1));
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

//! The arena over time, as shapes in chart units: x steps, y bytes, a box a tensor.

use std::collections::BTreeSet;

use serde::Serialize;

use super::text::shape;
use super::types::{Memory, REGIONS, Region, Report, Step, Tensor};

/// Size of a chart, and of the margins around its plot.
pub const WIDTH: u64 = 1000;
pub const HEIGHT: u64 = 520;
const LEFT: u64 = 96;
const TOP: u64 = 64;
const BOTTOM: u64 = 32;
const PLOT_WIDTH: u64 = WIDTH - LEFT - 8;
const PLOT_HEIGHT: u64 = HEIGHT - TOP - BOTTOM;

/// A letter of a label, about.
const LETTER: u64 = 8;
/// Lines on the axis of bytes.
const LINES: u64 = 4;
/// Labels on the axis of steps, at most.
const LABELS: usize = 16;

/// One entry's tensors over its steps.
#[derive(Serialize)]
pub struct Chart<'a> {
    pub entry: &'a str,
    /// The memory that it shows, if there are several.
    pub memory: Option<Within<'a>>,
    pub steps: u64,
    pub bytes: u64,
    pub boxes: Vec<Slot>,
    pub bands: Vec<Band<'a>>,
    pub lines: Vec<Mark>,
    pub layers: Vec<Mark>,
    /// Points of the live-bytes line.
    pub live: String,
    /// The fullest step.
    pub peak: Option<Column<'a>>,
}

/// One tensor. Its label fits into it; its tip begins or ends above it.
#[derive(Serialize)]
pub struct Slot {
    x: String,
    y: String,
    width: String,
    height: String,
    colour: usize,
    name: String,
    facts: String,
    label: Option<Label>,
    tip_x: String,
    /// Whether the tip ends at `tip_x` instead of starting there.
    tip_ends: bool,
}

#[derive(Serialize)]
struct Label {
    x: String,
    y: String,
    text: String,
}

/// A region's part of the chart.
#[derive(Serialize)]
pub struct Band<'a> {
    name: &'a str,
    /// Bytes up to the highest that the entry uses.
    used: u64,
    bytes: u64,
    colour: usize,
}

/// The memory that a chart shows.
#[derive(Serialize)]
pub struct Within<'a> {
    name: &'a str,
    used: u64,
    capacity: Option<u64>,
    /// What its tensors are for, each with its colour.
    kinds: Vec<(&'a str, usize)>,
}

/// A line across the plot, with its label.
#[derive(Serialize)]
pub struct Mark {
    at: String,
    label: String,
}

#[derive(Serialize)]
pub struct Column<'a> {
    x: String,
    width: String,
    middle: String,
    ends: bool,
    pub step: &'a str,
    pub bytes: u64,
}

/// Position of a region among the colours of the style sheet; what holds tensors of several regions has the last.
pub fn colour(region: &str) -> usize {
    let found = REGIONS.iter().position(|&name| name == region);
    found.unwrap_or(REGIONS.len() - 1)
}

/// The charts of one entry: of the regions that hold tensors of it, stacked; with several memories one of each that does.
pub fn charts<'a>(report: &'a Report, entry: &'a str) -> Vec<Chart<'a>> {
    let own: Vec<&Tensor> = report.tensors.iter().filter(|t| t.entry == entry).collect();
    let steps: Vec<&Step> = report.steps.iter().filter(|s| s.entry == entry).collect();
    let regions = &report.totals.regions;
    if report.totals.memories.is_empty() {
        let plot = Plot::new(regions, &own, steps.len() as u64);
        let drawn = plot.map(|plot| {
            let boxes = own.iter().filter_map(|t| plot.slot(t, false)).collect();
            let live = steps.iter().map(|s| s.live_bytes).collect();
            draw(entry, None, &steps, &plot, boxes, live)
        });
        return drawn.into_iter().collect();
    }
    let memory = |m: &'a Memory| {
        let region = regions.iter().position(|r| r.name == m.name)?;
        let inside = shown(report, entry, &m.name);
        let drawn: Vec<&Tensor> = inside.iter().map(|(t, _)| *t).collect();
        let plot = Plot::new(&regions[region..=region], &drawn, steps.len() as u64)?;
        let boxes = inside.iter().filter_map(|(t, always)| plot.slot(t, *always)).collect();
        Some(draw(entry, Some(m), &steps, &plot, boxes, live(&inside, steps.len())))
    };
    report.totals.memories.iter().filter_map(memory).collect()
}

/// What an entry finds in a memory, and whether it is there always: its own tensors, and what outlives calls.
fn shown<'a>(report: &'a Report, entry: &str, memory: &str) -> Vec<(&'a Tensor, bool)> {
    let here = report.tensors.iter().filter(|t| t.home() == memory);
    let mut inside: Vec<(&Tensor, bool)> = Vec::new();
    let mut io: BTreeSet<&str> = BTreeSet::new();
    for t in here {
        let always = t.entry.is_empty() || t.region == "io";
        // Ids and logits have a row in every entry that touches them.
        let once = t.region != "io" || io.insert(&t.id);
        if once && (always || t.entry == entry) {
            inside.push((t, always));
        }
    }
    inside
}

/// Bytes of the tensors in each step; those of two that share them count once.
fn live(inside: &[(&Tensor, bool)], steps: usize) -> Vec<u64> {
    let (always, own): (Vec<_>, Vec<_>) = inside.iter().partition(|(_, always)| *always);
    let base = always.iter().map(|(t, _)| t.bytes).fold(0, u64::saturating_add);
    let mut births: Vec<&Tensor> = own.iter().map(|(t, _)| *t).collect();
    births.sort_by_key(|t| t.first);
    let mut births = births.into_iter().peekable();
    let mut now: Vec<&Tensor> = Vec::new();
    let mut live = Vec::with_capacity(steps);
    for step in 0..steps as u64 {
        now.retain(|t| t.last >= step);
        now.extend(std::iter::from_fn(|| births.next_if(|t| t.first <= step)));
        now.sort_by_key(|t| t.offset);
        let mut end = 0;
        live.push(now.iter().fold(base, |sum, t| {
            let (start, stop) = (t.offset.max(end), t.offset.saturating_add(t.bytes));
            end = end.max(stop);
            sum.saturating_add(stop.saturating_sub(start))
        }));
    }
    live
}

/// The chart of a plot, with what is live in each step.
fn draw<'a>(
    entry: &'a str,
    memory: Option<&'a Memory>,
    steps: &[&'a Step],
    plot: &Plot<'a>,
    boxes: Vec<Slot>,
    live: Vec<u64>,
) -> Chart<'a> {
    let peak = (0..steps.len()).rev().max_by_key(|&i| live[i]).map(|i| {
        let (x, width) = (plot.x(i as u64), plot.x(i as u64 + 1) - plot.x(i as u64));
        Column {
            x: units(x),
            width: units(width.max(200)),
            middle: units(x + width / 2),
            ends: x > 100 * WIDTH / 2,
            step: &steps[i].id,
            bytes: live[i],
        }
    });
    // What is not planned is no part of what a step says is live; a memory has it among its tensors.
    let below = if memory.is_some() { 0 } else { plot.written_down };
    let point = |(i, bytes): (usize, &u64)| {
        let y = units(plot.y(below.saturating_add(*bytes)));
        format!("{},{y} {},{y}", units(plot.x(i as u64)), units(plot.x(i as u64 + 1)))
    };
    let points: Vec<String> = live.iter().enumerate().map(point).collect();
    let line = |i| Mark {
        at: units(plot.y(plot.bytes / LINES * i)),
        label: human(plot.bytes / LINES * i),
    };
    let band = |b: &(&'a Region, u64, u64)| Band {
        name: &b.0.name,
        used: b.2,
        bytes: b.0.bytes,
        colour: colour(&b.0.name),
    };
    let kinds: BTreeSet<usize> = boxes.iter().map(|b| b.colour).collect();
    Chart {
        entry,
        memory: memory.map(|m| Within {
            name: &m.name,
            used: plot.bytes,
            capacity: m.capacity,
            kinds: kinds.into_iter().map(|c| (REGIONS[c], c)).collect(),
        }),
        steps: plot.steps,
        bytes: plot.bytes,
        boxes,
        bands: plot.stack.iter().map(band).collect(),
        lines: (0..=LINES).map(line).collect(),
        layers: layers(steps, plot),
        live: points.join(" "),
        peak,
    }
}

/// From steps and bytes to hundredths of a chart unit.
struct Plot<'a> {
    /// Each region with the byte of the chart that it starts at, and how many of its bytes the entry uses.
    stack: Vec<(&'a Region, u64, u64)>,
    steps: u64,
    bytes: u64,
    /// Bytes of the regions that are not planned, and so no part of what a step says is live.
    written_down: u64,
}

impl<'a> Plot<'a> {
    fn new(regions: &'a [Region], tensors: &[&Tensor], steps: u64) -> Option<Plot<'a>> {
        let mut plot = Plot {
            stack: Vec::new(),
            steps,
            bytes: 0,
            written_down: 0,
        };
        let named = |r: &&Region| tensors.iter().any(|t| t.home() == r.name);
        // A stride layout has one region for everything.
        let shown: Vec<&Region> = match regions.iter().any(|r| named(&r)) {
            true => regions.iter().filter(named).collect(),
            false => regions.iter().take(1).collect(),
        };
        let alone = shown.len() == 1;
        for region in shown {
            let inside = tensors.iter().filter(|t| alone || t.home() == region.name);
            let ends = inside.map(|t| t.offset.saturating_sub(region.offset).saturating_add(t.bytes));
            let used = ends.max().unwrap_or(0).min(region.bytes);
            plot.stack.push((region, plot.bytes, used));
            plot.bytes = plot.bytes.saturating_add(used);
            if region.plan.is_none() {
                plot.written_down = plot.written_down.saturating_add(used);
            }
        }
        (steps > 0 && plot.bytes > 0 && !tensors.is_empty()).then_some(plot)
    }

    fn x(&self, step: u64) -> u64 {
        LEFT * 100 + scale(step.min(self.steps), self.steps, PLOT_WIDTH)
    }

    /// Byte 0 is at the bottom.
    fn y(&self, byte: u64) -> u64 {
        TOP * 100 + scale(self.bytes - byte.min(self.bytes), self.bytes, PLOT_HEIGHT)
    }

    /// The box of a tensor: over the steps that touch it, or over all.
    fn slot(&self, t: &Tensor, always: bool) -> Option<Slot> {
        let own = |(r, ..): &&(&Region, u64, u64)| r.name == t.home();
        let (region, base, _) = self.stack.iter().find(own).or(self.stack.first())?;
        let start = base.saturating_add(t.offset.saturating_sub(region.offset));
        let (left, right) = match always {
            true => (self.x(0), self.x(self.steps)),
            false => (self.x(t.first), self.x(t.last.saturating_add(1))),
        };
        let (top, bottom) = (self.y(start.saturating_add(t.bytes)), self.y(start));
        let alias = t
            .alias_of
            .as_ref()
            .map_or(String::new(), |of| format!(", takes the bytes of {of}"));
        let facts = format!(
            "{}{}, {} B at {:#x}, {}{alias}",
            t.dtype,
            shape(&t.shape),
            t.bytes,
            t.offset,
            match always {
                true => "always".to_owned(),
                false => format!("steps {} to {}", t.first, t.last),
            }
        );
        // What is above the box is as wide as the plot on one side of it.
        let tip_ends = left > 100 * WIDTH / 2;
        Some(Slot {
            x: units(left),
            y: units(top),
            width: units(right - left),
            height: units(bottom - top),
            // Scratch of kernels is planned with the activations.
            colour: colour(if t.layout == "scratch" { "scratch" } else { &t.region }),
            name: t.id.clone(),
            facts,
            label: label(&t.id, (left, right), (top, bottom)),
            tip_x: units(if tip_ends { right } else { left }),
            tip_ends,
        })
    }
}

/// The name, or its last part, if it fits into the box.
fn label(id: &str, (left, right): (u64, u64), (top, bottom): (u64, u64)) -> Option<Label> {
    let room = (right - left) / 100 / LETTER;
    let fits = |text: &&str| (text.len() as u64) < room;
    let short = id.rsplit_once('.').map_or(id, |(_, last)| last);
    let text = [id, short].into_iter().find(fits)?;
    (bottom - top > 1800).then(|| Label {
        x: units(left + 400),
        y: units((top + bottom) / 2 + 500),
        text: text.to_owned(),
    })
}

/// Where each layer starts, thinned out until the labels fit.
fn layers(steps: &[&Step], plot: &Plot<'_>) -> Vec<Mark> {
    let number = |s: &Step| s.id.split('.').find_map(|part| part.parse::<u64>().ok());
    let mut starts: Vec<(usize, u64)> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        if let Some(layer) = number(step).filter(|l| starts.iter().all(|(_, seen)| seen != l)) {
            starts.push((i, layer));
        }
    }
    let every = starts.len().div_ceil(LABELS).max(1);
    let mark = |&(i, layer): &(usize, u64)| Mark {
        at: units(plot.x(i as u64)),
        label: layer.to_string(),
    };
    starts.iter().step_by(every).map(mark).collect()
}

/// `value / total * span`, in hundredths, without floating point.
fn scale(value: u64, total: u64, span: u64) -> u64 {
    (u128::from(value) * u128::from(span) * 100 / u128::from(total.max(1))) as u64
}

/// Hundredths as a number.
fn units(hundredths: u64) -> String {
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    match rest {
        0 => whole.to_string(),
        _ => format!("{whole}.{rest:02}"),
    }
}

/// `12.5 MiB`, rounded down.
pub fn human(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
    let (unit, scale) = UNITS.into_iter().find(|(_, scale)| bytes >= *scale).unwrap_or(("B", 1));
    let tenths = (u128::from(bytes) * 10 / u128::from(scale)) % 10;
    match (scale, tenths) {
        (1, _) | (_, 0) => format!("{} {unit}", bytes / scale),
        _ => format!("{}.{tenths} {unit}", bytes / scale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([units(1234), units(1200), units(5)], ["12.34", "12", "0.05"]);
        assert_eq!(
            [0, 1023, 1 << 20, 3 << 29, u64::MAX].map(human),
            ["0 B", "1023 B", "1 MiB", "1.5 GiB", "17179869183.9 GiB"]
        );
    }
}

//! `layout.txt`: one fact a line, in a stable order, without step numbers: made for line diffs.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::types::{PROCESS_BYTES, Plan, Report, Step, Tensor, Totals, order_words};

/// The report as text, newline at the end.
pub fn to_text(report: &Report) -> String {
    let mut report = report.clone();
    report.normalise();
    let mut out = String::new();
    // Writing to a string has no way to fail.
    let _ = write(&mut out, &report);
    out
}

fn write(out: &mut String, report: &Report) -> fmt::Result {
    header(out, report)?;
    totals(out, &report.totals)?;
    for f in &report.fusions {
        let site = format!("{:<8} {:<13} {:<8} {}", f.outcome.to_string(), f.flag, f.entry, f.site);
        match f.reason.as_str() {
            "" => writeln!(
                out,
                "fusion  {site}  saves {} B, {} barriers, {} passes",
                f.bytes_saved, f.barriers_saved, f.passes_saved
            )?,
            reason => writeln!(out, "fusion  {site}  because {reason}")?,
        }
    }
    for s in &report.steps {
        step(out, s)?;
    }
    for p in &report.partitions {
        let ranges: Vec<String> = p.ranges.iter().map(|r| shape(r)).collect();
        writeln!(
            out,
            "part    {} {}/{}  {}",
            p.axis,
            p.length,
            p.granule,
            ranges.join(" ")
        )?;
    }
    let steps: BTreeMap<(&str, u64), &str> = report
        .steps
        .iter()
        .map(|s| ((s.entry.as_str(), s.index), s.id.as_str()))
        .collect();
    let mut tensors: Vec<&Tensor> = report.tensors.iter().collect();
    tensors.sort_by_key(|t| (&t.region, &t.memory, &t.entry, t.offset, t.first, &t.id));
    let bases: BTreeMap<&str, u64> = report
        .totals
        .regions
        .iter()
        .map(|r| (r.name.as_str(), r.offset))
        .collect();
    for t in tensors {
        let base = bases.get(t.home()).copied().unwrap_or(0);
        tensor(out, t, t.offset.saturating_sub(base), &steps)?;
    }
    for w in &report.weights {
        let shape = shape(&w.shape);
        writeln!(
            out,
            "weight  {:#010x} +{:<10} {}{shape} {}  {}  <- {} {}{}",
            w.offset,
            w.bytes,
            w.dtype,
            w.packed_layout,
            w.name,
            w.dtype_source,
            w.source,
            prefixed("  sha256 ", &w.hash),
        )?;
    }
    for m in &report.moves {
        writeln!(
            out,
            "move    {} {}  {}  rank {} {:#010x} -> rank {} {:#010x} +{}",
            m.entry,
            m.step,
            m.tensor,
            m.source_rank,
            m.source_offset,
            m.destination_rank,
            m.destination_offset,
            m.bytes
        )?;
    }
    Ok(())
}

fn header(out: &mut String, report: &Report) -> fmt::Result {
    let (h, o) = (&report.header, &report.header.options);
    writeln!(out, "schema  {}", h.schema)?;
    writeln!(out, "ckc     {}", h.ckc_version)?;
    writeln!(out, "model   {}", h.model)?;
    writeln!(out, "yaml    sha256 {}", h.yaml_sha256)?;
    writeln!(out, "target  {}", h.target)?;
    let fuse = if o.fuse.is_empty() {
        "none".to_owned()
    } else {
        o.fuse.join(",")
    };
    let options = [
        ("mode", o.mode.clone()),
        ("context", o.context.to_string()),
        ("batch", o.batch.to_string()),
        ("fuse", fuse),
        ("layout", o.layout.clone()),
        ("kv_dtype", o.kv_dtype.clone()),
        ("weights_dtype", o.weights_dtype.clone()),
        ("max_threads", o.max_threads.to_string()),
    ];
    for (name, value) in options {
        writeln!(out, "option  {name} {value}")?;
    }
    if !o.debug.is_empty() {
        writeln!(out, "option  debug {}", o.debug.join(","))?;
    }
    if let Some(c) = &h.costs {
        writeln!(out, "costs   for {}, {} workers: {}", c.isa, c.workers, c.machine)?;
        for (dtype, many) in &c.many_from {
            for (isa, tokens) in many.each() {
                writeln!(out, "costs   {dtype} on {isa}: kernel for many from {tokens} tokens on")?;
            }
        }
        if let Some(tokens) = c.tiles_from {
            writeln!(out, "costs   matrix unit from {tokens} tokens on")?;
        }
    }
    for e in &h.entries {
        writeln!(out, "entry   {}  {} steps, {}", e.name, e.steps, e.barrier_words())?;
        writeln!(
            out,
            "entry   {}  peak {} B, {} flop, reads {} B, writes {} B",
            e.name, e.peak_bytes, e.flops, e.bytes_read, e.bytes_written
        )?;
        if e.predicted_ns > 0 {
            writeln!(
                out,
                "entry   {}  matmuls take {} ns by the costs",
                e.name, e.predicted_ns
            )?;
        }
        writeln!(out, "entry   {}  order {}", e.name, order_words(e.order))?;
        if let Some(plan) = &e.plan {
            self::plan(out, &e.name, plan)?;
        }
    }
    Ok(())
}

/// The layouts that were tried, the one that was kept first.
fn plan(out: &mut String, entry: &str, plan: &Plan) -> fmt::Result {
    writeln!(
        out,
        "plan    {entry}  {}  {} B, lower bound {}, gap {}, {}, {} nodes",
        plan.chosen, plan.bytes, plan.lower_bound, plan.gap, plan.status, plan.nodes
    )?;
    for (name, bytes) in plan.candidates.iter().filter(|(name, _)| **name != plan.chosen) {
        writeln!(out, "plan    {entry}  tried {name}  {bytes} B")?;
    }
    Ok(())
}

fn totals(out: &mut String, t: &Totals) -> fmt::Result {
    writeln!(out, "total   arena {} B", t.arena_bytes)?;
    writeln!(
        out,
        "total   resident at most {} B: the arena and {PROCESS_BYTES} B for the process",
        t.resident_bytes()
    )?;
    writeln!(out, "total   lower bound {} B", t.lower_bound_bytes)?;
    writeln!(out, "total   status {}", t.status)?;
    writeln!(out, "total   naive {} B", t.naive_bytes)?;
    writeln!(out, "total   kv per token {} B", t.kv_bytes_per_token)?;
    for (dtype, bytes) in &t.weights_bytes {
        writeln!(out, "total   weights {dtype} {bytes} B")?;
    }
    for r in &t.regions {
        writeln!(
            out,
            "region  {:#010x} +{:<10} {:<12} bound {}  naive {}  {}{}",
            r.offset,
            r.bytes,
            r.name,
            r.lower_bound,
            r.naive,
            r.status,
            prefixed("  by ", r.plan.as_ref().map_or("", |p| &p.chosen)),
        )?;
    }
    let all = t.memories.iter().map(|m| m.accesses).fold(0, u64::saturating_add);
    for m in &t.memories {
        let capacity = m.capacity.map_or("any".to_owned(), |c| c.to_string());
        writeln!(
            out,
            "memory  {:<12} {} of {capacity} B  weights {}  bound {}  serves {}  {}",
            m.name,
            m.bytes,
            m.weights_bytes,
            m.lower_bound,
            percent(m.accesses, all),
            m.status,
        )?;
    }
    for b in &t.budgets {
        let verdict = b.verdict();
        writeln!(out, "budget  {}  {} of {} B, {verdict}", b.name, b.bytes, b.limit)?;
    }
    if let Some(peak) = &t.peak {
        writeln!(out, "peak    {} {}  {} B", peak.entry, peak.step, peak.bytes)?;
        for live in &peak.live {
            let alias = prefixed("  in the bytes of ", live.alias_of.as_deref().unwrap_or(""));
            writeln!(out, "peak    live {}  {} B{alias}", live.id, live.bytes)?;
        }
        for s in &peak.shrink {
            writeln!(
                out,
                "peak    shrink {}  {} of {} B: -{} B, the one at the peak alone -{} B",
                s.id, s.buffers, s.bytes, s.lowers_by, s.alone
            )?;
        }
    }
    Ok(())
}

fn step(out: &mut String, s: &Step) -> fmt::Result {
    let fused = if s.fused_from.len() > 1 {
        format!("  fused {}", s.fused_from.join("+"))
    } else {
        String::new()
    };
    writeln!(
        out,
        "step    {} {}  {}({}) -> {}{fused}{}  par {}  ws {}  live {}  {} flop  r {} w {}{}",
        s.entry,
        s.id,
        s.kernel,
        s.inputs.join(", "),
        s.outputs.join(", "),
        prefixed("  in place of ", s.in_place_of.as_deref().unwrap_or("")),
        s.partition,
        s.workspace_bytes,
        s.live_bytes,
        s.flops,
        s.bytes_read,
        s.bytes_written,
        s.predicted
            .as_ref()
            .map_or(String::new(), |p| format!("  {} in {} ns", p.kernels, p.nanoseconds)),
    )?;
    if let Some(barrier) = &s.barrier {
        writeln!(out, "barrier {} {}  {}", s.entry, s.id, barrier.reason)?;
    }
    match &s.halves {
        Some(barrier) => writeln!(out, "within  {} {}  {}", s.entry, s.id, barrier.reason),
        None => Ok(()),
    }
}

/// A tensor at its place within its region, with its lifetime by the names of steps: neither a region that grew nor a
/// step that was inserted changes another tensor's line.
fn tensor(out: &mut String, t: &Tensor, place: u64, steps: &BTreeMap<(&str, u64), &str>) -> fmt::Result {
    let name = |index: u64| steps.get(&(t.entry.as_str(), index)).copied();
    let live = match (name(t.first), name(t.last)) {
        (Some(first), Some(last)) => format!("  {} {first}..{last}", t.entry),
        _ => String::new(),
    };
    writeln!(
        out,
        "tensor  {:<12} {place:#010x} +{:<10} {}{} {}  {}{live}{}{}{}",
        t.region,
        t.bytes,
        t.dtype,
        shape(&t.shape),
        t.layout,
        t.id,
        prefixed("  alias of ", t.alias_of.as_deref().unwrap_or("")),
        prefixed("  in ", t.memory.as_deref().unwrap_or("")),
        t.accesses.map_or(String::new(), |n| format!("  accesses {n}")),
    )
}

/// A share in per cent with one decimal, rounded down, without floating point.
pub(crate) fn percent(part: u64, all: u64) -> String {
    let thousandths = u128::from(part) * 1000 / u128::from(all.max(1));
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

/// `[4,64]`.
pub(super) fn shape(extents: &[u64]) -> String {
    let list: Vec<String> = extents.iter().map(u64::to_string).collect();
    format!("[{}]", list.join(","))
}

/// `text` with `prefix` before it, or nothing at all.
fn prefixed(prefix: &str, text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("{prefix}{text}")
    }
}

//! `ckc plan` and `ckc explain`: the report in words.

use std::fmt::Write;

use crate::compile::Planned;
use crate::diag::Diagnostic;
use crate::report::{FuseOutcome, Report};

/// The totals and the peak's cause.
pub fn totals(report: &Report) -> String {
    let (h, t) = (&report.header, &report.totals);
    let mut out = String::new();
    let mut line = |text: String| out.push_str(&(text + "\n"));
    line(format!(
        "{}: context {}, batch {}, {}",
        h.model, h.options.context, h.options.batch, h.options.layout
    ));
    if !h.options.debug.is_empty() {
        line(format!("for debugging: {}", h.options.debug.join(", ")));
    }
    line(format!(
        "arena        {:>14} bytes, lower bound {}, {}",
        t.arena_bytes, t.lower_bound_bytes, t.status
    ));
    line(format!("without reuse{:>14} bytes", t.naive_bytes));
    for r in &t.regions {
        line(format!(
            "  {:<11}{:>14} bytes at {:#x}, lower bound {}, {}",
            r.name, r.bytes, r.offset, r.lower_bound, r.status
        ));
    }
    for (dtype, bytes) in &t.weights_bytes {
        line(format!("weights {dtype:<5}{bytes:>14} bytes"));
    }
    line(format!(
        "KV cache     {:>14} bytes a token ({})",
        t.kv_bytes_per_token, h.options.kv_dtype
    ));
    for e in &h.entries {
        line(format!(
            "{:<8} {:>4} steps, {:>3} barriers, {} bytes at its peak",
            e.name, e.steps, e.barriers, e.peak_bytes
        ));
    }
    if let Some(peak) = &t.peak {
        line(format!(
            "the peak is `{}` of {}: {} bytes live",
            peak.step, peak.entry, peak.bytes
        ));
        for live in peak.live.iter().take(5) {
            line(format!("  {:<32} {:>12} bytes", live.id, live.bytes));
        }
    }
    out
}

/// Why a step or tensor is as it is, in every entry it occurs in.
///
/// # Errors
/// No op or tensor has that name; similar names are offered.
pub fn node(planned: &Planned, name: &str) -> Result<String, Diagnostic> {
    let report = &planned.report;
    let mut out = String::new();
    for step in report
        .steps
        .iter()
        .filter(|s| s.id == name || s.fused_from.iter().any(|f| f == name))
    {
        let barrier = step.barrier.as_ref().map_or("none".to_string(), |b| b.reason.clone());
        let _ = writeln!(
            out,
            "step `{}` of {}, number {}: kernel {}",
            step.id, step.entry, step.index, step.kernel
        );
        if step.fused_from.len() > 1 {
            let _ = writeln!(out, "  fused from   {}", step.fused_from.join(", "));
        }
        let _ = writeln!(out, "  reads        {}", step.inputs.join(", "));
        let _ = writeln!(out, "  writes       {}", step.outputs.join(", "));
        let in_place = step
            .in_place_of
            .as_ref()
            .map_or("no".to_string(), |t| format!("takes the bytes of `{t}`"));
        let _ = writeln!(out, "  in place     {in_place}");
        let _ = writeln!(out, "  divided by   {}", step.partition);
        let _ = writeln!(out, "  barrier      {barrier}");
        let _ = writeln!(
            out,
            "  costs        {} flops, reads {} bytes, writes {}, workspace {}",
            step.flops, step.bytes_read, step.bytes_written, step.workspace_bytes
        );
    }
    for fusion in report.fusions.iter().filter(|f| f.site == name) {
        let outcome = match fusion.outcome {
            FuseOutcome::Applied => {
                format!(
                    "applied, {} bytes not written, {} barriers saved",
                    fusion.bytes_saved, fusion.barriers_saved
                )
            }
            FuseOutcome::Refused => format!("refused: {}", fusion.reason),
        };
        let _ = writeln!(out, "fusion {} in {}: {outcome}", fusion.flag, fusion.entry);
    }
    for t in report.tensors.iter().filter(|t| t.id == name) {
        let alias = t
            .alias_of
            .as_ref()
            .map_or(String::new(), |a| format!(", takes the bytes of `{a}`"));
        let _ = writeln!(
            out,
            "tensor `{}` of {}: {} {:?} in {} at {:#x}, {} bytes, steps {}..={}{alias}",
            t.id, t.entry, t.dtype, t.shape, t.region, t.offset, t.bytes, t.first, t.last
        );
    }
    for t in report
        .tensors
        .iter()
        .filter(|t| t.id.rsplit_once('.').is_some_and(|(cache, _)| cache == name))
    {
        if t.region == "kv" {
            let _ = writeln!(
                out,
                "cache `{}`: {} {:?} at {:#x}, {} bytes, alive always",
                t.id, t.dtype, t.shape, t.offset, t.bytes
            );
        }
    }
    for entry in &planned.layout.entries {
        let away = |s: &&crate::fuse::Site| s.outcome.as_ref().is_ok_and(|gone| gone.iter().any(|t| t == name));
        for site in entry.entry.sites.iter().filter(away) {
            let _ = writeln!(
                out,
                "tensor `{name}` of {}: fused away by {} at `{}`",
                entry.entry.name, site.flag, site.site
            );
        }
    }
    for w in report.weights.iter().filter(|w| w.name == name) {
        let _ = writeln!(
            out,
            "weight `{}`: {} {:?}, {}, at {:#x}, {} bytes",
            w.name, w.dtype, w.shape, w.packed_layout, w.offset, w.bytes
        );
    }
    if out.is_empty() {
        return Err(unknown(planned, name));
    }
    Ok(out)
}

fn unknown(planned: &Planned, name: &str) -> Diagnostic {
    let graph = &planned.model.graph;
    let names = graph.ops.iter().map(|o| o.name.as_str());
    let last = name.rsplit('.').next().unwrap_or(name);
    let mut near: Vec<&str> = names
        .filter(|n| n.contains(last) || n.rsplit('.').next() == Some(last))
        .take(5)
        .collect();
    if near.is_empty() {
        near = graph.ops.iter().take(5).map(|o| o.name.as_str()).collect();
    }
    Diagnostic::new("CK0908", format!("no op, tensor or weight is called `{name}`"))
        .help(format!("names are like {}", near.join(", ")))
}

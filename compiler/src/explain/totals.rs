//! `ckc plan`: the report's totals in words.

use crate::report::{Report, order_words, percent};

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
    let all = t.memories.iter().map(|m| m.accesses).fold(0, u64::saturating_add);
    for m in &t.memories {
        let capacity = m.capacity.map_or("no limit".to_string(), |c| format!("of {c}"));
        line(format!(
            "  {:<11}{:>14} bytes {capacity}, serves {} of the accesses to activations, caches and io",
            m.name,
            m.bytes,
            percent(m.accesses, all)
        ));
    }
    if !t.memories.is_empty() {
        line(format!(
            "  accesses of a prompt of {0} tokens, {0} decoded after it, and their logits",
            h.options.batch
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
            "{:<8} {:>4} steps, {:>3}, {} bytes at its peak{}",
            e.name,
            e.steps,
            e.barrier_words(),
            e.peak_bytes,
            e.plan.as_ref().map_or(String::new(), |p| format!(", {}", p.status))
        ));
        line(format!("         order: {}", order_words(e.order)));
    }
    for b in &t.budgets {
        let verdict = b.verdict();
        line(format!(
            "budget {:<11} {:>10} of {} bytes, {verdict}",
            b.name, b.bytes, b.limit
        ));
    }
    if let Some(peak) = &t.peak {
        line(format!(
            "the peak is `{}` of {}: {} bytes live",
            peak.step, peak.entry, peak.bytes
        ));
        for live in &peak.live {
            let alias = live.alias_of.as_ref();
            let alias = alias.map_or(String::new(), |of| format!(", the same as `{of}`"));
            line(format!("  {:<32} {:>12} bytes{alias}", live.id, live.bytes));
        }
        if !peak.shrink.is_empty() {
            line("the peak falls if these are smaller, at most by".to_string());
        }
        for s in &peak.shrink {
            let buffers = match s.buffers {
                1 => String::new(),
                n => format!(" ({n} of them; the one at the peak alone {})", s.alone),
            };
            line(format!("  {:<32} {:>12} bytes{buffers}", s.id, s.lowers_by));
        }
    }
    out
}

//! A memory that is too small, in words.

use crate::codes;
use crate::compile::Planned;
use crate::diag::Diagnostic;
use crate::layout::MemoryPlan;

/// What is named of what is live where a memory overflows.
const NAMED: usize = 5;

/// A diagnostic for each memory that is too small.
pub fn diagnostics(planned: &Planned) -> Vec<Diagnostic> {
    let memories = planned.layout.memories.iter().zip(&planned.model.origins.memories);
    memories
        .filter_map(|(memory, span)| Some(diagnostic(memory, span)?.in_file(&planned.model.source.name)))
        .collect()
}

fn diagnostic(memory: &MemoryPlan, span: &std::ops::Range<usize>) -> Option<Diagnostic> {
    let shortage = memory.shortage.as_ref()?;
    let name = &memory.memory.name;
    let message = format!(
        "over budget by {}: memory `{name}` overflows at step `{}` of `{}`",
        shortage.short, shortage.step, shortage.entry
    );
    let capacity = memory.memory.capacity.unwrap_or_default();
    let label = format!("has {capacity} bytes, {} are needed", memory.bytes);
    let mut diagnostic = Diagnostic::new(codes::SHORTAGE, message).at(span.clone(), label);
    for (id, bytes) in shortage.live.iter().take(NAMED) {
        diagnostic = diagnostic.note(format!("live there: {bytes} bytes of `{id}`"));
    }
    let rest = &shortage.live[NAMED.min(shortage.live.len())..];
    if !rest.is_empty() {
        let bytes: u64 = rest.iter().map(|(_, bytes)| bytes).sum();
        diagnostic = diagnostic.note(format!("live there: {bytes} bytes of {} more", rest.len()));
    }
    let by = shortage.short;
    let less = match memory.weights > capacity {
        true => "its weights alone are too large: another `dtype` packs them into less",
        false => "a smaller `limits.batch` or `limits.context` needs less",
    };
    Some(diagnostic.help(format!("{by} bytes more in `{name}` are enough; {less}")))
}

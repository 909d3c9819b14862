//! What outlives a call: weights, rope tables and KV caches.

use super::Part;
use super::step::field;
use crate::compile::Planned;
use crate::graph::{Graph, OpKind, RopeId, RopeScaling, Sink};
use crate::layout::residence::residence;
use crate::layout::{EntryLayout, Kind, cache_half_bytes};
use crate::report::{Step, Tensor, WeightRow};

/// The weight, rope or cache of that name, or the half of a cache.
pub fn parts(planned: &Planned, name: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (index, row) in planned.report.weights.iter().enumerate() {
        if row.name == name && rope_of(row).is_none() {
            parts.push(weight(planned, index, row));
        }
    }
    let graph = &planned.model.graph;
    let ropes = &planned.model.origins.ropes;
    for rope in 0..graph.ropes.len() {
        let called = |(n, id): &(String, RopeId)| n == name && id.index() == rope;
        if name == table(rope) || ropes.iter().any(called) {
            parts.push(rope_table(planned, rope));
        }
    }
    for (index, cache) in graph.caches.iter().enumerate() {
        let half = name.strip_prefix(cache.name.as_str());
        if half.is_some_and(|half| ["", ".keys", ".values"].contains(&half)) {
            parts.push(self::cache(planned, index, name));
        }
    }
    parts
}

/// What the packed file calls a rope's table.
fn table(rope: usize) -> String {
    format!("rope_{rope}")
}

fn rope_of(row: &WeightRow) -> Option<usize> {
    (row.source == "computed")
        .then(|| row.name.strip_prefix("rope_")?.parse().ok())
        .flatten()
}

/// The steps that satisfy `uses`, by entry.
fn used_by(planned: &Planned, uses: impl Fn(&EntryLayout, &Step) -> bool) -> Vec<String> {
    let line = |entry: &EntryLayout| {
        let rows = planned.report.steps.iter().filter(|s| s.entry == entry.entry.name);
        let names: Vec<String> = rows.filter(|s| uses(entry, s)).map(|s| format!("`{}`", s.id)).collect();
        let shown = names.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
        let more = match names.len().saturating_sub(4) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!("{}: {shown}{more}", entry.entry.name);
        (!names.is_empty()).then(|| field("used by", &text))
    };
    planned.layout.entries.iter().filter_map(line).collect()
}

fn why_weights(planned: &Planned) -> String {
    let last = planned.layout.memories.last().map(|m| m.memory.name.as_str());
    match (planned.layout.kind, last) {
        (Kind::Packed, None) => "weights: it never changes; the region is the packed file, mapped as it is".into(),
        (Kind::Packed, Some(name)) => {
            format!("weights: it never changes; the region is the packed file, mapped at the start of `{name}`")
        }
        (Kind::Stride, name) => format!(
            "{}: a stride layout puts it where the first step that uses it runs",
            name.unwrap_or("interleaved")
        ),
    }
}

fn weight(planned: &Planned, index: usize, row: &WeightRow) -> Part {
    let rows = &planned.report.weights;
    let before = index.checked_sub(1).and_then(|i| rows.get(i));
    let here = match before {
        None => "the first thing that the program reads".to_owned(),
        Some(before) => format!("after `{}`: weights lie in the order of their first use", before.name),
    };
    let mut body = vec![
        field("region", &why_weights(planned)),
        field("packed as", &format!("{}, {}", row.dtype, row.packed_layout)),
        field("here", &here),
        field("lives", "always: no bytes of it are used for anything else"),
    ];
    body.extend(used_by(planned, |_, s| s.inputs.contains(&row.name)));
    Part {
        head: format!(
            "weight `{}`: {} {:?}, {} bytes at {:#x} of the packed weights",
            row.name, row.dtype, row.shape, row.bytes, row.offset
        ),
        body,
    }
}

fn rope_table(planned: &Planned, rope: usize) -> Part {
    let graph = &planned.model.graph;
    let def = &graph.ropes[rope];
    let row = planned.report.weights.iter().find(|r| rope_of(r) == Some(rope));
    let (bytes, offset) = row.map_or((0, 0), |r| (r.bytes, r.offset));
    let ropes = &planned.model.origins.ropes;
    let names: Vec<String> = ropes
        .iter()
        .filter(|(_, id)| id.index() == rope)
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let scaling = match &def.scaling {
        RopeScaling::None => "as trained".to_owned(),
        RopeScaling::Factors { source } => format!("scaled by `{source}`"),
        other => format!("scaled: {other:?}"),
    };
    let mut body = vec![
        field("region", &why_weights(planned)),
        field("called", &format!("{} in the description", names.join(", "))),
        field(
            "holds",
            &format!(
                "a cosine and a sine for each of {} pairs and {} positions; theta {:?}, {:?}, {scaling}",
                def.dims / 2,
                graph.context,
                def.theta,
                def.pairing
            ),
        ),
        field("here", "tables come before the weights: every layer reads them"),
        field("lives", "always; computed when the weights are packed"),
    ];
    body.extend(used_by(planned, |entry, s| rotates(entry, s, rope)));
    Part {
        head: format!(
            "rope table `{}`: f32 [{}, {}], {bytes} bytes at {offset:#x} of the packed weights",
            table(rope),
            graph.context,
            def.dims
        ),
        body,
    }
}

/// Whether a step rotates by that table.
fn rotates(entry: &EntryLayout, step: &Step, rope: usize) -> bool {
    let program = &entry.entry;
    let op = program.steps.get(step.index as usize).map(|s| &program.graph.ops[s.op]);
    match op.map(|op| &op.kind) {
        Some(OpKind::Rope(r)) => r.index() == rope,
        Some(OpKind::Project { parts, .. }) => parts
            .iter()
            .any(|p| matches!(p.sink, Sink::Rope(r) | Sink::RopeKeys(r, _) if r.index() == rope)),
        _ => false,
    }
}

fn cache(planned: &Planned, index: usize, name: &str) -> Part {
    let graph: &Graph = &planned.model.graph;
    let cache = &graph.caches[index];
    let (keys, values) = (format!("{}.keys", cache.name), format!("{}.values", cache.name));
    let asked = |t: &&Tensor| (t.id == keys || t.id == values) && (t.id == name || name == cache.name);
    let halves: Vec<&Tensor> = planned.report.tensors.iter().filter(asked).collect();
    let half = cache_half_bytes(graph, crate::graph::CacheId(index as u32));
    let positions = planned.layout.cache_positions;
    let region = match planned.layout.kind {
        Kind::Packed => "kv: it is kept between calls, and every entry finds it at the same place",
        Kind::Stride => "interleaved: a stride layout puts it where the step that fills it runs",
    };
    let several = !planned.layout.memories.is_empty();
    let mut body = Vec::new();
    if !several {
        body.push(field("region", region));
    }
    body.extend(halves.iter().map(|t| {
        let text = format!(
            "`{}`: {:?}, {}, {} bytes at {:#x}",
            t.id, t.shape, t.layout, t.bytes, t.offset
        );
        field("holds", &text)
    }));
    body.push(field(
        "costs",
        &format!(
            "{} bytes a position and half, for {positions} positions",
            half / positions.max(1) as u64
        ),
    ));
    body.extend(halves.iter().filter_map(|t| {
        let why = residence(&planned.layout, "", &t.id)?;
        Some(field("region", &format!("`{}` {why}", t.id)))
    }));
    if !several {
        body.push(field(
            "here",
            "layer by layer, keys before values; offsets do not move with the length of the text",
        ));
    }
    body.push(field("lives", "always: from call to call, until the runner is reset"));
    let touched = |list: &[String]| halves.iter().any(|t| list.contains(&t.id));
    let written = used_by(planned, |_, s| touched(&s.outputs));
    body.extend(written.into_iter().map(|line| line.replacen("used by", "written", 1)));
    let read = used_by(planned, |_, s| touched(&s.inputs));
    body.extend(read.into_iter().map(|line| line.replacen("used by", "read by", 1)));
    Part {
        head: format!(
            "cache `{name}`: {} of {} heads of {}, {} bytes",
            cache.act.name(),
            cache.kv_heads,
            cache.head_dim,
            halves.iter().map(|t| t.bytes).sum::<u64>()
        ),
        body,
    }
}

//! Rules of tensors, weights, caches and rotary tables by themselves.

use std::collections::HashSet;

use ck_kernels::dtype::{ActType, DType};

use super::{Rule, Violations};
use crate::graph::{Graph, Rope, RopeScaling};

pub(super) fn check(graph: &Graph, found: &mut Violations) {
    names(graph, found);
    extents(graph, found);
    for tensor in &graph.tensors {
        let place = || format!("tensor {tensor}");
        match tensor.act {
            ActType::U32 if tensor.cols != 1 => {
                found.at(Rule::ActType, place(), "token ids have one column".into());
            }
            ActType::F16 => found.at(Rule::ActType, place(), "f16 is for KV caches only".into()),
            ActType::Q8 if tensor.cols % 32 != 0 => {
                found.at(Rule::ActType, place(), "q8 rows are whole blocks of 32".into());
            }
            _ if tensor.cols == 0 => found.at(Rule::Cols, place(), "no columns".into()),
            _ => {}
        }
    }
    for weight in &graph.weights {
        let place = || format!("weight {weight}");
        let block = weight.dtype.block_len();
        if weight.rows == 0 || weight.cols == 0 {
            found.at(Rule::WeightShape, place(), "empty".into());
        } else if weight.vector && weight.rows != 1 {
            found.at(Rule::WeightShape, place(), format!("a vector of {} rows", weight.rows));
        } else if weight.vector && weight.dtype != DType::F32 {
            found.at(Rule::WeightType, place(), "vectors are f32".into());
        } else if weight.cols % block != 0 {
            found.at(
                Rule::WeightType,
                place(),
                format!("columns are not whole blocks of {block}"),
            );
        }
    }
    for cache in &graph.caches {
        let place = || format!("cache {}", cache.name);
        if cache.kv_heads == 0 || cache.head_dim == 0 {
            found.at(
                Rule::Heads,
                place(),
                format!("{} heads of {}", cache.kv_heads, cache.head_dim),
            );
        }
        if !matches!(cache.act, ActType::F32 | ActType::F16) {
            found.at(
                Rule::ActType,
                place(),
                format!("{} instead of f32 or f16", cache.act.name()),
            );
        }
    }
    for (i, table) in graph.ropes.iter().enumerate() {
        if let Some(problem) = rope(table) {
            found.at(Rule::Rope, format!("rope{i}"), problem);
        }
    }
}

fn names(graph: &Graph, found: &mut Violations) {
    let mut unique = |what: &str, names: &mut dyn Iterator<Item = &String>| {
        let mut seen = HashSet::new();
        for name in names {
            if name.is_empty() {
                found.at(Rule::Names, what.to_string(), "without a name".into());
            } else if !seen.insert(name) {
                found.at(Rule::Names, format!("{what} {name}"), "the name is taken".into());
            }
        }
    };
    unique("tensor", &mut graph.tensors.iter().map(|t| &t.name));
    unique("op", &mut graph.ops.iter().map(|op| &op.name));
    unique("cache", &mut graph.caches.iter().map(|c| &c.name));
    // One source tensor is one weight, or tied weights would be packed twice.
    unique("weight", &mut graph.weights.iter().map(|w| &w.source));
}

fn extents(graph: &Graph, found: &mut Violations) {
    for (what, extent) in [("context", graph.context), ("batch", graph.batch)] {
        if extent == 0 {
            found.at(Rule::Parameter, format!("graph {}", graph.name), format!("{what} is 0"));
        }
    }
}

/// What is wrong with a rotary table.
fn rope(rope: &Rope) -> Option<String> {
    if rope.dims == 0 || !rope.dims.is_multiple_of(2) || rope.dims > rope.head_dim {
        return Some(format!("{} of {} elements of a head rotate", rope.dims, rope.head_dim));
    }
    let positive = |x: f64| x.is_finite() && x > 0.0;
    if !positive(rope.theta) {
        return Some(format!("theta is {}", rope.theta));
    }
    match rope.scaling {
        RopeScaling::Linear { factor } if !positive(factor) => Some(format!("factor is {factor}")),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original,
        } if !([factor, low, high, original].into_iter().all(positive) && low < high) => Some(format!(
            "llama3 scaling with factor {factor}, low {low}, high {high}, original {original}"
        )),
        _ => None,
    }
}

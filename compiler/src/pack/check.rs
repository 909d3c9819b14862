//! What the weights file must have, checked before anything is written.

use std::collections::BTreeSet;

use ck_kernels::{dtype::DType, quant};

use super::Item;
use crate::{
    diag::Diagnostic,
    source::{Source, TensorInfo, codes},
};

/// Tensors of a weights file that may stay unused: they repeat what the model description says.
const IGNORABLE: &[(&str, Why)] = &[
    // Frequencies of the rotary embedding, as old checkpoints of transformers and llama.cpp stored them.
    (".rotary_emb.inv_freq", Why::Always),
    (".attn_rot_embd", Why::Always),
    // Some checkpoints with tied embeddings hold the output matrix all the same.
    ("lm_head.weight", Why::CopyOf("model.embed_tokens.weight")),
];

/// When a tensor with an ignorable ending may be ignored.
enum Why {
    Always,
    /// It has the same bytes as that tensor.
    CopyOf(&'static str),
}

/// At most this many names in one message.
const MAX_NAMES: usize = 8;

/// Compares `items` with the headers of `source`; `made_from` are tensors that are used in another way.
///
/// Returns every problem: tensors that are missing, that nothing uses, that have another shape, whose type cannot be
/// read or cannot become the type asked for, whose rows do not fill blocks.
pub fn check(source: &Source, items: &[Item], made_from: &[&str]) -> Vec<Diagnostic> {
    let file = source.path().display().to_string();
    let mut problems = Vec::new();
    let mut missing = BTreeSet::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for item in items {
        match source.tensor(&item.source) {
            None => _ = missing.insert(item.source.as_str()),
            // A tensor that is used twice has its problems reported once.
            Some(info) if used.insert(&item.source) => {
                problems.extend(problem(source, info, item).map(|d| d.in_file(&file)));
            }
            Some(_) => {}
        }
    }
    for &name in made_from {
        match source.tensor(name) {
            None => _ = missing.insert(name),
            Some(_) => _ = used.insert(name),
        }
    }
    let unused: BTreeSet<&str> = source
        .tensors()
        .iter()
        .map(|t| t.name.as_str())
        .filter(|name| !used.contains(name) && !ignorable(source, name))
        .collect();
    problems.extend(about(&missing, codes::MISSING, "is missing", "are missing").map(|d| d.in_file(&file)));
    let extra = about(
        &unused,
        codes::UNUSED,
        "is not used by the model",
        "are not used by the model",
    );
    problems.extend(extra.map(|d| {
        d.in_file(&file)
            .help("a model that leaves weights out computes something else: they must be used, or not be there")
    }));
    problems
}

fn about(names: &BTreeSet<&str>, code: &'static str, one: &str, many: &str) -> Option<Diagnostic> {
    let list = || {
        let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|n| format!("`{n}`")).collect();
        match names.len().saturating_sub(MAX_NAMES) {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    };
    let message = match names.len() {
        0 => return None,
        1 => format!("tensor {} {one}", list()),
        n => format!("{n} tensors {many}: {}", list()),
    };
    Some(Diagnostic::new(code, message))
}

fn problem(source: &Source, info: &TensorInfo, item: &Item) -> Option<Diagnostic> {
    let name = &info.name;
    let wanted: &[usize] = if item.vector {
        &[item.cols]
    } else {
        &[item.rows, item.cols]
    };
    if trimmed(&info.shape) != trimmed(wanted) {
        let message = format!("tensor `{name}` has shape {:?}, the model needs {wanted:?}", info.shape);
        return Some(Diagnostic::new(codes::SHAPE, message));
    }
    let from = match source.readable(info) {
        Ok(from) => from,
        Err(error) => return Some(error),
    };
    if item.vector {
        return None;
    }
    let (to, cols) = (item.dtype, item.cols);
    if !cols.is_multiple_of(to.block_len()) {
        let message = format!(
            "tensor `{name}` has rows of {cols}, not a multiple of {}'s block of {}",
            to.name(),
            to.block_len()
        );
        return Some(Diagnostic::new(codes::BLOCKS, message));
    }
    if from != to && !quant::format(to).can_encode() {
        let encodable: Vec<&str> = DType::ALL
            .into_iter()
            .filter(|&d| quant::format(d).can_encode())
            .map(DType::name)
            .collect();
        let message = format!(
            "tensor `{name}` is stored as {}, which cannot become {}",
            from.name(),
            to.name()
        );
        let help = format!(
            "{} is only passed through; what can be made is {}",
            to.name(),
            encodable.join(", ")
        );
        return Some(Diagnostic::new(codes::CONVERSION, message).help(help));
    }
    None
}

/// Without leading ones: some writers keep them.
fn trimmed(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().take_while(|&&d| d == 1).count();
    &shape[ones.min(shape.len().saturating_sub(1))..]
}

fn ignorable(source: &Source, name: &str) -> bool {
    IGNORABLE.iter().any(|(ending, why)| {
        name.ends_with(ending)
            && match why {
                Why::Always => true,
                Why::CopyOf(other) => name == *ending && same_bytes(source, name, other),
            }
    })
}

fn same_bytes(source: &Source, a: &str, b: &str) -> bool {
    let (Some(x), Some(y)) = (source.tensor(a), source.tensor(b)) else {
        return false;
    };
    if x.shape != y.shape || x.dtype != y.dtype {
        return false;
    }
    let (rows, _) = x.rows_cols();
    let (mut left, mut right) = (Vec::new(), Vec::new());
    (0..rows).all(|r| {
        source.read_rows(a, r..r + 1, &mut left).is_ok()
            && source.read_rows(b, r..r + 1, &mut right).is_ok()
            && left == right
    })
}

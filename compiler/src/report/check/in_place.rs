//! An alias is a view of bytes that stay as they are, or takes them over in a step whose kernel reads before it writes.

use super::Say;
use super::view::{Part, Role, View, bytes};
use crate::report::types::{Partition, Tensor};

/// What a tensor is to the one that its `alias_of` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// Nothing that is allowed.
    None,
    /// A part of it, only read.
    View,
    /// What its bytes hold from now on.
    TakesOver(usize),
}

/// A kernel that may write its first output over one of its first inputs.
struct InPlace {
    kernel: &'static str,
    /// So many of the first.
    inputs: usize,
    /// Only where a worker owns whole rows: the kernel reads a row before it writes the row.
    by_rows: bool,
    /// The first output is the sum of the first two inputs, and not a product with them.
    sum_first: bool,
}

const fn elements(kernel: &'static str, inputs: usize) -> InPlace {
    InPlace {
        kernel,
        inputs,
        by_rows: false,
        sum_first: false,
    }
}

const fn rows(kernel: &'static str, sum_first: bool) -> InPlace {
    InPlace {
        kernel,
        inputs: 1,
        by_rows: true,
        sum_first,
    }
}

const KERNELS: &[InPlace] = &[
    elements("add", 2),
    elements("glu", 2),
    elements("rotate", 1),
    elements("attention", 1),
    rows("rmsnorm", false),
    rows("add_norm", true),
    rows("project", true),
    rows("project_glu", true),
];

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let r = view.report;
    for (i, tensor) in r.tensors.iter().enumerate() {
        let Some(name) = &tensor.alias_of else { continue };
        if let Err(wrong) = judge(view, tensor, name, i) {
            say(
                format!("tensors[{i}].alias_of"),
                format!("`{}` cannot be an alias of `{name}`: {wrong}", tensor.id),
            );
        }
    }
    for (i, step) in r.steps.iter().enumerate() {
        let Some(input) = &step.in_place_of else { continue };
        let taken = |output: &String| {
            let tensor = view.tensor(&step.entry, output).map(|t| &r.tensors[t]);
            tensor.is_some_and(|t| t.alias_of.as_ref() == Some(input))
        };
        if !step.outputs.iter().any(taken) {
            say(
                format!("steps[{i}].in_place_of"),
                format!("no output of `{}` takes the bytes of `{input}`", step.id),
            );
        }
    }
}

/// What the tensor at `index` is to the one it names, if that is allowed.
pub fn alias(view: &View<'_>, index: usize) -> Alias {
    let tensor = &view.report.tensors[index];
    let judged = tensor.alias_of.as_ref().map(|name| judge(view, tensor, name, index));
    judged.and_then(Result::ok).unwrap_or(Alias::None)
}

fn judge(view: &View<'_>, tensor: &Tensor, name: &str, index: usize) -> Result<Alias, String> {
    let source = view.tensor(&tensor.entry, name).ok_or("no tensor is called so")?;
    let old = &view.report.tensors[source];
    if source == index || old.entry != tensor.entry {
        return Err("it is not another tensor of the entry".into());
    }
    let (own, whole) = (bytes(tensor), bytes(old));
    if own.start < whole.start || own.end > whole.end {
        return Err(format!("its bytes {own:?} are not inside of {whole:?}"));
    }
    let line = &view.lines[tensor.entry.as_str()];
    let step = usize::try_from(tensor.first)
        .ok()
        .and_then(|first| line.steps.get(first));
    let step = *step.ok_or("it is born in no step")?;
    if !view.touches_of(step, index).iter().any(|touch| touch.writes) {
        return view_of(view, tensor, index, source);
    }
    if view.tensor(&tensor.entry, &tensor.id) != Some(index) {
        return Err("two tensors are called so".into());
    }
    takes_over(view, step, index, source)?;
    Ok(Alias::TakesOver(source))
}

/// A tensor that is read where another was written: nobody writes either as long as it lives.
fn view_of(view: &View<'_>, tensor: &Tensor, index: usize, source: usize) -> Result<Alias, String> {
    let old = &view.report.tensors[source];
    if old.first >= tensor.first || old.last < tensor.last {
        return Err(format!("`{}` does not hold its value for as long", old.id));
    }
    if view.written[index].is_some() || view.written[source].is_some_and(|last| last >= tensor.first) {
        return Err("it is a view, and its bytes are written while it lives".into());
    }
    Ok(Alias::View)
}

/// The step writes the tensor at `index` over the tensor at `source`.
fn takes_over(view: &View<'_>, at: usize, index: usize, source: usize) -> Result<(), String> {
    let step = &view.report.steps[at];
    let (tensor, old) = (&view.report.tensors[index], &view.report.tensors[source]);
    if bytes(tensor) != bytes(old) {
        return Err("the one does not have the bytes of the other".into());
    }
    if old.last != tensor.first {
        return Err(format!("`{}` is not dead after step {}", old.id, tensor.first));
    }
    if view.roles[source] != Role::Own || old.region == "io" {
        return Err(format!("`{}` is used outside of {}", old.id, old.entry));
    }
    if step.in_place_of.as_ref() != Some(&old.id) {
        return Err(format!("`{}` is not said to work in place of it", step.id));
    }
    let kernel = KERNELS.iter().find(|k| k.kernel == step.kernel);
    let kernel = kernel.ok_or_else(|| format!("`{}` does not work in place", step.kernel))?;
    let input = step.inputs.iter().take(kernel.inputs).any(|name| *name == old.id);
    if !input || step.outputs.first() != Some(&tensor.id) {
        return Err(format!(
            "`{}` writes its first output over its first inputs only",
            step.kernel
        ));
    }
    let by_rows = matches!(&step.partition, Partition::Axis { axis, .. } if axis == "rows");
    if kernel.by_rows && !by_rows {
        return Err(format!("`{}` works in place only by rows", step.kernel));
    }
    let summands = step
        .inputs
        .iter()
        .take(2)
        .filter(|name| view.tensor(&step.entry, name).is_some());
    if kernel.sum_first && (summands.count() < 2 || step.outputs.len() < 2) {
        return Err(format!("`{}` has no sum to write over it", step.id));
    }
    let parts = |tensor: usize| -> Vec<Option<Part>> { view.touches_of(at, tensor).iter().map(|t| t.part).collect() };
    let (written, read) = (parts(index), parts(source));
    if written != read || written.len() > 1 || written == [Some(Part::All)] {
        return Err("another worker may read what one has written".into());
    }
    Ok(())
}

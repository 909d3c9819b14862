//! The places of an earlier layout, to lay out near: a small edit of a model then moves few of its tensors.

use std::collections::BTreeMap;

use super::{Kind, Layout, operand_name};
use crate::report::Report;

/// The region whose places are chosen; all others are written down in order.
const REGION: &str = "activations";

/// Where tensors were, by entry and name.
#[derive(Clone, Debug, Default)]
pub struct Hint {
    /// The model of the report.
    model: String,
    /// Bytes from the start of the region.
    places: BTreeMap<(String, String), u64>,
}

impl Hint {
    /// The places of a report's activations.
    pub fn new(report: &Report) -> Self {
        let base = report
            .totals
            .regions
            .iter()
            .find(|r| r.name == REGION)
            .map(|r| r.offset);
        let place = |t: &crate::report::Tensor| {
            let offset = t.offset.checked_sub(base?)?;
            (t.region == REGION).then(|| ((t.entry.clone(), t.id.clone()), offset))
        };
        Self {
            model: report.header.model.clone(),
            places: report.tensors.iter().filter_map(place).collect(),
        }
    }

    /// Where the tensor was, from the start of the region.
    pub fn place(&self, entry: &str, name: &str) -> Option<u64> {
        self.places.get(&(entry.to_owned(), name.to_owned())).copied()
    }

    /// In words, what became of the hint in `layout` of `model`.
    pub fn outcome(&self, layout: &Layout, model: &str) -> String {
        if !layout.memories.is_empty() {
            return "hint: not used, a layout over several memories takes no hints".into();
        }
        let (mut kept, mut moved, mut new) = (0, 0, 0);
        let base = layout
            .regions
            .iter()
            .find(|r| r.name == REGION)
            .map_or(0, |r| r.bytes.start);
        for planned in &layout.entries {
            for operand in planned.live.keys() {
                let name = operand_name(&planned.entry, *operand);
                let counter = match self.place(planned.entry.name, &name) {
                    None => &mut new,
                    Some(old) if base + old == planned.places[operand] => &mut kept,
                    Some(_) => &mut moved,
                };
                *counter += 1;
            }
        }
        let unknown = self.places.len() - kept - moved;
        let mut text = format!("hint: {kept} tensors keep their offsets, {moved} move, {new} are new");
        if unknown > 0 {
            text += &format!("; {unknown} names of the hint are of no tensor here");
        }
        if self.model != model {
            text += &format!("; it is a report of `{}`", self.model.escape_debug());
        }
        if layout.kind == Kind::Stride {
            text += "; the stride layout takes no hints";
        }
        text
    }
}

//! The places of an earlier layout, to lay out near: a small edit of a model then moves few of its tensors.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, Layout, operand_name};
use crate::report::Report;

/// Of a layout in one memory, the region whose places are chosen; all others are written down in order.
const REGION: &str = "activations";

/// Where tensors were, by entry and name; the entry is empty for what all entries share.
#[derive(Clone, Debug, Default)]
pub struct Hint {
    /// The model of the report.
    model: String,
    /// Whether it had places of its own for everything.
    stride: bool,
    places: BTreeMap<(String, String), Place>,
}

/// Where a tensor was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The memory, or the region if there were no memories.
    pub home: String,
    /// Bytes from the first buffer there: behind its canary, if it had one.
    pub offset: u64,
}

impl Hint {
    /// The places of a report that were chosen.
    pub fn new(report: &Report) -> Self {
        let canaries = report.header.options.debug.iter().any(|d| d == "canaries");
        let edge = if canaries { ck_runtime::debug::CANARY as u64 } else { 0 };
        let bases: BTreeMap<&str, u64> = (report.totals.regions.iter())
            .map(|r| (r.name.as_str(), r.offset))
            .collect();
        let several = !report.totals.memories.is_empty();
        let place = |t: &crate::report::Tensor| {
            let home = t.home();
            let offset = t.offset.checked_sub(*bases.get(home)?)?.checked_sub(edge)?;
            let entry = if t.region == REGION { t.entry.as_str() } else { "" };
            (several || home == REGION).then(|| {
                let home = home.to_owned();
                ((entry.to_owned(), t.id.clone()), Place { home, offset })
            })
        };
        let stride = report.header.options.layout == Kind::Stride.name();
        Self {
            model: report.header.model.clone(),
            stride,
            places: report.tensors.iter().filter(|_| !stride).filter_map(place).collect(),
        }
    }

    /// Where the tensor was.
    pub fn place(&self, entry: &str, name: &str) -> Option<&Place> {
        self.places.get(&(entry.to_owned(), name.to_owned()))
    }

    /// Where the tensor was in the one memory, from its first activation.
    pub fn activation(&self, entry: &str, name: &str) -> Option<u64> {
        let place = self.place(entry, name).filter(|p| p.home == REGION);
        place.map(|p| p.offset)
    }

    /// In words, what became of the hint in `layout` of `model`.
    pub fn outcome(&self, layout: &Layout, model: &str) -> String {
        let mut text = match layout.kind {
            Kind::Stride => "hint: not used, in a stride layout execution order says where everything is".to_owned(),
            Kind::Packed => self.kept(layout),
        };
        if self.stride {
            text += "; it is a stride layout, which has no places to keep";
        }
        if self.model != model {
            text += &format!("; it is a report of `{}`", self.model.escape_debug());
        }
        text
    }

    /// What stays, what moves, and what the hint speaks of that is not there.
    fn kept(&self, layout: &Layout) -> String {
        let (mut kept, mut moved, mut rehomed, mut new) = (0, 0, 0, 0);
        let tensors = placed(layout);
        for ((entry, name), now) in &tensors {
            let counter = match self.place(entry, name) {
                None => &mut new,
                Some(old) if old == now => &mut kept,
                Some(old) if old.home == now.home => &mut moved,
                Some(_) => &mut rehomed,
            };
            *counter += 1;
        }
        let mut text = format!("hint: {kept} tensors keep their offsets, {moved} move, {new} are new");
        if rehomed > 0 {
            text += &format!("; {rehomed} are in another memory");
        }
        let unknown = self.places.keys().filter(|key| !tensors.contains_key(key)).count();
        if unknown > 0 {
            text += &format!("; {unknown} names of the hint are of no tensor here");
        }
        let entries: BTreeSet<&str> = layout.entries.iter().map(|e| e.entry.name).collect();
        let of_entries = self.places.keys().map(|(entry, _)| entry.as_str());
        let of_entries = of_entries.filter(|entry| !entry.is_empty() && !entries.contains(entry));
        text += &not_here("entry", "entries", of_entries);
        let homes: BTreeSet<&str> = match layout.memories.is_empty() {
            true => BTreeSet::from([REGION]),
            false => layout.memories.iter().map(|m| m.memory.name.as_str()).collect(),
        };
        let gone = self.places.values().map(|p| p.home.as_str());
        text += &not_here("memory", "memories", gone.filter(|home| !homes.contains(home)));
        text
    }
}

/// `; 12 of its tensors are in a memory that is not here: `fast``.
fn not_here<'a>(one: &str, several: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    let count = names.clone().count();
    let names: BTreeSet<String> = names.map(|n| format!("`{}`", n.escape_debug())).collect();
    let names: Vec<String> = names.into_iter().collect();
    match names.len() {
        0 => String::new(),
        1 => format!(
            "; {count} of its tensors are in the {one} {}, which is not here",
            names[0]
        ),
        _ => format!(
            "; {count} of its tensors are in the {several} {}, which are not here",
            names.join(", ")
        ),
    }
}

/// Where everything is whose place is chosen.
fn placed(layout: &Layout) -> BTreeMap<(String, String), Place> {
    let several = !layout.memories.is_empty();
    let mut tensors = BTreeMap::new();
    for planned in &layout.entries {
        for (operand, &at) in &planned.places {
            let own = planned.live.contains_key(operand);
            let home = match layout.memory_of(at) {
                Some(memory) => memory.memory.name.as_str(),
                None => REGION,
            };
            let region = layout.regions.iter().find(|r| r.name == home);
            let Some(region) = region.filter(|_| own || several) else {
                continue;
            };
            let entry = if own { planned.entry.name } else { "" };
            let place = Place {
                home: home.to_owned(),
                offset: at - region.bytes.start - layout.debug.canary(),
            };
            tensors.insert((entry.to_owned(), operand_name(&planned.entry, *operand)), place);
        }
    }
    tensors
}

//! Tensors that are live in the same step share no byte, except where one takes over from another or is a view of it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Say;
use super::in_place::{Alias, alias};
use super::view::{View, bytes, overlap};
use super::weights::{standing, standing_name};

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    clashes(view, 0, &mut |met| {
        let (from, to) = (met.bytes.start.max(met.other.start), met.bytes.end.min(met.other.end));
        let message = format!(
            "`{}` and `{}` share {from}..{to}; both live in step {} of {}",
            view.report.tensors[met.tensor].id, met.name, met.step, met.entry
        );
        say(format!("tensors[{}].offset", met.tensor), message);
    });
}

/// Two buffers that are live at once and too near each other.
pub struct Clash<'a> {
    pub tensor: usize,
    pub bytes: Range<u64>,
    /// What was there before the tensor.
    pub name: &'a str,
    pub other: Range<u64>,
    /// When the tensor is born.
    pub step: u64,
    pub entry: &'a str,
}

/// Calls `each` with every tensor that is born where less than `gap` bytes lie between it and something live.
pub fn clashes(view: &View<'_>, gap: u64, each: &mut dyn FnMut(Clash<'_>)) {
    let stay = standing(view);
    for (entry, line) in &view.lines {
        let own = line
            .tensors
            .iter()
            .copied()
            .filter(|t| view.report.tensors[*t].bytes > 0);
        let mut births: Vec<(u64, usize)> = own.map(|t| (view.live(t).start, t)).collect();
        births.sort_unstable();
        let mut deaths: Vec<(u64, usize)> = births.iter().map(|(_, t)| (view.live(*t).end, *t)).collect();
        deaths.sort_unstable();
        let mut deaths = deaths.into_iter().peekable();
        // By first byte: the live tensors, which are apart.
        let mut live: BTreeMap<u64, usize> = BTreeMap::new();
        for (step, t) in births {
            while let Some((_, dead)) = deaths.next_if(|(end, _)| *end <= step) {
                take(&mut live, view, dead);
            }
            match alias(view, t) {
                Alias::View => continue,
                Alias::TakesOver(old) => take(&mut live, view, old),
                Alias::None => {}
            }
            let bytes = bytes(&view.report.tensors[t]);
            let mut clash = |name: &str, other: Range<u64>| {
                each(Clash {
                    tensor: t,
                    bytes: bytes.clone(),
                    name,
                    other,
                    step,
                    entry,
                });
            };
            let wide = bytes.start.saturating_sub(gap)..bytes.end.saturating_add(gap);
            if let Some(other) = neighbour(&live, view, &wide) {
                let other = &view.report.tensors[other];
                clash(&other.id, super::view::bytes(other));
            } else {
                live.insert(bytes.start, t);
            }
            let after = stay.partition_point(|(other, _)| other.start < wide.end);
            let last = after.checked_sub(1).map(|i| &stay[i]);
            if let Some((other, i)) = last.filter(|(other, _)| overlap(other, &wide)) {
                clash(standing_name(view, *i), other.clone());
            }
        }
    }
}

/// Removes a tensor that is live.
fn take(live: &mut BTreeMap<u64, usize>, view: &View<'_>, tensor: usize) {
    let start = view.report.tensors[tensor].offset;
    if live.get(&start) == Some(&tensor) {
        live.remove(&start);
    }
}

/// A live tensor that has one of these bytes.
fn neighbour(live: &BTreeMap<u64, usize>, view: &View<'_>, range: &Range<u64>) -> Option<usize> {
    let (_, last) = live.range(..range.end).next_back()?;
    overlap(&bytes(&view.report.tensors[*last]), range).then_some(*last)
}

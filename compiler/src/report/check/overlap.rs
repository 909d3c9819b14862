//! Tensors that are live in the same step share no byte, except where one takes over from another or is a view of it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Say;
use super::in_place::{Alias, alias};
use super::view::{View, bytes, overlap};
use super::weights::standing;

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
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
            let new = &view.report.tensors[t];
            let bytes = bytes(new);
            let mut clash = |name: &str, other: &Range<u64>| {
                let (from, to) = (bytes.start.max(other.start), bytes.end.min(other.end));
                let message = format!(
                    "`{}` and `{name}` share {from}..{to}; both live in step {step} of {entry}",
                    new.id
                );
                say(format!("tensors[{t}].offset"), message);
            };
            if let Some(other) = neighbour(&live, view, &bytes) {
                let other = &view.report.tensors[other];
                clash(&other.id, &super::view::bytes(other));
            } else {
                live.insert(bytes.start, t);
            }
            let after = stay.partition_point(|(other, _)| other.start < bytes.end);
            if let Some((other, i)) = after
                .checked_sub(1)
                .map(|i| &stay[i])
                .filter(|(other, _)| overlap(other, &bytes))
            {
                let name = match i.checked_sub(view.report.weights.len()) {
                    Some(tensor) => &view.report.tensors[tensor].id,
                    None => &view.report.weights[*i].name,
                };
                clash(name, other);
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

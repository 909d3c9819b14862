//! Where a program has canaries, there is room for them: behind every buffer that is live, and before the first of a
//! region. Packed weights have none: they lie in the arena as they do in their file.

use std::collections::BTreeMap;

use super::Say;
use super::overlap::clashes;
use super::view::{View, bytes, overlap};
use super::weights::{standing, standing_name, standing_place};

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let canary = view.canary();
    if canary == 0 {
        return;
    }
    clashes(view, canary, &mut |met| {
        // What shares bytes is told of elsewhere.
        if !overlap(&met.bytes, &met.other) {
            let message = format!(
                "no canary fits between `{}` and `{}`, {:?} and {:?}; both live in step {} of {}",
                view.report.tensors[met.tensor].id, met.name, met.bytes, met.other, met.step, met.entry
            );
            say(format!("tensors[{}].offset", met.tensor), message);
        }
    });
    let packed = |i: usize| view.report.weights.get(i).is_some_and(|w| w.place.is_none());
    let stay = standing(view);
    for pair in stay.windows(2).filter(|pair| !packed(pair[0].1) || !packed(pair[1].1)) {
        let [(one, a), (other, b)] = pair else { continue };
        if one.end <= other.start && other.start - one.end < canary {
            let (a, name) = (standing_name(view, *a), standing_name(view, *b));
            let message = format!("no canary fits between `{a}` and `{name}`, {one:?} and {other:?}");
            say(standing_place(view, *b), message);
        }
    }
    let regions = view.report.totals.regions.iter();
    let regions: BTreeMap<&str, _> = regions
        .map(|r| (r.name.as_str(), r.offset..r.offset.saturating_add(r.bytes)))
        .collect();
    for (i, tensor) in view.report.tensors.iter().enumerate().filter(|(_, t)| t.bytes > 0) {
        let region = regions.get(tensor.home()).or_else(|| regions.get("interleaved"));
        let own = bytes(tensor);
        let room = |region: &&std::ops::Range<u64>| {
            own.start.saturating_sub(canary) < region.start || own.end.saturating_add(canary) > region.end
        };
        if let Some(region) = region.filter(room) {
            let message = format!(
                "no canary fits around `{}`, {own:?}, in `{}`, which is {region:?}",
                tensor.id,
                tensor.home()
            );
            say(format!("tensors[{i}].offset"), message);
        }
    }
}

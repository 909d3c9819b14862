//! Nothing is so long that telling of it once a row would take long.

use super::Say;
use super::view::View;

/// Longest name, in bytes.
const NAME: usize = 1024;
/// Most extents of a shape.
const RANK: usize = 8;

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let r = view.report;
    for (i, e) in r.header.entries.iter().enumerate() {
        name(&format!("header.entries[{i}]"), &e.name, say);
    }
    for (i, region) in r.totals.regions.iter().enumerate() {
        name(&format!("totals.regions[{i}]"), &region.name, say);
    }
    for (i, s) in r.steps.iter().enumerate() {
        let place = format!("steps[{i}]");
        name(&place, &s.id, say);
        name(&place, &s.entry, say);
        name(&place, &s.kernel, say);
        s.parts.keys().for_each(|part| name(&place, part, say));
        s.inputs
            .iter()
            .chain(&s.outputs)
            .chain(&s.clobbers)
            .chain(&s.in_place_of)
            .for_each(|n| name(&place, n, say));
    }
    for (i, t) in r.tensors.iter().enumerate() {
        let place = format!("tensors[{i}]");
        name(&place, &t.id, say);
        name(&place, &t.entry, say);
        name(&place, &t.dtype, say);
        t.alias_of.iter().for_each(|n| name(&place, n, say));
        rank(&place, &t.shape, say);
    }
    for (i, w) in r.weights.iter().enumerate() {
        let place = format!("weights[{i}]");
        name(&place, &w.name, say);
        name(&place, &w.dtype, say);
        rank(&place, &w.shape, say);
    }
    if let Some(peak) = &r.totals.peak {
        name("totals.peak", &peak.entry, say);
        name("totals.peak", &peak.step, say);
    }
}

fn name(place: &str, name: &str, say: &mut Say<'_>) {
    if name.len() > NAME {
        say(place.into(), format!("a name of {} bytes", name.len()));
    }
}

fn rank(place: &str, shape: &[u64], say: &mut Say<'_>) {
    if shape.len() > RANK {
        say(place.into(), format!("a shape of {} extents", shape.len()));
    }
}

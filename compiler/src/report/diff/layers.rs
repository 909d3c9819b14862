//! Which layer of the one report is which of the other.
//!
//! Layers are matched by what they hold, since a layer that was inserted renumbers all behind it: the cheapest way to
//! edit the one list into the other, where equal layers cost nothing and keep their number if they can.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{layer, map_names, within_layer};
use super::paired;
use crate::report::types::Report;

/// Pairs of layers that are looked at for one family; beyond it, numbers decide.
const MAX_PAIRS: usize = 250_000;

/// A layer: its family, such as `layers`, and its number.
type Layer = (String, u64);

/// What became of the layers.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    /// The family that this one is numbered with: `model.layers` of the weights with `layers` of the steps.
    leader: BTreeMap<String, String>,
    /// Layers of the old report that have another number now.
    pub renumbered: BTreeMap<Layer, u64>,
    /// Layers of the new report that the old one lacks.
    pub added: BTreeSet<Layer>,
    /// Layers of the old report that the new one lacks.
    pub removed: BTreeSet<Layer>,
}

impl Layers {
    /// Matches the layers of two reports.
    pub fn align(old: &Report, new: &Report) -> Self {
        let mut layers = Self {
            leader: leaders(&[old, new]),
            ..Self::default()
        };
        let hashed = [old, new].iter().all(|r| r.weights.iter().all(|w| !w.hash.is_empty()));
        let mut words = BTreeMap::new();
        let (a, b) = (
            layers.contents(old, hashed, &mut words),
            layers.contents(new, hashed, &mut words),
        );
        let none = BTreeMap::new();
        for (family, a, b) in paired(&a, &b) {
            for pair in pairs(a.unwrap_or(&none), b.unwrap_or(&none)) {
                match pair {
                    (Some(i), Some(j)) if i != j => drop(layers.renumbered.insert((family.clone(), i), j)),
                    (Some(i), None) => drop(layers.removed.insert((family.clone(), i))),
                    (None, Some(j)) => drop(layers.added.insert((family.clone(), j))),
                    _ => {}
                }
            }
        }
        layers
    }

    fn leader<'a>(&'a self, family: &'a str) -> &'a str {
        self.leader.get(family).map_or(family, String::as_str)
    }

    /// The layer that a name belongs to, in the family that leads.
    pub fn of(&self, name: &str) -> Option<Layer> {
        layer(name).map(|(family, index)| (self.leader(family).to_owned(), index))
    }

    /// Whether the name, of the new report, belongs to a layer that was added.
    pub fn is_added(&self, name: &str) -> bool {
        !self.added.is_empty() && self.of(name).is_some_and(|layer| self.added.contains(&layer))
    }

    /// Whether the name, of the old report, belongs to a layer that was removed.
    pub fn is_removed(&self, name: &str) -> bool {
        !self.removed.is_empty() && self.of(name).is_some_and(|layer| self.removed.contains(&layer))
    }

    fn rename(&self, name: &str) -> String {
        let found = layer(name).zip(self.of(name).and_then(|layer| self.renumbered.get(&layer)));
        found.map_or_else(
            || name.to_owned(),
            |((family, _), now)| format!("{family}.{now}{}", within_layer(name)),
        )
    }

    /// The old report in the numbers of the new one, without the layers that were removed.
    pub fn renamed(&self, old: &Report) -> Report {
        let mut report = old.clone();
        report.steps.retain(|s| !self.is_removed(&s.id));
        report.tensors.retain(|t| !self.is_removed(&t.id));
        report.weights.retain(|w| !self.is_removed(&w.name));
        report.fusions.retain(|f| !self.is_removed(&f.site));
        if self.renumbered.is_empty() {
            return report;
        }
        let name = |text: &mut String| *text = self.rename(text);
        let words = |text: &mut String| *text = map_names(text, |name| self.rename(name));
        for s in &mut report.steps {
            name(&mut s.id);
            s.fused_from.iter_mut().for_each(name);
            s.inputs.iter_mut().for_each(name);
            s.outputs.iter_mut().for_each(name);
            s.in_place_of.iter_mut().for_each(name);
            let barriers = s.barrier.iter_mut().chain(&mut s.halves);
            barriers.for_each(|b| words(&mut b.reason));
        }
        for t in &mut report.tensors {
            name(&mut t.id);
            t.alias_of.iter_mut().for_each(name);
        }
        for f in &mut report.fusions {
            name(&mut f.site);
            words(&mut f.reason);
        }
        for w in &mut report.weights {
            let numbers = layer(&w.name).map(|l| l.1);
            name(&mut w.name);
            if let (Some(from), Some((_, to))) = (numbers, layer(&w.name)) {
                // Where it comes from is numbered alike, in names of its own.
                w.source = map_names(&w.source, |source| match layer(source) {
                    Some((family, index)) if index == from => format!("{family}.{to}{}", within_layer(source)),
                    _ => source.to_owned(),
                });
            }
        }
        if let Some(peak) = &mut report.totals.peak {
            name(&mut peak.step);
            peak.live.iter_mut().for_each(|l| name(&mut l.id));
        }
        report
    }

    /// The new report without the layers that were added.
    pub fn without_added(&self, new: &Report) -> Report {
        let mut report = new.clone();
        report.steps.retain(|s| !self.is_added(&s.id));
        report.tensors.retain(|t| !self.is_added(&t.id));
        report.weights.retain(|w| !self.is_added(&w.name));
        report.fusions.retain(|f| !self.is_added(&f.site));
        report
    }

    /// What each layer of each family holds: its operators and weights, as sorted numbers of words. How they were fused
    /// and where they lie is left out: that differs between the first layer and the others.
    fn contents(
        &self,
        report: &Report,
        hashed: bool,
        words: &mut BTreeMap<String, u32>,
    ) -> BTreeMap<String, BTreeMap<u64, Vec<u32>>> {
        let mut contents: BTreeMap<String, BTreeMap<u64, BTreeSet<u32>>> = BTreeMap::new();
        let mut add = |name: &str, word: String| {
            let Some((family, index)) = self.of(name) else { return };
            let next = u32::try_from(words.len()).unwrap_or(u32::MAX);
            let word = *words.entry(word).or_insert(next);
            contents
                .entry(family)
                .or_default()
                .entry(index)
                .or_default()
                .insert(word);
        };
        for op in report.steps.iter().flat_map(|s| &s.fused_from) {
            add(op, within_layer(op).to_owned());
        }
        for t in &report.tensors {
            // Only that the layer exists: a tensor may be fused away in one of two equal layers.
            add(&t.id, String::new());
        }
        for w in &report.weights {
            let hash = if hashed { w.hash.as_str() } else { "" };
            add(
                &w.name,
                format!("{} {} {:?} {hash}", within_layer(&w.name), w.dtype, w.shape),
            );
        }
        let sorted = |layers: BTreeMap<u64, BTreeSet<u32>>| {
            let layers = layers.into_iter();
            layers.map(|(index, set)| (index, set.into_iter().collect())).collect()
        };
        contents
            .into_iter()
            .map(|(family, all)| (family, sorted(all)))
            .collect()
    }
}

/// Families that only weights have, with the family of the steps that read them under the same number.
fn leaders(reports: &[&Report]) -> BTreeMap<String, String> {
    let mut leading = BTreeSet::new();
    let mut agree: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for report in reports {
        let weights: BTreeSet<&str> = report.weights.iter().map(|w| w.name.as_str()).collect();
        for step in &report.steps {
            let Some((family, index)) = layer(&step.id) else {
                continue;
            };
            leading.insert(family.to_owned());
            for input in step.inputs.iter().filter(|i| weights.contains(i.as_str())) {
                if let Some((other, number)) = layer(input) {
                    let votes = agree.entry((other.to_owned(), family.to_owned())).or_default();
                    *(if number == index { &mut votes.0 } else { &mut votes.1 }) += 1;
                }
            }
        }
    }
    let mut leaders = BTreeMap::new();
    for ((follower, family), (yes, no)) in agree {
        if yes > no && !leading.contains(&follower) {
            leaders.entry(follower).or_insert(family);
        }
    }
    leaders
}

type Pair = (Option<u64>, Option<u64>);

/// The cheapest edit of one list of layers into the other: an insertion or removal costs what the layer holds, a match
/// what the two do not have in common. Of equal edits, the one that renumbers least.
fn pairs(old: &BTreeMap<u64, Vec<u32>>, new: &BTreeMap<u64, Vec<u32>>) -> Vec<Pair> {
    let (a, b): (Vec<_>, Vec<_>) = (old.iter().collect(), new.iter().collect());
    let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let mut out: Vec<Pair> = a[..same].iter().map(|(i, _)| (Some(**i), Some(**i))).collect();
    let (a, b) = (&a[same..], &b[same..]);
    if a.len().saturating_mul(b.len()) > MAX_PAIRS {
        let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (a.iter().copied().collect(), b.iter().copied().collect());
        let by_number = paired(&old, &new);
        out.extend(by_number.into_iter().map(|(i, x, y)| (x.map(|_| **i), y.map(|_| **i))));
        return out;
    }
    // cost[i][j]: the least for the layers from i and from j on.
    let width = b.len() + 1;
    let mut cost = vec![(0u64, 0u64); (a.len() + 1) * width];
    let alone = |layer: &[u32]| (layer.len() as u64 + 1, 0);
    let both = |i: usize, j: usize| (difference(a[i].1, b[j].1), u64::from(a[i].0 != b[j].0));
    let plus = |x: (u64, u64), y: (u64, u64)| (x.0 + y.0, x.1 + y.1);
    for i in (0..=a.len()).rev() {
        for j in (0..=b.len()).rev() {
            let matched = (i < a.len() && j < b.len()).then(|| plus(both(i, j), cost[(i + 1) * width + j + 1]));
            let removed = (i < a.len()).then(|| plus(alone(a[i].1), cost[(i + 1) * width + j]));
            let added = (j < b.len()).then(|| plus(alone(b[j].1), cost[i * width + j + 1]));
            let best = [matched, removed, added].into_iter().flatten().min();
            cost[i * width + j] = best.unwrap_or_default();
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let here = cost[i * width + j];
        if i < a.len() && j < b.len() && here == plus(both(i, j), cost[(i + 1) * width + j + 1]) {
            out.push((Some(*a[i].0), Some(*b[j].0)));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && here == plus(alone(a[i].1), cost[(i + 1) * width + j]) {
            out.push((Some(*a[i].0), None));
            i += 1;
        } else {
            out.push((None, Some(*b[j].0)));
            j += 1;
        }
    }
    out
}

/// Words that only one of two sorted lists has.
fn difference(a: &[u32], b: &[u32]) -> u64 {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, common) = (i + 1, j + 1, common + 1),
        }
    }
    (a.len() + b.len() - 2 * common) as u64
}

//! The order of every list.

use std::collections::BTreeMap;

use super::{Move, Report};

impl Report {
    /// Sorts every list as the field docs say. Renderings call it, so that a caller cannot forget.
    pub fn normalise(&mut self) {
        let order: BTreeMap<&str, usize> = self.header.entries.iter().map(|e| e.name.as_str()).zip(0..).collect();
        let entry = |name: &str| order.get(name).copied().unwrap_or(usize::MAX);
        self.totals
            .regions
            .sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
        if let Some(peak) = &mut self.totals.peak {
            peak.live
                .sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.id.cmp(&b.id)));
            peak.shrink
                .sort_by(|a, b| b.lowers_by.cmp(&a.lowers_by).then_with(|| a.id.cmp(&b.id)));
        }
        self.totals.budgets.sort_by(|a, b| a.name.cmp(&b.name));
        self.fusions
            .sort_by(|a, b| (&a.entry, &a.site, &a.flag).cmp(&(&b.entry, &b.site, &b.flag)));
        self.steps
            .sort_by(|a, b| (entry(&a.entry), &a.entry, a.index).cmp(&(entry(&b.entry), &b.entry, b.index)));
        self.partitions
            .sort_by(|a, b| (&a.axis, a.length, a.granule).cmp(&(&b.axis, b.length, b.granule)));
        self.tensors
            .sort_by(|a, b| (&a.region, &a.entry, &a.id).cmp(&(&b.region, &b.entry, &b.id)));
        self.weights
            .sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
        self.moves.sort_by(|a, b| {
            let key = |m: &Move| (m.entry.clone(), m.step.clone(), m.tensor.clone(), m.destination_rank);
            key(a).cmp(&key(b))
        });
    }
}

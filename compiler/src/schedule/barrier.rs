//! Where workers must wait for each other, decided from the bytes that steps touch.
//!
//! Two steps with no barrier between them may run at the same time on two workers. That is a hazard if they touch
//! common bytes, at least one writes, and the two divisions do not give the same bytes to the same worker.

use std::collections::BTreeMap;
use std::ops::Range;

use super::access::{Access, Operand};

/// Why a barrier stands before a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// The step reads what other workers wrote in an earlier step.
    Reads {
        /// What.
        operand: Operand,
        /// The step that wrote it.
        writer: usize,
    },
    /// The step writes bytes that other workers may still be using in an earlier step.
    Reuses {
        /// What held the bytes.
        operand: Operand,
        /// The step that used it.
        user: usize,
    },
}

/// An access and the bytes it is to.
#[derive(Clone, Debug)]
pub struct Touch {
    /// The access.
    pub access: Access,
    /// The operand's bytes in the arena.
    pub bytes: Range<u64>,
}

/// The barriers a program needs: one element a step.
///
/// Walks the steps in order, remembering what was touched since the last barrier; a hazard puts a barrier before the
/// step. Of several hazards the first in operand order is named, reads before reuses.
pub fn place(steps: &[Vec<Touch>]) -> Vec<Option<Barrier>> {
    let mut barriers = Vec::with_capacity(steps.len());
    let mut since = 0;
    let mut touched = Touched::default();
    for (index, step) in steps.iter().enumerate() {
        let found = touched.meets(step).then(|| {
            let hazards = hazards(steps, since..index, step);
            hazards.min_by_key(|b| matches!(b, Barrier::Reuses { .. }))
        });
        if found.is_some() {
            since = index;
            touched = Touched::default();
        }
        step.iter().for_each(|touch| touched.add(touch));
        barriers.push(found.flatten());
    }
    barriers
}

/// What was touched since the last barrier, each way of touching the same bytes once.
#[derive(Default)]
struct Touched<'a> {
    places: BTreeMap<(u64, u64), Vec<&'a Touch>>,
    /// Length of the longest place.
    longest: u64,
}

impl<'a> Touched<'a> {
    fn add(&mut self, touch: &'a Touch) {
        let (start, end) = (touch.bytes.start, touch.bytes.end);
        self.longest = self.longest.max(end.saturating_sub(start));
        let ways = self.places.entry((start, end)).or_default();
        let way = |t: &Touch| (t.access.write, t.access.pattern);
        if !ways.iter().any(|known| way(known) == way(touch)) {
            ways.push(touch);
        }
    }

    /// Whether there is a hazard between the step and anything in here.
    fn meets(&self, step: &[Touch]) -> bool {
        let meets = |new: &Touch| {
            let near = (new.bytes.start.saturating_sub(self.longest), 0)..(new.bytes.end, 0);
            let mut near = self.places.range(near).flat_map(|(_, ways)| ways);
            near.any(|old| hazard(0, old, new).is_some())
        };
        step.iter().any(meets)
    }
}

/// Every hazard between `step` and the steps of `range`.
fn hazards<'a>(steps: &'a [Vec<Touch>], range: Range<usize>, step: &'a [Touch]) -> impl Iterator<Item = Barrier> + 'a {
    let earlier = range.flat_map(move |i| steps[i].iter().map(move |t| (i, t)));
    earlier.flat_map(move |(i, old)| step.iter().filter_map(move |new| hazard(i, old, new)))
}

fn hazard(earlier: usize, old: &Touch, new: &Touch) -> Option<Barrier> {
    let overlap = old.bytes.start < new.bytes.end && new.bytes.start < old.bytes.end;
    if !overlap || !(old.access.write || new.access.write) {
        return None;
    }
    // The same bytes, divided in the same way: no worker meets another's.
    if old.bytes == new.bytes && old.access.pattern.aligned(new.access.pattern) {
        return None;
    }
    let operand = old.access.operand;
    Some(
        if old.access.write && !new.access.write && operand == new.access.operand {
            Barrier::Reads {
                operand,
                writer: earlier,
            }
        } else {
            Barrier::Reuses { operand, user: earlier }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::access::Pattern;
    use super::*;
    use crate::graph::TensorId;

    fn touch(id: u32, write: bool, pattern: Pattern, bytes: Range<u64>) -> Touch {
        let operand = Operand::Tensor(TensorId(id));
        Touch {
            access: Access {
                operand,
                pattern,
                write,
            },
            bytes,
        }
    }

    const COLUMNS: Pattern = Pattern::Columns { granule: 32, cols: 64 };

    #[test]
    fn aligned_columns_need_no_barrier_and_whole_reads_do() {
        let write = vec![touch(0, true, COLUMNS, 0..256)];
        let aligned = vec![touch(0, false, COLUMNS, 0..256), touch(1, true, COLUMNS, 256..512)];
        let whole = vec![touch(1, false, Pattern::All, 256..512)];
        let reads = Barrier::Reads {
            operand: Operand::Tensor(TensorId(1)),
            writer: 1,
        };
        assert_eq!(place(&[write, aligned, whole]), [None, None, Some(reads)]);
    }

    #[test]
    fn a_different_granule_is_a_different_owner() {
        let other = Pattern::Columns { granule: 16, cols: 64 };
        let steps = [
            vec![touch(0, true, COLUMNS, 0..256)],
            vec![touch(0, false, other, 0..256)],
        ];
        assert!(matches!(place(&steps)[1], Some(Barrier::Reads { .. })));
    }

    #[test]
    fn reuse_of_bytes_still_read_waits() {
        let reader = vec![touch(0, false, Pattern::All, 0..256)];
        let writer = vec![touch(1, true, COLUMNS, 128..384)];
        let reuse = Barrier::Reuses {
            operand: Operand::Tensor(TensorId(0)),
            user: 0,
        };
        assert_eq!(place(&[reader.clone(), writer]), [None, Some(reuse)]);
        assert_eq!(place(&[reader.clone(), reader]), [None, None]);
    }

    #[test]
    fn one_barrier_serves_all_that_came_before() {
        let a = vec![touch(0, true, COLUMNS, 0..256)];
        let b = vec![touch(1, true, COLUMNS, 256..512)];
        let c = vec![touch(0, false, Pattern::All, 0..256)];
        let d = vec![touch(1, false, Pattern::All, 256..512)];
        let placed = place(&[a, b, c, d]);
        assert_eq!(placed.iter().filter(|b| b.is_some()).count(), 1);
    }
}

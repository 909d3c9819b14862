//! Where workers must wait for each other, decided from the bytes that steps touch.
//!
//! Two steps with no barrier between them may run at the same time on two workers. That is a hazard if they touch
//! common bytes, at least one writes, and the two divisions do not give the same bytes to the same worker.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use super::access::{Access, Meeting, Operand};

/// A barrier before a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// Why it stands there.
    pub hazard: Hazard,
    /// Where the number of workers divides this, there is no hazard, and nobody waits.
    pub unless: Option<usize>,
}

impl Barrier {
    /// Whether it stands whatever the number of workers.
    pub fn always(&self) -> bool {
        self.unless.is_none()
    }
}

/// What two steps on different workers must not do at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hazard {
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
/// step. Of several hazards the first in operand order is named, reads before reuses, and of those that only some
/// numbers of workers have, none beside one that all have.
pub fn place(steps: &[Vec<Touch>]) -> Vec<Option<Barrier>> {
    let mut barriers = Vec::with_capacity(steps.len());
    // Since the last barrier that always stands, and since the last of any kind.
    let (mut always, mut any) = (Stretch::default(), Stretch::default());
    for (index, step) in steps.iter().enumerate() {
        let barrier = needed(steps, &always, &any, index);
        if let Some(barrier) = barrier {
            any = Stretch::new(index, barrier.unless);
            if barrier.always() {
                always = Stretch::new(index, None);
            }
        }
        for touch in step {
            always.touched.add(touch);
            any.touched.add(touch);
        }
        barriers.push(barrier);
    }
    barriers
}

/// The steps since a barrier.
#[derive(Default)]
struct Stretch<'a> {
    since: usize,
    /// The number whose divisors pass the barrier without waiting.
    unless: Option<usize>,
    touched: Touched<'a>,
}

impl Stretch<'_> {
    fn new(since: usize, unless: Option<usize>) -> Self {
        Stretch {
            since,
            unless,
            touched: Touched::default(),
        }
    }
}

/// The barrier that the step at `index` needs behind these stretches, which end before it.
fn needed(steps: &[Vec<Touch>], always: &Stretch<'_>, any: &Stretch<'_>, index: usize) -> Option<Barrier> {
    let step = &steps[index];
    let (unless, stretch) = match always.touched.meeting(step) {
        Meeting::Never => return None,
        Meeting::Unless(heads) if any.unless == Some(heads) => match any.touched.meeting(step) {
            // Whoever has the hazard has waited at the last barrier.
            Meeting::Never => return None,
            _ => (Some(heads), any),
        },
        Meeting::Unless(heads) => (Some(heads), always),
        Meeting::Always => (None, always),
    };
    // One that all numbers of workers have comes first.
    let rank = |(meeting, hazard): &(Meeting, Hazard)| (Reverse(*meeting), matches!(hazard, Hazard::Reuses { .. }));
    let (_, hazard) = hazards(steps, stretch.since..index, step).min_by_key(rank)?;
    Some(Barrier { hazard, unless })
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

    /// With which numbers of workers there is a hazard between the step and anything in here.
    fn meeting(&self, step: &[Touch]) -> Meeting {
        let mut found = Meeting::Never;
        for new in step {
            let near = (new.bytes.start.saturating_sub(self.longest), 0)..(new.bytes.end, 0);
            for old in self.places.range(near).flat_map(|(_, ways)| ways) {
                found = found.or(meeting(old, new));
                if found == Meeting::Always {
                    return found;
                }
            }
        }
        found
    }
}

/// Every hazard between `step` and the steps of `range`.
fn hazards<'a>(
    steps: &'a [Vec<Touch>],
    range: Range<usize>,
    step: &'a [Touch],
) -> impl Iterator<Item = (Meeting, Hazard)> + 'a {
    let earlier = range.flat_map(move |i| steps[i].iter().map(move |t| (i, t)));
    earlier.flat_map(move |(i, old)| {
        let hazard = move |new: &Touch| match meeting(old, new) {
            Meeting::Never => None,
            meeting => Some((meeting, hazard(i, old, new))),
        };
        step.iter().filter_map(hazard)
    })
}

/// With which numbers of workers two touches are a hazard.
fn meeting(old: &Touch, new: &Touch) -> Meeting {
    let overlap = old.bytes.start < new.bytes.end && new.bytes.start < old.bytes.end;
    if !overlap || !(old.access.write || new.access.write) {
        return Meeting::Never;
    }
    // The same bytes, divided in the same way: no worker meets another's.
    match old.bytes == new.bytes {
        true => old.access.pattern.meets(new.access.pattern),
        false => Meeting::Always,
    }
}

fn hazard(earlier: usize, old: &Touch, new: &Touch) -> Hazard {
    let operand = old.access.operand;
    if old.access.write && !new.access.write && operand == new.access.operand {
        Hazard::Reads {
            operand,
            writer: earlier,
        }
    } else {
        Hazard::Reuses { operand, user: earlier }
    }
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
        let reads = Barrier {
            hazard: Hazard::Reads {
                operand: Operand::Tensor(TensorId(1)),
                writer: 1,
            },
            unless: None,
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
        let placed = place(&steps)[1].unwrap();
        assert!(placed.always() && matches!(placed.hazard, Hazard::Reads { .. }));
    }

    #[test]
    fn reuse_of_bytes_still_read_waits() {
        let reader = vec![touch(0, false, Pattern::All, 0..256)];
        let writer = vec![touch(1, true, COLUMNS, 128..384)];
        let reuse = Barrier {
            hazard: Hazard::Reuses {
                operand: Operand::Tensor(TensorId(0)),
                user: 0,
            },
            unless: None,
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

    const HEADS: Pattern = Pattern::Heads { heads: 4 };
    const EVEN: Pattern = Pattern::Even { heads: 4 };
    const QUERIES: Pattern = Pattern::Columns {
        granule: 64,
        cols: 1024,
    };

    /// What always waits, and what waits unless the workers divide a number.
    fn kinds(steps: &[Vec<Touch>]) -> Vec<Option<Option<usize>>> {
        place(steps).iter().map(|b| b.map(|b| b.unless)).collect()
    }

    #[test]
    fn whole_heads_wait_only_where_workers_do_not_divide_them() {
        let write = vec![touch(0, true, HEADS, 0..64), touch(1, true, QUERIES, 64..128)];
        let read = vec![touch(0, false, EVEN, 0..64), touch(1, false, EVEN, 64..128)];
        assert_eq!(kinds(&[write.clone(), read.clone()]), [None, Some(Some(4))]);
        // Who has waited once need not wait again, and who has not has no reason to.
        assert_eq!(
            kinds(&[write.clone(), read.clone(), read.clone()]),
            [None, Some(Some(4)), None]
        );
        // The barrier that some pass without waiting is none for what comes after it.
        let whole = vec![touch(1, false, Pattern::All, 64..128)];
        assert_eq!(
            kinds(&[write.clone(), read.clone(), whole]),
            [None, Some(Some(4)), Some(None)]
        );
        // Written again behind it, and read evenly again: another one.
        let both = [write.clone(), read.clone(), write, read];
        assert_eq!(kinds(&both), [None, Some(Some(4)), Some(Some(4)), Some(Some(4))]);
    }

    #[test]
    fn parts_that_are_not_whole_heads_always_wait() {
        for (granule, cols) in [(64, 384), (48, 1024)] {
            let write = vec![touch(0, true, Pattern::Columns { granule, cols }, 0..64)];
            let read = vec![touch(0, false, EVEN, 0..64)];
            assert_eq!(kinds(&[write, read]), [None, Some(None)], "{granule} of {cols}");
        }
        let other = vec![touch(0, false, Pattern::Even { heads: 8 }, 0..64)];
        assert_eq!(kinds(&[vec![touch(0, true, HEADS, 0..64)], other]), [None, Some(None)]);
    }

    #[test]
    fn two_conditions_are_one_barrier_for_all() {
        let write = vec![
            touch(0, true, HEADS, 0..64),
            touch(1, true, Pattern::Heads { heads: 6 }, 64..128),
        ];
        let read = vec![
            touch(0, false, EVEN, 0..64),
            touch(1, false, Pattern::Even { heads: 6 }, 64..128),
        ];
        assert_eq!(kinds(&[write.clone(), read]), [None, Some(None)]);
        // One after the other they are two, and nobody has waited at both.
        let four = vec![touch(0, false, EVEN, 0..64)];
        let six = vec![touch(1, false, Pattern::Even { heads: 6 }, 64..128)];
        assert_eq!(kinds(&[write, four, six]), [None, Some(Some(4)), Some(Some(6))]);
    }
}

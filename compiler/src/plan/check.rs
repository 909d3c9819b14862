//! Contradictions in a problem that can be seen before its aliases are resolved.

use super::error::PlanError;
use super::problem::{Alias, Buffer, Problem};

impl Problem {
    /// Checks everything that does not need the aliases to be resolved.
    pub(super) fn check(&self) -> Result<(), PlanError> {
        if let Some(id) = duplicate(self.buffers.iter().map(|b| b.id.as_str())) {
            return Err(PlanError::DuplicateId(id));
        }
        if let Some(name) = duplicate(self.regions.iter().map(|r| r.name.as_str())) {
            return Err(PlanError::DuplicateRegion(name));
        }
        let total = self.check_regions()?;
        self.check_buffers(total)?;
        self.check_aliases()?;
        self.check_apart()?;
        self.check_choices()
    }

    /// Returns where the highest reserved range ends.
    fn check_regions(&self) -> Result<u64, PlanError> {
        let mut top = 0;
        for region in &self.regions {
            for reserved in &region.reserved {
                if reserved.start > reserved.end || reserved.end >= PlanError::LIMIT {
                    return Err(PlanError::BadReserved {
                        region: region.name.clone(),
                        reserved: reserved.clone(),
                    });
                }
                top = top.max(reserved.end);
            }
        }
        Ok(top)
    }

    fn check_buffers(&self, mut total: u64) -> Result<(), PlanError> {
        for b in &self.buffers {
            if !b.align.is_power_of_two() {
                return Err(PlanError::BadAlign {
                    id: b.id.clone(),
                    align: b.align,
                });
            }
            if let Some(interval) = b.live.iter().find(|r| r.start > r.end) {
                return Err(PlanError::BadInterval {
                    id: b.id.clone(),
                    interval: interval.clone(),
                });
            }
            let terms = [b.size, b.align, b.align, b.pinned.unwrap_or(0)];
            total = add(total, &terms).ok_or_else(|| PlanError::TooLarge { id: b.id.clone() })?;
            if let Some(region) = b.region.filter(|&r| r >= self.regions.len().max(1)) {
                return Err(PlanError::NoSuchRegion {
                    id: b.id.clone(),
                    region,
                });
            }
            if let Some(offset) = b.pinned {
                self.check_pin(b, offset)?;
            }
        }
        for alias in &self.aliases {
            if let Alias::InPlace { dst, delta, .. } = *alias {
                let id = || self.buffers.get(dst).map_or(String::new(), |b| b.id.clone());
                total = add(total, &[delta.unsigned_abs()]).ok_or_else(|| PlanError::TooLarge { id: id() })?;
            }
        }
        Ok(())
    }

    fn check_pin(&self, b: &Buffer, offset: u64) -> Result<(), PlanError> {
        let id = || b.id.clone();
        if !offset.is_multiple_of(b.align) {
            return Err(PlanError::BadPin { id: id(), offset });
        }
        let region = match b.region {
            None if self.regions.len() > 1 => return Err(PlanError::PinWithoutRegion { id: id() }),
            region => self.regions.get(region.unwrap_or(0)),
        };
        let meets = |r: &&std::ops::Range<u64>| r.start < offset + b.size && offset < r.end && !r.is_empty();
        match region.and_then(|region| region.reserved.iter().find(meets)) {
            Some(reserved) if b.occupies() => Err(PlanError::PinReserved {
                id: id(),
                reserved: reserved.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The buffer at `index`.
    fn known(&self, index: usize) -> Result<&Buffer, PlanError> {
        self.buffers.get(index).ok_or(PlanError::NoSuchBuffer { index })
    }

    fn check_aliases(&self) -> Result<(), PlanError> {
        for alias in &self.aliases {
            match *alias {
                Alias::InPlace { dst, src, .. } => {
                    self.known(dst)?;
                    self.known(src)?;
                }
                Alias::View { part, whole, delta } => {
                    let (p, w) = (self.known(part)?, self.known(whole)?);
                    if delta.checked_add(p.size).is_none_or(|end| end > w.size) {
                        return Err(PlanError::ViewOutside {
                            part: p.id.clone(),
                            whole: w.id.clone(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn check_apart(&self) -> Result<(), PlanError> {
        for &(a, b) in &self.apart {
            let (x, y) = (self.known(a)?, self.known(b)?);
            if a == b && x.occupies() {
                return Err(PlanError::ApartTogether {
                    a: x.id.clone(),
                    b: y.id.clone(),
                });
            }
        }
        Ok(())
    }

    fn check_choices(&self) -> Result<(), PlanError> {
        // The last choice that each buffer was seen in, with the branch.
        let mut seen = vec![None; self.buffers.len()];
        for (c, choice) in self.exclusive.iter().enumerate() {
            for (branch, buffers) in choice.branches.iter().enumerate() {
                for &index in buffers {
                    let id = &self.known(index)?.id;
                    match seen[index].replace((c, branch)) {
                        Some((other, before)) if other == c && before != branch => {
                            return Err(PlanError::TwoBranches { id: id.clone() });
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// A name that occurs twice.
fn duplicate<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.windows(2).find(|w| w[0] == w[1]).map(|w| w[0].to_owned())
}

/// `total` and all of `terms`, if that is below the limit.
fn add(total: u64, terms: &[u64]) -> Option<u64> {
    let sum = terms.iter().try_fold(total, |sum, &t| sum.checked_add(t));
    sum.filter(|&sum| sum < PlanError::LIMIT)
}

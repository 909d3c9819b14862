//! The judge of a report: whether the program it describes can be run and the sums it states are true.
//!
//! Nothing here is shared with what made the plan. A rule reads the report through [`View`], knows one thing, and has one
//! code; [`RULES`] is the list. A report may come from anywhere: rules do arithmetic that cannot overflow, and take time
//! near n log n in the report's length.

mod bytes;
mod canaries;
mod counts;
mod in_place;
mod lifetimes;
mod limits;
mod live;
mod memories;
mod names;
mod order;
mod overlap;
mod partition;
mod parts;
mod places;
mod races;
mod status;
mod totals;
mod view;
mod weights;

use super::codes;
use super::types::Report;
use crate::diag::Diagnostic;
use view::View;

/// What a rule says of a place of the report.
type Say<'a> = dyn FnMut(String, String) + 'a;

/// One rule.
struct Rule {
    code: &'static str,
    check: fn(&View<'_>, &mut Say<'_>),
}

const fn rule(code: &'static str, check: fn(&View<'_>, &mut Say<'_>)) -> Rule {
    Rule { code, check }
}

/// Every rule, in the order in which violations are told.
const RULES: &[Rule] = &[
    rule(codes::LIMITS, limits::check),
    rule(codes::NAMES, names::check),
    rule(codes::COUNTS, counts::check),
    rule(codes::BYTES, bytes::check),
    rule(codes::REGIONS, places::regions),
    rule(codes::PLACES, places::tensors),
    rule(codes::ALIGNMENT, places::alignment),
    rule(codes::TOTALS, totals::check),
    rule(codes::TOTALS, live::check),
    rule(codes::STATUS, status::check),
    rule(codes::WEIGHTS, weights::check),
    rule(codes::PARTITION, partition::check),
    rule(codes::PARTS, parts::check),
    rule(codes::LIFETIMES, lifetimes::check),
    rule(codes::ORDER, order::check),
    rule(codes::OVERLAP, overlap::check),
    rule(codes::CANARIES, canaries::check),
    rule(codes::IN_PLACE, in_place::check),
    rule(codes::RACE, races::check),
    rule(codes::MEMORIES, memories::check),
];

/// Violations of one rule that are told; of more only the number is.
const MOST_OF_ONE: usize = 10;

/// A rule that a report breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule's code.
    pub code: &'static str,
    /// Where in the report, e.g. `tensors[3].offset`.
    pub place: String,
    /// What is wrong, with names and numbers.
    pub message: String,
}

impl Violation {
    /// As a diagnostic; the hint is the rule's.
    pub fn diagnostic(&self) -> Diagnostic {
        let hint = crate::codes::hint(self.code);
        Diagnostic::new(self.code, format!("{}: {}", self.place, self.message)).help(hint)
    }
}

/// Every rule that the report breaks.
pub fn check(report: &Report) -> Vec<Violation> {
    let view = View::new(report);
    let mut found = Vec::new();
    for rule in RULES {
        let mut count = 0usize;
        let mut say = |place, message| {
            count += 1;
            if count <= MOST_OF_ONE {
                let code = rule.code;
                found.push(Violation { code, place, message });
            }
        };
        (rule.check)(&view, &mut say);
        if let Some(last) = found.last_mut().filter(|_| count > MOST_OF_ONE) {
            last.message += &format!(" (and {} more of the kind)", count - MOST_OF_ONE);
        }
        // The other rules repeat what is named: they take it to be short.
        if rule.code == codes::LIMITS && count > 0 {
            break;
        }
    }
    found
}

//! What the types say of themselves.

use super::{FuseOutcome, Limit, Partition, Plan, StepOrder, Tensor};
use crate::plan::{self, Status};

impl Limit {
    /// `kept`, or by how much it is exceeded.
    pub fn verdict(&self) -> String {
        match self.bytes.checked_sub(self.limit) {
            None | Some(0) => "kept".to_owned(),
            Some(by) => Status::OverBudget { by }.to_string(),
        }
    }
}

impl Tensor {
    /// The name of the part of the arena that it lives in: its memory, or its region.
    pub fn home(&self) -> &str {
        self.memory.as_ref().unwrap_or(&self.region)
    }
}

impl std::fmt::Display for StepOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.changed {
            true => write!(f, "changed, bound {} -> {}", self.source_bound, self.bound)?,
            false => write!(f, "source, bound {}", self.bound)?,
        }
        match (self.least == self.bound, self.changed) {
            (true, true) => f.write_str(", proved"),
            (true, false) => f.write_str(", optimal (search)"),
            (false, _) => write!(f, ", no order below {}", self.least),
        }
    }
}

/// An entry's order in a line, for all renderings.
pub(crate) fn order_words(order: Option<StepOrder>) -> String {
    order.map_or_else(|| "source, not searched".to_owned(), |order| order.to_string())
}

impl std::fmt::Display for FuseOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
        })
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Axis { axis, length, granule } => write!(f, "{axis} {length}/{granule}"),
            Self::Serial { reason } => write!(f, "serial ({reason})"),
        }
    }
}

impl From<&plan::Solution> for Plan {
    fn from(solution: &plan::Solution) -> Self {
        let chosen = solution
            .candidates
            .get(solution.chosen)
            .map_or_else(String::new, |c| c.name.clone());
        Self {
            chosen,
            candidates: solution.candidates.iter().map(|c| (c.name.clone(), c.peak)).collect(),
            bytes: solution.peak,
            lower_bound: solution.lower_bound,
            gap: solution.peak.saturating_sub(solution.lower_bound),
            status: solution.status,
            nodes: solution.nodes,
        }
    }
}

//! What exceeds its budget, what it is made of, and what would make it smaller.

use std::fmt::Write;

use super::types::{Limit, Report};
use crate::codes::OVER_BUDGET;

/// Rows that a list shows.
const MOST: usize = 5;

impl Report {
    /// What exceeds its budget: a message each, in lines, with what is live at the peak and what to shrink.
    pub fn over_budget(&self) -> Vec<String> {
        let over = self.totals.budgets.iter().filter(|b| b.bytes > b.limit);
        over.map(|b| self.exceeded(b)).collect()
    }

    fn exceeded(&self, budget: &Limit) -> String {
        let Limit { name, limit, bytes } = budget;
        let over = bytes - limit;
        let mut out =
            format!("error[{OVER_BUDGET}]: over budget by {over}: {name} needs {bytes} bytes, its budget is {limit}\n");
        let mut say = |kind: &str, text: String| {
            // Writing to a string has no way to fail.
            let _ = writeln!(out, "  = {kind}: {text}");
        };
        let least = match name.as_str() {
            "arena" => Some(self.totals.lower_bound_bytes),
            _ => self
                .totals
                .regions
                .iter()
                .find(|r| r.name == *name)
                .map(|r| r.lower_bound),
        };
        if let Some(least) = least.filter(|least| least > limit) {
            say("note", format!("no layout fits: {least} bytes are needed at once"));
        }
        match name.as_str() {
            "weights" => say("note", format!("the largest are {}", self.largest_weights())),
            "kv" => say("help", self.per_token()),
            "scratch" => say("note", format!("the largest are {}", self.largest_workspaces())),
            _ => {
                if name == "arena" {
                    let parts = self.totals.regions.iter().map(|r| (r.name.clone(), r.bytes));
                    say("note", format!("its parts are {}", list(parts)));
                    say("help", self.per_token());
                }
                if let Some(peak) = &self.totals.peak {
                    let own = peak.live.iter().filter(|l| l.alias_of.is_none());
                    let live = own.map(|l| (format!("`{}`", l.id), l.bytes));
                    say(
                        "note",
                        format!("live at the peak, `{}` of {}: {}", peak.step, peak.entry, list(live)),
                    );
                    for s in &peak.shrink {
                        let (id, by) = (&s.id, s.lowers_by);
                        let of = match s.buffers {
                            1 => format!("{} bytes", s.bytes),
                            n => format!("{n} buffers of {} bytes", s.bytes),
                        };
                        say("help", format!("without `{id}` ({of}) the peak is {by} bytes lower"));
                    }
                }
            }
        }
        out
    }

    fn per_token(&self) -> String {
        let (each, context) = (self.totals.kv_bytes_per_token, self.header.options.context);
        format!("a position of the context costs {each} bytes of KV cache, and there are {context}")
    }

    fn largest_weights(&self) -> String {
        let rows = self.weights.iter().map(|w| (format!("`{}`", w.name), w.bytes));
        list(largest(rows))
    }

    fn largest_workspaces(&self) -> String {
        let used = self.steps.iter().filter(|s| s.workspace_bytes > 0);
        list(largest(
            used.map(|s| (format!("`{}` of {}", s.id, s.entry), s.workspace_bytes)),
        ))
    }
}

/// The largest first, in the order given among equals.
fn largest(rows: impl Iterator<Item = (String, u64)>) -> impl Iterator<Item = (String, u64)> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.1));
    rows.into_iter()
}

/// `a 12 bytes, b 3 bytes, and 2 more`.
fn list(rows: impl Iterator<Item = (String, u64)>) -> String {
    let mut texts: Vec<String> = rows.map(|(name, bytes)| format!("{name} {bytes} bytes")).collect();
    let more = texts.len().saturating_sub(MOST);
    texts.truncate(MOST);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts.join(", ")
}

//! A comparison in words: for a terminal, and for a comment under a change.

use std::fmt::{self, Display};

use super::{Amount, Diff, Rows, Verdict};

/// Lines of the markdown form, at most.
const MAX_MARKDOWN_LINES: usize = 40;

/// Names of moved rows that are listed; the rest is counted, since a move by itself means nothing.
const MAX_MOVED: usize = 3;

impl Amount {
    /// `old -> new unit  (+difference, +percent)`; `unit` comes with its space.
    fn in_units(&self, unit: &str) -> String {
        let delta = i128::from(self.new) - i128::from(self.old);
        let percent = if self.old > 0 && delta != 0 {
            // Tenths of a percent, rounded towards zero, sign apart so that -0.4 keeps it.
            let tenths = delta.unsigned_abs() * 1000 / u128::from(self.old);
            let sign = if delta < 0 { '-' } else { '+' };
            format!(", {sign}{}.{} %", tenths / 10, tenths % 10)
        } else {
            String::new()
        };
        format!("{} -> {}{unit}  ({delta:+}{percent})", self.old, self.new)
    }
}

impl Diff {
    /// One fact a line, most important first. The first line is the arena's.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut out = vec![("arena", format!("{}{}", self.arena.in_units(" B"), self.budget_note()))];
        let mut add = |label, lines: Vec<String>| out.extend(lines.into_iter().map(|line| (label, line)));
        add(
            "header",
            self.header
                .iter()
                .map(|c| format!("{} {} -> {}", c.name, c.old, c.new))
                .collect(),
        );
        add(
            "total",
            self.totals
                .iter()
                .map(|a| format!("{} {}", a.name, a.in_units(" B")))
                .collect(),
        );
        add(
            "status",
            self.status.iter().map(|c| format!("{} -> {}", c.old, c.new)).collect(),
        );
        for r in &self.regions {
            let status = r
                .status
                .as_ref()
                .map_or(String::new(), |c| format!("  {} -> {}", c.old, c.new));
            add(
                "region",
                vec![format!("{} {}{status}", r.bytes.name, r.bytes.in_units(" B"))],
            );
        }
        add(
            "peak",
            self.peak
                .iter()
                .map(|c| format!("moved from {} to {}", c.old, c.new))
                .collect(),
        );
        add(
            "entry",
            self.entries
                .iter()
                .map(|a| format!("{} {}", a.name, a.in_units("")))
                .collect(),
        );
        let lost = self.fusions_lost.iter();
        add(
            "fusion",
            lost.map(|f| format!("lost {} at {} {} because {}", f.flag, f.entry, f.site, f.reason))
                .collect(),
        );
        let gained = self.fusions_gained.iter();
        add(
            "fusion",
            gained
                .map(|f| format!("gained {} at {} {}", f.flag, f.entry, f.site))
                .collect(),
        );
        let added = self.barriers.added.iter();
        add(
            "barrier",
            added
                .map(|b| format!("added before {}: {}", b.step, b.reason))
                .collect(),
        );
        let removed = self.barriers.removed.iter();
        add(
            "barrier",
            removed
                .map(|b| format!("removed before {}: {}", b.step, b.reason))
                .collect(),
        );
        add("step", row_lines(&self.steps));
        add("tensor", row_lines(&self.tensors));
        add("weight", row_lines(&self.weights));
        out
    }

    fn budget_note(&self) -> String {
        match (self.verdict, self.max_arena_growth) {
            (Verdict::OverBudget, Some(limit)) => format!("  OVER BUDGET: may grow by {limit} B"),
            (_, Some(limit)) => format!("  within budget: may grow by {limit} B"),
            (_, None) => String::new(),
        }
    }

    /// A summary for a comment under a change: at most 40 lines.
    pub fn to_markdown(&self) -> String {
        let verdict = match self.verdict {
            Verdict::SameOrBetter => "no growth",
            Verdict::Larger => "larger",
            Verdict::OverBudget => "over budget",
        };
        let lines = self.lines();
        let mut out = vec![format!("### Memory layout: {verdict}"), String::new()];
        out.extend(["| what | change |", "|---|---|"].map(str::to_owned));
        // Two lines are kept for the rest.
        let room = MAX_MARKDOWN_LINES - out.len() - 2;
        out.extend(
            lines
                .iter()
                .take(room)
                .map(|(label, text)| format!("| {label} | {} |", escape(text))),
        );
        if lines.len() > room {
            out.extend([
                String::new(),
                format!("{} more differences; run `ckc diff` for all.", lines.len() - room),
            ]);
        }
        out.join("\n") + "\n"
    }
}

impl Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        for (label, text) in &lines {
            writeln!(f, "{label:<8} {text}")?;
        }
        if lines.len() == 1 {
            writeln!(f, "same     no other difference")?;
        }
        Ok(())
    }
}

fn row_lines(rows: &Rows) -> Vec<String> {
    let mut out: Vec<String> = rows.gone.iter().map(|name| format!("gone {name}")).collect();
    out.extend(rows.new.iter().map(|name| format!("new {name}")));
    for row in &rows.changed {
        let fields: Vec<String> = row
            .fields
            .iter()
            .map(|c| format!("{} {} -> {}", c.name, c.old, c.new))
            .collect();
        out.push(format!("changed {}: {}", row.name, fields.join("; ")));
    }
    if !rows.moved.is_empty() {
        let more = if rows.moved.len() > MAX_MOVED { ", ..." } else { "" };
        let first = &rows.moved[..rows.moved.len().min(MAX_MOVED)];
        out.push(format!(
            "{} moved, otherwise the same: {}{more}",
            rows.moved.len(),
            first.join(", ")
        ));
    }
    out
}

/// What would end a table cell or start markup, made harmless.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '\\' => out.extend(['\\', c]),
            '\n' | '\r' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

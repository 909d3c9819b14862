//! A comparison in words: for a terminal, and for a comment under a change. Both are bounded whatever the reports are,
//! and say how much they leave out; the JSON form has everything.

use std::fmt::{self, Display, Write as _};

use super::{Amount, Diff, Fact, Kind, Verdict};

/// Lines of the markdown form, at most.
const MAX_MARKDOWN_LINES: usize = 40;

/// Rows of the markdown form's table, at most, so that there is room for facts.
const MAX_MARKDOWN_TOTALS: usize = 16;

/// Facts of one kind that the text form shows.
const MAX_OF_A_KIND: usize = 20;

/// Characters of one line.
const MAX_LINE: usize = 400;

impl Kind {
    /// The word that a line begins with.
    fn label(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Option => "option",
            Self::Layer => "layer",
            Self::Memory | Self::Rehomed => "memory",
            Self::Status => "status",
            Self::Peak => "peak",
            Self::FusionLost | Self::FusionGained => "fusion",
            Self::BarrierGained | Self::BarrierLost => "barrier",
            Self::Kernel => "kernel",
            Self::Partition | Self::StepRemoved | Self::StepAdded | Self::StepChanged => "step",
            Self::TensorGrown | Self::TensorAdded | Self::TensorShrunk | Self::TensorRemoved | Self::TensorChanged => {
                "tensor"
            }
            Self::WeightChanged | Self::WeightAdded | Self::WeightRemoved => "weight",
            Self::Moved => "moved",
            Self::Note => "note",
        }
    }
}

impl Amount {
    /// `old -> new unit (+difference, +percent)`.
    fn values(&self) -> String {
        format!("{} -> {}{} ({})", self.old, self.new, self.unit, self.change())
    }

    /// `+difference, +percent`.
    fn change(&self) -> String {
        let delta = i128::from(self.new) - i128::from(self.old);
        if self.old == 0 || delta == 0 {
            return format!("{delta:+}");
        }
        // Tenths of a percent, rounded towards zero, sign apart so that -0.4 keeps it.
        let tenths = delta.unsigned_abs() * 1000 / u128::from(self.old);
        let sign = if delta < 0 { '-' } else { '+' };
        format!("{delta:+}, {sign}{}.{} %", tenths / 10, tenths % 10)
    }
}

impl Fact {
    fn line(&self) -> String {
        format!("{:<8} {}", self.kind.label(), self.text)
    }
}

impl Diff {
    /// Whether there is nothing to say.
    fn is_same(&self) -> bool {
        self.facts.is_empty() && self.totals.is_empty() && self.arena.old == self.arena.new
    }

    /// A summary for a comment under a change: at most 40 lines.
    pub fn to_markdown(&self) -> String {
        let model = escape(&clean(&self.model));
        if self.is_same() {
            return format!(
                "**Memory layout of {model}**: no difference, arena {} B\n",
                self.arena.new
            );
        }
        let verdict = match self.verdict {
            Verdict::SameOrBetter => "no growth",
            Verdict::Larger => "larger",
            Verdict::OverBudget => "**over budget**",
        };
        let mut out = vec![format!("### Memory layout of {model}: {verdict}"), String::new()];
        out.extend(["| | before | after | change |", "|---|--:|--:|--:|"].map(str::to_owned));
        let amounts: Vec<&Amount> = std::iter::once(&self.arena).chain(&self.totals).collect();
        out.extend(amounts.iter().take(MAX_MARKDOWN_TOTALS).map(|a| {
            let name = escape(&clean(&a.name));
            format!(
                "| {name} | {}{unit} | {}{unit} | {} |",
                a.old,
                a.new,
                a.change(),
                unit = a.unit
            )
        }));
        out.push(String::new());
        // One line is kept for what is left out.
        let room = MAX_MARKDOWN_LINES - out.len() - 1;
        let shown = self.facts.iter().take(room);
        out.extend(shown.map(|f| format!("- **{}** {}", f.kind.label(), escape(&clean(&f.text)))));
        let totals = amounts.len().saturating_sub(MAX_MARKDOWN_TOTALS);
        let facts = self.facts.len().saturating_sub(room);
        let left = match (totals, facts) {
            (0, 0) => None,
            (n, 0) => Some(format!("{n} more totals")),
            (0, n) => Some(format!("{n} more changes")),
            (t, n) => Some(format!("{t} more totals and {n} more changes")),
        };
        out.extend(left.map(|what| format!("- ... and {what}: `ckc diff` shows them")));
        out.join("\n") + "\n"
    }
}

impl Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_same() {
            return writeln!(f, "same     no difference, arena {} B", self.arena.new);
        }
        let mut rest = self.facts.as_slice();
        let budgets = rest.iter().take_while(|fact| fact.kind == Kind::Budget).count();
        for fact in &rest[..budgets] {
            writeln!(f, "{}", clean(&fact.line()))?;
        }
        rest = &rest[budgets..];
        writeln!(f, "arena    {}", self.arena.values())?;
        for amount in self.totals.iter().take(4 * MAX_OF_A_KIND) {
            writeln!(f, "total    {}", clean(&format!("{} {}", amount.name, amount.values())))?;
        }
        if self.totals.len() > 4 * MAX_OF_A_KIND {
            writeln!(f, "total    ... and {} more", self.totals.len() - 4 * MAX_OF_A_KIND)?;
        }
        while let Some(first) = rest.first() {
            let of_kind = rest.iter().take_while(|fact| fact.kind == first.kind).count();
            let (these, others) = rest.split_at(of_kind);
            for fact in these.iter().take(MAX_OF_A_KIND) {
                writeln!(f, "{}", clean(&fact.line()))?;
            }
            if let Some(more) = these.get(MAX_OF_A_KIND..).filter(|more| !more.is_empty()) {
                let rows: u64 = more.iter().map(|fact| fact.count).sum();
                writeln!(f, "{:<8} ... and {} more, {rows} rows", first.kind.label(), more.len())?;
            }
            rest = others;
        }
        Ok(())
    }
}

/// One printable line of bounded length: names in reports come from anywhere.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(4 * MAX_LINE));
    for (at, c) in text.chars().enumerate() {
        if at == MAX_LINE {
            out.push_str("...");
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// What would end a table cell, start markup or call somebody, made harmless.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '<' | '*' | '_' | '`' | '[' | ']' | '\\' | '~' | '#' | '!' => out.extend(['\\', c]),
            '@' | '&' => {
                // Writing to a string has no way to fail.
                let _ = write!(out, "&#{};", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}

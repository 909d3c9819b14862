//! `ckc plan --sweep`: the totals of a model for several limits, as a table.

use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use crate::codes;
use crate::compile::{self, Failure, Options, Planned};
use crate::diag::Diagnostic;
use crate::model::Source;
use crate::report::{Limit, Status};

/// Points of one sweep: bounds the time that it takes.
const MOST: usize = 256;

/// What diagnostics about the argument call it.
const ARGUMENT: &str = "--sweep";

/// A limit that can be swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Positions of the KV cache.
    Context,
    /// Tokens of one prefill call.
    Batch,
}

/// A limit and the values it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The limit.
    pub limit: Swept,
    /// The values, in the order they were asked for.
    pub values: Vec<usize>,
}

/// Reads `context=512..8192`, which doubles, `context=512..8192:512`, which steps, and `batch=1,64,512`.
///
/// # Errors
/// What is wrong, where in the text.
pub fn parse(text: &str) -> Result<Axis, Failure> {
    let wrong = |at: Range<usize>, message: String, label: &str| {
        let help = "write `context=512..8192` (doubles), `context=512..8192:512` (steps) or `batch=1,64,512`";
        fail(text, at, message, label, help)
    };
    let Some((name, values)) = text.split_once('=') else {
        return Err(wrong(0..text.len(), "a sweep needs values".into(), "no `=` here"));
    };
    let limit = match name {
        "context" => Swept::Context,
        "batch" => Swept::Batch,
        _ => {
            let message = format!("`{name}` cannot be swept, only `context` and `batch`");
            return Err(wrong(0..name.len(), message, "not a limit"));
        }
    };
    let number = |at: Range<usize>| match text[at.clone()].parse::<usize>() {
        Ok(0) => Err(wrong(at, format!("`{name}` is at least 1"), "must be above 0")),
        Ok(n) => Ok(n),
        Err(_) => {
            let message = format!("`{}` is not a number of tokens", &text[at.clone()]);
            Err(wrong(at, message, "expected a whole number"))
        }
    };
    let mut list: Vec<usize> = Vec::new();
    let mut start = text.len() - values.len();
    for item in values.split(',') {
        let at = start..start + item.len();
        start = at.end + 1;
        let Some((low, rest)) = item.split_once("..") else {
            list.push(number(at)?);
            continue;
        };
        let (high, step) = rest
            .split_once(':')
            .map_or((rest, None), |(high, step)| (high, Some(step)));
        let high_at = at.start + low.len() + 2..at.start + low.len() + 2 + high.len();
        let (from, to) = (number(at.start..at.start + low.len())?, number(high_at.clone())?);
        let step = step.map(|_| number(high_at.end + 1..at.end)).transpose()?;
        if from > to {
            return Err(wrong(at, format!("{from} is above {to}"), "this range is empty"));
        }
        let next = |n: &usize| {
            step.map_or(n.checked_mul(2), |step| n.checked_add(step))
                .filter(|n| *n <= to)
        };
        // One more than is allowed says that there are too many.
        list.extend(std::iter::successors(Some(from), next).take(MOST + 1));
        if list.len() > MOST {
            return Err(wrong(at, format!("more than {MOST} values"), "too many"));
        }
    }
    Ok(Axis { limit, values: list })
}

fn fail(text: &str, at: Range<usize>, message: String, label: &str, help: &str) -> Failure {
    Failure {
        diagnostics: vec![
            Diagnostic::new(codes::SWEEP, message)
                .in_file(ARGUMENT)
                .at(at, label)
                .help(help),
        ],
        source: Some(Source {
            name: ARGUMENT.into(),
            text: text.into(),
        }),
    }
}

/// Reads all sweeps of a command line: each limit at most once, and not given by an option of its own.
///
/// # Errors
/// What is wrong, where in the text.
pub fn axes(texts: &[String], options: &Options) -> Result<Vec<Axis>, Failure> {
    let mut axes: Vec<Axis> = Vec::new();
    for text in texts {
        let axis = parse(text)?;
        let given = match axis.limit {
            Swept::Context => options.load.context.is_some(),
            Swept::Batch => options.load.batch.is_some(),
        };
        if given || axes.iter().any(|a| a.limit == axis.limit) {
            let end = text.find('=').unwrap_or(text.len());
            let message = format!("`{}` is given twice", &text[..end]);
            return Err(fail(text, 0..end, message, "the second one", "give each limit once"));
        }
        axes.push(axis);
    }
    let points = axes.iter().map(|a| a.values.len()).product::<usize>();
    match texts.last() {
        Some(last) if points > MOST => {
            let message = format!("{points} points, and {MOST} are the most");
            Err(fail(
                last,
                0..last.len(),
                message,
                "too many together",
                "list fewer values",
            ))
        }
        _ => Ok(axes),
    }
}

/// A model's totals for every point.
#[derive(Debug, Serialize)]
pub struct Sweep {
    /// The model's name; that of the file where no point could be planned.
    pub model: String,
    /// The points, context before batch.
    pub points: Vec<Point>,
    /// All that is wrong with the points that could not be planned, each thing once.
    #[serde(skip)]
    pub failures: Vec<Failure>,
}

/// What became of one point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Positions of the KV cache; of a point that could not be planned, if they were given.
    pub context: Option<u64>,
    /// Tokens of one prefill call, likewise.
    pub batch: Option<u64>,
    /// Its totals, or why there are none.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The totals of a point, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// It was planned.
    Planned(Totals),
    /// It was not.
    Failed {
        /// The first thing that is wrong.
        error: Reason,
    },
}

/// Why a point could not be planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The code of the diagnostic.
    pub code: String,
    /// What is wrong.
    pub message: String,
}

/// The totals at one point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// Bytes of its packed weights.
    pub weights_bytes: u64,
    /// Bytes of the KV cache.
    pub kv_bytes: u64,
    /// Bytes of the activations.
    pub activations_bytes: u64,
    /// No layout needs fewer bytes than this.
    pub lower_bound_bytes: u64,
    /// What is known about the arena.
    pub status: Status,
    /// The budgets, sorted by name.
    pub budgets: Vec<Limit>,
    /// Whether one of them is exceeded.
    pub over_budget: bool,
}

/// Plans the model at every point of the grid. What is wrong at one of them is no concern of the others.
pub fn sweep(model: &Path, options: &Options, axes: &[Axis]) -> Sweep {
    let values = |limit| {
        let axis = axes.iter().find(|a| a.limit == limit);
        axis.map_or(vec![None], |a| a.values.iter().copied().map(Some).collect())
    };
    let mut sweep = Sweep {
        model: model.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        points: Vec::new(),
        failures: Vec::new(),
    };
    for context in values(Swept::Context) {
        for batch in values(Swept::Batch) {
            let mut options = options.clone();
            options.load.context = context.or(options.load.context);
            options.load.batch = batch.or(options.load.batch);
            match compile::plan(model, &options) {
                Ok(planned) => {
                    sweep.points.push(point(&planned));
                    sweep.model = planned.report.header.model;
                }
                Err(failure) => {
                    sweep.points.push(failed(&options, &failure));
                    let known = |f: &Failure| f.diagnostics == failure.diagnostics;
                    if !sweep.failures.iter().any(known) {
                        sweep.failures.push(failure);
                    }
                }
            }
        }
    }
    sweep
}

/// The row of a point that could not be planned.
fn failed(options: &Options, failure: &Failure) -> Point {
    let first = failure.diagnostics.first();
    Point {
        context: options.load.context.map(|n| n as u64),
        batch: options.load.batch.map(|n| n as u64),
        outcome: Outcome::Failed {
            error: Reason {
                code: first.map_or("", |d| d.code).to_owned(),
                message: first.map_or(String::new(), |d| d.message.clone()),
            },
        },
    }
}

fn point(planned: &Planned) -> Point {
    let Planned { report, layout, .. } = planned;
    let several = !layout.memories.is_empty();
    let (options, totals) = (&report.header.options, &report.totals);
    let regions = |names: &[&str]| -> Option<u64> {
        let found = totals.regions.iter().filter(|r| names.contains(&r.name.as_str()));
        found.map(|r| r.bytes).reduce(|a, b| a + b)
    };
    // A stride layout has no regions of these names.
    let tensors = |region: &str| {
        report
            .tensors
            .iter()
            .filter(|t| t.region == region)
            .map(|t| t.bytes)
            .sum()
    };
    let outcome = Outcome::Planned(Totals {
        arena_bytes: totals.arena_bytes,
        weights_bytes: regions(&["weights"]).unwrap_or_else(|| report.weights.iter().map(|w| w.bytes).sum()),
        kv_bytes: match several {
            true => layout.kv_bytes(),
            false => regions(&["kv"]).unwrap_or_else(|| tensors("kv")),
        },
        activations_bytes: match several {
            true => layout.activations_bytes(),
            false => regions(&["activations"]).unwrap_or_else(|| tensors("activations")),
        },
        lower_bound_bytes: totals.lower_bound_bytes,
        status: totals.status,
        budgets: totals.budgets.clone(),
        over_budget: totals.budgets.iter().any(|b| b.bytes > b.limit)
            || layout.memories.iter().any(|m| m.shortage.is_some()),
    });
    Point {
        context: Some(options.context),
        batch: Some(options.batch),
        outcome,
    }
}

impl Sweep {
    /// As JSON, a newline at the end.
    pub fn to_json(&self) -> String {
        // Plain structs with string keys: serialising them has no way to fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// As a table, numbers to the right.
    pub fn to_table(&self) -> String {
        let heads = [
            "context",
            "batch",
            "arena",
            "weights",
            "kv",
            "activations",
            "lower bound",
        ];
        let mut rows = vec![(heads.map(String::from), "status".to_owned(), "budget".to_owned())];
        rows.extend(self.points.iter().map(Point::row));
        let width = |column: usize| rows.iter().map(|r| r.0[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        // A reason is the last in its line, so that it needs no room.
        let words = rows.iter().filter(|r| !r.2.is_empty());
        let status = words.map(|r| r.1.len()).max().unwrap_or(0);
        let line = |(numbers, word, budget): &([String; 7], String, String)| {
            let numbers: Vec<String> = numbers
                .iter()
                .zip(&widths)
                .map(|(text, width)| format!("{text:>width$}"))
                .collect();
            let line = format!("{}  {word:<status$}  {budget}", numbers.join("  "));
            format!("{}\n", line.trim_end())
        };
        let table: String = rows.iter().map(line).collect();
        format!("{}, bytes\n{table}", self.model)
    }

    /// Whether a budget is exceeded at any point.
    pub fn over_budget(&self) -> bool {
        let mut totals = self.points.iter().filter_map(Point::totals);
        totals.any(|t| t.over_budget)
    }
}

impl Point {
    /// The totals, if it could be planned.
    pub fn totals(&self) -> Option<&Totals> {
        match &self.outcome {
            Outcome::Planned(totals) => Some(totals),
            Outcome::Failed { .. } => None,
        }
    }

    /// Numbers, status and budgets; of what could not be planned, why in their place.
    fn row(&self) -> ([String; 7], String, String) {
        let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
        let totals = self.totals();
        let bytes = |f: fn(&Totals) -> u64| number(totals.map(f));
        let numbers = [
            number(self.context),
            number(self.batch),
            bytes(|t| t.arena_bytes),
            bytes(|t| t.weights_bytes),
            bytes(|t| t.kv_bytes),
            bytes(|t| t.activations_bytes),
            bytes(|t| t.lower_bound_bytes),
        ];
        match &self.outcome {
            Outcome::Planned(totals) => (numbers, totals.status.to_string(), totals.verdict()),
            Outcome::Failed { error } => (numbers, format!("{}: {}", error.code, error.message), String::new()),
        }
    }
}

impl Totals {
    fn verdict(&self) -> String {
        let over = self.budgets.iter().filter(|b| b.bytes > b.limit);
        let texts: Vec<String> = over.map(|b| format!("{} {}", b.name, b.verdict())).collect();
        match (self.budgets.is_empty(), texts.is_empty()) {
            (true, _) => "none".into(),
            (_, true) => "kept".into(),
            _ => texts.join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_listed_doubled_or_stepped() {
        for (text, values) in [
            ("context=512..8192", &[512, 1024, 2048, 4096, 8192][..]),
            ("context=500..2100", &[500, 1000, 2000]),
            ("batch=1..1", &[1]),
            ("batch=100..400:150", &[100, 250, 400]),
            ("batch=7,3", &[7, 3]),
            ("batch=1..4,9", &[1, 2, 4, 9]),
            ("batch=18446744073709551615..18446744073709551615", &[usize::MAX]),
        ] {
            assert_eq!(parse(text).map(|a| a.values).ok().as_deref(), Some(values), "{text}");
        }
    }

    #[test]
    fn mistakes_are_pointed_at() {
        for (text, at) in [
            ("", 0..0),
            ("context", 0..7),
            ("=1", 0..0),
            ("ctx=512..1024", 0..3),
            ("context=", 8..8),
            ("context=a..b", 8..9),
            ("context=512..", 13..13),
            ("context=..512", 8..8),
            ("context=512..x", 13..14),
            ("context=512..1024:", 18..18),
            ("context=512..1024:0", 18..19),
            ("context=0..8", 8..9),
            ("context=9..8", 8..12),
            ("batch=1,,2", 8..8),
            ("batch=1,-2", 8..10),
            ("batch=99999999999999999999", 6..26),
            ("batch=1..1000000:1", 6..18),
            ("batch=é", 6..8),
        ] {
            let failure = parse(text).expect_err(text);
            assert_eq!(failure.diagnostics[0].labels[0].0, at, "{text}");
            assert_eq!(failure.diagnostics[0].code, codes::SWEEP, "{text}");
        }
    }

    #[test]
    fn a_limit_is_given_once() {
        let twice = ["batch=1".to_owned(), "batch=2".to_owned()];
        assert!(axes(&twice, &Options::default()).is_err());
        let mut options = Options::default();
        options.load.batch = Some(4);
        assert!(axes(&twice[..1], &options).is_err());
        let many = ["batch=1..200:1".to_owned(), "context=1..2".to_owned()];
        assert!(axes(&many, &Options::default()).is_err());
    }
}

//! Where the time of a measured body goes.

use std::fmt;

use crate::json::Json;
use crate::profile::Profile;

/// The steps of one repetition, the same step of every layer together.
pub(super) struct Section {
    /// `prefill` or `decode`.
    pub name: &'static str,
    tokens: usize,
    rows: Vec<Row>,
}

/// Steps that differ in their layer alone.
struct Row {
    entry: &'static str,
    /// The id, with `*` for the layer.
    id: String,
    kernel: &'static str,
    steps: u64,
    calls: u64,
    run: u64,
    wait: u64,
    weight_bytes: u64,
    flops: u64,
}

impl Section {
    /// Of a repetition with `tokens` tokens.
    pub(super) fn of(name: &'static str, tokens: usize, profile: &Profile) -> Section {
        let mut rows: Vec<Row> = Vec::new();
        for (step, time) in profile.times().filter(|(_, time)| time.calls > 0) {
            let id = pattern(step.id);
            let at = rows.iter().position(|row| row.entry == step.entry && row.id == id);
            let at = at.unwrap_or_else(|| {
                rows.push(Row {
                    entry: step.entry,
                    id,
                    kernel: step.kernel,
                    steps: 0,
                    calls: 0,
                    run: 0,
                    wait: 0,
                    weight_bytes: 0,
                    flops: 0,
                });
                rows.len() - 1
            });
            let row = &mut rows[at];
            let tokens = if step.entry == "prefill" {
                tokens as u64
            } else {
                time.calls
            };
            row.steps += 1;
            row.calls += time.calls;
            row.run += time.run;
            row.wait += time.wait;
            row.weight_bytes += step.weight_bytes * time.calls;
            row.flops += step.flops_per_token * tokens;
        }
        Section { name, tokens, rows }
    }

    fn total(&self) -> u64 {
        self.rows.iter().map(|row| row.run + row.wait).sum::<u64>().max(1)
    }

    pub(super) fn to_json(&self, json: &mut Json) {
        json.list("steps", &self.rows, |json, row| {
            json.text("entry", row.entry);
            json.text("id", &row.id);
            json.text("kernel", row.kernel);
            json.number("steps", row.steps);
            json.number("calls", row.calls);
            json.number("run_ns", row.run);
            json.number("wait_ns", row.wait);
            json.fraction("gb_per_s", row.rate(row.weight_bytes), 3);
            json.fraction("gflop_per_s", row.rate(row.flops), 3);
        });
    }
}

impl Row {
    /// Billions a second in the kernel.
    fn rate(&self, amount: u64) -> f64 {
        amount as f64 / self.run.max(1) as f64
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{} of {} tokens: time in the kernel on the slowest worker, and at the barrier before it on the quickest\n\
             {:<8} {:<28} {:<24} {:>5} {:>10} {:>10} {:>6} {:>8} {:>9}",
            self.name,
            self.tokens,
            "entry",
            "steps",
            "kernel",
            "steps",
            "us/call",
            "us waiting",
            "%",
            "GB/s",
            "GFLOP/s"
        )?;
        let total = self.total();
        for row in &self.rows {
            let per_call = |nanos: u64| nanos as f64 / row.calls as f64 / 1e3;
            writeln!(
                f,
                "{:<8} {:<28} {:<24} {:>5} {:>10.1} {:>10.2} {:>6.1} {:>8.2} {:>9.1}",
                row.entry,
                row.id,
                row.kernel,
                row.steps,
                per_call(row.run),
                per_call(row.wait),
                100.0 * (row.run + row.wait) as f64 / total as f64,
                row.rate(row.weight_bytes),
                row.rate(row.flops),
            )?;
        }
        Ok(())
    }
}

/// `layers.7.attn` as `layers.*.attn`.
fn pattern(id: &str) -> String {
    let part = |part: &str| -> String {
        let number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if number { "*".into() } else { part.into() }
    };
    id.split('.').map(part).collect::<Vec<_>>().join(".")
}

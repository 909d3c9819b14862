//! How long planning takes: a table of every entry of the models given, fused and not. Run by `make bench-plan`.
//!
//! The time of an entry is that of its order, lifetimes, barriers, problem, plan and verification; the least of some
//! runs, so that other work on the machine counts little. The times of a model are those of the check of its report and
//! of `ckc plan` as a whole.

use std::path::Path;
use std::time::{Duration, Instant};

use ckc::compile::{self, Options};
use ckc::fuse::Flags;
use ckc::layout::{self, Kind, Settings};
use ckc::report;
use ckc::schedule;

/// Runs of each, of which the fastest counts.
const RUNS: usize = 5;

fn fastest<T>(mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut timed = || {
        let start = Instant::now();
        let made = run();
        (start.elapsed(), made)
    };
    let first = timed();
    (1..RUNS)
        .map(|_| timed())
        .fold(first, |best, next| if next.0 < best.0 { next } else { best })
}

fn main() {
    println!("| model | fusion | entry | steps | status | order | planning, ms | checking, ms | `ckc plan`, ms |");
    println!("|---|---|---|---:|---|---|---:|---:|---:|");
    for path in std::env::args().skip(1) {
        for (name, fuse) in [("all", Flags::ALL), ("none", Flags::NONE)] {
            model(Path::new(&path), name, fuse);
        }
    }
}

fn model(path: &Path, name: &str, fuse: Flags) {
    let options = Options {
        fuse: Some(fuse),
        ..Options::default()
    };
    let (whole, planned) = fastest(|| compile::plan(path, &options));
    let Ok(planned) = planned else {
        println!(
            "| {} | {name} | has errors: see `ckc plan` | | | | | | |",
            path.display()
        );
        return;
    };
    let (checking, _) = fastest(|| report::check(&planned.report));
    let graph = &planned.model.graph;
    for entry in schedule::entries(graph, &planned.fusion, None) {
        let lay_out = || {
            layout::lay_out(
                graph,
                vec![entry.clone()],
                &Settings {
                    kind: Kind::Packed,
                    order: planned.model.order,
                    debug: planned.model.debug,
                    memories: &[],
                    hint: &layout::hint::Hint::default(),
                },
            )
        };
        let (copying, _) = fastest(|| vec![entry.clone()]);
        let (time, layout) = fastest(lay_out);
        let Ok(layout) = layout else { continue };
        let (row, plan) = (&layout.entries[0], &layout.entries[0].solution);
        let order = match row.order {
            Some(order) if order.least < order.bound => "open",
            Some(order) if order.changed => "changed, proved",
            Some(_) => "source, proved",
            None => "source",
        };
        println!(
            "| {} | {name} | {} | {} | {} | {order} | {:.2} | {:.2} | {:.0} |",
            graph.name,
            entry.name,
            entry.steps.len(),
            plan.status,
            time.saturating_sub(copying).as_secs_f64() * 1e3,
            checking.as_secs_f64() * 1e3,
            whole.as_secs_f64() * 1e3
        );
    }
}

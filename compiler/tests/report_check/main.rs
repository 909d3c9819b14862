//! The judge of reports: it accepts what the compiler writes, finds every real mutation of it, agrees with a slow oracle
//! that looks at every byte of every worker, and takes any text for what it is.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges of bytes, some of one")]
#![allow(
    clippy::unit_arg,
    reason = "mutations are a table of assignments that say `Some` when they were made"
)]

mod barriers;
mod files;
mod fixtures;
mod mutations;
mod oracle;

use ckc::compile::{self, Options};
use ckc::fuse::{Flag, Flags};
use ckc::layout::Kind;
use ckc::layout::debug::DebugMode;
use ckc::layout::hint::Hint;
use ckc::schedule::order::Kind as Order;
use fixtures::*;

#[test]
fn reports_of_the_models_break_no_rule() {
    for entry in std::fs::read_dir(root().join("models")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let name = format!("models/{}", path.file_name().unwrap().to_str().unwrap());
            for (label, report) in forms(&name, None) {
                assert_eq!(told(&report), "", "{label}");
            }
        }
    }
    for (label, report) in bases() {
        assert_eq!(told(&report), "", "{label}");
    }
}

/// Every flag alone, programs that watch their memory, steps in their source's order, plans near an older one.
#[test]
fn reports_of_all_options_break_no_rule() {
    let debug = |canaries, poison, reuse| {
        Some(DebugMode {
            canaries,
            poison,
            reuse,
        })
    };
    let with = |yaml: &str, options: &Options, hint: &Hint| {
        let planned = compile::plan_near(&root().join(yaml), options, hint);
        planned
            .unwrap_or_else(|e| panic!("{yaml} {options:?}: {:?}", e.diagnostics))
            .report
    };
    for yaml in [TINY, SHAKESPEARE] {
        let mut hint = Hint::default();
        for flags in Flag::all().map(Flags::only).chain([Flags::ALL, Flags::NONE]) {
            for (debug, layout, order) in [
                (None, Kind::Packed, Order::Memory),
                (None, Kind::Packed, Order::Source),
                (None, Kind::Stride, Order::Memory),
                (debug(true, true, true), Kind::Packed, Order::Memory),
                (debug(true, false, true), Kind::Stride, Order::Memory),
                (debug(false, false, false), Kind::Packed, Order::Memory),
            ] {
                let options = Options {
                    fuse: Some(flags),
                    layout: Some(layout),
                    order: Some(order),
                    debug,
                    ..Options::default()
                };
                let report = with(yaml, &options, &Hint::default());
                assert_eq!(told(&report), "", "{yaml} {options:?}");
                let near = with(yaml, &options, &hint);
                assert_eq!(told(&near), "", "{yaml} near another plan: {options:?}");
                hint = Hint::new(&report);
            }
        }
    }
}

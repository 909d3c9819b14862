//! Any table of costs gives a program that is right: kernels and partitions change with it, results do not.

use ck_kernels::dtype::DType;
use ck_tests::{How, Shape, assert_same_bits, relative};
use ckc::costs::{Costs, Rate, Row};
use ckc::emit::RuntimePath;

/// The committed table with these rates for every kernel, where a tier has it.
fn table(few: f64, many: Rate) -> &'static Costs {
    let few = Rate {
        gb_per_s: few,
        gop_per_s: few,
    };
    let mut costs = Costs::standard().clone();
    for (tier, rates) in &mut costs.tiers {
        // Of two units that are as fast, the first is taken.
        let faster = if *tier == "amx" { 2.0 } else { 1.0 };
        let many = Rate {
            gb_per_s: faster * many.gb_per_s,
            ..many
        };
        for row in rates {
            *row = Row {
                few: row.few.map(|_| few),
                many: row.many.map(|_| many),
            };
        }
    }
    Box::leak(Box::new(costs))
}

/// Kernels for many tokens from the first on; to unpack is all that they cost, so that nobody should do it twice.
fn eager() -> &'static Costs {
    table(
        1e-6,
        Rate {
            gb_per_s: 1.0,
            gop_per_s: 1e9,
        },
    )
}

/// Never a kernel for many.
fn never() -> &'static Costs {
    table(
        1e6,
        Rate {
            gb_per_s: 1e-6,
            gop_per_s: 1e-6,
        },
    )
}

fn shape(dtype: DType) -> Shape {
    Shape {
        layers: 1,
        ..Shape::of_blocks(dtype)
    }
}

#[test]
fn programs_by_extreme_tables_are_right() {
    let mut run = 0;
    let (eager, never) = (eager(), never());
    for isa in ck_kernels::isa::supported().filter(|isa| isa.name.starts_with("a")) {
        for dtype in DType::ALL {
            let (case, ids) = (shape(dtype).case(), shape(dtype).ids(11));
            let mut same = None;
            for (costs, threads) in [(Costs::standard(), 1), (eager, 3), (never, 2)] {
                let mut session = case.open(&How {
                    isa: Some(isa.name),
                    costs: Some(costs),
                    threads,
                    ..How::default()
                });
                let got = session.prefill(&ids);
                let what = format!("{} {} {threads} threads", isa.name, dtype.name());
                let error = relative(&got, &session.interpret(&ids));
                assert!(error < session.allowed(), "{what}: relative L2 {error:.2e}");
                // Fewer tokens on a matrix unit are rounded otherwise; nothing else is.
                if !session.machine.rounds_to_bf16() {
                    let same = same.get_or_insert_with(|| got.clone());
                    assert_same_bits(&format!("{what}, by another table"), &got, same);
                }
                run += 1;
            }
        }
    }
    println!("{run} programs");
}

/// The emitted constant, without what makes it read well.
fn choices(layout: &str) -> String {
    let (_, from) = layout.split_once("const CHOICES").expect("the constant");
    let (constant, _) = from.split_once(';').expect("its end");
    constant.split_whitespace().collect()
}

#[test]
fn what_a_table_chooses_is_in_the_program_and_in_the_report() {
    let case = shape(DType::Q4_0).case();
    let text = |costs| {
        let session = case.open(&How {
            costs: Some(costs),
            ..How::default()
        });
        let files = session.planned.files(&RuntimePath::Carried);
        let layout = files.iter().find(|f| f.path == "src/layout.rs").unwrap().text.clone();
        (layout, session.planned)
    };
    let (layout, planned) = text(eager());
    assert!(
        choices(&layout).contains(
            "avx2:Choices::thresholds(&[(DType::Q4_0,1)]),avx512:Choices::thresholds(&[(DType::Q4_0,1)]),tiles:1"
        ),
        "{}",
        choices(&layout)
    );
    let costs = planned.report.header.costs.as_ref().unwrap();
    let many = costs.many_from["q4_0"];
    assert_eq!((many.avx2, many.avx512, costs.tiles_from), (Some(1), Some(1), Some(1)));
    let down = planned
        .report
        .steps
        .iter()
        .find(|s| s.entry == "prefill" && s.id.ends_with("down"))
        .unwrap();
    assert_eq!(down.predicted.as_ref().unwrap().kernels, "many");
    assert!(down.partition.to_string().starts_with("columns"), "{}", down.partition);

    let (layout, other) = text(never());
    assert!(
        choices(&layout).contains("avx2:Choices::thresholds(&[]),avx512:Choices::thresholds(&[]),tiles:usize::MAX"),
        "{}",
        choices(&layout)
    );
    let diff = ckc::report::diff(&planned.report, &other.report, ckc::report::DiffOptions::default()).to_string();
    for says in [
        "costs: ",
        "matmuls for many -> few",
        "partition of",
        "matmuls by the costs",
    ] {
        assert!(diff.contains(says), "no {says:?} in\n{diff}");
    }
}

//! The table: what is wrong with one, and what one decides.

use ck_kernels::dtype::DType;
use ck_kernels::partition::Axis;

use super::choose::WITHIN;
use super::*;
use crate::diag;
use crate::fuse::{self, Division};
use crate::graph::{Graph, OpKind};
use crate::model::{self, LoadOptions};

fn said(text: &str) -> String {
    let (costs, problems) = table::parse("costs.yaml", text);
    assert_eq!(costs.is_none(), !problems.is_empty());
    diag::render(&problems, &[("costs.yaml", text)][..], false)
}

/// The same rates for every tier and type, as they are within a program.
fn uniform(few: Rate, many: Rate) -> Costs {
    let mut costs = Costs::standard().clone();
    for row in costs.tiers.iter_mut().flat_map(|(_, rates)| rates) {
        let alone = row.many.map_or(1.0, |_| 1.0 / WITHIN);
        *row = Row {
            few: row.few.map(|_| rate(few.gb_per_s, alone * few.gop_per_s)),
            many: row.many.map(|_| many),
        };
    }
    costs
}

const fn rate(gb_per_s: f64, gop_per_s: f64) -> Rate {
    Rate { gb_per_s, gop_per_s }
}

/// The shipped model with calls of at most that many tokens.
fn graph(batch: usize) -> Graph {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/llama-3.2-1b.yaml");
    let options = LoadOptions {
        batch: Some(batch),
        context: None,
    };
    model::load_file(&path, &options).0.expect("a model").graph
}

#[test]
fn what_is_written_is_read_and_written_the_same() {
    let costs = Costs::standard();
    let text = write(costs);
    assert_eq!(table::parse("t", &text), (Some(costs.clone()), Vec::new()));
    assert_eq!(DEFAULT, text, "default.yaml is as `write` writes it");
    let mut odd = costs.clone();
    odd.machine = "# \"two\": cores\n- ä".into();
    let few = costs.tiers[0].1.map(|row| Row { many: None, ..row });
    odd.tiers.push(("neon", few));
    odd.isa = "neon";
    assert_eq!(table::parse("t", &write(&odd)).0.as_ref(), Some(&odd));
}

#[test]
fn the_schema_of_the_table_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/costs.schema.json");
    if std::env::var_os("CKC_BLESS").is_some() {
        std::fs::write(&path, schema()).expect("writable");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema(),
        "schemas/costs.schema.json is stale (CKC_BLESS=1 rewrites)"
    );
}

#[test]
fn every_mistake_of_a_table_is_said_at_once() {
    let text = write(Costs::standard())
        .replace("workers: 2", "workers: 0\ncolour: red")
        .replacen("barrier_ns: ", "barrier_ns: -", 1)
        .replacen("    q4_0: {few: {gb_per_s: ", "    q4_0: {few: {gb_per_s: fast, x: ", 1)
        .replacen("    q8_0:", "    q9_0:", 1)
        .replacen("  amx:\n", "  amx:\n    f32: {few: {gb_per_s: 1, gop_per_s: 1}}\n", 1)
        .replacen("  avx512:", "  avx515:", 1);
    let said = said(&text);
    for says in [
        "0 workers: a program has 1 to 64",
        "unknown key `colour`",
        "is not above 0 and at most",
        "expected a number, found text",
        "unknown key `x`",
        "`q9_0` is not a type of matrices",
        "`avx2` needs the key `q8_0`",
        "`amx` has no kernel for few tokens and `f32`",
        "`avx515` is not an instruction set",
        "`tiers` needs the key `avx512`",
        "costs.yaml:",
    ] {
        assert!(said.contains(says), "not said: {says}\n{said}");
    }
    assert!(said.contains("help: "), "{said}");
}

/// Each rate that is none is said at its place, beside all others.
#[test]
fn a_rate_is_finite_and_above_zero() {
    let odd = [
        ".nan",
        ".inf",
        "-.inf",
        "1e400",
        "-1e400",
        "0",
        "-0.0",
        "-5",
        "1e13",
        "99999999999999999999",
    ];
    let mut text = write(Costs::standard());
    // One after the other: what was replaced is not found again.
    for rate in odd {
        let at = text.find("{gb_per_s: ").expect("more rates than odd ones");
        let end = at + text[at..].find(',').expect("another key");
        text.replace_range(at..end, &format!("{{ gb_per_s: {rate}"));
    }
    let text = text.replacen("barrier_ns: 150", "barrier_ns: .nan", 1);
    let said = said(&text);
    assert_eq!(said.matches("error[CK0114]: `").count(), odd.len() + 1, "{said}");
    assert_eq!(
        said.matches("is not above 0 and at most 1000000000000").count(),
        odd.len() + 1
    );
    assert_eq!(said.matches("help: ").count(), odd.len() + 1);
    for rate in odd {
        assert!(said.contains(&format!("gb_per_s: {rate},")), "{rate}: {said}");
    }
}

#[test]
fn odd_texts_are_no_tables() {
    for text in [
        "",
        "[]",
        "machine: 1",
        "tiers: {avx2: {}}",
        "isa: &a [*a]",
        "barrier_ns: .inf",
        "isa: neon",
    ] {
        assert!(said(text).contains("error"), "{text}");
    }
}

#[test]
fn thresholds_follow_the_rates() {
    let weights = [(DType::Q4_0, 1 << 20)];
    let from = |few, many| {
        let choices = uniform(few, many).choices(&weights);
        (choices.avx512[DType::Q4_0 as usize], choices.tiles)
    };
    // Unpacking costs as much as 32 tokens, the rest nothing.
    let slow = rate(1e6, 100.0);
    let unpacked = 0.5625 / (2.0 * 32.0 / 100.0);
    let (many, _) = from(slow, rate(unpacked, 1e6));
    assert!((32..=40).contains(&many), "{many}");
    // Nothing to unpack, and faster: always, on either.
    assert_eq!(from(rate(1.0, 1.0), rate(1e3, 1e3)).0, 1);
    // Slower in everything: never.
    assert_eq!(from(rate(1e3, 1e3), rate(1.0, 1.0)), (usize::MAX, usize::MAX));
    // A matrix unit that is as fast as vectors wins nothing; one that is faster does from the first full tile on.
    let mut unit = uniform(rate(1e6, 100.0), rate(1e6, 100.0));
    assert!(unit.choices(&weights).tiles > 256);
    for row in unit
        .tiers
        .iter_mut()
        .filter(|(tier, _)| *tier == "amx")
        .flat_map(|(_, rates)| rates)
    {
        row.many = row.many.map(|_| rate(1e6, 200.0));
    }
    assert!(
        (16..=64).contains(&unit.choices(&weights).tiles),
        "{}",
        unit.choices(&weights).tiles
    );
    // Floats have one kernel.
    let choices = uniform(rate(1.0, 1.0), rate(1e3, 1e3)).choices(&weights);
    assert_eq!(choices.avx2[DType::F32 as usize], usize::MAX);
    assert_eq!(choices.avx512[DType::F32 as usize], usize::MAX);
}

/// On `avx512` as prefill of programs by either kernel was measured: docs/performance.md.
#[test]
fn the_default_takes_words_where_programs_are_faster_with_them() {
    let choices = Costs::standard().choices(&[]);
    let never = usize::MAX;
    for (dtype, avx2, avx512) in [
        (DType::Q8_0, 7, 53),
        (DType::Q4_0, 6, 53),
        (DType::Q4_1, 11, 77),
        (DType::Q5_0, 3, 45),
        (DType::Q5_1, 7, 85),
        (DType::Q4K, 10, 77),
        (DType::Q5K, 7, 61),
        (DType::Q6K, 23, 37),
        (DType::BF16, never, never),
    ] {
        let from = [choices.avx2, choices.avx512].map(|many| many[dtype as usize]);
        assert_eq!(from, [avx2, avx512], "{}", dtype.name());
    }
}

/// Rows of one tier say nothing of another.
#[test]
fn each_tier_has_thresholds_of_its_own() {
    let standard = Costs::standard().choices(&[]);
    let mut costs = Costs::standard().clone();
    let rows = costs.tiers.iter_mut().filter(|(tier, _)| *tier == "avx2");
    for row in rows.flat_map(|(_, rates)| rates) {
        row.many = row.many.map(|_| rate(1e-3, 1e-3));
    }
    let choices = costs.choices(&[]);
    assert_eq!(choices.avx2, [usize::MAX; DType::ALL.len()]);
    assert_eq!(choices.avx512, standard.avx512);
}

#[test]
fn a_step_of_prefill_gets_the_faster_partition() {
    let graph_of = |batch| graph(batch);
    let division = |costs: &Costs, batch: usize| {
        let graph = graph_of(batch);
        let chosen = Chosen {
            costs,
            choices: costs.choices_of(&graph),
        };
        let down = graph.ops.iter().find(|op| matches!(op.kind, OpKind::Linear { .. }));
        let norm = graph.ops.iter().find(|op| matches!(op.kind, OpKind::RmsNorm { .. }));
        assert_eq!(chosen.division(&graph, norm.expect("a norm")), Division::Tokens);
        chosen.division(&graph, down.expect("a projection"))
    };
    // Unpacking is all there is: by tokens, both workers unpack all weights.
    let unpacking = uniform(rate(1e-3, 1e-3), rate(1.0, 1e9));
    assert_eq!(division(&unpacking, 64), Division::Columns);
    // As measured: tokens, unless there are too few of them for both workers.
    assert_eq!(division(Costs::standard(), 4), Division::Columns);
    for batch in [8, 64, 512] {
        assert_eq!(division(Costs::standard(), batch), Division::Tokens);
    }
    // Arithmetic is all there is.
    let arithmetic = uniform(rate(1e-3, 1e-3), rate(1e9, 1.0));
    assert_eq!(division(&arithmetic, 64), Division::Tokens);
    // Barriers cost more than they save.
    let waiting = Costs {
        barrier_ns: 1e9,
        ..unpacking
    };
    assert_eq!(division(&waiting, 64), Division::Tokens);
}

#[test]
fn what_is_predicted_is_bytes_over_bandwidth_for_a_token() {
    let mut graph = graph(8);
    graph.batch = 1;
    let costs = uniform(rate(10.0, 1e9), rate(1.0, 1.0));
    let chosen = Chosen {
        costs: &costs,
        choices: costs.choices_of(&graph),
    };
    let op = graph
        .ops
        .iter()
        .find(|op| matches!(op.kind, OpKind::Linear { .. }))
        .expect("one");
    let weight = graph.weight(op.weights[0]);
    let bytes = weight.dtype.packed_bytes(weight.rows, weight.cols) as u64;
    let predicted = chosen
        .predict(&graph, op, Axis::Columns { granule: 32 })
        .expect("a matmul");
    assert_eq!(
        (predicted.nanoseconds, predicted.ways),
        ((bytes + 5) / 10, [Way::Few].into())
    );
    let entries = crate::schedule::entries(&graph, &fuse::Config::default(), Some(&chosen));
    assert!(entries[0].steps.iter().all(|s| s.axis != Axis::Serial));
}

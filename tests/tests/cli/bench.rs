//! `ckc bench`.

use std::process::Command;

use ck_kernels::dtype::DType;
use ckc::costs::{Costs, TIERS, read};

use crate::{CKC, ckc, err, model, out, refused};

#[test]
fn the_machine_and_the_kernels_are_measured() {
    let args = [
        "bench",
        "kernels",
        "--dtype",
        "q4_0,f32",
        "--shape",
        "64x64",
        "--tokens",
        "1",
        "--depth",
        "3",
        "--threads",
        "2",
    ];
    let text = ckc(&args);
    assert!(text.status.success(), "{}", err(&text));
    let lines = |what: &str| out(&text).lines().filter(|line| line.starts_with(what)).count();
    assert_eq!((lines("matmul"), lines("attention")), (2, 1), "{}", out(&text));
    let args = [
        "bench",
        "kernels",
        "--dtype",
        "q4_0",
        "--shape",
        "7x33",
        "--tokens",
        "1",
        "--depth",
        "1048576",
        "--threads",
        "1",
    ];
    let text = ckc(&args);
    assert_eq!(
        out(&text).matches("left out").count(),
        2,
        "{}{}",
        out(&text),
        err(&text)
    );
    let machine = ckc(&["bench", "machine", "--threads", "1", "--isa", "scalar", "--json"]);
    assert!(machine.status.success(), "{}", err(&machine));
    assert!(out(&machine).contains("\"read_gb_per_s\""), "{}", out(&machine));
    for (args, code, says) in [
        (["bench", "kernels", "--shape", "64"], 2, "8192x2048"),
        (["bench", "kernels", "--tokens", "0"], 2, "from 1 to"),
        (["bench", "kernels", "--depth", "18446744073709551615"], 2, "from 0 to"),
        (["bench", "kernels", "--dtype", "q9"], 1, "unknown type"),
        (["bench", "machine", "--isa", "mmx"], 1, "CK0918"),
        (["bench", "machine", "--isa", "mmx"], 1, "help: unset CKC_ISA"),
        (["bench", "machine", "--threads", "0"], 1, "CK0918"),
    ] {
        let refused = ckc(&args);
        assert_eq!(refused.status.code(), Some(code), "{args:?}");
        assert!(err(&refused).contains(says), "{args:?}: {}", err(&refused));
        assert!(!err(&refused).contains('\u{fffd}'), "{args:?}: {}", err(&refused));
    }
    let verify = Command::new(CKC)
        .args(["verify", &model()])
        .env("CKC_ISA", "mmx")
        .output()
        .unwrap();
    assert_eq!(verify.status.code(), Some(1));
    for says in ["CK0910", "help: unset CKC_ISA"] {
        assert!(err(&verify).contains(says), "{}", err(&verify));
    }
    assert!(!err(&verify).contains('\u{fffd}'), "{}", err(&verify));
}

/// What is asked for is measured, all else is the committed table's, and the result is a table like any other.
#[test]
fn a_table_is_measured_and_a_program_is_compiled_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("costs.yaml");
    let file = path.display().to_string();
    let here = |tier: &&str| ck_kernels::isa::supported().any(|isa| isa.name == *tier);
    // Floats have a kernel for few only; and the largest type is measured by the fewest calls.
    let tier = TIERS.into_iter().find(here).expect("an instruction set");
    let calibrate = ["bench", "kernels", "--calibrate", "--threads", "2", "--isa", tier];
    let calibrate = |more: &[&str]| ckc(&[&calibrate[..], more].concat());
    let measured = calibrate(&["--dtype", "f32", "-o", &file]);
    assert!(measured.status.success(), "{}", err(&measured));
    let (costs, standard) = (read(&path).expect("a table"), Costs::standard());
    assert_eq!(costs.workers, 2);
    let known = standard.tiers.iter().map(|(tier, _)| *tier);
    for known in known.chain([tier]) {
        let rates = |costs: &Costs| {
            costs
                .tiers
                .iter()
                .find(|(tier, _)| *tier == known)
                .map(|(_, rates)| *rates)
        };
        let (new, old) = (rates(&costs).expect("measured"), rates(standard));
        for dtype in DType::ALL {
            let row = new[dtype as usize];
            for rate in [row.few, row.many].into_iter().flatten() {
                let positive = |x: f64| x > 0.0 && x.is_finite();
                assert!(positive(rate.gb_per_s) && positive(rate.gop_per_s), "{known} {rate:?}");
            }
            let asked = known == tier && dtype == DType::F32;
            assert!(
                asked || old.is_none_or(|old| old[dtype as usize] == row),
                "{known} {}",
                dtype.name()
            );
        }
    }
    let said = format!("measured with 2 workers: {tier}");
    assert!(costs.machine.starts_with(&said), "{}", costs.machine);
    let runner = dir.path().join("runner");
    let compiled = ckc(&[
        "compile",
        &model(),
        "--costs",
        &file,
        "-o",
        &runner.display().to_string(),
    ]);
    assert!(compiled.status.success(), "{}", err(&compiled));
    let report = std::fs::read_to_string(runner.join("layout.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["header"]["costs"]["machine"], costs.machine.as_str());
}

/// Before anything is measured; an older table stays as it is.
#[test]
fn a_table_that_cannot_be_measured_or_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(dir.path().join("old.yaml"), "old").unwrap();
    for (more, code, says) in [
        (&["-o", &at("none/costs.yaml")][..], 1, "CK0901"),
        (&["-o", &at("old.yaml/costs.yaml")], 1, "CK0901"),
        (&["-o", &at("")], 1, "CK0901"),
        (&["-o", &at("old.yaml"), "--threads", "0"], 1, "CK0918"),
        (&["-o", &at("old.yaml"), "--isa", "scalar"], 1, "help: known are avx2"),
        (&["-o", &at("old.yaml"), "--isa", "mmx"], 1, "CK0918"),
        (&["-o", &at("old.yaml"), "--dtype", "q9"], 1, "unknown type"),
        (&["-o", &at("old.yaml"), "--costs", &at("old.yaml")], 1, "CK0104"),
        (&["-o", &at("old.yaml"), "--shape", "64x64"], 2, "cannot be used"),
    ] {
        let args = [&["bench", "kernels", "--calibrate"][..], more].concat();
        refused(dir.path(), &args, code, says);
    }
}

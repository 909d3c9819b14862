//! Published instances, read from a folder beside the project when it is there.

use std::path::{Path, PathBuf};

use super::*;

fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("CKC_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    Some(shared.join("planner")).filter(|p| p.is_dir())
}

/// `id,lower,upper,size`, half-open.
fn read(path: &Path, align: u64) -> Problem {
    let text = std::fs::read_to_string(path).expect("a readable instance");
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let number = |i: usize| -> u64 { fields[i].parse().expect("a number") };
        Buffer::new(fields[0], number(3), align, number(1) as u32..number(2) as u32)
    };
    Problem {
        buffers: text.lines().skip(1).filter(|l| !l.trim().is_empty()).map(row).collect(),
        ..Problem::default()
    }
}

/// Peak at most `permille` thousandths of the bound.
#[test]
fn published_instances_stay_near_the_bound() {
    let Some(folder) = folder() else {
        return println!("not run: no planner instances");
    };
    let cases: &[(&str, u64, u64)] = &[
        ("resnet50.csv", 64, 1004),
        ("G_1.csv", 64, 1001),
        ("example.12.csv", 1, 1000),
        ("A.1048576.csv", 1024, 1260),
        ("C.1048576.csv", 1024, 1370),
        ("F.1048576.csv", 1024, 1260),
        ("H.1048576.csv", 1024, 1270),
        ("J.1048576.csv", 1024, 1320),
    ];
    for &(file, align, permille) in cases {
        let s = solved(&read(&folder.join(file), align));
        println!(
            "{file}: peak {} bound {} {} {}",
            s.peak, s.lower_bound, s.status, s.candidates[s.chosen].name
        );
        assert!(
            s.peak * 1000 <= s.lower_bound * permille,
            "{file}: {} / {}",
            s.peak,
            s.lower_bound
        );
    }
}

/// A made-up training graph: weights' gradients live long, activations nest, temporaries are short.
#[test]
fn twenty_thousand_buffers_are_planned() {
    let n = 20_000u32;
    let size = |i: u32| 64 * (1 + u64::from(i.wrapping_mul(2_654_435_761) >> 20));
    let buffer = |i: u32| match i % 4 {
        0 => (size(i), 64, i..2 * n - i),
        1 => (size(i), 64, i..n),
        _ => (size(i) * 4, 64, i..i + 9),
    };
    let s = solved(&problem(&(0..n).map(buffer).collect::<Vec<_>>()));
    assert!(s.peak * 100 <= s.lower_bound * 105, "{} / {}", s.peak, s.lower_bound);
}

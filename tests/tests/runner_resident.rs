//! The report says beforehand how much of a runner's memory can be resident.

use std::process::Command;

use ck_tests::pack_shipped;
use shakespeare::{Config, Runner};

/// Where the weights are, for this program run again as a process that does nothing but run the model.
const WEIGHTS: &str = "RUNNER_RESIDENT_WEIGHTS";

/// The largest resident size of this process so far; `None` where the system does not say.
fn most_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// What the committed report says.
fn said() -> u64 {
    let report = concat!(env!("CARGO_MANIFEST_DIR"), "/../generated/shakespeare/layout.txt");
    let report = std::fs::read_to_string(report).unwrap();
    let line = report
        .lines()
        .find_map(|line| line.strip_prefix("total   resident at most "));
    line.and_then(|line| line.split(' ').next()?.parse().ok())
        .expect("the report says how much can be resident")
}

#[test]
fn no_more_is_resident_than_the_report_said() {
    if let Some(weights) = std::env::var_os(WEIGHTS) {
        let mut runner = Runner::open(weights, Config::default()).unwrap();
        let ids: Vec<u32> = (0..400).map(|i| i * 7 % 1024).collect();
        runner.prefill(&ids).unwrap();
        runner.decode(1).unwrap();
        match most_resident() {
            Some(bytes) => assert!(bytes <= said(), "{bytes} resident, {} said", said()),
            None => println!("not run: the system does not say what is resident"),
        }
        return;
    }
    let weights = pack_shipped(env!("CARGO_TARGET_TMPDIR").as_ref());
    let again = Command::new(std::env::current_exe().unwrap())
        .env(WEIGHTS, weights)
        .output()
        .unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
}

//! The kernels of AArch64, built and emulated here: their own tests, which take each tier that the emulated CPU has.

use std::path::Path;
use std::process::{Command, Stdio};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn has_target() -> bool {
    let libdir = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    libdir.is_ok_and(|out| Path::new(String::from_utf8_lossy(&out.stdout).trim()).is_dir())
}

fn missing() -> Option<&'static str> {
    match () {
        () if !has_target() => Some(TARGET),
        () if !runs(LINKER) => Some(LINKER),
        () if !runs(EMULATOR) => Some(EMULATOR),
        () => None,
    }
}

fn kernel_tests(tests: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["test", "--release", "--package", "ck-kernels", "--target", TARGET])
        .args(tests.iter().flat_map(|test| ["--test", test]))
        .args(["--", "--nocapture"])
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", EMULATOR)
        // No libraries of the other architecture need to be found.
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-Ctarget-feature=+crt-static",
        )
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let out = command.output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(out.status.success(), "{said}");
    said
}

#[test]
fn kernels_agree_on_aarch64() {
    if let Some(missing) = missing() {
        eprintln!("not run: {missing} is absent");
        return;
    }
    let said = kernel_tests(&["primitives", "quantize", "matmul", "tiers"]);
    assert!(said.contains("tiers: dotprod, neon, scalar\n"), "{said}");
}

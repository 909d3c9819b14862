//! AArch64, built and emulated here: the kernels' own tests, which take each tier that the emulated CPU has, and a whole
//! program.

use std::path::{Path, PathBuf};
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

/// Cargo on the workspace's folder, for the other architecture.
fn cargo(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(root())
        .args(args)
        .env("CARGO_TARGET_DIR", built())
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", EMULATOR)
        // No libraries of the other architecture need to be found.
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-Ctarget-feature=+crt-static",
        )
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    said(&mut command)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where cargo builds for the other architecture; both tests share what is built.
fn built() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("aarch64")
}

/// What a program that succeeds says.
fn said(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(out.status.success(), "{command:?}: {said}");
    said
}

#[test]
fn kernels_agree_on_aarch64() {
    if let Some(missing) = missing() {
        eprintln!("not run: {missing} is absent");
        return;
    }
    let said = cargo(&[
        "test",
        "--release",
        "--package",
        "ck-kernels",
        "--target",
        TARGET,
        "--test",
        "primitives",
        "--test",
        "quantize",
        "--test",
        "matmul",
        "--test",
        "tiers",
        "--",
        "--nocapture",
    ]);
    assert!(said.contains("tiers: dotprod, neon, scalar\n"), "{said}");
}

/// Vector tiers give the same bits on every architecture, and so does the scalar one.
#[test]
fn a_program_gives_the_same_bits_on_aarch64() {
    if let Some(missing) = missing() {
        eprintln!("not run: {missing} is absent");
        return;
    }
    let manifest = root().join("generated/shakespeare/Cargo.toml").display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let weights = ck_tests::pack_shipped(dir.path());
    cargo(&["build", "--release", "--manifest-path", &manifest, "--target", TARGET]);
    let runner = built().join(TARGET).join("release/shakespeare");
    let ids: Vec<u32> = (1..=40).map(|i| i * 37 % 1024).collect();
    let listed = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let emulated = |isa: &str| {
        let file = dir.path().join(format!("{isa}.safetensors"));
        let mut command = Command::new(EMULATOR);
        command.arg(&runner).args([
            "logits",
            "--ids",
            &listed,
            "--decode-from",
            "32",
            "--threads",
            "2",
            "--out",
        ]);
        command.arg(&file).arg("--weights").arg(&weights).env("CKC_ISA", isa);
        said(&mut command);
        let bytes = std::fs::read(file).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        tensors.tensor("logits").unwrap().data().to_vec()
    };
    let here = |isa: &str| {
        let config = shakespeare::Config {
            isa: Some(isa.into()),
            ..Default::default()
        };
        let mut runner = shakespeare::Runner::open(&weights, config).ok()?;
        let mut logits = Vec::new();
        let (prompt, rest) = ids.split_at(32);
        runner
            .prefill_each(prompt, |_, row| logits.extend(row.iter().flat_map(|x| x.to_le_bytes())))
            .unwrap();
        for &id in rest {
            logits.extend(runner.decode(id).unwrap().iter().flat_map(|x| x.to_le_bytes()));
        }
        Some(logits)
    };
    let neon = emulated("neon");
    assert!(neon == emulated("dotprod"), "neon and dotprod differ");
    assert!(
        Some(emulated("scalar")) == here("scalar"),
        "scalar differs from this machine's"
    );
    if let Some(avx2) = here("avx2") {
        assert!(neon == avx2, "neon differs from avx2");
    }
}

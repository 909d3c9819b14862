//! The commands of docs/ci.md, run as they stand there: the blocks for the shell, and the two jobs, with stand-ins for
//! what belongs to the platform (checkout, toolchain, comments, artifacts). `ckc` is the real one.
#![cfg(unix)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The page's blocks of that language.
fn blocks(language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/ci.md")).unwrap();
    let fence = format!("```{language}\n");
    let blocks = page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(str::to_owned).collect()
}

fn job(path: &[&str]) -> Value {
    let parsed = blocks("yaml")
        .into_iter()
        .map(|text| serde_yaml::from_str(&text).unwrap());
    let found = parsed.filter_map(|whole: Value| path.iter().try_fold(whole, |at, key| at.get(key).cloned()));
    let jobs: Vec<Value> = found.collect();
    assert_eq!(jobs.len(), 1, "one job at {path:?}");
    jobs.into_iter().next().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A project that runs the jobs: a model, ckc as its submodule, and a machine whose commands are ours.
struct Project {
    dir: TempDir,
}

impl Project {
    fn new() -> Self {
        let project = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir_all(project.path("models")).unwrap();
        std::fs::create_dir_all(project.path("bin")).unwrap();
        std::fs::create_dir_all(project.path("home/.cargo/bin")).unwrap();
        std::fs::copy(
            root().join("models/shakespeare.yaml"),
            project.path("models/shakespeare.yaml"),
        )
        .unwrap();
        symlink(root(), project.path("ckc")).unwrap();
        // `cargo install` copies the command that was built for these tests; the path must be a package all the same.
        project.command(
            "cargo",
            &format!(
                "case $1 in +*) shift;; esac\n\
                 [ \"$1 $2 $3\" = 'install --locked --path' ] && grep -q 'name = \"ckc\"' \"$4/Cargo.toml\" || exit 64\n\
                 bin=\"${{CARGO_HOME:-$HOME/.cargo}}/bin\"; mkdir -p \"$bin\"; ln -sf '{}' \"$bin/ckc\"",
                env!("CARGO_BIN_EXE_ckc-under-test")
            ),
        );
        project.command("rustup", "[ \"$1 $2\" = 'toolchain install' ]");
        for sender in ["gh", "curl"] {
            project.command(
                sender,
                "for word; do echo \"$word\" >> sent.txt; done\n[ -s memory.md ] && cat memory.md >> sent.txt",
            );
        }
        for block in blocks("sh") {
            project.local(&block);
        }
        project
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.path(relative)).unwrap_or_default()
    }

    fn command(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn edit(&self, from: &str, to: &str) {
        let yaml = self.read("models/shakespeare.yaml");
        assert!(yaml.contains(from));
        std::fs::write(self.path("models/shakespeare.yaml"), yaml.replace(from, to)).unwrap();
    }

    /// Runs a script with the platform's shell options; `path` stands before the machine's commands.
    fn bash(&self, script: &str, path: &str, envs: &[(String, String)]) -> Output {
        let machine = std::env::var("PATH").unwrap_or_default();
        Command::new("bash")
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
            .current_dir(self.dir.path())
            .env("HOME", self.path("home"))
            .env("PATH", format!("{path}{}:{machine}", self.path("bin").display()))
            .env_remove("CARGO_HOME")
            .envs(envs.iter().map(|(k, v)| (k, v)))
            .output()
            .unwrap()
    }

    /// A block of the page on the desk of someone who has ckc.
    fn local(&self, script: &str) {
        self.command(
            "ckc",
            &format!("exec '{}' \"$@\"", env!("CARGO_BIN_EXE_ckc-under-test")),
        );
        let output = self.bash(script, "", &[]);
        std::fs::remove_file(self.path("bin/ckc")).unwrap();
        assert!(
            output.status.success(),
            "{script}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn exists(&self, listed: &[&str]) {
        for path in listed {
            assert!(self.path(path).is_file(), "{path} is kept and was not written");
        }
    }
}

/// The steps of a workflow, as a runner would; the exit code of the step that failed.
fn github(project: &Project) -> i32 {
    let summary = project.path("summary.md").display().to_string();
    let added = project.path("path.txt");
    let platform = [
        ("GITHUB_STEP_SUMMARY", summary),
        ("GITHUB_PATH", added.display().to_string()),
    ];
    let mut code = 0;
    for step in job(&["jobs", "plan"])["steps"].as_array().unwrap() {
        let always = step.get("if").is_some_and(|v| v == "always()");
        if code != 0 && !always {
            continue;
        }
        if let Some(action) = step.get("uses") {
            match text(action).split('@').next().unwrap() {
                "actions/checkout" => assert_eq!(step["with"]["submodules"], true),
                "actions/upload-artifact" if code != 64 => {
                    project.exists(&text(&step["with"]["path"]).split_whitespace().collect::<Vec<_>>());
                }
                other => panic!("no stand-in for {other}"),
            }
            continue;
        }
        let mut envs: Vec<(String, String)> = platform.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        for (name, value) in step.get("env").and_then(Value::as_object).into_iter().flatten() {
            let value = match text(value) {
                "${{ github.token }}" => "token",
                "${{ github.event.number }}" => "17",
                other => panic!("no stand-in for {other}"),
            };
            envs.push((name.clone(), value.to_owned()));
        }
        let path: String = project
            .read("path.txt")
            .lines()
            .map(|line| format!("{line}:"))
            .collect();
        let output = project.bash(text(&step["run"]), &path, &envs);
        let forgiven = step.get("continue-on-error").is_some_and(|v| v == true);
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        if !output.status.success() && !forgiven && code == 0 {
            code = output.status.code().unwrap();
        }
    }
    code
}

/// A job's `before_script` and `script` in one shell, then its `after_script` in another.
fn gitlab(project: &Project) -> i32 {
    let job = job(&["memory"]);
    let lines = |key: &str| -> String {
        let list = job[key].as_array().unwrap().iter();
        list.map(|line| format!("{}\n", text(line))).collect()
    };
    let folder = project.dir.path().display().to_string();
    let mut envs: Vec<(String, String)> = [
        ("CI_PROJECT_DIR", folder.as_str()),
        ("CI_API_V4_URL", "https://gitlab.example/api/v4"),
        ("CI_PROJECT_ID", "3"),
        ("CI_MERGE_REQUEST_IID", "17"),
        ("COMMENT_TOKEN", "token"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .to_vec();
    for (name, value) in job["variables"].as_object().unwrap() {
        envs.push((name.clone(), text(value).replace("$CI_PROJECT_DIR", &folder)));
    }
    let output = project.bash(&(lines("before_script") + &lines("script")), "", &envs);
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let after = project.bash(&lines("after_script"), "", &envs);
    assert!(after.status.success(), "{}", String::from_utf8_lossy(&after.stderr));
    let paths = job["artifacts"]["paths"].as_array().unwrap();
    project.exists(&paths.iter().map(text).collect::<Vec<_>>());
    output.status.code().unwrap()
}

/// Runs the job on a project that was edited; gives its exit code, what was commented, and the project.
fn on(run: fn(&Project) -> i32, edits: &[(&str, &str)]) -> (i32, String, Project) {
    let project = Project::new();
    for (from, to) in edits {
        project.edit(from, to);
    }
    let code = run(&project);
    (code, project.read("sent.txt"), project)
}

#[test]
fn both_jobs_pass_where_nothing_changed_and_say_so() {
    for run in [github, gitlab] {
        let (code, sent, _) = on(run, &[]);
        assert_eq!(code, 0);
        assert!(sent.contains("17") && sent.contains("no difference"), "{sent}");
    }
}

#[test]
fn both_jobs_fail_on_growth_and_comment_all_the_same() {
    for run in [github, gitlab] {
        let (code, sent, project) = on(run, &[("n_layers: 4", "n_layers: 5")]);
        assert_eq!(code, 3);
        assert!(sent.contains("over budget") && sent.contains("1 layer added"), "{sent}");
        // After a refresh the change is accepted.
        project.local(&blocks("sh")[1]);
        assert_eq!(run(&project), 0);
    }
}

#[test]
fn both_jobs_fail_on_a_wrong_description_or_a_broken_report() {
    for run in [github, gitlab] {
        assert_ne!(on(run, &[("n_layers: 4", "n_layers: four")]).0, 0);
        let project = Project::new();
        std::fs::write(project.path("memory/shakespeare.json"), "{}").unwrap();
        assert_eq!(run(&project), 2);
    }
}

#[test]
fn a_budget_of_the_description_fails_both_jobs() {
    for run in [github, gitlab] {
        assert_eq!(
            on(
                run,
                &[("outputs: [logits]", "budget: {arena: 1MiB}\noutputs: [logits]")]
            )
            .0,
            3
        );
    }
}

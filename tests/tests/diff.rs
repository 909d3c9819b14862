//! `ckc diff` by example: `data/diff/*.md` hold what is compared and what is said of it, as text and as markdown.
//! `CKC_BLESS=1` rewrites what is said.
//!
//! The first block of a case has a line for each of: `model NAME` of `models/`, options of `ckc plan` for the `old` and
//! the `new` report, texts to replace in their descriptions (`old yaml FROM => TO`) and reports (`old json FROM => TO`),
//! whether the new one is planned with the old as `hint`, and options of `diff`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CKC: &str = env!("CARGO_BIN_EXE_ckc-under-test");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn ckc(args: &[&str]) -> Output {
    Command::new(CKC).args(args).output().unwrap()
}

#[derive(Default)]
struct Side {
    options: Vec<String>,
    yaml: Vec<(String, String)>,
    json: Vec<(String, String)>,
}

#[derive(Default)]
struct Case {
    model: String,
    old: Side,
    new: Side,
    hint: bool,
    diff: Vec<String>,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn parse(text: &str) -> Case {
    let mut case = Case::default();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "old" || word == "new" {
            let side = if word == "old" { &mut case.old } else { &mut case.new };
            let (kind, edit) = rest.split_once(' ').unwrap_or((rest, ""));
            match (kind, edit.split_once(" => ")) {
                ("yaml", Some((from, to))) => side.yaml.push((from.to_owned(), to.replace("\\n", "\n"))),
                ("json", Some((from, to))) => side.json.push((from.to_owned(), to.to_owned())),
                _ => side.options = words(rest),
            }
            continue;
        }
        match word {
            "model" => case.model = rest.to_owned(),
            "hint" => case.hint = true,
            "diff" => case.diff = words(rest),
            _ => panic!("not a line of a case: {line}"),
        }
    }
    case
}

/// The report of one side, in `folder`.
fn report(case: &Case, side: &Side, folder: &Path, name: &str, hint: Option<&str>) -> String {
    let replaced = |mut text: String, edits: &[(String, String)]| {
        for (from, to) in edits {
            assert!(text.contains(from), "{from} is not there to be replaced");
            text = text.replace(from, to);
        }
        text
    };
    let model = root().join("models").join(format!("{}.yaml", case.model));
    let yaml = folder.join(format!("{name}.yaml"));
    std::fs::write(&yaml, replaced(std::fs::read_to_string(model).unwrap(), &side.yaml)).unwrap();
    let yaml = yaml.display().to_string();
    let mut args = vec!["plan", yaml.as_str(), "--json"];
    args.extend(side.options.iter().map(String::as_str));
    args.extend(hint.into_iter().flat_map(|path| ["--hint", path]));
    let output = ckc(&args);
    let json = String::from_utf8(output.stdout).unwrap();
    assert!(json.starts_with('{'), "{}", String::from_utf8_lossy(&output.stderr));
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, replaced(json, &side.json)).unwrap();
    path.display().to_string()
}

fn run(case: &Case) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let old = report(case, &case.old, dir.path(), "old", None);
    let hint = case.hint.then_some(old.as_str());
    let new = report(case, &case.new, dir.path(), "new", hint);
    let diff = |form: &[&str]| {
        let mut args = vec!["diff", old.as_str(), new.as_str()];
        args.extend(case.diff.iter().map(String::as_str).chain(form.iter().copied()));
        let output = ckc(&args);
        let text = String::from_utf8(output.stdout).unwrap();
        (text, output.status.code().unwrap())
    };
    let ((text, code), (markdown, same)) = (diff(&[]), diff(&["--markdown"]));
    assert_eq!(code, same);
    assert!(markdown.lines().count() <= 40, "{markdown}");
    let (json, same) = diff(&["--json"]);
    assert_eq!(code, same);
    serde_json::from_str::<serde_json::Value>(&json).expect("JSON");
    (format!("exit {code}\n{text}"), markdown)
}

#[test]
fn every_case_reads_as_it_did() {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/diff"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut stale = Vec::new();
    for path in paths {
        let found = std::fs::read_to_string(&path).unwrap();
        let (head, rest) = found.split_once("```case\n").expect("a case block");
        let (case, _) = rest.split_once("```").expect("an end of the block");
        let (text, markdown) = run(&parse(case));
        let now = format!("{head}```case\n{case}```\n\n```text\n{text}```\n\n```markdown\n{markdown}```\n");
        if std::env::var_os("CKC_BLESS").is_some() {
            std::fs::write(&path, now).unwrap();
        } else if found != now {
            stale.push(format!(
                "{} is not what is said now; CKC_BLESS=1 takes it:\n{now}",
                path.display()
            ));
        }
    }
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

//! Every kind of mistake, by example: `diagnostics/*.md` hold an edit of `base.yaml` (or a whole file) and the
//! diagnostics that it gives. `CKC_BLESS=1` rewrites the expected output, and docs/diagnostics.md with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ckc::diag;
use ckc::model::{self, LoadOptions, Source, codes};

/// One example: a heading, the block that says what to load, and the block that says what comes out.
struct Example {
    title: String,
    info: String,
    body: String,
    expected: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")
}

fn blessing() -> bool {
    std::env::var_os("CKC_BLESS").is_some()
}

fn examples(text: &str) -> Vec<Example> {
    let sections = text.split("\n## ").skip(1);
    let block = |section: &str, from: usize| -> Option<(String, String, usize)> {
        let start = from + section[from..].find("```")? + 3;
        let line = start + section[start..].find('\n')?;
        let end = line + section[line..].find("\n```")?;
        let body = section.get(line + 1..end + 1).unwrap_or_default();
        Some((section[start..line].to_string(), body.to_string(), end + 4))
    };
    sections
        .map(|section| {
            let (info, body, end) = block(section, 0).expect("an example has a block");
            Example {
                title: section.lines().next().unwrap_or_default().to_string(),
                info,
                body,
                expected: block(section, end).map(|(_, expected, _)| expected).unwrap_or_default(),
            }
        })
        .collect()
}

/// `base` with each hunk's `-` lines, which stand in it once, replaced by its `+` lines.
fn apply(base: &str, edit: &str) -> String {
    let mut text = base.to_string();
    for hunk in edit.split("\n\n") {
        let side = |sign: char| -> String {
            let lines: Vec<&str> = hunk.lines().filter_map(|line| line.strip_prefix(sign)).collect();
            lines.join("\n")
        };
        let (old, new) = (side('-'), side('+'));
        assert_eq!(text.matches(&old).count(), 1, "stands once in the base: {old}");
        text = text.replacen(&old, &new, 1);
    }
    text
}

fn options(info: &str) -> LoadOptions {
    let words: Vec<&str> = info.split_whitespace().collect();
    let number = |flag: &str| {
        let at = words.iter().position(|word| *word == flag)?;
        words.get(at + 1)?.parse().ok()
    };
    LoadOptions {
        context: number("--context"),
        batch: number("--batch"),
    }
}

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).expect("the folder is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    files
}

#[test]
fn every_mistake_is_reported_as_documented() {
    let base = fs::read_to_string(folder().join("base.yaml")).expect("readable");
    let mut wrong = String::new();
    // The shortest output that shows a code is the one in the documentation.
    let mut shown: BTreeMap<&str, String> = BTreeMap::new();
    for path in files() {
        let text = fs::read_to_string(&path).expect("readable");
        let title = text.lines().next().unwrap_or_default();
        let mut blessed = format!("{title}\n");
        for example in examples(&text) {
            let yaml = match example.info.split_whitespace().next() {
                Some("diff") => apply(&base, example.body.trim_end_matches('\n')),
                _ => example.body.clone(),
            };
            let source = Source {
                name: "tiny.yaml".to_string(),
                text: yaml.clone(),
            };
            let (model, diagnostics) = model::load(source, &options(&example.info));
            assert!(
                model.is_none() && !diagnostics.is_empty(),
                "{}: no mistake was found",
                example.title
            );
            let sources = [("tiny.yaml", yaml.as_str())];
            let found = diag::render(&diagnostics, &sources[..], false);
            let found = found.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
            for diagnostic in &diagnostics {
                let one = diag::render(std::slice::from_ref(diagnostic), &sources[..], false);
                let one = one.rsplit_once("error: 1 error").map_or(one.as_str(), |(one, _)| one);
                let one = one
                    .lines()
                    .map(str::trim_end)
                    .collect::<Vec<_>>()
                    .join("\n")
                    .trim_end()
                    .to_string();
                shown.entry(diagnostic.code).or_insert(one);
            }
            if found != example.expected {
                let _ = writeln!(wrong, "{}: {}\n{found}", path.display(), example.title);
            }
            let (title, info, body) = (&example.title, &example.info, &example.body);
            let _ = write!(blessed, "\n## {title}\n\n```{info}\n{body}```\n\n```text\n{found}```\n");
        }
        if blessing() {
            fs::write(&path, blessed).expect("writable");
        }
    }
    let documentation = documentation(&shown);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/diagnostics.md");
    if blessing() {
        fs::write(&path, &documentation).expect("writable");
        return;
    }
    assert!(
        wrong.is_empty(),
        "differs from what is documented (CKC_BLESS=1 rewrites):\n{wrong}"
    );
    let stale = fs::read_to_string(&path).is_ok_and(|text| text == documentation);
    assert!(stale, "docs/diagnostics.md is stale (CKC_BLESS=1 rewrites)");
}

/// The list of codes, each with an example.
fn documentation(shown: &BTreeMap<&str, String>) -> String {
    let mut text = String::from(
        "# Diagnostics\n\n\
         Every mistake of a file is reported in one run. Codes are never reused. This page is made by a test from the\n\
         tables of codes and the examples in `compiler/tests/diagnostics`.\n\n\
         The model language:\n\n\
         | code | | rule |\n|---|---|---|\n",
    );
    for code in codes::ALL {
        let _ = writeln!(text, "| {} | {} | {} |", code.code, code.title, code.rule);
    }
    text += "\nEverything else: weights (CK06), importing and tokenizers (CK07), packing (CK08), commands (CK09), and layout \
             reports\n(CK10), whose rules hold for every report that is made or read:\n\n| code | cause | hint |\n|---|---|---|\n";
    for code in ckc::codes::all() {
        let _ = writeln!(text, "| {} | {} | {} |", code.code, code.cause, code.hint);
    }
    for code in codes::ALL {
        // An unreadable file has no text to show.
        if code.code == codes::UNREADABLE {
            continue;
        }
        let example = shown
            .get(code.code)
            .unwrap_or_else(|| panic!("no example shows {}", code.code));
        let _ = write!(
            text,
            "\n## {}: {}\n\n{}\n\n```text\n{example}\n```\n",
            code.code, code.title, code.rule
        );
    }
    text
}

#[test]
fn the_base_of_the_examples_has_no_mistake() {
    let text = fs::read_to_string(folder().join("base.yaml")).expect("readable");
    let source = Source {
        name: "tiny.yaml".to_string(),
        text,
    };
    let (model, diagnostics) = model::load(source, &LoadOptions::default());
    assert_eq!(diagnostics, []);
    assert!(model.is_some());
}

#[test]
fn codes_are_unique_and_sorted() {
    let language = codes::ALL.iter().map(|code| code.code);
    let all: Vec<&str> = language.chain(ckc::codes::all().map(|code| code.code)).collect();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    for code in ckc::codes::all() {
        assert!(code.cause.ends_with('.') && code.hint.ends_with('.'), "{code:?}");
        assert!(!code.cause.contains('|') && !code.hint.contains('|'), "{code:?}");
    }
}

/// A code stands in its table and nowhere else: what says it names the constant, which means one thing.
#[test]
fn every_code_in_the_source_stands_once_and_in_a_table() {
    let known = codes::ALL
        .iter()
        .map(|code| code.code)
        .chain(ckc::codes::all().map(|code| code.code));
    let mut left: Vec<&str> = known.collect();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(next) = open.pop() {
        if next.is_dir() {
            open.extend(
                fs::read_dir(&next)
                    .expect("readable")
                    .map(|entry| entry.expect("readable").path()),
            );
            continue;
        }
        if next.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&next).expect("readable");
        for (at, _) in text.match_indices("\"CK") {
            let code = text[at + 1..].split('"').next().unwrap_or_default();
            let digits = code.len() == 6 && code[2..].bytes().all(|b| b.is_ascii_digit());
            // Tests of how diagnostics look have a code of their own.
            if !digits || code == "CK0000" {
                continue;
            }
            let row = left.iter().position(|known| *known == code);
            let row =
                row.unwrap_or_else(|| panic!("{}: {code} is in no table, or twice in the source", next.display()));
            left.remove(row);
        }
    }
    assert_eq!(left, [""; 0], "not in the source");
}

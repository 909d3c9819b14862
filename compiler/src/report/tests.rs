//! Renderings and comparisons of a small report made by hand.

use super::*;

/// Two layers of one step each, and a fused head: the smallest report that has one of everything.
fn sample(layers: &[&str]) -> Report {
    let mut report = Report {
        header: Header {
            schema: SCHEMA.into(),
            ckc_version: "0.0.0".into(),
            model: "tiny".into(),
            yaml_sha256: "00ff".into(),
            target: "any".into(),
            options: Options {
                mode: "infer".into(),
                context: 64,
                batch: 8,
                fuse: vec!["NORM_QKV".into(), "MLP_GATE_UP".into()],
                layout: "packed".into(),
                kv_dtype: "f32".into(),
                weights_dtype: "stored".into(),
                max_threads: 4,
                debug: Vec::new(),
            },
            costs: Some(Costs {
                machine: "a small one".into(),
                isa: "avx512".into(),
                workers: 2,
                many_from: [("q4_0".into(), 64)].into(),
                tiles_from: Some(16),
            }),
            entries: vec![Entry {
                name: "prefill".into(),
                predicted_ns: 1200 * layers.len() as u64,
                ..Entry::default()
            }],
        },
        ..Report::default()
    };
    let mut weight_end = 0;
    for (i, layer) in layers.iter().enumerate() {
        let id = |what: &str| format!("{layer}.{what}");
        report.fusions.push(Fusion {
            flag: "NORM_QKV".into(),
            entry: "prefill".into(),
            site: id("attn"),
            outcome: FuseOutcome::Applied,
            bytes_saved: 2048,
            barriers_saved: 1,
            ..Fusion::default()
        });
        report.steps.push(Step {
            id: id("qkv"),
            index: i as u64,
            entry: "prefill".into(),
            kernel: "norm_linear".into(),
            fused_from: vec![id("norm"), id("q")],
            inputs: vec!["x".into(), id("wq")],
            outputs: vec![id("q")],
            flops: 65536,
            bytes_read: 18432,
            bytes_written: 2048,
            predicted: Some(Predicted {
                kernels: "few".into(),
                nanoseconds: 1200,
            }),
            partition: Partition::Axis {
                axis: "columns".into(),
                length: 64,
                granule: 16,
            },
            barrier: (i > 0).then(|| Barrier {
                reason: format!("reads x, written by {}", layers[i - 1]),
                unless: None,
            }),
            workspace_bytes: 256,
            live_bytes: 4096,
            ..Step::default()
        });
        report.tensors.push(Tensor {
            id: id("q"),
            entry: "prefill".into(),
            region: "activations".into(),
            dtype: "f32".into(),
            shape: vec![8, 64],
            layout: "row-major".into(),
            offset: 16384 * layers.len() as u64 + 2048,
            bytes: 2048,
            align: 64,
            first: i as u64,
            last: i as u64,
            alias_of: None,
            memory: None,
            accesses: None,
        });
        report.weights.push(WeightRow {
            name: id("wq"),
            source: format!("model.{layer}.q_proj.weight"),
            dtype_source: "bf16".into(),
            dtype: "f32".into(),
            packed_layout: "row-major".into(),
            shape: vec![64, 64],
            offset: weight_end,
            bytes: 16384,
            hash: "ab".into(),
            place: None,
        });
        weight_end += 16384;
    }
    report.fusions.push(Fusion {
        flag: "ADD_NORM".into(),
        entry: "prefill".into(),
        site: "head".into(),
        reason: "output `x` is requested".into(),
        ..Fusion::default()
    });
    report.steps.push(Step {
        id: "head".into(),
        index: layers.len() as u64,
        entry: "prefill".into(),
        kernel: "argmax".into(),
        fused_from: vec!["head".into()],
        inputs: vec!["x".into()],
        outputs: vec!["x".into()],
        in_place_of: Some("x".into()),
        partition: Partition::Serial {
            reason: "one row".into(),
        },
        live_bytes: 2048,
        ..Step::default()
    });
    report.tensors.push(Tensor {
        id: "x".into(),
        entry: "prefill".into(),
        region: "activations".into(),
        dtype: "f32".into(),
        shape: vec![8, 64],
        layout: "row-major".into(),
        offset: weight_end,
        bytes: 2048,
        align: 64,
        first: 0,
        last: layers.len() as u64,
        alias_of: None,
        memory: None,
        accesses: None,
    });
    let entry = &mut report.header.entries[0];
    (entry.steps, entry.barriers, entry.peak_bytes) = (report.steps.len() as u64, layers.len() as u64 - 1, 4096);
    report.totals = Totals {
        memories: Vec::new(),
        arena_bytes: weight_end + 4096,
        lower_bound_bytes: weight_end + 4096,
        status: Status::Optimal,
        naive_bytes: weight_end + 2048 * (layers.len() as u64 + 1),
        kv_bytes_per_token: 512,
        weights_bytes: [("f32".to_owned(), weight_end)].into(),
        regions: vec![
            Region {
                name: "activations".into(),
                offset: weight_end,
                bytes: 4096,
                lower_bound: 4096,
                naive: 2048 * (layers.len() as u64 + 1),
                status: Status::Optimal,
                plan: Some(plan()),
            },
            Region {
                name: "weights".into(),
                bytes: weight_end,
                lower_bound: weight_end,
                naive: weight_end,
                ..Region::default()
            },
        ],
        peak: Some(Peak {
            entry: "prefill".into(),
            step: format!("{}.qkv", layers[0]),
            bytes: 4096,
            live: vec![
                Live {
                    id: "x".into(),
                    bytes: 2048,
                    alias_of: None,
                },
                Live {
                    id: format!("{}.q", layers[0]),
                    bytes: 2048,
                    alias_of: None,
                },
            ],
            shrink: vec![Shrink {
                id: "x".into(),
                buffers: 1,
                bytes: 2048,
                lowers_by: 2048,
                alone: 2048,
            }],
        }),
        budgets: Vec::new(),
    };
    report.header.entries[0].plan = Some(plan());
    report
}

fn plan() -> Plan {
    Plan {
        chosen: "size/first".into(),
        candidates: [("size/first".to_owned(), 4096), ("area/first".to_owned(), 6144)].into(),
        bytes: 4096,
        lower_bound: 4096,
        ..Plan::default()
    }
}

fn base() -> Report {
    sample(&["a", "b"])
}

#[test]
fn text_and_json_of_the_sample() {
    insta::assert_snapshot!("text", to_text(&base()));
    insta::assert_snapshot!("json", to_json(&base()));
}

#[test]
fn html_of_the_sample() {
    let page = to_html(&base()).expect("the template is valid");
    insta::assert_snapshot!("html", page);
    for forbidden in [
        "<script",
        "http://",
        "https://",
        "url(",
        "@import",
        "@font-face",
        "<link",
        "src=",
        "href=",
        "<iframe",
        "<img",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn html_escapes_names() {
    let mut report = base();
    report.header.model = "<b>&\"".into();
    report.tensors[0].id = "</title><script>".into();
    report.steps[0].id = "<script>".into();
    report.fusions[0].reason = "<script>".into();
    let page = to_html(&report).expect("the template is valid");
    assert!(!page.contains("<b>") && !page.contains("<script"));
}

/// What a phone, the dark and people who do not see colours rely on.
#[test]
fn html_has_what_small_and_dark_screens_need() {
    let page = to_html(&base()).expect("the template is valid");
    for needed in [
        "width=device-width",
        "prefers-color-scheme: dark",
        "overflow-x: auto",
        "tabindex=\"-1\"",
    ] {
        assert!(page.contains(needed), "{needed}");
    }
    // Every table and chart scrolls inside a box of its own.
    let boxes = page.matches("class=\"wide\"").count();
    assert_eq!(boxes, page.matches("<table>").count() + page.matches("<svg").count());
    // Every box of the chart says its tensor, by hovering and by tapping.
    let slots = page.matches("<g class=\"b\"").count();
    assert!(slots > 0 && slots == page.matches("<title>").count() - 1 && slots == page.matches("class=\"tip").count());
}

#[test]
fn what_exceeds_a_budget_is_said_everywhere() {
    let mut report = base();
    report.totals.budgets = vec![
        Limit {
            name: "arena".into(),
            limit: 10,
            bytes: report.totals.arena_bytes,
        },
        Limit {
            name: "kv".into(),
            limit: 512,
            bytes: 512,
        },
    ];
    let over = format!("over budget by {}", report.totals.arena_bytes - 10);
    report.totals.status = Status::OverBudget {
        by: report.totals.arena_bytes - 10,
    };
    assert!(to_text(&report).contains(&format!("total   status {over}")));
    assert!(to_html(&report).expect("the template is valid").contains(&over));
    assert!(to_json(&report).contains("\"over_budget\""));
    let [message] = report.over_budget().try_into().expect("one budget is exceeded");
    for says in [
        over.as_str(),
        crate::codes::OVER_BUDGET,
        "no layout fits",
        "its parts are",
        "live at the peak, `",
    ] {
        assert!(message.contains(says), "{says}: {message}");
    }
}

/// Extents beyond anything real: drawn somewhere, without overflow.
#[test]
fn html_takes_any_numbers() {
    let mut report = base();
    for t in &mut report.tensors {
        (t.offset, t.bytes, t.first, t.last) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    }
    report.totals.regions[0].bytes = u64::MAX;
    report.totals.regions[0].offset = u64::MAX;
    report.steps[0].live_bytes = u64::MAX;
    to_html(&report).expect("the template is valid");
    to_html(&Report::default()).expect("the template is valid");
}

#[test]
fn json_survives_a_round_trip() {
    let mut report = base();
    report.moves.push(Move {
        entry: "prefill".into(),
        tensor: "x".into(),
        bytes: 9,
        ..Move::default()
    });
    report.totals.status = Status::Feasible { gap: 64 };
    let json = to_json(&report);
    let back = from_json(&json).expect("our own report");
    report.normalise();
    assert_eq!(back, report);
    assert_eq!(to_json(&back), json);
}

#[test]
fn the_order_rows_come_in_does_not_matter() {
    let (mut report, json) = (base(), to_json(&base()));
    report.steps.reverse();
    report.tensors.reverse();
    report.weights.reverse();
    report.fusions.reverse();
    report.totals.regions.reverse();
    assert_eq!(to_json(&report), json);
    assert_eq!(to_text(&report), to_text(&base()));
}

#[test]
fn no_prefix_of_a_report_is_a_report() {
    let json = to_json(&base());
    let end = json.trim_end().len();
    for (cut, _) in json.char_indices().filter(|&(cut, _)| cut < end) {
        assert!(from_json(&json[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn corrupt_reports_are_errors() {
    let json = to_json(&base());
    let cases = [
        ("", "", "EOF"),
        ("ckc-layout/1", "ckc-layout/2", "schema is `ckc-layout/2`"),
        ("\"arena_bytes\": 36864", "\"arena_bytes\": -1", "not a layout report"),
        (
            "\"arena_bytes\": 36864",
            "\"arena_bytes\": 1e400",
            "not a layout report",
        ),
        ("\"arena_bytes\": 36864", "\"arena_bytes\": 1.5", "not a layout report"),
        ("\"arena_bytes\"", "\"arena_byte\"", "unknown field `arena_byte`"),
        ("\"kind\":\"serial\"", "\"kind\":\"spiral\"", "unknown variant `spiral`"),
    ];
    for (from, to, message) in cases {
        let broken = if from.is_empty() {
            String::new()
        } else {
            json.replacen(from, to, 1)
        };
        assert_ne!(broken, json, "{from} is not in the sample");
        let error = from_json(&broken).expect_err(to).to_string();
        assert!(error.contains(message), "{to}: {error}");
    }
    let deep = "[".repeat(100_000);
    assert!(from_json(&deep).is_err());
}

fn compare(old: &Report, new: &Report, limit: Option<u64>) -> Diff {
    diff(
        old,
        new,
        DiffOptions {
            max_arena_growth: limit,
        },
    )
}

#[test]
fn a_report_does_not_differ_from_itself() {
    let d = compare(&base(), &base(), Some(0));
    assert_eq!(d.verdict().exit_code(), 0);
    insta::assert_snapshot!("same", d);
}

/// A layer between two others: the others stay as they were.
#[test]
fn an_inserted_layer_is_the_only_difference() {
    let d = compare(&base(), &sample(&["a", "aa", "b"]), Some(16000));
    assert_eq!(d.verdict(), Verdict::OverBudget);
    assert_eq!(d.verdict().exit_code(), 3);
    insta::assert_snapshot!("inserted_layer", d);
}

#[test]
fn a_lost_fusion_is_told_with_its_reason() {
    let mut new = base();
    new.fusions[1].outcome = FuseOutcome::Refused;
    new.fusions[1].reason = "used outside (logits|debug)".into();
    new.fusions[2].outcome = FuseOutcome::Applied;
    new.steps[0].kernel = "linear".into();
    new.steps[0].barrier = Some(Barrier {
        reason: "reads a.normed".into(),
        unless: None,
    });
    new.steps[1].partition = Partition::Serial {
        reason: "too small".into(),
    };
    new.tensors[0].bytes = 4096;
    new.tensors[0].shape = vec![16, 64];
    new.tensors[2].offset += 64;
    new.weights[0].hash = "cd".into();
    new.totals.arena_bytes += 64;
    new.totals.status = Status::Feasible { gap: 64 };
    let peak = new.totals.peak.as_mut().expect("the sample has one");
    peak.step = "head".into();
    let d = compare(&base(), &new, None);
    assert_eq!((d.verdict(), d.verdict().exit_code()), (Verdict::Larger, 0));
    insta::assert_snapshot!("lost_fusion", d);
    insta::assert_snapshot!("lost_fusion_markdown", d.to_markdown());
    insta::assert_snapshot!("lost_fusion_json", d.to_json());
}

#[test]
fn reports_without_weights_compare_with_reports_that_have_them() {
    let mut new = base();
    for w in &mut new.weights {
        w.hash.clear();
        w.dtype_source.clear();
    }
    let d = compare(&base(), &new, None);
    assert!(d.facts.iter().all(|f| f.kind == Kind::Note), "{d}");
}

/// The report of `layers`, where layer `i` is `layers.i` and its matrix has `rows[i]` rows.
fn numbered(rows: &[u64]) -> Report {
    let names: Vec<String> = (0..rows.len()).map(|i| format!("layers.{i}")).collect();
    let mut report = sample(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (weight, rows) in report.weights.iter_mut().zip(rows) {
        weight.shape[0] = *rows;
    }
    report
}

fn layer_facts(d: &Diff) -> Vec<String> {
    let facts = d.facts.iter().filter(|f| f.kind == Kind::Layer);
    facts
        .map(|f| f.text.split("; ").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn layers_are_matched_by_what_they_hold() {
    let cases: [(&[u64], &[u64], &[&str]); 8] = [
        (&[8, 8], &[8, 8], &[]),
        (&[8, 8], &[8, 8, 8], &["1 layer added: layers.2"]),
        (&[8, 8, 8], &[8], &["2 layers removed: layers.1 .. layers.2"]),
        (
            &[1, 2, 3, 4],
            &[1, 2, 9, 3, 4],
            &[
                "1 layer added: layers.2",
                "2 renumbered: layers.2 .. layers.3 -> layers.3 .. layers.4",
            ],
        ),
        (
            &[1, 2, 3],
            &[9, 1, 2, 3],
            &[
                "1 layer added: layers.0",
                "3 renumbered: layers.0 .. layers.2 -> layers.1 .. layers.3",
            ],
        ),
        (
            &[1, 2, 3, 4],
            &[1, 4],
            &[
                "2 layers removed: layers.1 .. layers.2",
                "1 renumbered: layers.3 -> layers.1",
            ],
        ),
        // A layer that changed is the same layer.
        (&[1, 2, 3], &[1, 7, 3], &[]),
        (&[1, 2, 3], &[7, 8, 9], &[]),
    ];
    for (old, new, expected) in cases {
        let d = compare(&numbered(old), &numbered(new), None);
        assert_eq!(layer_facts(&d), expected, "{old:?} {new:?}");
    }
}

/// All that is said of an insertion: the layer, the numbers, and one line for what lies further on.
#[test]
fn what_stood_behind_an_inserted_layer_is_unchanged() {
    let (old, new) = (numbered(&[1, 2, 3, 4, 5, 6]), numbered(&[1, 2, 9, 3, 4, 5, 6]));
    let d = compare(&old, &new, None);
    let kinds: Vec<Kind> = d.facts.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [Kind::Layer, Kind::Layer, Kind::Moved], "{d}");
    assert!(d.facts[2].text.contains("in weights: 4 of 6, by +16384 B"), "{d}");
}

/// Weights tell where a layer went even if all layers have one shape.
#[test]
fn hashes_tell_layers_of_one_shape_apart() {
    let hashed = |hashes: &[&str]| {
        let mut report = numbered(&vec![8; hashes.len()]);
        for (weight, hash) in report.weights.iter_mut().zip(hashes) {
            weight.hash = (*hash).into();
        }
        report
    };
    let d = compare(&hashed(&["a", "b", "c"]), &hashed(&["a", "x", "b", "c"]), None);
    assert_eq!(layer_facts(&d)[0], "1 layer added: layers.1", "{d}");
    assert!(!d.facts.iter().any(|f| f.kind == Kind::WeightChanged), "{d}");
}

#[test]
fn both_forms_are_bounded_and_count_what_they_leave_out() {
    let words = |prefix: &str| -> Vec<String> {
        let word = |i: u32| format!("{prefix}{}x{}", i, "|`*\n".repeat(30));
        (0..3000).map(word).collect()
    };
    let report = |prefix: &str| {
        let names = words(prefix);
        let mut report = sample(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let dtypes = names.iter().take(300);
        report.totals.weights_bytes = dtypes.map(|n| (n.clone(), 1)).collect();
        report
    };
    let d = compare(&report("a"), &report("b"), Some(0));
    let markdown = d.to_markdown();
    assert!(markdown.lines().count() <= 40, "{markdown}");
    assert!(markdown.lines().all(|l| l.chars().count() < 1300));
    let left = markdown.lines().last().unwrap_or_default();
    let shown = markdown.lines().filter(|l| l.starts_with("- **")).count();
    let missing = d.facts.len() - shown;
    assert!(left.contains(&format!("and {missing} more changes")), "{left}");
    let text = d.to_string();
    assert!(text.lines().count() < 400, "{}", text.lines().count());
    assert!(text.contains("... and "));
    let names: usize = d.facts.iter().map(|f| f.names.len()).sum();
    assert!(names > 12_000, "all of them are in the JSON form: {names}");
}

#[test]
fn names_cannot_break_the_forms() {
    let mut new = base();
    let name = "a|`b`<img>*_[x](y)@all&#1\u{1b}[31m\n# title";
    new.tensors[0].id = name.into();
    new.header.model = name.into();
    let d = compare(&base(), &new, None);
    for form in [d.to_markdown(), d.to_string()] {
        assert!(!form.contains('\u{1b}') && !form.contains("\n# title"), "{form}");
    }
    let markdown = d.to_markdown();
    assert!(
        markdown.contains("a\\|\\`b\\`\\<img>\\*\\_\\[x\\](y)&#64;all&#38;\\#1"),
        "{markdown}"
    );
    for line in markdown.lines().filter(|l| l.starts_with("| ")) {
        let bars = line.replace("\\|", "").matches('|').count();
        assert_eq!(bars, 5, "{line}");
    }
}

#[test]
fn any_two_numbers_compare() {
    let (mut old, mut new) = (base(), base());
    (old.totals.arena_bytes, new.totals.arena_bytes) = (u64::MAX, 1);
    assert!(
        compare(&old, &new, None)
            .to_string()
            .contains("(-18446744073709551614, -99.9 %)")
    );
    assert!(
        compare(&new, &old, Some(7))
            .to_string()
            .contains("over the 7 B that it may grow")
    );
}

//! Layers matched by what they hold, whatever their numbers.

use super::diff::compare;
use super::*;

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

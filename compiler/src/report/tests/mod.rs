//! Renderings and comparisons of a small report made by hand.

mod diff;
mod forms;
mod json;
mod layers;

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
                many_from: [(
                    "q4_0".into(),
                    ManyFrom {
                        avx2: Some(16),
                        avx512: Some(64),
                    },
                )]
                .into(),
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

//! Forward results against golden data: kernels on every tier where there is a primitive, else the plain functions.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ck_kernels::dtype::{ActType, DType};
use ck_kernels::isa::supported;
use ck_kernels::math;
use ck_kernels::ops::*;
use ck_kernels::partition::Axis;
use common::arena::{Arena, Call};
use safetensors::SafeTensors;
use serde_json::Value;

/// An elementwise function.
type Function = fn(f32) -> f32;

const AXIS: Axis = Axis::Tokens { granule: 1 };
const TOLERANCE: f32 = 1e-5;

struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    fn cols(&self) -> usize {
        *self.shape.last().expect("not a scalar")
    }

    /// The block of index `i` of the first dimension.
    fn outer(&self, i: usize) -> &[f32] {
        let n = self.data.len() / self.shape[0];
        &self.data[i * n..][..n]
    }
}

/// One file: its inputs, expected outputs and parameters.
struct Golden {
    name: &'static str,
    tensors: BTreeMap<String, Tensor>,
    integers: BTreeMap<String, Vec<i32>>,
    params: Value,
}

impl Golden {
    /// `None`, with a note, where the shared data is not there.
    fn read(name: &'static str) -> Option<Golden> {
        let shared = std::env::var_os("CKC_SHARED").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
            PathBuf::from,
        );
        let folder = shared.join("golden/ops");
        let (Ok(index), Ok(bytes)) = (
            std::fs::read(folder.join("index.json")),
            std::fs::read(folder.join(format!("{name}.safetensors"))),
        ) else {
            println!("not run: no {name} in {}", folder.display());
            return None;
        };
        let mut index: Value = serde_json::from_slice(&index).expect("index.json");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let (mut tensors, mut integers) = (BTreeMap::new(), BTreeMap::new());
        for (name, view) in file.tensors() {
            let words = view.data().as_chunks().0.iter();
            if view.dtype() == safetensors::Dtype::I32 {
                integers.insert(name, words.map(|b| i32::from_le_bytes(*b)).collect());
            } else {
                let data = words.map(|b| f32::from_le_bytes(*b)).collect();
                let shape = view.shape().to_vec();
                tensors.insert(name, Tensor { shape, data });
            }
        }
        let params = index[name]["params"].take();
        Some(Golden {
            name,
            tensors,
            integers,
            params,
        })
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    fn param(&self, name: &str) -> Option<f32> {
        self.params[name].as_f64().map(|v| v as f32)
    }

    fn norm(&self, arena: &mut Arena) -> Norm {
        Norm {
            weight: arena.vector(&self.get("in.w").data),
            eps: self.param("eps").expect("eps"),
        }
    }

    #[track_caller]
    fn compare(&self, what: &str, got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len(), "{} {what}", self.name);
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!(
                (g - w).abs() <= TOLERANCE,
                "{} {what}: [{i}] is {g}, not {w}",
                self.name
            );
        }
    }

    /// Runs one kernel on every tier and compares the rows of `out` with `want`.
    #[track_caller]
    fn kernel(&self, arena: &Arena, call: Call, kernel: &(dyn Kernel + Sync), out: &Slot, want: &[f32]) {
        for isa in supported() {
            let ran = arena.run(isa, 2, call, &[kernel]);
            self.compare(isa.name, &ran.rows(out, call.tokens), want);
        }
    }
}

#[test]
fn rms_norms() {
    let Some(g) = Golden::read("rmsnorm") else { return };
    let (x, want) = (g.get("in.x"), &g.get("out.y").data);
    let mut arena = Arena::new();
    let slot = arena.rows(&x.data, x.cols());
    let norm = g.norm(&mut arena);
    let kernel = RmsNorm {
        x: slot,
        norm,
        out: slot,
        axis: AXIS,
    };
    g.kernel(&arena, Call::tokens(x.shape[0]), &kernel, &slot, want);
    for (name, offset) in [("rmsnorm", 0.0), ("rmsnorm_gemma", 1.0)] {
        let g = Golden::read(name).expect("there, like the first");
        let (x, w) = (g.get("in.x"), &g.get("in.w").data);
        for t in 0..x.shape[0] {
            let mut out = vec![0.0; x.cols()];
            layernorm::rmsnorm(x.outer(t), w, offset, g.param("eps").expect("eps"), &mut out);
            g.compare("plain", &out, g.get("out.y").outer(t));
        }
    }
}

#[test]
fn a_norm_behind_an_addition() {
    let Some(g) = Golden::read("residual_rmsnorm") else {
        return;
    };
    let (x, r) = (g.get("in.x"), g.get("in.r"));
    let (t, cols) = (x.shape[0], x.cols());
    let mut arena = Arena::new();
    let (xs, rs, out) = (arena.rows(&x.data, cols), arena.rows(&r.data, cols), arena.f32(t, cols));
    let norm = g.norm(&mut arena);
    let kernel = AddNorm {
        x: xs,
        delta: rs,
        sum: xs,
        norm,
        out,
        axis: AXIS,
    };
    g.kernel(&arena, Call::tokens(t), &kernel, &out, &g.get("out.y").data);
    g.kernel(&arena, Call::tokens(t), &kernel, &xs, &g.get("out.h").data);
}

#[test]
fn layer_norm() {
    let Some(g) = Golden::read("layernorm") else { return };
    let x = g.get("in.x");
    let (w, b, eps) = (&g.get("in.w").data, &g.get("in.b").data, g.param("eps").expect("eps"));
    for t in 0..x.shape[0] {
        let mut out = vec![0.0; x.cols()];
        layernorm::layernorm(x.outer(t), w, b, eps, &mut out);
        g.compare("plain", &out, g.get("out.y").outer(t));
    }
}

#[test]
fn linear_maps() {
    for name in ["linear", "linear_bias", "rmsnorm_linear"] {
        let Some(g) = Golden::read(name) else { return };
        let x = g.get("in.x");
        let (t, k) = (x.shape[0], x.cols());
        let fused = name == "rmsnorm_linear";
        let w = g.get(if fused { "in.m" } else { "in.w" });
        let mut arena = Arena::new();
        let xs = arena.rows(&x.data, k);
        let out = arena.f32(t, w.shape[0]);
        let (weight, _) = arena.weight(DType::F32, &w.data, k);
        let bias = g.tensors.get("in.b").map(|b| arena.vector(&b.data));
        let source = if fused {
            let norm = g.norm(&mut arena);
            Source::Norm { x: xs, norm }
        } else {
            Source::Rows(xs)
        };
        let workspace = arena.workspace(project_workspace(k, true, false, t, AXIS));
        let parts = [Part {
            weight,
            bias,
            sink: Sink::Store(out),
        }];
        let kernel = Project {
            source,
            parts: &parts,
            workspace,
            axis: AXIS,
        };
        g.kernel(&arena, Call::tokens(t), &kernel, &out, &g.get("out.y").data);
        if fused {
            continue;
        }
        for t in 0..t {
            let mut out = vec![0.0; w.shape[0]];
            let bias = g.tensors.get("in.b").map(|b| &b.data[..]);
            linear::linear_out_in(x.outer(t), &w.data, bias, &mut out);
            g.compare("plain", &out, g.get("out.y").outer(t));
        }
    }
    let g = Golden::read("linear_in_out").expect("there, like the others");
    let (x, w, b) = (g.get("in.x"), g.get("in.w"), g.get("in.b"));
    for t in 0..x.shape[0] {
        let mut out = vec![0.0; w.cols()];
        linear::linear_in_out(x.outer(t), &w.data, Some(&b.data), &mut out);
        g.compare("plain", &out, g.get("out.y").outer(t));
    }
}

#[test]
fn embedding_rows() {
    let Some(g) = Golden::read("embedding") else { return };
    let w = g.get("in.w");
    let ids: Vec<u32> = g.integers["in.ids"].iter().map(|id| id.cast_unsigned()).collect();
    let mut arena = Arena::new();
    let (table, _) = arena.weight(DType::F32, &w.data, w.cols());
    let (slot, out) = (arena.ids(&ids), arena.f32(ids.len(), w.cols()));
    let kernel = Embed {
        ids: slot,
        table,
        out,
        axis: AXIS,
    };
    g.kernel(&arena, Call::tokens(ids.len()), &kernel, &out, &g.get("out.y").data);
}

#[test]
fn rotary_embeddings() {
    for name in ["rope_halves", "rope_interleaved", "rope_partial"] {
        let Some(g) = Golden::read(name) else { return };
        let x = g.get("in.x");
        let [batch, t, heads, head_dim] = x.shape[..] else {
            panic!("four dimensions")
        };
        let number = |name: &str| g.param(name).expect(name) as usize;
        let (dims, pos) = (number("nrot"), number("pos0"));
        let pairing = if g.params["inter"] == true {
            Pairing::Interleaved
        } else {
            Pairing::Halves
        };
        let theta = f64::from(g.param("theta").expect("theta"));
        let mut table = Vec::new();
        for p in 0..pos + t {
            let angle = |i: usize| p as f64 / theta.powf(2.0 * i as f64 / dims as f64);
            table.extend((0..dims / 2).map(|i| angle(i).cos() as f32));
            table.extend((0..dims / 2).map(|i| angle(i).sin() as f32));
        }
        for b in 0..batch {
            let mut arena = Arena::new();
            let slot = arena.rows(x.outer(b), heads * head_dim);
            let table = arena.vector(&table).offset;
            let rope = Rope {
                table,
                positions: pos + t,
                head_dim,
                dims,
                pairing,
            };
            let kernel = Rotate {
                x: slot,
                rope,
                out: slot,
                axis: AXIS,
            };
            let call = Call { pos, ..Call::tokens(t) };
            g.kernel(&arena, call, &kernel, &slot, g.get("out.y").outer(b));
        }
    }
}

#[test]
fn attention() {
    for name in [
        "attn_causal_gqa",
        "attn_window",
        "attn_softcap",
        "attn_decode",
        "attn_prefill_with_past",
    ] {
        let Some(g) = Golden::read(name) else { return };
        let (q, k, v) = (g.get("in.q"), g.get("in.k"), g.get("in.v"));
        let [batch, t, heads, head_dim] = q.shape[..] else {
            panic!("four dimensions")
        };
        let (seen, kv_heads) = (k.shape[1], k.shape[2]);
        for b in 0..batch {
            let mut arena = Arena::new();
            let qs = arena.rows(q.outer(b), heads * head_dim);
            let ks = arena.rows(k.outer(b), kv_heads * head_dim);
            let vs = arena.rows(v.outer(b), kv_heads * head_dim);
            let cache = arena.cache(kv_heads, head_dim, 16, ActType::F32);
            let attention = Attention {
                q: qs,
                cache,
                heads,
                out: qs,
                scale: g.param("scale").expect("scale"),
                softcap: g.param("cap").unwrap_or(0.0),
                window: g.param("window").map_or(usize::MAX, |w| w as usize),
                axis: Axis::Heads,
            };
            for isa in supported() {
                let fill: [&(dyn Kernel + Sync); 2] = [
                    &CacheKeys {
                        x: ks,
                        cache,
                        axis: AXIS,
                    },
                    &CacheValues {
                        x: vs,
                        cache,
                        axis: AXIS,
                    },
                ];
                let filled = Arena::from_bytes(arena.run(isa, 2, Call::tokens(seen), &fill).memory.bytes());
                let call = Call {
                    pos: seen - t,
                    ..Call::tokens(t)
                };
                let ran = filled.run(isa, 2, call, &[&attention]);
                g.compare(isa.name, &ran.rows(&qs, t), g.get("out.y").outer(b));
            }
        }
    }
}

#[test]
fn activations() {
    let functions: [(&str, Function); 5] = [
        ("silu", math::silu),
        ("gelu_erf", math::gelu_erf),
        ("gelu_tanh", math::gelu_tanh),
        ("relu2", activation::relu2),
        ("softcap", |x| activation::softcap(x, 5.0)),
    ];
    for (name, function) in functions {
        let Some(g) = Golden::read(name) else { return };
        let mut x = g.get("in.x").data.clone();
        activation::map(&mut x, function);
        g.compare("plain", &x, &g.get("out.y").data);
    }
    let g = Golden::read("softmax").expect("there, like the others");
    let x = g.get("in.x");
    for t in 0..x.shape[0] {
        let mut row = x.outer(t).to_vec();
        activation::softmax(&mut row);
        g.compare("plain", &row, g.get("out.y").outer(t));
    }
}

#[test]
fn gated_activations() {
    let kinds: [(&str, Gate, Function); 2] = [
        ("swiglu", Gate::Silu, math::silu),
        ("geglu_tanh", Gate::GeluTanh, math::gelu_tanh),
    ];
    for (name, kind, function) in kinds {
        let Some(g) = Golden::read(name) else { return };
        let (gate, up, want) = (g.get("in.gate"), g.get("in.up"), &g.get("out.y").data);
        let mut arena = Arena::new();
        let (gates, ups) = (arena.rows(&gate.data, gate.cols()), arena.rows(&up.data, up.cols()));
        let kernel = Glu {
            gate: gates,
            up: ups,
            kind,
            out: gates,
            axis: AXIS,
        };
        g.kernel(&arena, Call::tokens(gate.shape[0]), &kernel, &gates, want);
        let mut out = vec![0.0; want.len()];
        activation::gated(&gate.data, &up.data, &mut out, function);
        g.compare("plain", &out, want);
    }
}

#[test]
fn losses() {
    for name in ["cross_entropy", "cross_entropy_extreme"] {
        let Some(g) = Golden::read(name) else { return };
        let logits = g.get("in.logits");
        let got = loss::cross_entropy(&logits.data, &g.integers["in.targets"], logits.cols());
        g.compare("plain", &[got.expect("there are targets")], &g.get("out.y").data);
    }
    assert_eq!(loss::cross_entropy(&[0.0; 4], &[-100, -100], 2), None);
    assert_eq!(loss::cross_entropy(&[0.0; 4], &[0, 2], 2), None);
}

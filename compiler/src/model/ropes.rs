//! Rotary embeddings: numbers, parity and scaling.

use ck_kernels::ops::Pairing;

use super::codes;
use super::decode::Named;
use super::site::{Context, MAX_DIM, RopeDef};
use super::syntax::{Document, PairingWord, RopeSpec, Scaling};
use super::template::Template;
use crate::diag::Diagnostic;
use crate::graph::{Rope, RopeScaling};

/// Evaluates the ropes of a file. Mistakes go to the sink.
pub fn evaluate(document: &Document, context: &mut Context) {
    let ropes = document.ropes.as_ref().and_then(|ropes| ropes.0.as_ref());
    for (key, spec) in ropes.map_or(&[][..], |Named(ropes)| ropes) {
        let rope = spec.0.as_ref().and_then(|spec| rope(spec, context));
        let def = RopeDef {
            rope,
            id: None,
            span: key.span.clone(),
            used: false,
        };
        context.ropes.insert(key.name.clone(), def);
    }
}

fn rope(spec: &RopeSpec, context: &mut Context) -> Option<Rope> {
    let theta = context.positive(&spec.theta, "`theta`");
    let dims = context.whole(&spec.dims, "`dims`", 1, MAX_DIM);
    let head_dim = context.whole(&spec.head_dim, "`head_dim`", 1, MAX_DIM);
    let scaling = scaling(&spec.scaling, context);
    let (dims, head_dim) = (dims?, head_dim?);
    let mistake = if !dims.is_multiple_of(2) {
        Some(format!("a rope rotates pairs, and {dims} is odd"))
    } else if dims > head_dim {
        Some(format!("a rope of {dims} dimensions does not fit a head of {head_dim}"))
    } else {
        None
    };
    if let Some(message) = mistake {
        context.sink.push(
            Diagnostic::new(codes::ROPE_DIMS, message)
                .at(spec.dims.span.clone(), format!("{dims} dimensions"))
                .at(spec.head_dim.span.clone(), format!("heads of {head_dim}"))
                .help(format!("`dims` is even and at most {head_dim}")),
        );
        // Ops that use it still know the size of its heads.
    }
    let positions = context.graph.context;
    context.check_elements(&[positions, dims], "the rope's table", &spec.dims.span);
    Some(Rope {
        theta: theta?,
        dims,
        head_dim,
        pairing: match spec.pairing {
            PairingWord::Halves => Pairing::Halves,
            PairingWord::Interleaved => Pairing::Interleaved,
        },
        scaling: scaling?,
    })
}

fn scaling(scaling: &Scaling, context: &mut Context) -> Option<RopeScaling> {
    Some(match scaling {
        Scaling::None => RopeScaling::None,
        Scaling::Linear(linear) => RopeScaling::Linear {
            factor: context.positive(&linear.factor, "`factor`")?,
        },
        Scaling::Llama3(llama3) => {
            let factor = context.positive(&llama3.factor, "`factor`");
            let low = context.positive(&llama3.low_freq_factor, "`low_freq_factor`");
            let high = context.positive(&llama3.high_freq_factor, "`high_freq_factor`");
            let original = context.positive(&llama3.original, "`original`");
            let (low, high) = (low?, high?);
            if high <= low {
                let message = format!("`high_freq_factor` {high:?} is not above `low_freq_factor` {low:?}");
                let span = llama3.high_freq_factor.span.clone();
                context
                    .sink
                    .error(codes::OUT_OF_RANGE, message, &span, "must be the larger one");
            }
            RopeScaling::Llama3 {
                factor: factor?,
                low_freq_factor: low,
                high_freq_factor: high,
                original: original?,
            }
        }
        Scaling::Factors(source) => RopeScaling::Factors {
            source: expand(source, context)?,
        },
    })
}

fn expand(template: &Template, context: &mut Context) -> Option<String> {
    context
        .names
        .with(&mut context.sink, |names| template.expand(names))
        .flatten()
}

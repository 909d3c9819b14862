//! The text form of a graph: stable, one op a line, for `--emit graph`, snapshots and messages.
//!
//! ```text
//! %layers.0.q = linear(%layers.0.attn_norm) w[blk.0.attn_q.weight q4_0 256x256] -> f32[T,256]
//! ```
//!
//! `T` is the number of tokens of a call. A dump is made of any graph, valid or not: an id out of range is `?id`.

use std::fmt::{self, Display, Formatter, Write};

use ck_kernels::ops::{Gate, Pairing};

use super::{Attention, CacheId, Graph, Op, OpKind, Part, Rope, RopeScaling, Rows, Sink, Source, Tensor, Weight};

/// `f32[T,256]`: the type and shape of a tensor.
pub struct Shape<'a>(pub &'a Tensor);

impl Display for Shape<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rows = match self.0.rows {
            Rows::Tokens => "T",
            Rows::Selected => "1",
        };
        write!(f, "{}[{rows},{}]", self.0.act.name(), self.0.cols)
    }
}

/// `layers.0.q f32[T,256]`.
impl Display for Tensor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, Shape(self))
    }
}

/// `blk.0.attn_q.weight q4_0 256x256`, or `blk.0.attn_norm.weight f32 256` for a vector.
impl Display for Weight {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.source, self.dtype.name())?;
        if self.vector {
            write!(f, "{}", self.cols)
        } else {
            write!(f, "{}x{}", self.rows, self.cols)
        }
    }
}

/// The whole graph: a header, then the sections `weights`, `caches`, `ropes` and `ops`.
impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {} context={} batch={}", self.name, self.context, self.batch)?;
        section(f, "weights", &self.weights)?;
        section(f, "caches", self.caches.iter().map(CacheLine))?;
        section(
            f,
            "ropes",
            self.ropes.iter().enumerate().map(|(i, rope)| RopeLine(i, rope)),
        )?;
        writeln!(f, "\ninputs")?;
        for id in &self.inputs {
            writeln!(f, "  {}", self.typed(id.index()))?;
        }
        let mut layer = None;
        writeln!(f, "\nops")?;
        for op in &self.ops {
            if op.layer != layer {
                layer = op.layer;
                match layer {
                    Some(layer) => writeln!(f, "  # layer {layer}")?,
                    None => writeln!(f, "  # outside layers")?,
                }
            }
            writeln!(f, "  {}", OpLine(self, op))?;
        }
        writeln!(f, "\noutputs")?;
        for id in &self.outputs {
            writeln!(f, "  {}", self.typed(id.index()))?;
        }
        Ok(())
    }
}

impl Graph {
    fn typed(&self, index: usize) -> String {
        match self.tensors.get(index) {
            Some(tensor) => format!("%{tensor}"),
            None => format!("%?{index}"),
        }
    }

    fn reference(&self, index: usize) -> String {
        match self.tensors.get(index) {
            Some(tensor) => format!("%{}", tensor.name),
            None => format!("%?{index}"),
        }
    }

    fn cache_name(&self, id: CacheId) -> String {
        match self.caches.get(id.index()) {
            Some(cache) => cache.name.clone(),
            None => format!("?{}", id.0),
        }
    }
}

/// One section, left out when empty.
fn section<T: Display>(f: &mut Formatter<'_>, title: &str, lines: impl IntoIterator<Item = T>) -> fmt::Result {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    lines.try_for_each(|line| writeln!(f, "  {line}"))
}

struct CacheLine<'a>(&'a super::Cache);

impl Display for CacheLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let cache = self.0;
        let (name, act) = (&cache.name, cache.act.name());
        write!(
            f,
            "{name} {act} kv_heads={} head_dim={}",
            cache.kv_heads, cache.head_dim
        )
    }
}

struct RopeLine<'a>(usize, &'a Rope);

impl Display for RopeLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let RopeLine(index, rope) = self;
        let pairing = match rope.pairing {
            Pairing::Halves => "halves",
            Pairing::Interleaved => "interleaved",
        };
        write!(
            f,
            "rope{index} theta={} dims={} head_dim={} {pairing}",
            rope.theta, rope.dims, rope.head_dim
        )?;
        match &rope.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => write!(f, " linear factor={factor}"),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original,
            } => write!(
                f,
                " llama3 factor={factor} low={low_freq_factor} high={high_freq_factor} original={original}"
            ),
            RopeScaling::Factors { source } => write!(f, " factors={source}"),
        }
    }
}

/// One op as a line of text.
pub struct OpLine<'a>(pub &'a Graph, pub &'a Op);

impl Display for OpLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let OpLine(graph, op) = self;
        for (i, id) in op.outputs.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}", graph.reference(id.index()))?;
        }
        if !op.outputs.is_empty() {
            f.write_str(" = ")?;
        }
        write!(f, "{}(", op.kind.name())?;
        for (i, id) in op.inputs.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}", graph.reference(id.index()))?;
        }
        f.write_char(')')?;
        let attributes = attributes(graph, &op.kind);
        if !attributes.is_empty() {
            write!(f, " {{{attributes}}}")?;
        }
        for (i, id) in op.weights.iter().enumerate() {
            f.write_str(if i == 0 { " w[" } else { ", " })?;
            match graph.weights.get(id.index()) {
                Some(weight) => write!(f, "{weight}")?,
                None => write!(f, "?{}", id.0)?,
            }
        }
        if !op.weights.is_empty() {
            f.write_char(']')?;
        }
        for (i, id) in op.outputs.iter().enumerate() {
            f.write_str(if i == 0 { " -> " } else { ", " })?;
            match graph.tensors.get(id.index()) {
                Some(tensor) => write!(f, "{}", Shape(tensor))?,
                None => f.write_char('?')?,
            }
        }
        let named_by_output = op
            .outputs
            .first()
            .and_then(|id| graph.tensors.get(id.index()))
            .map(|t| &t.name);
        if named_by_output != Some(&op.name) {
            write!(f, "  # {}", op.name)?;
        }
        if !op.fused_from.is_empty() {
            write!(f, "  # from {}", op.fused_from.join(" + "))?;
        }
        Ok(())
    }
}

fn attributes(graph: &Graph, kind: &OpKind) -> String {
    match kind {
        OpKind::Embedding | OpKind::Linear { .. } | OpKind::Add | OpKind::SelectRow | OpKind::Quantize => String::new(),
        OpKind::RmsNorm { eps } | OpKind::EmbedNorm { eps } | OpKind::AddNorm { eps } => format!("eps={eps:?}"),
        OpKind::Rope(rope) => format!("rope{}", rope.0),
        OpKind::Glu { gate } => gate_name(*gate).into(),
        OpKind::Attention(a) | OpKind::Attend(a) | OpKind::AttendProject { attention: a, .. } => attention(graph, a),
        OpKind::CacheKeys(cache) | OpKind::CacheValues(cache) => graph.cache_name(*cache),
        OpKind::Project { source, parts } => {
            let parts: Vec<String> = parts.iter().map(|p| part(graph, p)).collect();
            format!("{}; {}", prologue(source), parts.join(", "))
        }
        OpKind::ProjectGlu { source, gate } => format!("{}; {}", prologue(source), gate_name(*gate)),
    }
}

fn gate_name(gate: Gate) -> &'static str {
    match gate {
        Gate::Silu => "silu",
        Gate::GeluTanh => "gelu_tanh",
    }
}

fn prologue(source: &Source) -> String {
    let name = source.name();
    match source {
        Source::Rows => name.into(),
        Source::Norm { eps } | Source::AddNorm { eps } | Source::EmbedNorm { eps } => format!("{name} eps={eps:?}"),
        Source::Glu { gate } => format!("{name} {}", gate_name(*gate)),
    }
}

fn part(graph: &Graph, part: &Part) -> String {
    let sink = match part.sink {
        Sink::Store => "store".into(),
        Sink::Rope(rope) => format!("rope{}", rope.0),
        Sink::RopeKeys(rope, cache) => format!("rope{} keys {}", rope.0, graph.cache_name(cache)),
        Sink::Values(cache) => format!("values {}", graph.cache_name(cache)),
    };
    if part.bias { format!("bias {sink}") } else { sink }
}

fn attention(graph: &Graph, a: &Attention) -> String {
    let mut text = format!("{} heads={} scale={:?}", graph.cache_name(a.cache), a.heads, a.scale);
    if a.softcap > 0.0 {
        let _ = write!(text, " softcap={:?}", a.softcap);
    }
    if a.window > 0 {
        let _ = write!(text, " window={}", a.window);
    }
    text
}

/// The text of a graph; the same as its [`Display`].
pub fn dump(graph: &Graph) -> String {
    graph.to_string()
}

//! What a description says about the program and not about the graph: files, fusion, layout, budgets.

use ck_kernels::dtype::DType;

use super::codes;
use super::decode::{Lenient, Named, Spanned};
use super::memories;
use super::sink::{Sink, Span};
use super::syntax::{Document, Fusion, LayoutKind, OrderKind};
use crate::fuse::{self, Flag, Flags};
use crate::glob;
use crate::graph::Graph;
use crate::layout::debug::DebugMode;
use crate::layout::{Kind, Memory};
use crate::schedule::order;

/// Sites with a rule of their own in one file: bounds the time to match them.
const MAX_SITES: usize = 256;

/// Most bytes; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// The whole arena.
    pub arena: Option<u64>,
    /// The packed weights.
    pub weights: Option<u64>,
    /// The KV cache.
    pub kv: Option<u64>,
    /// Activations.
    pub activations: Option<u64>,
    /// Workspaces of kernels.
    pub scratch: Option<u64>,
}

/// The settings of a file.
pub struct Settings {
    /// As written.
    pub weights: String,
    /// The type of matrices that have no entry of their own.
    pub dtype: DType,
    /// As written.
    pub tokenizer: Option<String>,
    /// What may be fused.
    pub fusion: fuse::Config,
    /// Where tensors lie.
    pub layout: Kind,
    /// Whether steps may change places.
    pub order: order::Kind,
    /// Sizes that must not be exceeded.
    pub budget: Budget,
    /// What the program does to find faults of its own.
    pub debug: DebugMode,
    /// The memories of the arena and where they stand.
    pub memories: Vec<(Memory, Span)>,
}

/// Reads the settings. `None` after a mistake, which has been reported.
pub fn read(document: &Document, graph: &Graph, sink: &mut Sink) -> Option<Settings> {
    let memories = memories::read(document, sink);
    let fusion = match &document.fusion {
        None => fuse::Config::default(),
        Some(Lenient(fusion)) => fusion_rules(fusion.as_ref()?, graph, sink),
    };
    let weights = document.weights.0.as_ref()?;
    let file = weights.file.0.as_ref()?;
    let tokenizer = document.tokenizer.as_ref().map(|path| path.0.as_ref());
    for path in [Some(file), tokenizer.flatten()].into_iter().flatten() {
        if path.value.is_empty() {
            sink.error(codes::WRONG_TYPE, "a path is not empty", &path.span, "empty");
        }
    }
    let budget = match &document.budget {
        None => Budget::default(),
        Some(Lenient(budget)) => {
            let budget = budget.as_ref()?;
            Budget {
                arena: budget.arena.map(|bytes| bytes.0),
                weights: budget.weights.map(|bytes| bytes.0),
                kv: budget.kv.map(|bytes| bytes.0),
                activations: budget.activations.map(|bytes| bytes.0),
                scratch: budget.scratch.map(|bytes| bytes.0),
            }
        }
    };
    let debug = match &document.debug {
        None => DebugMode::default(),
        Some(Lenient(debug)) => {
            let debug = debug.as_ref()?;
            DebugMode {
                canaries: debug.canaries.unwrap_or(false),
                poison: debug.poison.unwrap_or(false),
                reuse: debug.reuse.unwrap_or(true),
            }
        }
    };
    Some(Settings {
        weights: file.value.clone(),
        dtype: weights.dtype.0.as_ref()?.value.0,
        tokenizer: match tokenizer {
            None => None,
            Some(path) => Some(path?.value.clone()),
        },
        fusion,
        layout: match &document.layout {
            None | Some(Lenient(Some(LayoutKind::Packed))) => Kind::Packed,
            Some(Lenient(Some(LayoutKind::Stride))) => Kind::Stride,
            Some(Lenient(None)) => return None,
        },
        order: match &document.order {
            None | Some(Lenient(Some(OrderKind::Memory))) => order::Kind::Memory,
            Some(Lenient(Some(OrderKind::Source))) => order::Kind::Source,
            Some(Lenient(None)) => return None,
        },
        budget,
        debug,
        memories: memories?,
    })
}

fn fusion_rules(fusion: &Fusion, graph: &Graph, sink: &mut Sink) -> fuse::Config {
    let flags = flags(&fusion.flags, sink);
    let mut sites = Vec::new();
    let named = fusion.sites.as_ref().map_or(&[][..], |Named(sites)| sites);
    for (key, text) in named.iter().take(MAX_SITES) {
        sites.push((key.name.clone(), self::flags(text, sink)));
        if !graph.ops.iter().any(|op| glob::matches(&key.name, &op.name)) {
            let message = format!("no op is named `{}`", key.name);
            let help = sink.suggest(&key.name, graph.ops.iter().map(|op| op.name.as_str()));
            sink.push(
                crate::diag::Diagnostic::new(codes::FUSION_SITE, message)
                    .at(key.span.clone(), "matches nothing")
                    .help(help),
            );
        }
    }
    if let Some((key, _)) = named.get(MAX_SITES) {
        let message = format!("more than {MAX_SITES} sites");
        sink.error(codes::TOO_LARGE, message, &key.span, "one too many");
    }
    fuse::Config { flags, sites }
}

fn flags(text: &Spanned<String>, sink: &mut Sink) -> Flags {
    Flags::parse(&text.value).unwrap_or_else(|message| {
        let names: Vec<String> = Flag::all().map(|flag| flag.name().to_ascii_lowercase()).collect();
        let last = text
            .value
            .rsplit(',')
            .next()
            .unwrap_or_default()
            .trim_start_matches('-');
        let help = sink.suggest(last, names.iter().map(String::as_str));
        sink.push(
            crate::diag::Diagnostic::new(codes::FUSION_FLAG, message)
                .at(text.span.clone(), "in these flags")
                .help(help),
        );
        Flags::NONE
    })
}

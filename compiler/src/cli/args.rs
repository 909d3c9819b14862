//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::fuse::Flags;
use crate::layout::Kind;
use crate::schedule::order;

/// Ahead-of-time compiler for transformer models on CPUs: YAML in, a Rust program and its memory plan out.
#[derive(Debug, Parser)]
#[command(name = "ckc", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile a model into a runner crate with its weights and layout report
    Compile(Compile),
    /// Write the YAML of a GGUF file or a Hugging Face folder
    Import(Import),
    /// Show the totals and the peak's cause, from the YAML alone
    Plan(Plan),
    /// Compare two layout reports by meaning
    Diff(Diff),
    /// Say why a step or tensor is as it is: fused or not, barrier or not, in place or not
    Explain(Explain),
    /// Run the program step by step against the interpreter, and name the first step that differs; or check a layout
    /// report (LAYOUT.json): places, lifetimes, totals, and that no two workers race
    Verify(Verify),
    /// Place the buffers of a CSV file: the memory planner alone
    Dsa(Dsa),
    /// Write random weights of the right shapes, for benchmarks and tests
    Synth(Synth),
    /// Measure what this machine can do, or how near the kernels come
    Bench(Bench),
    /// Print the JSON Schema of the model language
    Schema(SchemaOf),
}

/// A model and what may be overridden.
#[derive(Debug, ClapArgs)]
pub struct ModelArgs {
    /// The model description
    #[arg(value_name = "MODEL.yaml")]
    pub model: PathBuf,
    /// Allowed fusions: all, none, or a list such as `norm_qkv,qkv_rope` or `all,-attn_proj`
    #[arg(long, value_name = "FLAGS", value_parser = Flags::parse, allow_hyphen_values = true)]
    pub fuse: Option<Flags>,
    /// Where tensors lie
    #[arg(long, value_enum)]
    pub layout: Option<LayoutArg>,
    /// Order of the steps
    #[arg(long, value_enum)]
    pub order: Option<OrderArg>,
    /// What kernels cost, instead of the committed table: see `ckc bench kernels --calibrate`
    #[arg(long, value_name = "COSTS.yaml")]
    pub costs: Option<PathBuf>,
    /// Positions the KV cache holds, instead of the file's
    #[arg(long, value_name = "N")]
    pub context: Option<usize>,
    /// Most tokens of one prefill call, instead of the file's
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
}

/// `--layout`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LayoutArg {
    /// Activations share bytes; fused-away tensors have none
    Packed,
    /// Every tensor in a place of its own, weights and activations in execution order
    Stride,
}

impl From<LayoutArg> for Kind {
    fn from(arg: LayoutArg) -> Kind {
        match arg {
            LayoutArg::Packed => Kind::Packed,
            LayoutArg::Stride => Kind::Stride,
        }
    }
}

/// `--order`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OrderArg {
    /// The one with the fewest bytes live at once; as written, if that is as good
    Memory,
    /// As written
    Source,
}

impl From<OrderArg> for order::Kind {
    fn from(arg: OrderArg) -> order::Kind {
        match arg {
            OrderArg::Memory => order::Kind::Memory,
            OrderArg::Source => order::Kind::Source,
        }
    }
}

/// `ckc compile`.
#[derive(Debug, ClapArgs)]
pub struct Compile {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Prefer the offsets of an earlier report, among plans of equal size
    #[arg(long, value_name = "OLD.json")]
    pub hint: Option<PathBuf>,
    /// Folder of the crate [default: generated/MODEL]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// What the program is for
    #[arg(long, value_enum, default_value = "infer")]
    pub mode: Mode,
    /// Print an intermediate form instead of writing a crate
    #[arg(long, value_enum)]
    pub emit: Option<Emit>,
}

/// `--mode`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mode {
    /// Inference
    Infer,
}

/// `--emit`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Emit {
    /// The model's graph
    Graph,
    /// The graph of each entry after fusion
    Fused,
    /// The emitted steps
    Steps,
    /// The layout report
    Plan,
}

/// `ckc import`.
#[derive(Debug, ClapArgs)]
pub struct Import {
    /// A GGUF file, or a folder in Hugging Face layout
    #[arg(value_name = "FILE.gguf | HF_DIR")]
    pub from: PathBuf,
    /// Where to write the YAML [default: standard output]
    #[arg(short, long, value_name = "MODEL.yaml")]
    pub output: Option<PathBuf>,
    /// What matrices are packed as [default: as stored]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<String>,
}

/// `ckc plan`.
#[derive(Debug, ClapArgs)]
pub struct Plan {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Prefer the offsets of an earlier report, among plans of equal size
    #[arg(long, value_name = "OLD.json", conflicts_with = "sweep")]
    pub hint: Option<PathBuf>,
    /// Print the layout report as JSON; of a sweep, its points
    #[arg(long)]
    pub json: bool,
    /// Print the layout report as a page
    #[arg(long, conflicts_with_all = ["json", "sweep"])]
    pub html: bool,
    /// Plan for several limits and print a table: `context=512..8192` doubles, `context=512..8192:512` steps,
    /// `batch=1,64,512` lists; twice for a grid of both
    #[arg(long, value_name = "LIMIT=VALUES")]
    pub sweep: Vec<String>,
}

/// `ckc diff`.
#[derive(Debug, ClapArgs)]
pub struct Diff {
    /// The report before
    #[arg(value_name = "OLD.json")]
    pub old: PathBuf,
    /// The report after
    #[arg(value_name = "NEW.json")]
    pub new: PathBuf,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print Markdown for a review comment
    #[arg(long)]
    pub markdown: bool,
    /// Exit with 3 if the arena grows by more bytes than this
    #[arg(long, value_name = "BYTES", value_parser = crate::plan::budget::parse_size)]
    pub max_arena_growth: Option<u64>,
}

/// `ckc explain`.
#[derive(Debug, ClapArgs)]
pub struct Explain {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// An op or tensor by name, such as `layers.0.attn_norm`
    #[arg(value_name = "NODE")]
    pub node: String,
}

/// `ckc verify`.
#[derive(Debug, ClapArgs)]
pub struct Verify {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Token ids to run [default: a fixed pseudo-random prompt]
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    pub ids: Vec<u32>,
    /// Workers; everything is also run with one
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub threads: usize,
    /// Print every tensor that was compared
    #[arg(long)]
    pub verbose: bool,
}

/// `ckc dsa`.
#[derive(Debug, ClapArgs)]
pub struct Dsa {
    /// Buffers: columns id, lower, upper, size; lifetimes are half-open; `alignment` and `gaps` are optional
    #[arg(value_name = "IN.csv")]
    pub input: PathBuf,
    /// Where to write the buffers with their offsets
    #[arg(short, long, value_name = "OUT.csv")]
    pub output: Option<PathBuf>,
    /// The portfolio of greedy layouts alone, without search: some tens of milliseconds
    #[arg(long)]
    pub fast: bool,
    /// Stop at the first layout within this many bytes; exit with 3 if there is none
    #[arg(long, value_name = "BYTES", value_parser = crate::plan::budget::parse_size)]
    pub capacity: Option<u64>,
    /// Print the lower bound only
    #[arg(long, conflicts_with_all = ["fast", "capacity", "output"])]
    pub lb: bool,
    /// Nodes that the search may look at
    #[arg(long, value_name = "N", default_value_t = 8_000_000, conflicts_with = "fast")]
    pub nodes: u64,
}

/// `ckc synth`.
#[derive(Debug, ClapArgs)]
pub struct Synth {
    /// The model description
    #[arg(value_name = "MODEL.yaml")]
    pub model: PathBuf,
    /// Where to write the weights [default: the file that the model names]
    #[arg(short, long, value_name = "W.gguf")]
    pub output: Option<PathBuf>,
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// What matrices are stored as [default: as the model packs them]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<String>,
}

/// `ckc schema`.
#[derive(Debug, ClapArgs)]
pub struct SchemaOf {
    /// That of the table of costs instead
    #[arg(long)]
    pub costs: bool,
}

/// `ckc bench`.
#[derive(Debug, ClapArgs)]
pub struct Bench {
    /// What to measure.
    #[command(subcommand)]
    pub what: Measure,
}

/// What `ckc bench` measures.
#[derive(Debug, Subcommand)]
pub enum Measure {
    /// Memory, arithmetic and barriers: the ceilings of everything else
    Machine(MeasureArgs),
    /// Matmuls of every weight type, and attention, each beside its ceiling
    Kernels(MeasureKernels),
}

/// How to measure.
#[derive(Debug, ClapArgs)]
pub struct MeasureArgs {
    /// Workers [default: as many as the system offers]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Instruction set: scalar, avx2, avx512, amx, neon, dotprod [default: `CKC_ISA`, else the best there is]
    #[arg(long, value_name = "NAME")]
    pub isa: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `ckc bench kernels`.
#[derive(Debug, ClapArgs)]
pub struct MeasureKernels {
    /// How.
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// Weight types [default: all]
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub dtype: Vec<String>,
    /// Outputs and inputs of matrices
    #[arg(long, value_name = "ROWSxCOLS", value_delimiter = ',', value_parser = matrix, default_value = "8192x2048,2048x8192")]
    pub shape: Vec<(usize, usize)>,
    /// Tokens of a call
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = extent, default_value = "1,512")]
    pub tokens: Vec<usize>,
    /// Tokens before the call, for attention
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = depth, default_value = "0,2048,16384")]
    pub depth: Vec<usize>,
    /// Choose kernels by this table instead of the committed one
    #[arg(long, value_name = "COSTS.yaml")]
    pub costs: Option<PathBuf>,
    /// Instead, measure what kernels cost on every instruction set of this machine (of `--isa`) for every weight type (of
    /// `--dtype`), and print the table that `--costs` reads; all other rows are those of the committed table, or of `--costs`
    #[arg(long, conflicts_with_all = ["json", "shape", "tokens", "depth"])]
    pub calibrate: bool,
    /// Where to write that table [default: standard output]
    #[arg(short, long, value_name = "COSTS.yaml", requires = "calibrate")]
    pub output: Option<PathBuf>,
}

/// The largest extent that is measured: products of three of them stay far below 2^64.
const MOST: usize = 1 << 20;

/// A number from 1 on.
fn extent(text: &str) -> Result<usize, String> {
    let n = text.parse().ok().filter(|n| (1..=MOST).contains(n));
    n.ok_or_else(|| format!("a number from 1 to {MOST} is needed"))
}

/// A number from 0 on.
fn depth(text: &str) -> Result<usize, String> {
    let n = text.parse().ok().filter(|n| *n <= MOST);
    n.ok_or_else(|| format!("a number from 0 to {MOST} is needed"))
}

/// `8192x2048`.
fn matrix(text: &str) -> Result<(usize, usize), String> {
    text.split_once('x')
        .and_then(|(rows, cols)| Some((extent(rows).ok()?, extent(cols).ok()?)))
        .ok_or_else(|| format!("write outputs and inputs as 8192x2048, each from 1 to {MOST}"))
}

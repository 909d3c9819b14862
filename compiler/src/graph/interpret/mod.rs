//! The reference interpreter: what a graph means, written for clarity. The oracle of every other way to run a model.
//!
//! Tensors are f32 rows, every sum is f64, nothing is quantised: `quantize` is the identity and the KV cache is f32.
//! Fused ops are interpreted by their definition as compositions, so a fused graph gives the bits of the unfused one.

mod error;
mod math;
mod ops;
mod rope;

pub use error::InterpretError;
pub use rope::frequencies;

use super::{Graph, RopeScaling, Rows, Tensor, TensorId, WeightId, verify::verify};
use ck_kernels::dtype::ActType;

/// Why a weight could not be read: whatever the store says.
pub type WeightError = Box<dyn std::error::Error + Send + Sync>;

/// Where the interpreter reads weights: as f32, a row at a time, so that no model is ever in memory twice.
pub trait Weights {
    /// Row `row` of a weight of the graph, dequantised. Vectors have one row. `out` has one element a column.
    ///
    /// # Errors
    /// If the weight is not there, or is not of the shape that the graph says.
    fn row(&self, id: WeightId, row: usize, out: &mut [f32]) -> Result<(), WeightError>;

    /// A vector that is no weight of the graph, by its name in the weights file: factors of a rotary embedding.
    ///
    /// # Errors
    /// If it is not there or has another length than `out`.
    fn vector(&self, source: &str, out: &mut [f32]) -> Result<(), WeightError>;
}

/// Which rows the tensors of [`Rows::Selected`] have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// The last token's.
    #[default]
    Last,
    /// Every token's: logits of the whole call.
    All,
}

/// A value for an input of the graph.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// One id a token.
    Ids(&'a [u32]),
    /// f32 rows, one a token.
    Rows(&'a [f32]),
}

/// The tensors of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    tokens: usize,
    rows: Vec<Vec<f32>>,
}

impl Values {
    /// The rows of a tensor, one after the other; empty for token ids and for tensors that no op writes.
    pub fn rows(&self, id: TensorId) -> &[f32] {
        self.rows.get(id.index()).map_or(&[], Vec::as_slice)
    }

    /// The rows of the tensor of that name, if there is one.
    pub fn named(&self, graph: &Graph, name: &str) -> Option<&[f32]> {
        let index = graph.tensors.iter().position(|tensor| tensor.name == name)?;
        self.rows.get(index).map(Vec::as_slice)
    }

    /// Tokens of the call.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

/// Keys and values as plain `[position][kv_heads * head_dim]`.
#[derive(Clone, Debug, Default)]
struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// A graph being interpreted: its caches, and how many positions are in them.
pub struct Interpreter<'a, W: ?Sized> {
    graph: &'a Graph,
    weights: &'a W,
    select: Select,
    /// Of each rotary table, its frequencies.
    frequencies: Vec<Vec<f64>>,
    caches: Vec<Cache>,
    position: usize,
}

impl<'a, W: Weights + ?Sized> Interpreter<'a, W> {
    /// An interpreter at position 0.
    ///
    /// # Errors
    /// If the graph is not valid, or the factors of a rotary embedding cannot be read.
    pub fn new(graph: &'a Graph, weights: &'a W, select: Select) -> Result<Self, InterpretError> {
        verify(graph).map_err(InterpretError::Invalid)?;
        let mut tables = Vec::with_capacity(graph.ropes.len());
        for rope in &graph.ropes {
            let mut factors = Vec::new();
            if let RopeScaling::Factors { source } = &rope.scaling {
                factors.resize(rope.dims / 2, 0.0);
                let read = weights.vector(source, &mut factors);
                read.map_err(|cause| InterpretError::Weight {
                    source: source.clone(),
                    cause,
                })?;
                if let Some(index) = factors.iter().position(|factor| !(factor.is_finite() && *factor > 0.0)) {
                    return Err(InterpretError::RopeFactor {
                        source: source.clone(),
                        index,
                        value: factors[index],
                    });
                }
            }
            tables.push(frequencies(rope, &factors));
        }
        Ok(Interpreter {
            graph,
            weights,
            select,
            frequencies: tables,
            caches: vec![Cache::default(); graph.caches.len()],
            position: 0,
        })
    }

    /// Positions in the caches: where the next call starts.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Forgets every position.
    pub fn reset(&mut self) {
        self.position = 0;
    }

    /// Runs a chunk of tokens at the current position: every input of the graph is these ids.
    ///
    /// # Errors
    /// If ids are empty, unknown or past the context, or if a weight cannot be read. The position is then unchanged.
    pub fn run(&mut self, ids: &[u32]) -> Result<Values, InterpretError> {
        self.run_inputs(ids.len(), &vec![Input::Ids(ids); self.graph.inputs.len()])
    }

    /// Runs a chunk of `tokens` tokens at the current position, with a value for each input of the graph.
    ///
    /// # Errors
    /// As [`Interpreter::run`], and if an input has another type or length than its tensor.
    pub fn run_inputs(&mut self, tokens: usize, inputs: &[Input<'_>]) -> Result<Values, InterpretError> {
        if tokens == 0 {
            return Err(InterpretError::Empty);
        }
        let context = self.graph.context;
        if tokens > context - self.position {
            return Err(InterpretError::PastContext {
                position: self.position,
                tokens,
                context,
            });
        }
        if inputs.len() != self.graph.inputs.len() {
            return Err(InterpretError::InputCount {
                given: inputs.len(),
                inputs: self.graph.inputs.len(),
            });
        }
        // A call that failed half-way may have left rows behind.
        for (cache, shape) in self.caches.iter_mut().zip(&self.graph.caches) {
            let kept = self.position * shape.kv_heads * shape.head_dim;
            cache.keys.truncate(kept);
            cache.values.truncate(kept);
        }
        let mut call = ops::Call {
            ids: vec![Vec::new(); self.graph.tensors.len()],
            rows: vec![Vec::new(); self.graph.tensors.len()],
        };
        for (id, input) in self.graph.inputs.iter().zip(inputs) {
            let tensor = self.graph.tensor(*id);
            check_input(tensor, input, self.input_rows(tensor, tokens))?;
            match input {
                Input::Ids(ids) => call.ids[id.index()] = ids.to_vec(),
                Input::Rows(rows) => call.rows[id.index()] = rows.to_vec(),
            }
        }
        for op in &self.graph.ops {
            self.op(op, &mut call)?;
        }
        self.position += tokens;
        Ok(Values {
            tokens,
            rows: call.rows,
        })
    }

    fn input_rows(&self, tensor: &Tensor, tokens: usize) -> usize {
        match (tensor.rows, self.select) {
            (Rows::Selected, Select::Last) => 1,
            _ => tokens,
        }
    }
}

fn check_input(tensor: &Tensor, input: &Input<'_>, rows: usize) -> Result<(), InterpretError> {
    let (kind, len) = match input {
        Input::Ids(ids) => (ActType::U32, ids.len()),
        Input::Rows(rows) => (ActType::F32, rows.len()),
    };
    if kind == tensor.act && rows.checked_mul(tensor.cols) == Some(len) {
        return Ok(());
    }
    Err(InterpretError::Input {
        tensor: tensor.to_string(),
        given: format!("{len} {} elements of {rows} rows", kind.name()),
    })
}

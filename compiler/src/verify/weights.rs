//! The weights of a packed file for the interpreter: exactly the numbers that the kernels see.

use std::cell::RefCell;
use std::path::Path;

use ck_kernels::dtype::GROUP;
use ck_kernels::quant;
use ck_runtime::weights::WeightsFile;

use crate::compile::Planned;
use crate::graph::interpret::{WeightError, Weights};
use crate::graph::{Graph, WeightId};
use crate::layout::Piece;
use crate::source::Source;

/// A packed file, dequantised row by row.
pub struct PackedWeights<'a> {
    graph: &'a Graph,
    pieces: &'a [Piece],
    file: WeightsFile,
    /// Factors of rotary embeddings are in the packed file only as the tables made of them.
    source: Source,
    group: RefCell<Group>,
}

/// The group of rows that was read last: rows come in order.
#[derive(Default)]
struct Group {
    /// Whose, and which; `None` if the bytes are of no matrix.
    of: Option<(WeightId, usize)>,
    bytes: Vec<u8>,
}

impl<'a> PackedWeights<'a> {
    /// Opens the file at `path` that was packed for `planned`.
    ///
    /// # Errors
    /// If it, or the weights file of the model, cannot be opened.
    pub fn open(planned: &'a Planned, path: &Path) -> Result<PackedWeights<'a>, WeightError> {
        let source = Source::open(&planned.model.weights).map_err(|problems| {
            let messages: Vec<String> = problems.into_iter().map(|p| p.message).collect();
            messages.join("; ")
        })?;
        Ok(PackedWeights {
            graph: &planned.model.graph,
            pieces: &planned.layout.weights,
            file: WeightsFile::open(path, false)?,
            source,
            group: RefCell::default(),
        })
    }
}

impl Weights for PackedWeights<'_> {
    fn row(&self, id: WeightId, row: usize, out: &mut [f32]) -> Result<(), WeightError> {
        let (weight, at) = (self.graph.weight(id), self.pieces[id.index()].payload as usize);
        let Group { of, bytes: buffer } = &mut *self.group.borrow_mut();
        if weight.vector {
            *of = None;
            buffer.resize(4 * weight.cols, 0);
            self.file.read(at, buffer)?;
            for (x, bytes) in out.iter_mut().zip(buffer.as_chunks().0) {
                *x = f32::from_le_bytes(*bytes);
            }
            return Ok(());
        }
        let group = row / GROUP;
        if *of != Some((id, group)) {
            *of = None;
            buffer.resize(weight.dtype.packed_bytes(GROUP, weight.cols), 0);
            self.file.read(at + group * buffer.len(), buffer)?;
            *of = Some((id, group));
        }
        quant::format(weight.dtype).unpack_row(buffer, row % GROUP, out);
        Ok(())
    }

    fn vector(&self, source: &str, out: &mut [f32]) -> Result<(), WeightError> {
        let values = self.source.read_vector(source).map_err(|problem| problem.message)?;
        if values.len() != out.len() {
            return Err(format!("{} elements instead of {}", values.len(), out.len()).into());
        }
        out.copy_from_slice(&values);
        Ok(())
    }
}

//! Matmuls of any shape.

use ck_kernels::dtype::{ALIGN, ActType, DType};
use ck_kernels::ops::{Part, Project, Quantize, Sink, Slot, Source, Weight, Workspace};
use ck_kernels::partition::Axis;

use super::{Bench, Speed};
use crate::error::Error;
use crate::pool::Seat;

/// Columns that stay together, as in a program.
const AXIS: Axis = Axis::Columns { granule: 32 };

/// `tokens` rows of `cols` floats, times a matrix of `rows` by `cols`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matmul {
    /// Type of the weights.
    pub dtype: DType,
    /// Outputs.
    pub rows: usize,
    /// Inputs: whole blocks of `dtype`.
    pub cols: usize,
    /// Rows of activations.
    pub tokens: usize,
}

impl Bench {
    /// The speed of `m`; `None` if such weights have no rows of that length, or the memory is too small for it.
    ///
    /// Activations are quantised before, once, as where several matrices share them. One call follows the other with
    /// matrices that lie behind each other.
    ///
    /// # Errors
    /// [`Error::Panicked`], which no measurement does.
    pub fn matmul(&mut self, m: &Matmul) -> Result<Option<Speed>, Error> {
        let Matmul {
            dtype,
            rows,
            cols,
            tokens,
        } = *m;
        if rows == 0 || cols == 0 || tokens == 0 || !cols.is_multiple_of(dtype.block_len()) {
            return Ok(None);
        }
        let mut end = 0_usize;
        let mut slot = |cols: usize, act: ActType| {
            let slot = Slot { offset: end, cols, act };
            end = end.saturating_add(slot.stride().saturating_mul(tokens));
            slot
        };
        let x = slot(cols, ActType::F32);
        let input = if dtype.quantised() { slot(cols, ActType::Q8) } else { x };
        let out = slot(rows, ActType::F32);
        let bytes = dtype.packed_bytes(rows, cols).next_multiple_of(ALIGN);
        let most = self.memory.len().saturating_sub(end) / bytes;
        if most == 0 {
            return Ok(None);
        }
        // Arithmetic takes its time: enough of it is enough.
        let copies = most.min(1 + (20 << 30) / (2 * rows * cols * tokens));
        let place = self.place();
        let job = |seat: &Seat<'_>| {
            // SAFETY: `median` holds the bench for as long as the job runs, and nothing else uses its memory.
            let w = unsafe { place.worker(seat, tokens, 0) };
            if dtype.quantised() {
                w.run(Quantize {
                    x,
                    out: input,
                    axis: AXIS,
                });
                w.barrier();
            }
            for copy in 0..copies {
                let weight = Weight {
                    offset: end + copy * bytes,
                    rows,
                    cols,
                    dtype,
                };
                let sink = Sink::Store(out);
                w.run(Project {
                    source: Source::Rows(input),
                    parts: &[Part {
                        weight,
                        bias: None,
                        sink,
                    }],
                    workspace: Workspace { offset: 0, bytes: 0 },
                    axis: AXIS,
                });
                w.barrier();
            }
        };
        let ops = 2 * rows * cols * tokens;
        self.speed(copies, dtype.packed_bytes(rows, cols), ops, &job).map(Some)
    }
}

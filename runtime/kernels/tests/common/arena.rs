//! An arena, and workers that run kernels over it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use ck_kernels::dtype::{ALIGN, ActType, DType};
use ck_kernels::isa::Isa;
use ck_kernels::ops::{Cache, Ctx, Kernel, Slot, Vector, Weight, Workspace};
use ck_kernels::quant::{format, half};

use super::{Aligned, CHOICES, Matrix};

/// What a kernel call is told besides its operands.
#[derive(Clone, Copy)]
pub struct Call {
    pub tokens: usize,
    pub pos: usize,
    pub row: usize,
}

impl Call {
    pub fn tokens(tokens: usize) -> Call {
        Call { tokens, pos: 0, row: 0 }
    }
}

/// Memory that grows only before the first run. Fresh memory is all ones: NaN as f32 and as half.
pub struct Arena {
    bytes: Vec<u8>,
}

impl Arena {
    pub fn new() -> Arena {
        Arena { bytes: Vec::new() }
    }

    /// An arena as a run left it.
    pub fn from_bytes(bytes: &[u8]) -> Arena {
        Arena { bytes: bytes.to_vec() }
    }

    fn reserve(&mut self, bytes: usize) -> usize {
        let offset = self.bytes.len();
        self.bytes.resize((offset + bytes).next_multiple_of(ALIGN), 0xff);
        offset
    }

    fn put<const N: usize>(&mut self, at: usize, values: impl IntoIterator<Item = [u8; N]>) {
        for (to, v) in self.bytes[at..].chunks_exact_mut(N).zip(values) {
            to.copy_from_slice(&v);
        }
    }

    pub fn slot(&mut self, act: ActType, rows: usize, cols: usize) -> Slot {
        let offset = self.reserve(rows * act.row_bytes(cols));
        Slot { offset, cols, act }
    }

    pub fn f32(&mut self, rows: usize, cols: usize) -> Slot {
        self.slot(ActType::F32, rows, cols)
    }

    pub fn rows(&mut self, x: &[f32], cols: usize) -> Slot {
        let slot = self.f32(x.len() / cols, cols);
        for (t, row) in x.chunks_exact(cols).enumerate() {
            self.put(slot.offset + t * slot.stride(), row.iter().map(|v| v.to_ne_bytes()));
        }
        slot
    }

    pub fn ids(&mut self, ids: &[u32]) -> Slot {
        let slot = self.slot(ActType::U32, ids.len(), 1);
        self.put(slot.offset, ids.iter().map(|v| v.to_ne_bytes()));
        slot
    }

    pub fn vector(&mut self, x: &[f32]) -> Vector {
        let offset = self.reserve(4 * x.len());
        self.put(offset, x.iter().map(|v| v.to_ne_bytes()));
        Vector { offset, len: x.len() }
    }

    /// A matrix, quantised; also its values as they came out.
    pub fn weight(&mut self, dtype: DType, x: &[f32], cols: usize) -> (Weight, Vec<f32>) {
        let n = dtype.row_bytes(cols);
        let mut rows = vec![0; x.len() / cols * n];
        for (from, to) in x.chunks(cols).zip(rows.chunks_mut(n)) {
            assert!(format(dtype).encode_row(from, to));
        }
        self.matrix(&Matrix::new(dtype, x.len() / cols, cols, rows))
    }

    /// A matrix of any type, and its values.
    pub fn matrix(&mut self, matrix: &Matrix) -> (Weight, Vec<f32>) {
        let packed = matrix.packed.bytes();
        let offset = self.reserve(packed.len());
        self.bytes[offset..][..packed.len()].copy_from_slice(packed);
        let weight = Weight {
            offset,
            rows: matrix.rows,
            cols: matrix.k,
            dtype: matrix.dtype,
        };
        (weight, (0..matrix.rows).flat_map(|r| matrix.row(r)).collect())
    }

    pub fn cache(&mut self, kv_heads: usize, head_dim: usize, context: usize, act: ActType) -> Cache {
        let mut cache = Cache {
            k: 0,
            v: 0,
            kv_heads,
            head_dim,
            context,
            act,
        };
        cache.k = self.reserve(cache.half_bytes());
        cache.v = self.reserve(cache.half_bytes());
        cache
    }

    pub fn workspace(&mut self, bytes: usize) -> Workspace {
        Workspace {
            offset: self.reserve(bytes),
            bytes,
        }
    }

    /// Runs kernels one after the other on a copy of the arena, each on `nth` threads.
    pub fn run(&self, isa: &'static Isa, nth: usize, call: Call, kernels: &[&(dyn Kernel + Sync)]) -> Ran {
        struct Base(*mut u8, usize);
        // SAFETY: kernels write disjoint parts; that is what the tests are about.
        unsafe impl Sync for Base {}
        let mut memory = Aligned::new(self.bytes.len());
        memory.bytes_mut().copy_from_slice(&self.bytes);
        let base = Base(memory.bytes_mut().as_mut_ptr(), self.bytes.len());
        for (kernel, second) in kernels.iter().flat_map(|kernel| [(kernel, false), (kernel, true)]) {
            std::thread::scope(|scope| {
                for ith in 0..nth {
                    let base = &base;
                    scope.spawn(move || {
                        let ctx = Ctx {
                            ith,
                            nth,
                            isa,
                            choices: &CHOICES,
                            base: base.0,
                            len: base.1,
                            tokens: call.tokens,
                            pos: call.pos,
                            row: call.row,
                        };
                        // SAFETY: the memory lives longer than the scope; `isa` is one of the supported ones.
                        unsafe {
                            match second {
                                false => kernel.run(&ctx),
                                true if kernel.halves(&ctx) => kernel.run_second(&ctx),
                                true => {}
                            }
                        };
                    });
                }
            });
        }
        Ran { memory }
    }
}

/// The arena after a run.
pub struct Ran {
    pub memory: Aligned,
}

impl Ran {
    pub fn rows(&self, slot: &Slot, rows: usize) -> Vec<f32> {
        (0..rows)
            .flat_map(|t| self.floats(slot.offset + t * slot.stride(), slot.cols))
            .collect()
    }

    pub fn bytes(&self, slot: &Slot, rows: usize) -> &[u8] {
        &self.memory.bytes()[slot.offset..][..rows * slot.stride()]
    }

    fn floats(&self, at: usize, n: usize) -> Vec<f32> {
        let bytes = &self.memory.bytes()[at..][..4 * n];
        bytes.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()
    }

    fn element(&self, act: ActType, base: usize, i: usize) -> f32 {
        let bytes = self.memory.bytes();
        match act {
            ActType::F16 => half::f16_to_f32(u16::from_ne_bytes([bytes[base + 2 * i], bytes[base + 2 * i + 1]])),
            _ => self.floats(base + 4 * i, 1)[0],
        }
    }

    pub fn key(&self, c: &Cache, head: usize, position: usize) -> Vec<f32> {
        (0..c.head_dim)
            .map(|d| ((head * c.context / 16 + position / 16) * c.head_dim + d) * 16 + position % 16)
            .map(|i| self.element(c.act, c.k, i))
            .collect()
    }

    pub fn value(&self, c: &Cache, head: usize, position: usize) -> Vec<f32> {
        (0..c.head_dim)
            .map(|d| (head * c.context + position) * c.head_dim + d)
            .map(|i| self.element(c.act, c.v, i))
            .collect()
    }
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(
            (g - w).abs() <= tolerance * w.abs().max(1.0),
            "{what}: [{i}] is {g}, not {w}"
        );
    }
}

//! Rows of one type to rows of another.

use ck_kernels::{dtype::DType, quant};

/// Converts rows of `cols` elements; equal types are copied bit for bit.
pub struct Converter {
    from: DType,
    to: DType,
    floats: Vec<f32>,
    out: Vec<u8>,
}

impl Converter {
    /// A converter between types that [`super::check()`] has found to be convertible.
    pub fn new(from: DType, to: DType, cols: usize) -> Converter {
        Converter {
            from,
            to,
            floats: vec![0.0; cols],
            out: Vec::new(),
        }
    }

    /// Converts whole rows.
    pub fn rows<'a>(&'a mut self, raw: &'a [u8]) -> &'a [u8] {
        if self.from == self.to {
            return raw;
        }
        let cols = self.floats.len();
        let (source, target) = (quant::format(self.from), quant::format(self.to));
        let (from_bytes, to_bytes) = (self.from.row_bytes(cols), self.to.row_bytes(cols));
        let n_rows = raw.len().checked_div(from_bytes).unwrap_or(0);
        self.out.resize(n_rows * to_bytes, 0);
        let rows = raw
            .chunks_exact(from_bytes.max(1))
            .zip(self.out.chunks_exact_mut(to_bytes.max(1)));
        for (row, out) in rows {
            source.decode_row(row, &mut self.floats);
            let encoded = target.encode_row(&self.floats, out);
            assert!(encoded, "{} is a type that `check` lets through", self.to.name());
        }
        &self.out
    }
}

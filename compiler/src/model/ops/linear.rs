//! `linear`: a matrix product, with or without a bias.

use ck_kernels::dtype::ActType;

use super::{Lowered, ModelOp, OpSpec};
use crate::graph::OpKind;
use crate::model::decode::{Lenient, record};
use crate::model::site::{Matrix, Site};
use crate::model::template::Template;

record! {
    /// `y = weight x + bias`: `[rows, in] -> [rows, out]`.
    pub struct Linear as "op `linear`" {
        /// The matrix in the weights file.
        weight: Lenient<Template>,
        /// `[out, in]`.
        shape: Lenient<Matrix>,
        /// One addend per output, in the weights file. Left out: none.
        bias: Option<Lenient<Template>>,
    }
}

impl OpSpec for Linear {
    const NAME: &'static str = "linear";
    const INPUTS: &'static [&'static str] = &["x"];
}

impl ModelOp for Linear {
    fn lower(&self, site: &mut Site<'_>) -> Option<Lowered> {
        let x = site.input(0);
        let (matrix, rows, cols) = site.matrix(&self.weight, &self.shape);
        let fits = site.expect_float(0);
        let rows = rows?;
        let mut weights = vec![matrix];
        if let Some(bias) = &self.bias {
            weights.push(site.vector(bias, rows));
        }
        if let Some(cols) = cols.filter(|&cols| fits.is_some() && x.cols != cols) {
            let message = format!("a matrix [{rows}, {cols}] cannot multiply `{}` {x}", x.name);
            let label = format!("takes rows of {cols} elements");
            let span = self.shape.0.as_ref()?.span.clone();
            site.shape_mismatch(message, &span, label, &[0]);
        }
        let kind = OpKind::Linear {
            bias: self.bias.is_some(),
        };
        let weights: Option<Vec<_>> = weights.into_iter().collect();
        Some(Lowered {
            op: weights.map(|weights| (kind, weights)),
            act: ActType::F32,
            rows: x.rows,
            cols: rows,
        })
    }

    fn boxed(&self) -> Box<dyn ModelOp> {
        Box::new(self.clone())
    }
}

//! `rmsnorm`: root-mean-square normalisation.

use super::{Lowered, ModelOp, OpSpec};
use crate::graph::OpKind;
use crate::model::decode::{Lenient, record};
use crate::model::expr::Expr;
use crate::model::site::Site;
use crate::model::template::Template;

record! {
    /// `y = x / sqrt(mean(x^2) + eps) * weight`: `[rows, cols] -> [rows, cols]`.
    pub struct RmsNorm as "op `rmsnorm`" {
        /// One factor per column, in the weights file.
        weight: Lenient<Template>,
        /// Added to the mean square.
        eps: Lenient<Expr>,
    }
}

impl OpSpec for RmsNorm {
    const NAME: &'static str = "rmsnorm";
    const INPUTS: &'static [&'static str] = &["x"];
}

impl ModelOp for RmsNorm {
    fn lower(&self, site: &mut Site<'_>) -> Option<Lowered> {
        let x = site.input(0);
        let eps = site.positive_f32(&self.eps, "`eps`");
        let x_is_float = site.expect_float(0);
        let weight = site.vector(&self.weight, x.cols);
        x_is_float?;
        Some(Lowered {
            op: eps
                .zip(weight)
                .map(|(eps, weight)| (OpKind::RmsNorm { eps }, vec![weight])),
            act: x.act,
            rows: x.rows,
            cols: x.cols,
        })
    }

    fn boxed(&self) -> Box<dyn ModelOp> {
        Box::new(self.clone())
    }
}

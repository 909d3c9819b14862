//! `add`: the sum of two tensors.

use super::{Lowered, ModelOp, OpSpec};
use crate::graph::OpKind;
use crate::model::decode::record;
use crate::model::site::Site;

record! {
    /// `a + b`: `[rows, cols], [rows, cols] -> [rows, cols]`.
    pub struct Add as "op `add`" {}
}

impl OpSpec for Add {
    const NAME: &'static str = "add";
    const INPUTS: &'static [&'static str] = &["a", "b"];
}

impl ModelOp for Add {
    fn lower(&self, site: &mut Site<'_>) -> Option<Lowered> {
        let a = site.same_shape(0, 1)?;
        Some(Lowered {
            op: Some((OpKind::Add, Vec::new())),
            act: a.act,
            rows: a.rows,
            cols: a.cols,
        })
    }

    fn boxed(&self) -> Box<dyn ModelOp> {
        Box::new(self.clone())
    }
}

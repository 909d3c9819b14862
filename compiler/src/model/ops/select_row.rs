//! `select_row`: from the rows of a call to the one whose logits are asked for.

use super::{Lowered, ModelOp, OpSpec};
use crate::graph::{OpKind, Rows};
use crate::model::decode::record;
use crate::model::site::Site;

record! {
    /// The row whose logits are asked for: `[T, cols] -> [1, cols]`.
    pub struct SelectRow as "op `select_row`" {}
}

impl OpSpec for SelectRow {
    const NAME: &'static str = "select_row";
    const INPUTS: &'static [&'static str] = &["x"];
}

impl ModelOp for SelectRow {
    fn lower(&self, site: &mut Site<'_>) -> Option<Lowered> {
        let x = site.input(0);
        site.expect_float(0)?;
        site.expect_rows(0, Rows::Tokens)?;
        Some(Lowered {
            op: Some((OpKind::SelectRow, Vec::new())),
            act: x.act,
            rows: Rows::Selected,
            cols: x.cols,
        })
    }

    fn boxed(&self) -> Box<dyn ModelOp> {
        Box::new(self.clone())
    }
}

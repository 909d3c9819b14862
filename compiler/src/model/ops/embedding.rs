//! `embedding`: the rows of a table that token ids name.

use ck_kernels::dtype::ActType;

use super::{Lowered, ModelOp, OpSpec};
use crate::graph::OpKind;
use crate::model::decode::{Lenient, record};
use crate::model::site::{Matrix, Site};
use crate::model::template::Template;

record! {
    /// One row of the table for each token id: `[T] -> [T, cols]`.
    pub struct Embedding as "op `embedding`" {
        /// The table in the weights file.
        weight: Lenient<Template>,
        /// `[vocabulary, cols]`.
        shape: Lenient<Matrix>,
    }
}

impl OpSpec for Embedding {
    const NAME: &'static str = "embedding";
    const INPUTS: &'static [&'static str] = &["ids"];
}

impl ModelOp for Embedding {
    fn lower(&self, site: &mut Site<'_>) -> Option<Lowered> {
        let (table, _, cols) = site.matrix(&self.weight, &self.shape);
        let ids = site.input(0);
        let fits = site.expect_act(0, ActType::U32);
        Some(Lowered {
            op: fits.and(table).map(|table| (OpKind::Embedding, vec![table])),
            act: ActType::F32,
            rows: ids.rows,
            cols: cols?,
        })
    }

    fn boxed(&self) -> Box<dyn ModelOp> {
        Box::new(self.clone())
    }
}

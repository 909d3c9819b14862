//! `rope`: rotary position embedding.

use super::{Lowered, ModelOp, OpSpec};
use crate::graph::{OpKind, Rows};
use crate::model::decode::{Lenient, Spanned, record};
use crate::model::site::Site;

record! {
    /// Every head of a row rotated by the row's position: `[T, heads * head_dim] -> [T, heads * head_dim]`.
    pub struct Rope as "op `rope`" {
        /// One of `ropes`.
        rope: Lenient<Spanned<String>>,
    }
}

impl OpSpec for Rope {
    const NAME: &'static str = "rope";
    const INPUTS: &'static [&'static str] = &["x"];
}

impl ModelOp for Rope {
    fn lower(&self, site: &mut Site<'_>) -> Option<Lowered> {
        let x = site.input(0);
        let rope = site.rope(&self.rope);
        site.expect_float(0)?;
        site.expect_rows(0, Rows::Tokens)?;
        if let (Some((_, head_dim)), Some(name)) = (rope, &self.rope.0) {
            if !x.cols.is_multiple_of(head_dim) {
                let message = format!("`{}` {x} does not divide into heads of {head_dim} elements", x.name);
                site.shape_mismatch(message, &name.span, format!("rotates heads of {head_dim}"), &[0]);
            }
            site.set_head_dim(head_dim, &name.span);
        }
        Some(Lowered {
            op: rope.map(|(rope, _)| (OpKind::Rope(rope), Vec::new())),
            act: x.act,
            rows: x.rows,
            cols: x.cols,
        })
    }

    fn boxed(&self) -> Box<dyn ModelOp> {
        Box::new(self.clone())
    }
}

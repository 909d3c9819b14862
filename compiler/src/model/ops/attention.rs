//! `attention`: causal attention over a KV cache, heads grouped.

use ck_kernels::dtype::ActType;

use super::{Lowered, ModelOp, OpSpec};
use crate::diag::Diagnostic;
use crate::graph::{self, OpKind, Rows};
use crate::model::codes;
use crate::model::decode::{Lenient, Spanned, choice, record};
use crate::model::expr::Expr;
use crate::model::site::Site;
use crate::model::syntax::OrNone;

record! {
    /// Keys and values join the cache, then every query attends to it:
    /// `[T, n_heads * head_dim], [T, kv_heads * head_dim], [T, kv_heads * head_dim] -> [T, n_heads * head_dim]`.
    pub struct Attention as "op `attention`" {
        /// The name of its KV cache.
        cache: Lenient<Spanned<String>>,
        /// The symbol for the positions that the cache holds.
        positions: Lenient<Spanned<String>>,
        /// Query heads.
        n_heads: Lenient<Expr>,
        /// Key/value heads; divides `n_heads`.
        kv_heads: Lenient<Expr>,
        /// Elements of a head.
        head_dim: Lenient<Expr>,
        /// `score = scale * q.k`.
        scale: Lenient<Expr>,
        /// Which positions a query sees.
        mask: Lenient<Mask>,
        /// How many positions back a query sees, itself included; `none` for all.
        window: Lenient<OrNone<Expr>>,
        /// `cap * tanh(score / cap)`; `none` for the score itself.
        softcap: Lenient<OrNone<Expr>>,
    }
}

choice! {
    /// Which positions a query sees.
    pub enum Mask as "a mask" {
        /// Itself and those before it.
        Causal = "causal",
    }
}

impl OpSpec for Attention {
    const NAME: &'static str = "attention";
    const INPUTS: &'static [&'static str] = &["q", "k", "v"];
}

impl ModelOp for Attention {
    fn lower(&self, site: &mut Site<'_>) -> Option<Lowered> {
        let heads = site.size(&self.n_heads, "`n_heads`");
        let kv_heads = site.size(&self.kv_heads, "`kv_heads`");
        let head_dim = site.size(&self.head_dim, "`head_dim`");
        let scale = site.positive_f32(&self.scale, "`scale`");
        let window = match &self.window.0 {
            Some(OrNone(None)) => Some(0),
            Some(OrNone(Some(window))) => site.size(&Lenient(Some(window.clone())), "`window`"),
            None => None,
        };
        let softcap = match &self.softcap.0 {
            Some(OrNone(None)) => Some(0.0),
            Some(OrNone(Some(softcap))) => site.positive_f32(&Lenient(Some(softcap.clone())), "`softcap`"),
            None => None,
        };
        let positions = site.context_symbol(&self.positions);
        for input in 0..3 {
            site.expect_float(input)?;
            site.expect_rows(input, Rows::Tokens)?;
        }
        let (heads, kv_heads, head_dim) = (heads?, kv_heads?, head_dim?);
        self.check_heads(site, heads, kv_heads, head_dim);
        let cache = site.cache(&self.cache, kv_heads, head_dim);
        let attention = || {
            let Mask::Causal = self.mask.0?;
            positions?;
            Some(graph::Attention {
                cache: cache?,
                heads,
                scale: scale?,
                softcap: softcap?,
                window: window?,
            })
        };
        Some(Lowered {
            op: attention().map(|attention| (OpKind::Attention(attention), Vec::new())),
            act: ActType::F32,
            rows: Rows::Tokens,
            cols: heads.checked_mul(head_dim)?,
        })
    }

    fn boxed(&self) -> Box<dyn ModelOp> {
        Box::new(self.clone())
    }
}

impl Attention {
    /// Reports heads that do not fit one another or the inputs.
    fn check_heads(&self, site: &mut Site<'_>, heads: usize, kv_heads: usize, head_dim: usize) {
        let (Some(n_heads), Some(n_kv_heads), Some(size)) = (&self.n_heads.0, &self.kv_heads.0, &self.head_dim.0)
        else {
            return;
        };
        if !heads.is_multiple_of(kv_heads) {
            let message = format!("{heads} query heads do not share {kv_heads} key/value heads");
            site.push(
                Diagnostic::new(codes::HEADS, message)
                    .at(n_kv_heads.span.clone(), format!("{kv_heads} does not divide {heads}"))
                    .at(n_heads.span.clone(), format!("{heads} query heads")),
            );
        }
        let wanted = [
            ("n_heads", heads, n_heads),
            ("kv_heads", kv_heads, n_kv_heads),
            ("kv_heads", kv_heads, n_kv_heads),
        ];
        for (input, (key, count, expr)) in wanted.into_iter().enumerate() {
            let x = site.input(input);
            if count.checked_mul(head_dim) != Some(x.cols) {
                let message = format!("`{}` {x} is not {key} * head_dim = {count} * {head_dim} wide", x.name);
                site.shape_mismatch(message, &expr.span, format!("{count} heads of {head_dim}"), &[input]);
            }
            if let Some((other, place)) = site.head_dim_of(input).filter(|(other, _)| *other != head_dim) {
                let message = format!(
                    "`{}` was rotated in heads of {other}, attention reads heads of {head_dim}",
                    x.name
                );
                site.push(
                    Diagnostic::new(codes::HEAD_DIM, message)
                        .at(size.span.clone(), format!("heads of {head_dim}"))
                        .at(place, format!("heads of {other}")),
                );
            }
        }
    }
}

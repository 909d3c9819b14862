//! `EMBED_NORM`: the embedding row feeds the residual and the first norm in one pass.

use super::rewrite::Rewriter;
use super::rewrite::norm::{Front, take_front};
use crate::graph::OpKind;

pub(super) fn run(rw: &mut Rewriter) {
    let sites = rw.find(|k| matches!(k, OpKind::Embedding));
    for name in rw.names(&sites) {
        take_front(rw, &name, Front::Embedding);
    }
}

//! `ADD_NORM`, also `RESIDUAL_NORM`: residual add and norm in one pass over the residual.

use super::rewrite::Rewriter;
use super::rewrite::norm::{Front, take_front};
use crate::graph::OpKind;

pub(super) fn run(rw: &mut Rewriter) {
    let sites = rw.find(|k| matches!(k, OpKind::Add));
    for name in rw.names(&sites) {
        take_front(rw, &name, Front::Add);
    }
}

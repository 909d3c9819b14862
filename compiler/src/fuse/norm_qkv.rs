//! `NORM_QKV`: norm and q, k, v projections become one kernel; the normed activations are never written.

use super::rewrite::Rewriter;
use super::rewrite::norm::{Reader, take_norms};

pub(super) fn run(rw: &mut Rewriter) {
    take_norms(rw, Reader::Attention);
}

//! `glu`: the gate of a gated MLP.

use ck_kernels::ops::Gate;

use super::{Lowered, ModelOp, OpSpec};
use crate::graph::OpKind;
use crate::model::decode::{Lenient, choice, record};
use crate::model::site::Site;

record! {
    /// `act(gate) * up`: `[rows, cols], [rows, cols] -> [rows, cols]`.
    pub struct Glu as "op `glu`" {
        /// The gate function.
        act: Lenient<Act>,
    }
}

choice! {
    /// A gate function.
    pub enum Act as "a gate function" {
        /// `x * sigmoid(x)`: SwiGLU.
        Silu = "silu",
        /// `gelu(x)`, tanh form: GeGLU.
        GeluTanh = "gelu_tanh",
    }
}

impl OpSpec for Glu {
    const NAME: &'static str = "glu";
    const INPUTS: &'static [&'static str] = &["gate", "up"];
}

impl ModelOp for Glu {
    fn lower(&self, site: &mut Site<'_>) -> Option<Lowered> {
        let gate = site.same_shape(0, 1)?;
        let function = self.act.0.map(|act| match act {
            Act::Silu => Gate::Silu,
            Act::GeluTanh => Gate::GeluTanh,
        });
        Some(Lowered {
            op: function.map(|gate| (OpKind::Glu { gate }, Vec::new())),
            act: gate.act,
            rows: gate.rows,
            cols: gate.cols,
        })
    }

    fn boxed(&self) -> Box<dyn ModelOp> {
        Box::new(self.clone())
    }
}

//! Not written yet.
use crate::ops::Gate;
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn add_row(_a: *const f32, _b: *const f32, _n: usize, _out: *mut f32) {
    panic!()
}
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn glu_row(_kind: Gate, _gate: *const f32, _up: *const f32, _n: usize, _out: *mut f32) {
    panic!()
}
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn to_f16(_x: *const f32, _n: usize, _out: *mut u16) {
    panic!()
}

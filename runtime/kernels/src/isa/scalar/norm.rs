//! Not written yet.
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn rmsnorm_row(_x: *const f32, _weight: *const f32, _n: usize, _eps: f32, _out: *mut f32) {
    panic!()
}

//! Not written yet.
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn quantize_row(_x: *const f32, _n: usize, _out: *mut u8) {
    panic!()
}

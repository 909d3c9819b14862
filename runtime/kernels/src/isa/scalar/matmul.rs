/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn f32(_: &crate::isa::Matmul) {
    panic!()
}
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn f16(_: &crate::isa::Matmul) {
    panic!()
}
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn bf16(_: &crate::isa::Matmul) {
    panic!()
}
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn q8_0(_: &crate::isa::Matmul) {
    panic!()
}
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn q4_0(_: &crate::isa::Matmul) {
    panic!()
}
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn q4_k(_: &crate::isa::Matmul) {
    panic!()
}
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn q6_k(_: &crate::isa::Matmul) {
    panic!()
}

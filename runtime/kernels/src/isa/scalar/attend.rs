//! Not written yet.
use crate::isa::Attend;
/// Not written yet.
///
/// # Safety
/// See [`super::Isa`].
pub unsafe fn attend(_: &Attend) {
    panic!()
}

//! NEON with the dot products of Armv8.4 (`FEAT_DotProd`): four products of bytes and their sum in one instruction.

use super::{NEON, matmul_float, peak, quantize};
use crate::dtype::registry;
use crate::isa::{Isa, Peak, matmuls};

/// The quantised matmuls of this table, under the name that `matmuls!` looks for.
mod matmul_quant {
    pub use super::super::matmul_quant::matmul_dotprod as matmul;
}

/// The table.
pub static DOTPROD: Isa = Isa {
    name: "dotprod",
    matmul: registry!(matmuls),
    quantize_row: quantize::quantize_row,
    peak: Peak {
        float: peak::float,
        int8: peak::int8::<super::matmul_quant::Dotprod>,
        tiles: None,
        read: peak::read,
    },
    ..NEON
};

/// Whether this CPU is known to have it: `core` has no detection, and the register that says so is the kernel's.
pub fn detected() -> bool {
    cfg!(target_feature = "dotprod") || announced()
}

#[cfg(target_os = "linux")]
fn announced() -> bool {
    // Of Linux' `auxvec.h` and `hwcap.h`.
    const AT_HWCAP: core::ffi::c_ulong = 16;
    const HWCAP_ASIMDDP: core::ffi::c_ulong = 1 << 20;
    unsafe extern "C" {
        safe fn getauxval(kind: core::ffi::c_ulong) -> core::ffi::c_ulong;
    }
    getauxval(AT_HWCAP) & HWCAP_ASIMDDP != 0
}

#[cfg(not(target_os = "linux"))]
fn announced() -> bool {
    false
}

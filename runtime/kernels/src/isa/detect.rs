//! Which instruction sets this CPU and its operating system offer.
//!
//! `core` has no `is_x86_feature_detected!`, so CPUID is read here.

use core::fmt;

use super::Isa;
use super::scalar::SCALAR;

/// Every tier, best first. Each needs at least what those after it need.
static TIERS: &[Tier] = &[
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Tier {
        isa: &super::amx::AMX,
        needs: Features::AVX2.with(Features::AVX512).with(Features::AMX),
    },
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Tier {
        isa: &super::avx512::AVX512,
        needs: Features::AVX2.with(Features::AVX512),
    },
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Tier {
        isa: &super::avx2::AVX2,
        needs: Features::AVX2,
    },
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    Tier {
        isa: &super::neon::dotprod::DOTPROD,
        needs: Features::DOTPROD,
    },
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    Tier {
        isa: &super::neon::NEON,
        needs: Features::NONE,
    },
    Tier {
        isa: &SCALAR,
        needs: Features::NONE,
    },
];

/// Tiers that stand in for others, to test them where they cannot run: never the best.
static EMULATIONS: &[Tier] = &[
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Tier {
        isa: &super::amx::AMX_EMULATED,
        needs: Features::AVX2.with(Features::AVX512).with(Features::BF16),
    },
];

/// Names of every tier of every architecture, so that an unknown name and one of another machine can be told apart.
const NAMES: &[&str] = &["amx", "avx512", "avx2", "dotprod", "neon", "scalar", "amx-emulated"];

struct Tier {
    isa: &'static Isa,
    needs: Features,
}

/// A set of CPU features, by position in [`FEATURES`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Features(u16);

/// A feature: its name, the CPUID bit that announces it, the XCR0 bits its registers need.
struct Feature {
    name: &'static str,
    /// Leaf and subleaf.
    leaf: (u32, u32),
    reg: Reg,
    bit: u32,
    xcr0: u64,
}

#[derive(Clone, Copy)]
enum Reg {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// SSE and AVX state.
const YMM: u64 = 0b110;
/// `YMM`, mask registers, upper halves of ZMM, ZMM16..31.
const ZMM: u64 = 0b1110_0110;
/// The configuration of tiles, and their contents.
const TILES: u64 = 0b11 << 17;

/// Intel SDM vol. 2, CPUID, leaves 1 and 7.
const FEATURES: &[Feature] = &[
    Feature::new("fma", (1, 0), Reg::Ecx, 12, YMM),
    Feature::new("f16c", (1, 0), Reg::Ecx, 29, YMM),
    Feature::new("avx2", (7, 0), Reg::Ebx, 5, YMM),
    Feature::new("avx512f", (7, 0), Reg::Ebx, 16, ZMM),
    Feature::new("avx512dq", (7, 0), Reg::Ebx, 17, ZMM),
    Feature::new("avx512bw", (7, 0), Reg::Ebx, 30, ZMM),
    Feature::new("avx512vl", (7, 0), Reg::Ebx, 31, ZMM),
    Feature::new("avx512vnni", (7, 0), Reg::Ecx, 11, ZMM),
    Feature::new("avx512bf16", (7, 1), Reg::Eax, 5, ZMM),
    Feature::new("amx-bf16", (7, 0), Reg::Edx, 22, TILES),
    Feature::new("amx-tile", (7, 0), Reg::Edx, 24, TILES),
];

impl Feature {
    const fn new(name: &'static str, leaf: (u32, u32), reg: Reg, bit: u32, xcr0: u64) -> Self {
        Self {
            name,
            leaf,
            reg,
            bit,
            xcr0,
        }
    }
}

impl Features {
    const NONE: Features = Features(0);
    /// The one beyond [`FEATURES`], of AArch64: `dotprod`.
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    const DOTPROD: Features = Features(1 << FEATURES.len());
    /// `fma`, `f16c`, `avx2`.
    const AVX2: Features = Features(0b0000_0111);
    /// The five `avx512*` that are older than `avx512bf16`.
    const AVX512: Features = Features(0b1111_1000);
    /// `avx512bf16`.
    const BF16: Features = Features(1 << 8);
    /// `avx512bf16`, `amx-bf16`, `amx-tile`.
    const AMX: Features = Features(0b111 << 8);

    const fn with(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    const fn without(self, other: Features) -> Features {
        Features(self.0 & !other.0)
    }

    /// The names of the features in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0..=FEATURES.len())
            .filter(move |i| self.0 >> i & 1 == 1)
            .map(|i| FEATURES.get(i).map_or("dotprod", |f| f.name))
    }

    #[cfg(all(target_arch = "aarch64", not(miri)))]
    fn of_this_cpu() -> Features {
        if super::neon::dotprod::detected() {
            Features::DOTPROD
        } else {
            Features::NONE
        }
    }

    #[cfg(any(not(any(target_arch = "x86_64", target_arch = "aarch64")), miri))]
    fn of_this_cpu() -> Features {
        Features::NONE
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn of_this_cpu() -> Features {
        use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
        const OSXSAVE: u32 = 1 << 27;
        if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
            return Features::NONE;
        }
        #[target_feature(enable = "xsave")]
        fn xcr0() -> u64 {
            // SAFETY: register 0 is defined wherever XGETBV is.
            unsafe { _xgetbv(0) }
        }
        // SAFETY: OSXSAVE says that the CPU has XGETBV and that the operating system enabled it.
        let state = unsafe { xcr0() };
        let subleaves = __cpuid_count(7, 0).eax;
        let mut set = Features::NONE;
        for (i, f) in FEATURES.iter().enumerate() {
            let (leaf, subleaf) = f.leaf;
            if leaf == 7 && subleaf > subleaves {
                continue;
            }
            let found = __cpuid_count(leaf, subleaf);
            let reg = match f.reg {
                Reg::Eax => found.eax,
                Reg::Ebx => found.ebx,
                Reg::Ecx => found.ecx,
                Reg::Edx => found.edx,
            };
            if reg >> f.bit & 1 == 1 && state & f.xcr0 == f.xcr0 {
                set = set.with(Features(1 << i));
            }
        }
        let tiles = Features::AMX.without(Features::BF16);
        if tiles.without(set) == Features::NONE && !tiles_permitted() {
            set = set.without(tiles);
        }
        set
    }
}

/// Asks the operating system to let this process use tiles; it keeps their state only for processes that asked.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn tiles_permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        /// `arch_prctl`.
        const CALL: u64 = 158;
        /// `ARCH_REQ_XCOMP_PERM`, for `XFEATURE_XTILEDATA`.
        const REQUEST: (u64, u64) = (0x1023, 18);
        let mut result = CALL;
        // SAFETY: a system call that takes two numbers and touches no memory; what it clobbers is declared.
        unsafe {
            core::arch::asm!(
                "syscall",
                inlateout("rax") result,
                in("rdi") REQUEST.0,
                in("rsi") REQUEST.1,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack, nomem)
            );
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Why there is no table of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsaError {
    /// No instruction set is called that.
    Unknown,
    /// This CPU, or its operating system, lacks something.
    Unsupported {
        /// The instruction set asked for.
        name: &'static str,
        /// What is missing; empty if the set belongs to another architecture.
        missing: Features,
    },
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IsaError::Unknown => {
                f.write_str("unknown instruction set; known are ")?;
                list(f, NAMES.iter().copied())
            }
            IsaError::Unsupported { name, missing } if *missing == Features::NONE => {
                write!(f, "`{name}` belongs to another architecture than this machine's")
            }
            IsaError::Unsupported { name, missing } => {
                write!(f, "this machine cannot run `{name}`: it lacks ")?;
                list(f, missing.names())
            }
        }
    }
}

impl core::error::Error for IsaError {}

fn list(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = &'static str>) -> fmt::Result {
    for (i, name) in names.enumerate() {
        write!(f, "{}{name}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

/// The instruction sets this machine can run, best first; `scalar` is always the last of them. Behind it come
/// emulations of those it cannot, for tests.
///
/// On x86-64 reads CPUID, which traps in virtual machines: meant to be called once, at start.
pub fn supported() -> impl Iterator<Item = &'static Isa> {
    let have = Features::of_this_cpu();
    TIERS
        .iter()
        .chain(EMULATIONS)
        .filter(move |t| t.needs.without(have) == Features::NONE)
        .map(|t| t.isa)
}

/// The best of [`supported`].
pub fn best() -> &'static Isa {
    supported().next().unwrap_or(&SCALAR)
}

/// The instruction set of that name, if this machine can run it.
///
/// # Errors
/// [`IsaError::Unknown`] if there is none of that name, [`IsaError::Unsupported`] if this machine cannot run it.
pub fn by_name(name: &str) -> Result<&'static Isa, IsaError> {
    let &name = NAMES.iter().find(|n| **n == name).ok_or(IsaError::Unknown)?;
    let Some(tier) = TIERS.iter().chain(EMULATIONS).find(|t| t.isa.name == name) else {
        return Err(IsaError::Unsupported {
            name,
            missing: Features::NONE,
        });
    };
    let missing = tier.needs.without(Features::of_this_cpu());
    if missing == Features::NONE {
        Ok(tier.isa)
    } else {
        Err(IsaError::Unsupported { name, missing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_always_supported_and_last() {
        let mut real = supported().filter(|i| !i.name.ends_with("-emulated"));
        assert_eq!(real.by_ref().last().map(|i| i.name), Some("scalar"));
        assert!(!best().name.ends_with("-emulated"));
        assert!(by_name("scalar").is_ok());
    }

    #[test]
    fn every_supported_tier_is_found_by_name() {
        for isa in supported() {
            assert_eq!(by_name(isa.name).ok().map(|i| i.name), Some(isa.name));
        }
    }

    #[test]
    fn unknown_names_are_not_unsupported_ones() {
        assert!(matches!(by_name("avx9000"), Err(IsaError::Unknown)));
        assert!(matches!(by_name(""), Err(IsaError::Unknown)));
    }

    #[test]
    fn errors_name_what_is_known_or_missing() {
        extern crate std;
        use std::string::ToString;
        assert_eq!(
            IsaError::Unknown.to_string(),
            "unknown instruction set; known are amx, avx512, avx2, dotprod, neon, scalar, amx-emulated"
        );
        let missing = Features::AVX2.with(Features(1 << 7));
        let error = IsaError::Unsupported {
            name: "avx512",
            missing,
        };
        assert_eq!(
            error.to_string(),
            "this machine cannot run `avx512`: it lacks fma, f16c, avx2, avx512vnni"
        );
    }

    #[test]
    fn named_sets_match_the_table() {
        assert!(Features::AVX2.names().eq(["fma", "f16c", "avx2"]));
        assert!(Features::AVX512.names().all(|n| n.starts_with("avx512")));
        assert!(Features::AMX.names().eq(["avx512bf16", "amx-bf16", "amx-tile"]));
        assert!(Features::BF16.names().eq(["avx512bf16"]));
        let all = Features::AVX2.with(Features::AVX512).with(Features::AMX);
        assert_eq!(all.names().count(), FEATURES.len());
    }
}

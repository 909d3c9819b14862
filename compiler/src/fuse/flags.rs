//! `CKFusionFlags`: which fusions are allowed.

use std::fmt;

/// One fusion, by its bit in `CKFusionFlags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Flag {
    /// Embedding row + first norm.
    EmbedNorm,
    /// Norm + q, k, v projections.
    NormQkv,
    /// Projections + rotary; keys and values land in the cache.
    QkvRope,
    /// Attention + output projection.
    AttnProj,
    /// Norm + the MLP's first projections.
    NormMlp,
    /// Gate and up together, with the activation.
    MlpGateUp,
    /// Activation + down projection.
    MlpActDown,
    /// Residual add + norm.
    AddNorm,
}

/// Name and description of each flag, by bit.
const NAMES: [(Flag, &str); 8] = [
    (Flag::EmbedNorm, "EMBED_NORM"),
    (Flag::NormQkv, "NORM_QKV"),
    (Flag::QkvRope, "QKV_ROPE"),
    (Flag::AttnProj, "ATTN_PROJ"),
    (Flag::NormMlp, "NORM_MLP"),
    (Flag::MlpGateUp, "MLP_GATE_UP"),
    (Flag::MlpActDown, "MLP_ACT_DOWN"),
    (Flag::AddNorm, "ADD_NORM"),
];

/// The second name of bit 7.
const RESIDUAL_NORM: &str = "RESIDUAL_NORM";

impl Flag {
    /// Every flag, by bit.
    pub fn all() -> impl Iterator<Item = Flag> {
        NAMES.iter().map(|(flag, _)| *flag)
    }

    /// The name used on the command line, in YAML and in reports.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// The flag of that name, in any case; bit 7 has two.
    pub fn from_name(name: &str) -> Option<Flag> {
        let name = name.to_ascii_uppercase();
        if name == RESIDUAL_NORM {
            return Some(Flag::AddNorm);
        }
        NAMES.iter().find(|(_, n)| *n == name).map(|(flag, _)| *flag)
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// Every fusion allowed.
    pub const ALL: Flags = Flags(0xff);
    /// No fusion allowed.
    pub const NONE: Flags = Flags(0);

    /// Just this flag.
    pub fn only(flag: Flag) -> Flags {
        Flags(1 << flag as u8)
    }

    /// Whether the flag is in the set.
    pub fn contains(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }

    /// The set with the flag.
    #[must_use]
    pub fn with(self, flag: Flag) -> Flags {
        Flags(self.0 | 1 << flag as u8)
    }

    /// The set without the flag.
    #[must_use]
    pub fn without(self, flag: Flag) -> Flags {
        Flags(self.0 & !(1 << flag as u8))
    }

    /// The bits, as in `CKFusionFlags`.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The names in the set, by bit.
    pub fn names(self) -> Vec<&'static str> {
        Flag::all().filter(|f| self.contains(*f)).map(Flag::name).collect()
    }

    /// Reads `all`, `none`, or a comma-separated list of names, each possibly after `-`; a list that starts with a
    /// removal starts from `all`.
    ///
    /// # Errors
    /// An unknown name, with every name that is known.
    pub fn parse(text: &str) -> Result<Flags, String> {
        let mut set: Option<Flags> = None;
        for item in text.split(',').map(str::trim).filter(|s| !s.is_empty()) {
            let (remove, name) = match item.strip_prefix('-') {
                Some(rest) => (true, rest.trim()),
                None => (false, item),
            };
            let group = match name.to_ascii_lowercase().as_str() {
                "all" => Flags::ALL,
                "none" => Flags::NONE,
                _ => match Flag::from_name(name) {
                    Some(flag) => Flags::only(flag),
                    None => {
                        let known: Vec<_> = NAMES.iter().map(|(_, n)| n.to_ascii_lowercase()).collect();
                        return Err(format!(
                            "unknown fusion `{name}`; known are all, none, {}, residual_norm",
                            known.join(", ")
                        ));
                    }
                },
            };
            set = Some(if remove {
                Flags(set.unwrap_or(Flags::ALL).0 & !group.0)
            } else {
                Flags(set.unwrap_or(Flags::NONE).0 | group.0)
            });
        }
        set.ok_or_else(|| "no fusion named; write `all`, `none` or a list".to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_add_and_remove() {
        assert_eq!(Flags::parse("all").unwrap(), Flags::ALL);
        assert_eq!(Flags::parse("none").unwrap(), Flags::NONE);
        assert_eq!(Flags::parse("-attn_proj").unwrap(), Flags::ALL.without(Flag::AttnProj));
        assert_eq!(
            Flags::parse("norm_qkv, qkv_rope,-norm_qkv").unwrap(),
            Flags::only(Flag::QkvRope)
        );
        assert_eq!(
            Flags::parse("RESIDUAL_NORM").unwrap(),
            Flags::parse("add_norm").unwrap()
        );
        assert!(Flags::parse("norm_qvk").unwrap_err().contains("norm_qkv"));
        assert!(Flags::parse(" , ").is_err());
    }

    #[test]
    fn bits_are_those_of_the_reference_header() {
        for (bit, flag) in Flag::all().enumerate() {
            assert_eq!(Flags::only(flag).bits(), 1 << bit);
        }
    }
}

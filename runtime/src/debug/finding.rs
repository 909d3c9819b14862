//! What a debug run found.

use std::fmt;
use std::ops::Range;

use super::Watched;

/// The first thing that was wrong in a debug run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `prefill`, `decode` or `head`.
    pub entry: String,
    /// The step.
    pub step: String,
    /// What is wrong.
    pub fault: Fault,
    /// The tensor that did it, or has it.
    pub tensor: Named,
    /// The tensor it was done to.
    pub other: Option<Named>,
    /// Byte of the arena.
    pub offset: usize,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// A tensor and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// Bytes of the arena.
    pub bytes: Range<usize>,
}

impl From<&Watched> for Named {
    fn from(watched: &Watched) -> Named {
        Named {
            name: watched.name.into(),
            bytes: watched.bytes(),
        }
    }
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A tensor is born over bytes, or the canary, of another one that is alive.
    Overlap,
    /// A tensor does not start on a cache line.
    Misaligned,
    /// The canary behind another tensor is not what it was.
    Canary,
    /// The step changed a tensor that it does not write.
    Changed,
    /// The canary behind a tensor that the step writes is not what it was.
    PastEnd,
    /// A row behind the call's last token was written.
    PastTokens,
    /// What the step had to write is still poisoned.
    Unwritten,
    /// What the step wrote was computed from poison.
    FromPoison,
    /// What the step wrote is not a number.
    NotANumber,
}

impl Finding {
    fn sentence(&self) -> String {
        let tensor = &self.tensor.name;
        let other = self.other.as_ref().map_or("", |other| other.name.as_str());
        match self.fault {
            Fault::Overlap => format!("`{tensor}` is born over `{other}`, which is alive"),
            Fault::Misaligned => format!("`{tensor}` does not start on a multiple of 64 bytes"),
            Fault::Canary => format!("writing `{tensor}` destroyed the canary behind `{other}`"),
            Fault::Changed => format!("`{other}` changed, which the step does not write; it writes `{tensor}`"),
            Fault::PastEnd if self.other.is_none() => format!("`{tensor}` was written past its end"),
            Fault::PastEnd => format!("`{tensor}` was written past its end, towards `{other}`"),
            Fault::PastTokens => format!("`{tensor}` was written behind the row of the call's last token"),
            Fault::Unwritten => format!("a part of `{tensor}` was not written"),
            Fault::FromPoison => format!("`{tensor}` was computed from something dead or never written"),
            Fault::NotANumber => format!("`{tensor}` holds something that is not a number"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            entry,
            step,
            offset,
            expected,
            found,
            ..
        } = self;
        writeln!(f, "step `{step}` of {entry}: {}", self.sentence())?;
        writeln!(
            f,
            "  at byte {offset:#x} of the arena: expected {expected}, found {found}"
        )?;
        let tensors: Vec<String> = [Some(&self.tensor), self.other.as_ref()]
            .into_iter()
            .flatten()
            .map(|t| format!("`{}` is {:#x}..{:#x}", t.name, t.bytes.start, t.bytes.end))
            .collect();
        write!(f, "  {}", tensors.join(", "))
    }
}

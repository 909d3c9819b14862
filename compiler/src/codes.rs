//! The codes of diagnostics that are not about the model language, which has a table in [`crate::model::codes`]. A code
//! stands once in the source and means one thing; docs/diagnostics.md is made of these tables.

use crate::{report, source};

/// A kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Stable code: `CK0601`. Never reused.
    pub code: &'static str,
    /// What is wrong.
    pub cause: &'static str,
    /// How to mend it.
    pub hint: &'static str,
}

/// A constant for each code, and the list of all.
macro_rules! codes {
    ($($name:ident $code:literal $cause:literal $hint:literal;)*) => {
        $(#[doc = $cause] pub const $name: &str = $code;)*

        /// Every code of this table, in order.
        pub const ALL: &[crate::codes::Code] =
            &[$(crate::codes::Code { code: $code, cause: $cause, hint: $hint }),*];
    };
}
pub(crate) use codes;

codes! {
    UNWRITABLE "CK0901" "A file cannot be written." "Look at the folder's permissions and at the space that is left.";
    NOT_A_FOLDER "CK0902" "The output is a file, and a folder is needed." "Name a folder with `-o`.";
    FOREIGN_FOLDER "CK0903" "The output folder holds something that ckc did not write." "Name an empty or new folder with `-o`.";
    NO_VOCABULARY "CK0904" "The file that `tokenizer` names has no vocabulary." "Remove `tokenizer` from the YAML, or name a file that has one.";
    STDOUT "CK0905" "Standard output cannot be written." "Look at where the output goes.";
    UNKNOWN_TYPE "CK0906" "No element type has that name." "Take one of the names that the message lists.";
    UNREADABLE_REPORT "CK0907" "A layout report cannot be read, is too large, or is not JSON of a report's shape." "Make it again with `ckc plan MODEL.yaml --json`.";
    UNKNOWN_NODE "CK0908" "No op, tensor or weight has that name." "Take a name from `layout.txt`.";
    NO_WEIGHTS "CK0909" "`ckc verify` needs weights, and there are none." "Make random ones with `ckc synth MODEL.yaml`.";
    NOT_RUN "CK0910" "The compiled program could not be run." "The message says what the runtime refused.";
    DIFFERS "CK0911" "A step of the compiled program differs from the interpreter." "`--verbose` prints every tensor up to there; a difference is a bug in ckc.";
    OTHER_BITS "CK0912" "The compiled program gives other bits with several workers." "A barrier is missing, or two tensors that are in use share bytes: a bug in ckc.";
    OVER_BUDGET "CK0913" "A size exceeds its `budget` in the YAML." "Shrink what the message names, or raise the budget.";
    SWEEP "CK0914" "The argument of `--sweep` cannot be read." "Write `context=512..8192`, `context=512..8192:512` or `batch=1,64`.";
    BUFFERS "CK0915" "The buffers of `ckc dsa` cannot be read or placed." "Columns are id, lower, upper, size; lifetimes are half-open.";
    LAYOUT "CK0916" "The model cannot be laid out." "Lower `context` or `batch`; a plan that the verifier rejects is a bug in ckc.";
    SHORTAGE "CK0917" "The program does not fit a memory of `arena`." "Raise its `bytes`, or lower `limits.batch` or `limits.context`.";
    NOT_MEASURED "CK0918" "The machine or a kernel cannot be measured." "The message says what the runtime refused.";
}

/// Every table, in the order of codes.
pub fn all() -> impl Iterator<Item = &'static Code> {
    [source::codes::ALL, ALL, report::codes::ALL].into_iter().flatten()
}

/// The hint of a code of these tables.
pub fn hint(code: &str) -> &'static str {
    all().find(|row| row.code == code).map_or("", |row| row.hint)
}

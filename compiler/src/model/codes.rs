//! The codes of this language's diagnostics: one a kind of mistake, never reused.

/// A kind of mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Stable code: `CK0102`.
    pub code: &'static str,
    /// The kind in a few words.
    pub title: &'static str,
    /// The rule that is broken.
    pub rule: &'static str,
}

macro_rules! codes {
    ($($name:ident $code:literal $title:literal $rule:literal;)*) => {
        $(#[doc = concat!($title, ": ", $rule)] pub const $name: &str = $code;)*

        /// Every code, in order.
        pub const ALL: &[Code] = &[$(Code { code: $code, title: $title, rule: $rule }),*];
    };
}

codes! {
    UNREADABLE "CK0100" "unreadable file" "A model description is a UTF-8 file of at most 1 MiB.";
    SYNTAX "CK0101" "YAML syntax" "A model description is one YAML 1.2 document, without tags, merge keys or more than 64 levels.";
    UNKNOWN_KEY "CK0102" "unknown key" "Only the keys of the schema are allowed: a misspelt key never falls back to a default.";
    MISSING_KEY "CK0103" "missing key" "What changes the result has no default.";
    WRONG_TYPE "CK0104" "wrong kind of value" "Every value has the kind that the schema says.";
    UNKNOWN_WORD "CK0105" "unknown word" "A choice is one of the words of the schema.";
    DUPLICATE_KEY "CK0106" "duplicate key" "A key stands once in its mapping.";
    EXPRESSION "CK0110" "malformed expression" "Expressions are numbers and constants with + - * / ( ) and sqrt.";
    UNKNOWN_CONSTANT "CK0111" "unknown constant" "Names in expressions are constants or the index of an enclosing repeat.";
    ARITHMETIC "CK0112" "arithmetic" "Arithmetic is checked: no overflow, no division by zero, no root of a negative number.";
    NOT_AN_INTEGER "CK0113" "not a whole number" "Sizes and counts are whole numbers; sqrt and a division with a remainder give a float.";
    OUT_OF_RANGE "CK0114" "number out of range" "Every number has the range that its meaning gives it.";
    CONSTANT_CYCLE "CK0115" "constants in a cycle" "A constant does not depend on itself.";
    UNUSED "CK0116" "unused definition" "A constant, symbol or rope that nothing uses is a mistake in what should use it.";
    UNKNOWN_SYMBOL "CK0117" "unknown symbol" "Run-time sizes are the symbols that the file declares.";
    SYMBOL_BOUND "CK0118" "wrong bound of a symbol" "Rows of a tensor are bounded by `batch`, positions of a cache by `context`.";
    TEMPLATE "CK0119" "malformed weight name" "Braces in a weight's name hold an expression with a whole, non-negative value.";
    MODEL_NAME "CK0120" "unusable model name" "The model's name is the emitted crate's name.";
    BAD_NAME "CK0121" "malformed name" "Names are lower-case letters, digits and `_`, and start with a letter: they become Rust names.";
    DUPLICATE_NAME "CK0122" "duplicate name" "A name means one thing where it is visible.";
    UNKNOWN_OP "CK0130" "unknown op" "`op` is one of the registered ops.";
    ARITY "CK0131" "wrong number of inputs" "Every op has a fixed number of inputs.";
    UNKNOWN_TENSOR "CK0132" "unknown tensor" "An input is an op before it in the section, a carried tensor or one of the section's `in`.";
    USE_BEFORE_DEFINITION "CK0133" "used before it is defined" "Ops run in the order written; a cycle has no such order.";
    UNUSED_TENSOR "CK0134" "unused tensor" "A tensor that nothing reads and that is no output is wasted work.";
    BRIDGE "CK0135" "tensor is not bridged" "Sections meet through `in` and `out` only.";
    NO_OUTPUT "CK0136" "no outputs" "A model has at least one output, and names it once.";
    NO_OPS "CK0137" "nothing to compute" "Sections and repeats hold at least one op.";
    INPUT "CK0138" "unsupported input" "A model has one input: token ids, `{dtype: u32, shape: [T]}`.";
    SHAPE "CK0140" "shape mismatch" "Shapes fit their op.";
    ELEMENT_TYPE "CK0141" "element type mismatch" "Token ids are u32 and only `embedding` reads them; everything else is f32.";
    HEADS "CK0142" "heads do not divide" "Query heads are a multiple of key/value heads.";
    HEAD_DIM "CK0143" "head size mismatch" "A rope and the attention that reads it agree on the size of a head.";
    ROPE_DIMS "CK0144" "rotated dimensions" "A rope rotates an even number of elements, at most a head.";
    UNKNOWN_ROPE "CK0145" "unknown rope" "`rope` is one of `ropes`.";
    WEIGHT_SHAPES "CK0150" "one weight, two shapes" "Uses of one source tensor share it, so they agree on its shape.";
    BLOCKS "CK0151" "rows do not fill blocks" "Columns of a quantised matrix are a multiple of its type's block: 256 for the types that end in `_k`, 32 for the others.";
    DTYPES "CK0152" "misplaced dtype" "An entry of `dtypes` names at least one matrix, and a matrix has one entry.";
    CONTEXT "CK0160" "impossible context" "0 < context <= max_positions.";
    BATCH "CK0161" "impossible batch" "0 < batch <= context.";
    TOO_LARGE "CK0162" "too large" "Counts and sizes stay within what can be compiled.";
    FUSION_FLAG "CK0170" "unknown fusion flag" "`all`, `none`, or flags of the table, `-` before one that is taken away.";
    FUSION_SITE "CK0171" "site matches nothing" "A site is an op's name; `*` stands for any characters.";
    MEMORIES "CK0172" "impossible memories" "`arena` lists at least one memory, the fastest first; all but the last have `bytes`.";
}

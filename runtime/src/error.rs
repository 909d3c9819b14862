//! What can go wrong, said so that a user can act on it: what, where, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use ck_kernels::isa::IsaError;

use crate::debug::Finding;

/// An error of the runtime.
#[derive(Debug)]
pub enum Error {
    /// The operating system refused something about a file.
    Io {
        /// What was tried: `open`, `read`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not a packed weights file, or a damaged one.
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The weights were packed for another program.
    WrongLayout {
        /// The file.
        path: PathBuf,
        /// Model of the program, and the first bytes of its layout's hash.
        program: (String, [u8; 8]),
        /// Model that the file was packed for, and the first bytes of the layout's hash.
        file: (String, [u8; 8]),
    },
    /// The program's own layout contradicts itself: a bug of whoever made it.
    Layout {
        /// The model.
        model: &'static str,
        /// The contradiction.
        what: String,
    },
    /// Text was asked for, but the weights file has no tokenizer.
    NoTokenizer {
        /// The model.
        model: &'static str,
    },
    /// The tokenizer's tables are damaged, or text cannot be encoded.
    Tokenizer {
        /// What is wrong.
        what: String,
    },
    /// There is no memory for the arena.
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// The reason.
        source: io::Error,
    },
    /// A thread could not be started.
    Spawn {
        /// The worker that was to run on it.
        worker: usize,
        /// The reason.
        source: io::Error,
    },
    /// A number of threads that no plan serves.
    Threads {
        /// Threads asked for.
        given: usize,
        /// The most there can be.
        max: usize,
    },
    /// No such instruction set, or not on this machine.
    Isa {
        /// The name asked for.
        name: String,
        /// The reason.
        source: IsaError,
    },
    /// A call without tokens.
    EmptyPrompt,
    /// An id that the model has no embedding for.
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Its index in the call.
        index: usize,
        /// Ids are below this.
        vocab: usize,
    },
    /// More tokens than the context has room for.
    TooLong {
        /// Tokens in the call.
        given: usize,
        /// Tokens already in the cache.
        position: usize,
        /// Positions there are.
        context: usize,
    },
    /// A worker panicked in a step.
    Panicked {
        /// The worker.
        worker: usize,
        /// Its message.
        message: String,
    },
    /// A debug run found something wrong with the program.
    Debug(Box<Finding>),
    /// An earlier call failed half-way; the cache holds half a call.
    Poisoned,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { action, path, source } => write!(f, "cannot {action} {}: {source}", path.display()),
            Error::Weights { path, what } => write!(
                f,
                "{} is not a usable weights file: {what}\n  hint: pack it again with `ckc compile`",
                path.display()
            ),
            Error::WrongLayout { path, program, file } => {
                write!(
                    f,
                    "{} belongs to another layout: it was packed for {} (layout {}), this program is {} (layout {})\n  \
                     hint: runner and weights of one `ckc compile` belong together; compile again, or name the right \
                     file with --weights",
                    path.display(),
                    file.0,
                    Hex(&file.1),
                    program.0,
                    Hex(&program.1),
                )
            }
            Error::Layout { model, what } => write!(f, "the layout of {model} contradicts itself: {what}"),
            Error::NoTokenizer { model } => write!(
                f,
                "{model} was compiled without a tokenizer, so that only token ids work\n  \
                 hint: `logits --ids 1,2,3 --out F.safetensors` needs none; to work with text, name a tokenizer in the \
                 model's YAML and compile again"
            ),
            Error::Tokenizer { what } => write!(f, "tokenizer: {what}"),
            Error::Memory { bytes, source } => write!(f, "cannot reserve the arena of {bytes} bytes: {source}"),
            Error::Spawn { worker, source } => write!(f, "cannot start the thread of worker {worker}: {source}"),
            Error::Threads { given, max } => write!(f, "{given} threads: must be 1 to {max}"),
            Error::Isa { name, source } => {
                write!(
                    f,
                    "instruction set `{name}`: {source}\n  hint: unset CKC_ISA to use the best there is"
                )
            }
            Error::EmptyPrompt => f.write_str("no tokens: at least one is needed"),
            Error::TokenOutOfRange { id, index, vocab } => {
                write!(
                    f,
                    "token id {id} at index {index} is out of range: ids are 0 to {}",
                    vocab - 1
                )
            }
            Error::TooLong {
                given,
                position,
                context,
            } => {
                write!(f, "{given} token{} do not fit: ", if *given == 1 { "" } else { "s" })?;
                write!(f, "the context has {context} positions, {position} of them used, ")?;
                write!(
                    f,
                    "so that {} fit\n  hint: shorten the prompt, or compile with a larger --context",
                    context - position
                )
            }
            Error::Panicked { worker, message } => write!(f, "worker {worker} panicked: {message}"),
            Error::Debug(finding) => finding.fmt(f),
            Error::Poisoned => f.write_str("an earlier call failed half-way; call `reset` and start over"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } | Error::Memory { source, .. } | Error::Spawn { source, .. } => Some(source),
            Error::Isa { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

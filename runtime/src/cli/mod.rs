//! The command line of every runner.
//!
//! Exit codes: 0 done, 1 something went wrong, 2 the command line is wrong.

mod args;
mod bench;
mod generate;
mod logits;
mod perplexity;
mod profile;
mod text;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::error::{Error, Hex};
use crate::program::Program;
use crate::runner::{Config, Runner};
use crate::weights::{Tables, WeightsFile};
use args::{Args, Flag, hint, nearest};

/// Why a command did not do what it was told.
#[derive(Debug)]
enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// Something went wrong.
    Run(Box<dyn std::error::Error>),
    /// Nobody reads our output any more.
    Closed,
}

impl Failure {
    fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage(message.into())
    }

    fn run(error: impl Into<Box<dyn std::error::Error>>) -> Failure {
        Failure::Run(error.into())
    }

    /// A failure to write to standard output.
    fn output(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::run(format!("cannot write to standard output: {error}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Run(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(message) => f.write_str(message),
            Failure::Run(error) => error.fmt(f),
            Failure::Closed => f.write_str("standard output is closed"),
        }
    }
}

/// What every command is given.
struct Call<'a> {
    args: &'a Args,
    /// As passed to [`main`].
    default_weights: &'a str,
    /// When the process began, as far as it can tell.
    start: Instant,
    /// For results.
    out: &'a mut dyn Write,
    /// For what is said beside them.
    err: &'a mut dyn Write,
}

struct Command {
    name: &'static str,
    /// The argument that stands alone.
    plain: Option<&'static str>,
    about: &'static str,
    flags: &'static [Flag],
    run: fn(&mut Call<'_>) -> Result<(), Failure>,
}

const THREADS: Flag = Flag::value(
    "--threads",
    "N",
    "workers, the calling thread included [default: what the system offers]",
);
const WEIGHTS: Flag = Flag::value("--weights", "FILE", "the packed weights [default: see `--help`]");
const CHECK: Flag = Flag::switch("--check", "verify the weights' checksum even if they are large");
const JSON: Flag = Flag::switch("--json", "write JSON");

fn commands<P: Program>() -> [Command; 7] {
    [
        Command {
            name: "generate",
            plain: None,
            about: "continue a prompt; the text goes to standard output as it comes, the speed to standard error",
            flags: generate::FLAGS,
            run: generate::run::<P>,
        },
        Command {
            name: "logits",
            plain: None,
            about: "write the logits after every token to a safetensors file: tensor `logits`, f32 [n, vocab]",
            flags: logits::FLAGS,
            run: logits::run::<P>,
        },
        Command {
            name: "tokenize",
            plain: Some("TEXT"),
            about: "write the ids of a text, with the ids the tokenizer puts around it, on one line: 1,2,3",
            flags: text::TOKENIZE,
            run: text::tokenize::<P>,
        },
        Command {
            name: "detokenize",
            plain: Some("IDS"),
            about: "write the text of ids 1,2,3, control tokens included, without a newline behind it",
            flags: text::DETOKENIZE,
            run: text::detokenize::<P>,
        },
        Command {
            name: "perplexity",
            plain: None,
            about: "exp of the mean negative log-likelihood of a text, in windows that do not overlap, \
                    each scored from its second token",
            flags: perplexity::FLAGS,
            run: perplexity::run::<P>,
        },
        Command {
            name: "bench",
            plain: None,
            about: "measure prefill and decode: median, minimum and maximum of the repetitions",
            flags: bench::FLAGS,
            run: bench::run::<P>,
        },
        Command {
            name: "report",
            plain: None,
            about: "say what this machine makes of the program: parts of each worker, memory, latencies",
            flags: &[JSON, THREADS, WEIGHTS, CHECK],
            run: report::<P>,
        },
    ]
}

/// The `main` of an emitted program.
///
/// Weights are looked for in `--weights`, then the environment variable `CKC_WEIGHTS`, then `default_weights`: an
/// absolute path is tried as it is; then its file name (a relative path: all of it) is looked for beside the executable
/// and in the folders above it, so that `target/release/..` finds the crate's folder, then in the working directory.
pub fn main<P: Program>(default_weights: &str) -> ExitCode {
    let args = std::env::args_os().skip(1);
    ExitCode::from(run::<P>(args, default_weights, &mut io::stdout(), &mut io::stderr()))
}

/// [`main`] with other arguments (without the program's name) and streams; returns the exit code.
pub fn run<P: Program>(
    args: impl IntoIterator<Item = OsString>,
    default_weights: &str,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let start = Instant::now();
    let model = P::LAYOUT.model;
    let (message, code) = match dispatch::<P>(args.into_iter(), default_weights, start, out, err) {
        Ok(()) | Err(Failure::Closed) => return 0,
        Err(Failure::Usage(message)) => {
            let hint = format!("`{model} --help` lists commands, `{model} COMMAND --help` their flags");
            (format!("{message}\n  hint: {hint}"), 2)
        }
        Err(Failure::Run(error)) => (error.to_string(), 1),
    };
    // Where standard error is closed too, the exit code has to do.
    let _ = writeln!(err, "error: {message}");
    code
}

fn dispatch<P: Program>(
    mut raw: impl Iterator<Item = OsString>,
    default_weights: &str,
    start: Instant,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let commands = commands::<P>();
    let name = raw.next().ok_or_else(|| Failure::usage("no command"))?;
    let name = name.to_string_lossy();
    match &*name {
        "--help" | "-h" | "help" => return write(out, &overview::<P>(&commands)),
        "--version" | "-V" => return write(out, &version::<P>()),
        _ => {}
    }
    let Some(command) = commands.iter().find(|command| command.name == name) else {
        let near = nearest(&name, commands.iter().map(|command| command.name));
        return Err(Failure::usage(format!("unknown command `{name}`{}", hint(near))));
    };
    let raw: Vec<OsString> = raw.collect();
    if raw
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--help" || arg == "-h")
    {
        return write(out, &usage::<P>(command));
    }
    let args = Args::read(raw, command.flags, usize::from(command.plain.is_some()))?;
    (command.run)(&mut Call {
        args: &args,
        default_weights,
        start,
        out,
        err,
    })
}

fn write(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Failure::output)
}

fn overview<P: Program>(commands: &[Command]) -> String {
    let model = P::LAYOUT.model;
    let mut out = format!("{model}: a language model, compiled ahead of time\n\nUsage: {model} COMMAND [FLAGS]\n\n");
    for command in commands {
        out += &format!("  {:<12} {}\n", command.name, command.about);
    }
    out += &format!(
        "\n`{model} COMMAND --help` lists a command's flags.\n\n\
         The weights are looked for in: --weights FILE; the environment variable CKC_WEIGHTS; the place they were\n\
         compiled to; beside this program and in the folders above it; the working directory.\n\
         The environment variable CKC_ISA chooses an instruction set: scalar, avx2, avx512, amx, neon, dotprod.\n\
         Exit codes: 0 done, 1 something went wrong, 2 the command line is wrong.\n"
    );
    out
}

fn usage<P: Program>(command: &Command) -> String {
    let plain = command.plain.map_or_else(String::new, |plain| format!(" {plain}"));
    format!(
        "{} {}: {}\n\nUsage: {0} {1}{plain} [FLAGS]\n\n{}",
        P::LAYOUT.model,
        command.name,
        command.about,
        args::help(command.flags),
    )
}

fn version<P: Program>() -> String {
    format!(
        "{} (layout {}, ck-runtime {})\n",
        P::LAYOUT.model,
        Hex(&P::LAYOUT.hash),
        env!("CARGO_PKG_VERSION")
    )
}

fn report<P: Program>(call: &mut Call<'_>) -> Result<(), Failure> {
    let report = call.open::<P>()?.report()?;
    call.print(&if call.args.has(JSON.name) {
        report.to_json()
    } else {
        report.to_string()
    })
}

impl Call<'_> {
    /// Writes to the output, at once.
    fn print(&mut self, text: &str) -> Result<(), Failure> {
        write(self.out, text)
    }

    /// The program, opened as the flags say.
    fn open<P: Program>(&self) -> Result<Runner<P>, Failure> {
        let threads = self.args.number(THREADS.name)?;
        let max = ck_kernels::ops::MAX_WORKERS;
        if let Some(n) = threads.filter(|n| !(1..=max).contains(n)) {
            return Err(Failure::usage(format!("`--threads {n}`: must be 1 to {max}")));
        }
        let config = Config {
            threads,
            isa: None,
            check: self.args.has(CHECK.name),
        };
        Ok(Runner::open(self.weights()?, config)?)
    }

    /// The tokenizer's tables, without the arena.
    fn tokenizer<P: Program>(&self) -> Result<Tables, Failure> {
        let file = WeightsFile::open(&self.weights()?, false)?;
        file.expect_layout(&P::LAYOUT)?;
        let tables = file.into_tokenizer();
        if tables.is_empty() {
            return Err(Error::NoTokenizer { model: P::LAYOUT.model }.into());
        }
        Ok(tables)
    }

    /// Where the weights are, see [`main`].
    fn weights(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = self.args.raw(WEIGHTS.name) {
            return Ok(path.into());
        }
        if let Some(path) = std::env::var_os("CKC_WEIGHTS") {
            return Ok(path.into());
        }
        let executable = std::env::current_exe().ok();
        let folders = executable.iter().flat_map(|path| path.ancestors().skip(1));
        find_weights(Path::new(self.default_weights), folders).ok_or_else(|| {
            Failure::run(format!(
                "cannot find the weights: no {} there, beside this program, above it, or here\n  \
                 hint: name them with --weights FILE or the environment variable CKC_WEIGHTS",
                self.default_weights
            ))
        })
    }
}

/// The first of the places where `default` can be.
fn find_weights<'a>(default: &Path, folders: impl Iterator<Item = &'a Path>) -> Option<PathBuf> {
    let name = if default.is_absolute() {
        Path::new(default.file_name()?)
    } else {
        default
    };
    let absolute = default.is_absolute().then(|| default.to_path_buf());
    absolute
        .into_iter()
        .chain(folders.map(|folder| folder.join(name)))
        .chain([name.to_path_buf()])
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_found_above_the_executable() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("crate/target/release");
        std::fs::create_dir_all(&deep).unwrap();
        let file = dir.path().join("crate/m.ckw");
        std::fs::write(&file, "").unwrap();
        let find = |default: &Path| find_weights(default, deep.ancestors());
        assert_eq!(find(Path::new("m.ckw")), Some(file.clone()));
        assert_eq!(find(&file), Some(file.clone()));
        assert_eq!(find(Path::new("/nowhere/at/all/m.ckw")), Some(file));
        assert_eq!(find(Path::new("no-such-file.ckw")), None);
    }
}

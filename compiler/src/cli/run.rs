//! Each command: call the library, print, choose the exit code.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use ck_runtime::Config;
use ck_runtime::kernels::dtype::DType;
use indicatif::{ProgressBar, ProgressStyle};

use super::args::{
    Args, Bench, Command, Compile, Diff, Dsa, Emit, Explain, Import, Measure, MeasureArgs, MeasureKernels, ModelArgs,
    Plan, Synth, Verify,
};
use super::{OVER_BUDGET, WRONG_INPUT};
use crate::codes;
use crate::compile::{self, Failure, Options, Planned};
use crate::diag::{self, Diagnostic};
use crate::graph::dump::dump;
use crate::layout::hint::Hint;
use crate::model::LoadOptions;
use crate::report::{self, DiffOptions};
use crate::{bench, costs, explain, import, model, output, plan, shortage, sweep, verify};

/// What went wrong in a command: already said, with this exit code.
struct Exit(u8);

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Exit {
        let texts: Vec<(&str, &str)> = failure
            .source
            .iter()
            .map(|s| (s.name.as_str(), s.text.as_str()))
            .collect();
        let colour = std::io::stderr().is_terminal();
        eprint!("{}", diag::render(&failure.diagnostics, texts.as_slice(), colour));
        Exit(WRONG_INPUT)
    }
}

impl From<Vec<Diagnostic>> for Exit {
    fn from(diagnostics: Vec<Diagnostic>) -> Exit {
        Failure::from(diagnostics).into()
    }
}

type Outcome = Result<(), Exit>;

/// Runs a command; returns its exit code.
pub fn run(args: &Args) -> u8 {
    let outcome = match &args.command {
        Command::Compile(args) => compile(args),
        Command::Import(args) => import(args),
        Command::Plan(args) => show_plan(args),
        Command::Diff(args) => diff(args),
        Command::Explain(args) => explain(args),
        Command::Verify(args) => verify(args),
        Command::Dsa(args) => dsa(args),
        Command::Synth(args) => synth(args),
        Command::Bench(args) => bench(args),
        Command::Schema(args) => say(&if args.costs { costs::schema() } else { model::schema() }),
    };
    match outcome {
        Ok(()) => 0,
        Err(Exit(code)) => code,
    }
}

/// Prints to standard output; a closed pipe is not an error of the command.
fn say(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(vec![Diagnostic::new(
            codes::STDOUT,
            format!("cannot write to standard output: {e}"),
        )]
        .into()),
        _ => Ok(()),
    }
}

fn options(args: &ModelArgs) -> Result<Options, Exit> {
    Ok(Options {
        load: LoadOptions {
            context: args.context,
            batch: args.batch,
        },
        fuse: args.fuse,
        layout: args.layout.map(Into::into),
        debug: None,
        order: args.order.map(Into::into),
        costs: args.costs.as_deref().map(costs::read).transpose()?,
    })
}

fn planned(args: &ModelArgs) -> Result<Planned, Exit> {
    Ok(compile::plan(&args.model, &options(args)?)?)
}

/// Plans near an earlier report, if there is one, and says what became of it.
fn hinted(args: &ModelArgs, hint: Option<&Path>) -> Result<Planned, Exit> {
    let Some(path) = hint else { return planned(args) };
    let hint = Hint::new(&report::load(path)?);
    let planned = compile::plan_near(&args.model, &options(args)?, &hint)?;
    eprintln!("{}", hint.outcome(&planned.layout, &planned.model.graph.name));
    Ok(planned)
}

/// Says which budgets are exceeded, and which memories are too small.
fn budgets(planned: &Planned) -> Outcome {
    let short = shortage::diagnostics(planned);
    if !short.is_empty() {
        let source = &planned.model.source;
        let texts = [(source.name.as_str(), source.text.as_str())];
        let colour = std::io::stderr().is_terminal();
        eprint!("{}", diag::render(&short, texts.as_slice(), colour));
    }
    let over = planned.report.over_budget();
    over.iter().for_each(|message| eprint!("{message}"));
    if over.is_empty() && short.is_empty() {
        Ok(())
    } else {
        Err(Exit(OVER_BUDGET))
    }
}

/// A bar on a terminal, nothing in a pipe.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("packing {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn compile(args: &Compile) -> Outcome {
    let mut planned = hinted(&args.model, args.hint.as_deref())?;
    if let Some(emit) = args.emit {
        return intermediate(&planned, emit);
    }
    budgets(&planned)?;
    let default = || Path::new("generated").join(&planned.model.graph.name);
    let out = args.output.clone().unwrap_or_else(default);
    let bar = progress_bar();
    let folder = compile::compile(&mut planned, &out, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    planned.warnings.iter().for_each(|line| eprintln!("warning: {line}"));
    let totals = &planned.report.totals;
    say(&format!(
        "{}: arena {} bytes, lower bound {}, {}; without reuse {}\n",
        folder.display(),
        totals.arena_bytes,
        totals.lower_bound_bytes,
        totals.status,
        totals.naive_bytes
    ))
}

fn intermediate(planned: &Planned, emit: Emit) -> Outcome {
    let entries = planned.layout.entries.iter();
    let text = match emit {
        Emit::Graph => dump(&planned.model.graph),
        Emit::Fused => entries
            .map(|e| format!("entry {}\n{}\n", e.entry.name, dump(&e.entry.graph)))
            .collect(),
        Emit::Steps => {
            let files = planned.files(&crate::emit::RuntimePath::Carried);
            let wanted = entries.map(|e| format!("src/{}.rs", e.entry.name));
            let text = |path: String| files.iter().find(|f| f.path == path).map(|f| f.text.clone());
            wanted.filter_map(text).collect()
        }
        Emit::Plan => report::to_text(&planned.report),
    };
    say(&text)
}

fn import(args: &Import) -> Outcome {
    let dtype = args.dtype.as_deref().map(dtype).transpose()?;
    let folder = args.output.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let imported = import::import(&args.from, &import::Options { dtype, folder })?;
    match &args.output {
        None => say(&imported.yaml),
        Some(path) => output::write_file(path, imported.yaml.as_bytes()).map_err(|problem| vec![problem].into()),
    }
}

/// The type of that name.
fn dtype(name: &str) -> Result<DType, Exit> {
    DType::from_name(name).ok_or_else(|| {
        let known: Vec<_> = DType::ALL.iter().map(|d| d.name()).collect();
        let help = format!("known are {}", known.join(", "));
        vec![Diagnostic::new(codes::UNKNOWN_TYPE, format!("unknown type `{name}`")).help(help)].into()
    })
}

fn show_plan(args: &Plan) -> Outcome {
    if !args.sweep.is_empty() {
        return show_sweep(args);
    }
    let planned = hinted(&args.model, args.hint.as_deref())?;
    say(&match (args.json, args.html) {
        (true, _) => report::to_json(&planned.report),
        (_, true) => planned.page(),
        _ => explain::totals(&planned.report),
    })?;
    budgets(&planned)
}

fn show_sweep(args: &Plan) -> Outcome {
    let options = options(&args.model)?;
    let axes = sweep::axes(&args.sweep, &options).map_err(|failure| {
        // Said as any wrong input is, but it is the command line that is wrong.
        let _ = Exit::from(failure);
        Exit(super::USAGE)
    })?;
    let sweep = sweep::sweep(&args.model.model, &options, &axes);
    say(&if args.json { sweep.to_json() } else { sweep.to_table() })?;
    let mut outcome = if sweep.over_budget() {
        Err(Exit(OVER_BUDGET))
    } else {
        Ok(())
    };
    for failure in sweep.failures {
        outcome = Err(failure.into());
    }
    outcome
}

fn diff(args: &Diff) -> Outcome {
    // Bad input is 2 here: 1 is taken by nothing, 3 by budgets, so that CI can tell them apart.
    let read = |path: &Path| {
        report::load(path).map_err(|problems| {
            let _ = Exit::from(problems);
            Exit(super::USAGE)
        })
    };
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let diff = report::diff(
        &old,
        &new,
        DiffOptions {
            max_arena_growth: args.max_arena_growth,
        },
    );
    say(&if args.json {
        diff.to_json()
    } else if args.markdown {
        diff.to_markdown()
    } else {
        diff.to_string()
    })?;
    match diff.verdict().exit_code() {
        0 => Ok(()),
        code => Err(Exit(code)),
    }
}

fn explain(args: &Explain) -> Outcome {
    let planned = planned(&args.model)?;
    match explain::node(&planned, &args.node) {
        Ok(text) => say(&text),
        Err(problem) => Err(vec![problem].into()),
    }
}

fn verify(args: &Verify) -> Outcome {
    if args
        .model
        .model
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("json"))
    {
        return verify_report(&args.model.model);
    }
    let mut planned = planned(&args.model)?;
    let options = verify::Options {
        ids: args.ids.clone(),
        threads: args.threads,
    };
    let outcome = verify::verify(&mut planned, &options)?;
    if args.verbose {
        say(&outcome.table())?;
    }
    match outcome.problem() {
        None => say(&format!("{outcome}\n")),
        Some(problem) => Err(vec![problem.in_file(&planned.model.source.name)].into()),
    }
}

/// Checks a layout report by itself.
fn verify_report(path: &Path) -> Outcome {
    let report = report::load(path)?;
    let totals = &report.totals;
    let rows = (report.steps.len(), report.tensors.len(), report.weights.len());
    say(&format!(
        "{}: {} steps, {} tensors and {} weights in {} bytes break no rule; lower bound {}, {}\n",
        report.header.model, rows.0, rows.1, rows.2, totals.arena_bytes, totals.lower_bound_bytes, totals.status
    ))
}

/// What `--lb` takes of the nodes that a search may look at: one part of so many.
const LB: u64 = 64;

fn dsa(args: &Dsa) -> Outcome {
    let name = args.input.display().to_string();
    let failed = |what: String| Exit::from(vec![Diagnostic::new(codes::BUFFERS, what).in_file(&name)]);
    let text = std::fs::read_to_string(&args.input).map_err(|e| failed(format!("cannot read the buffers: {e}")))?;
    let table = plan::csv::read(&text).map_err(|faults| {
        let diagnostic = |fault: plan::csv::CsvError| {
            Diagnostic::new(codes::BUFFERS, fault.to_string())
                .in_file(&name)
                .at(fault.span, "")
        };
        Exit::from(Failure {
            diagnostics: faults.into_iter().map(diagnostic).collect(),
            source: Some(model::Source {
                name: name.clone(),
                text: text.clone(),
            }),
        })
    })?;
    if args.lb {
        let bound = plan::bound(&table.problem, args.nodes / LB).map_err(|e| failed(e.to_string()))?;
        return say(&format!("lower bound {bound}\n"));
    }
    let options = plan::Options {
        nodes: if args.fast { 0 } else { args.nodes },
        capacity: args.capacity,
    };
    let solution = plan::solve_with(&table.problem, &options).map_err(|e| failed(e.to_string()))?;
    let violations = plan::verify(&table.problem, &solution);
    if let Some(violation) = violations.first() {
        return Err(failed(format!("the planner made a wrong layout: {violation:?}")));
    }
    let fits = args.capacity.is_none_or(|capacity| solution.peak <= capacity);
    if let Some(path) = args.output.as_ref().filter(|_| fits) {
        output::write_file(path, plan::csv::write(&table, &solution).as_bytes()).map_err(|problem| vec![problem])?;
    }
    say(&format!(
        "peak {} lower bound {} {} nodes {}\n",
        solution.peak, solution.lower_bound, solution.status, solution.nodes
    ))?;
    if fits { Ok(()) } else { Err(Exit(OVER_BUDGET)) }
}

fn synth(args: &Synth) -> Outcome {
    let dtype = args.dtype.as_deref().map(dtype).transpose()?;
    let (model, diagnostics) = match model::read(&args.model) {
        Ok(source) => {
            let text = source.clone();
            let (model, diagnostics) = model::load(source, &LoadOptions::default());
            (
                model,
                Failure {
                    diagnostics,
                    source: Some(text),
                },
            )
        }
        Err(problem) => (None, problem.into()),
    };
    let Some(model) = model else {
        return Err(diagnostics.into());
    };
    let out = args.output.clone().unwrap_or_else(|| model.weights.clone());
    let bar = progress_bar();
    import::synth::synth(&model.graph, &out, args.seed, dtype, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    say(&format!("{}\n", out.display()))
}

/// Heads, key/value heads and elements of a head of Llama-3.2-1B, whose shape the other defaults have too.
const HEADS: (usize, usize, usize) = (32, 8, 64);

fn refused(e: ck_runtime::Error) -> Exit {
    vec![Diagnostic::from_lines(
        codes::NOT_MEASURED,
        &format!("cannot measure: {e}"),
    )]
    .into()
}

/// The weight types of these names.
fn dtypes(names: &[String]) -> Result<Vec<DType>, Exit> {
    names.iter().map(|name| dtype(name)).collect()
}

/// The instruction set of that name, which has rows in tables of costs.
fn tier(name: &str) -> Result<&'static str, Exit> {
    costs::TIERS.into_iter().find(|tier| *tier == name).ok_or_else(|| {
        let message = format!("cannot measure: `{name}` is no instruction set of a table of costs");
        let help = format!("known are {}", costs::TIERS.join(", "));
        vec![Diagnostic::new(codes::NOT_MEASURED, message).help(help)].into()
    })
}

/// Measures rows of this machine's tiers; the others are those of `known`.
fn calibrate(known: &costs::Costs, args: &MeasureKernels) -> Outcome {
    let what = costs::calibrate::What {
        threads: args.measure.threads,
        tier: args.measure.isa.as_deref().map(tier).transpose()?,
        dtypes: dtypes(&args.dtype)?,
    };
    // What cannot be written is refused before anything is measured.
    let draft = args.output.as_deref().map(output::Draft::of).transpose();
    let draft = draft.map_err(|problem| vec![problem])?;
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("measuring {bar:40} {pos}/{len} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let measured = costs::calibrate::calibrate(known, &what, &mut |what, done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.set_message(what.to_owned());
    });
    bar.finish_and_clear();
    let text = costs::write(&measured.map_err(refused)?);
    match draft {
        None => say(&text),
        Some(draft) => draft.finish(text.as_bytes()).map_err(|problem| vec![problem].into()),
    }
}

fn bench(args: &Bench) -> Outcome {
    let config = |args: &MeasureArgs| Config {
        threads: args.threads,
        isa: args.isa.clone(),
        check: false,
    };
    match &args.what {
        Measure::Machine(args) => {
            let machine = bench::machine(&config(args)).map_err(refused)?;
            say(&if args.json { json(&machine) } else { machine.to_text() })
        }
        Measure::Kernels(args) => {
            let table = args.costs.as_deref().map(costs::read).transpose()?;
            let table = table.as_ref().unwrap_or_else(|| costs::Costs::standard());
            if args.calibrate {
                return calibrate(table, args);
            }
            let types = match args.dtype.as_slice() {
                [] => DType::ALL.to_vec(),
                names => dtypes(names)?,
            };
            let mix: Vec<(DType, usize)> = types.iter().map(|dtype| (*dtype, 1)).collect();
            let shapes = bench::Shapes {
                choices: table.choices(&mix),
                dtypes: types,
                matrices: args.shape.clone(),
                tokens: args.tokens.clone(),
                depths: args.depth.clone(),
                heads: HEADS,
            };
            let bar = ProgressBar::new_spinner();
            let report = bench::kernels(&config(&args.measure), &shapes, &mut |row| {
                bar.set_message(row.to_text());
                bar.tick();
            });
            bar.finish_and_clear();
            let report = report.map_err(refused)?;
            say(&if args.measure.json {
                json(&report)
            } else {
                report.to_text()
            })
        }
    }
}

/// Pretty, with a newline at the end.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

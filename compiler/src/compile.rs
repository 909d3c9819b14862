//! From a model description to a layout, a report and a crate: what `ckc compile`, `plan`, `explain` and `verify` share.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use ck_kernels::isa::Choices;

use crate::codes;
use crate::costs::{Chosen, Costs};
use crate::diag::Diagnostic;
use crate::emit::{self, File, Origin, RuntimePath};
use crate::fuse::{self, Flags};
use crate::graph::RopeScaling;
use crate::layout::debug::DebugMode;
use crate::layout::describe::{About, describe};
use crate::layout::hint::Hint;
use crate::layout::{self, Kind, Layout};
use crate::model::{self, LoadOptions, Model};
use crate::output::Stage;
use crate::pack::{self, Blob, Item, Piece, Request, rope};
use crate::report::{self, Report};
use crate::schedule::{self, order};
use crate::source::Source;
use crate::tokenizer::{self, GgufVocab, TokenizerProblem};

/// The hint where the compiler's own plan breaks a rule.
const OWN_BUG: &str = "this is a bug in ckc: its own layout report breaks a rule; please report it with the model";

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Limits.
    pub load: LoadOptions,
    /// Allowed fusions, instead of the file's flags and sites.
    pub fuse: Option<Flags>,
    /// Packed or stride.
    pub layout: Option<Kind>,
    /// Canaries and poison.
    pub debug: Option<DebugMode>,
    /// Order of the steps.
    pub order: Option<order::Kind>,
    /// What kernels cost, instead of the committed table.
    pub costs: Option<Costs>,
}

/// A model with its layout: everything that is known without the weights.
pub struct Planned {
    /// The description.
    pub model: Model,
    /// Where every byte is.
    pub layout: Layout,
    /// The report, without hashes of weights.
    pub report: Report,
    /// What ties the weights file to the program.
    pub hash: [u8; 32],
    /// What may be fused.
    pub fusion: fuse::Config,
    /// Which kernels take over from how many tokens on.
    pub choices: Choices,
    /// What [`Planned::pack`] found odd in the inputs, each with its file, and left out.
    pub warnings: Vec<String>,
}

/// Everything that is wrong, and the text it is wrong in.
#[derive(Debug)]
pub struct Failure {
    /// The problems.
    pub diagnostics: Vec<Diagnostic>,
    /// The description, if it could be read.
    pub source: Option<model::Source>,
}

impl From<Vec<Diagnostic>> for Failure {
    fn from(diagnostics: Vec<Diagnostic>) -> Failure {
        Failure {
            diagnostics,
            source: None,
        }
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Failure {
        vec![diagnostic].into()
    }
}

/// Loads, schedules, lays out and describes a model.
///
/// # Errors
/// Every problem of the description.
pub fn plan(path: &Path, options: &Options) -> Result<Planned, Failure> {
    plan_near(path, options, &Hint::default())
}

/// [`plan`], where of all layouts of equal size one near the hint is preferred.
///
/// # Errors
/// As [`plan`].
pub fn plan_near(path: &Path, options: &Options, hint: &Hint) -> Result<Planned, Failure> {
    let source = model::read(path)?;
    let text = source.clone();
    let fail = |diagnostics| Failure {
        diagnostics,
        source: Some(text.clone()),
    };
    let (model, diagnostics) = model::load(source, &options.load);
    let Some(model) = model else {
        return Err(fail(diagnostics));
    };
    let fusion = match options.fuse {
        Some(flags) => fuse::Config {
            flags,
            sites: Vec::new(),
        },
        None => model.fusion.clone(),
    };
    let kind = options.layout.unwrap_or(model.layout);
    let debug = options.debug.unwrap_or(model.debug);
    let costs = options.costs.as_ref().unwrap_or_else(|| Costs::standard());
    let chosen = Chosen {
        costs,
        choices: costs.choices_of(&model.graph),
    };
    let entries = schedule::entries(&model.graph, &fusion, Some(&chosen));
    let settings = layout::Settings {
        kind,
        order: options.order.unwrap_or(model.order),
        debug,
        memories: &model.memories,
        hint,
    };
    let layout = layout::lay_out(&model.graph, entries, &settings).map_err(|e| {
        fail(vec![
            Diagnostic::new(codes::LAYOUT, e.to_string()).in_file(&model.source.name),
        ])
    })?;
    let about = About {
        model: &model.graph,
        yaml_sha256: &model.sha256,
        fuse: fusion.flags,
        weights_dtype: model.dtype.name(),
        budget: model.budget,
        chosen: &chosen,
    };
    let report = describe(&layout, &about);
    let violations = report::check(&report);
    if !violations.is_empty() {
        let ours = |v: &report::Violation| v.diagnostic().in_file(&model.source.name).help(OWN_BUG);
        return Err(fail(violations.iter().map(ours).collect()));
    }
    let hash = emit::layout_hash(&report);
    Ok(Planned {
        model,
        layout,
        report,
        hash,
        fusion,
        choices: chosen.choices,
        warnings: Vec::new(),
    })
}

impl Planned {
    /// The pieces of the packed file, in its order.
    fn pieces(&self, source: &Source) -> Result<Vec<Piece>, Vec<Diagnostic>> {
        let graph = &self.model.graph;
        let mut pieces = Vec::new();
        let mut problems = Vec::new();
        for (index, (r, place)) in graph.ropes.iter().zip(&self.layout.ropes).enumerate() {
            match rope::table(r, graph.context, source) {
                Ok(bytes) => pieces.push(Piece::Blob(Blob {
                    name: format!("rope_{index}"),
                    bytes,
                    offset: place.payload,
                    source: match &r.scaling {
                        RopeScaling::Factors { source } => Some(source.clone()),
                        _ => None,
                    },
                })),
                Err(problem) => problems.push(problem),
            }
        }
        for (w, place) in graph.weights.iter().zip(&self.layout.weights) {
            pieces.push(Piece::Tensor(Item {
                source: w.source.clone(),
                rows: w.rows,
                cols: w.cols,
                vector: w.vector,
                dtype: w.dtype,
                offset: place.payload,
            }));
        }
        if problems.is_empty() { Ok(pieces) } else { Err(problems) }
    }

    /// Packs the weights and the tokenizer to `out`, and fills hashes and source types into the report.
    ///
    /// # Errors
    /// Everything that is wrong with weights and tokenizer at once, or what went wrong while writing.
    pub fn pack(&mut self, out: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Vec<Diagnostic>> {
        let (source, tables) = (Source::open(&self.model.weights), self.tokenizer());
        let (source, tables) = match (source, tables) {
            (Ok(source), Ok((tables, warnings))) => {
                self.warnings = warnings;
                (source, tables)
            }
            (source, tables) => {
                let problems = source
                    .err()
                    .into_iter()
                    .flatten()
                    .chain(tables.err().into_iter().flatten());
                return Err(problems.collect());
            }
        };
        let pieces = self.pieces(&source)?;
        let request = Request {
            model: &self.model.graph.name,
            layout_hash: self.hash,
            pieces: &pieces,
            payload_bytes: self.layout.payload_bytes,
            tokenizer: &tables,
        };
        let summary = pack::pack(&source, &request, out, progress)?;
        for packed in &summary.pieces {
            if let Some(row) = self.report.weights.iter_mut().find(|r| r.name == packed.name) {
                row.hash = format!("{:016x}", packed.hash);
                row.dtype_source = packed
                    .source_dtype
                    .map_or("computed", ck_kernels::dtype::DType::name)
                    .into();
            }
        }
        Ok(())
    }

    /// The tokenizer's tables, empty if the model has none, and warnings.
    fn tokenizer(&self) -> Result<(Vec<u8>, Vec<String>), Vec<Diagnostic>> {
        match &self.model.tokenizer {
            Some(path) => tokenizer_tables(path),
            None => Ok(Default::default()),
        }
    }

    /// The layout report as a page.
    ///
    /// # Panics
    /// If the template names what is not in the report: a bug of the compiler.
    pub fn page(&self) -> String {
        report::to_html(&self.report).expect("the template names what is in the report")
    }

    /// The crate's files without the weights: sources, manifests, and the report in its three forms.
    pub fn files(&self, runtime: &RuntimePath) -> Vec<File> {
        let origin = Origin {
            model: &self.model.graph.name,
            hash: self.hash,
            choices: self.choices,
            report: &self.report,
        };
        let mut files = emit::emit(&self.layout, &origin, runtime);
        let form = |path: &str, text| File {
            path: path.into(),
            text,
        };
        files.push(form("layout.json", report::to_json(&self.report)));
        files.push(form("layout.txt", report::to_text(&self.report)));
        files.push(form("layout.html", self.page()));
        if *runtime == RuntimePath::Carried {
            files.extend(emit::write_runtime());
        }
        files
    }
}

/// The tables of a tokenizer.json, its folder, or a GGUF file, and warnings.
fn tokenizer_tables(path: &Path) -> Result<(Vec<u8>, Vec<String>), Vec<Diagnostic>> {
    let place = path.display().to_string();
    let failed = |problems: Vec<TokenizerProblem>| {
        problems
            .into_iter()
            .map(|p| Diagnostic::from(p).in_file(&place))
            .collect::<Vec<_>>()
    };
    if path.extension().is_none_or(|e| e != "gguf") {
        return Ok((tokenizer::from_hf(path).map_err(failed)?, Vec::new()));
    }
    let source = Source::open(path)?;
    let metadata = source.gguf_metadata().expect("a GGUF file has metadata");
    match GgufVocab::from_metadata(metadata).map_err(failed)? {
        Some(vocab) => {
            let tables = tokenizer::from_gguf(&vocab).map_err(failed)?;
            let warnings = tables.left_out.iter().map(|what| format!("{place}: {what}"));
            Ok((tables.blob, warnings.collect()))
        }
        None => Err(vec![
            Diagnostic::new(codes::NO_VOCABULARY, "the file has no vocabulary")
                .in_file(&place)
                .help("remove `tokenizer` from the YAML"),
        ]),
    }
}

/// Compiles a model into a crate with its weights beside it; returns the folder.
///
/// Everything is written to a folder beside the target first and moved when it is whole, so that a failure or an
/// interruption leaves the target as it was.
///
/// # Errors
/// Every problem of the inputs; or what went wrong while writing.
pub fn compile(
    planned: &mut Planned,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PathBuf, Vec<Diagnostic>> {
    let failed = |what: &str, path: &Path, e: std::io::Error| {
        vec![Diagnostic::new(codes::UNWRITABLE, format!("cannot {what}: {e}")).in_file(path.display().to_string())]
    };
    check_target(out)?;
    let stage = Stage::beside(out).map_err(|e| failed("write beside the folder", out, e))?;
    let weights = format!("{}.ckw", planned.model.graph.name);
    planned.pack(&stage.path().join(&weights), progress)?;
    let files = planned.files(&RuntimePath::find(out));
    for file in &files {
        let written = stage.write(&file.path, &file.text);
        written.map_err(|e| failed("write", &out.join(&file.path), e))?;
    }
    let names: Vec<&str> = files
        .iter()
        .map(|f| f.path.as_str())
        .chain([weights.as_str()])
        .collect();
    let installed = stage.install(out, names.iter().copied());
    let installed = installed.and_then(|()| remove_stale(out, &names));
    installed.map_err(|e| failed("replace", out, e))?;
    Ok(out.to_path_buf())
}

/// A folder that holds anything but a runner crate or a layout report is not written to.
fn check_target(out: &Path) -> Result<(), Vec<Diagnostic>> {
    let entries = match std::fs::read_dir(out) {
        Ok(entries) => entries,
        Err(_) if out.exists() => {
            let message = "the output is a file; a folder is needed";
            return Err(vec![
                Diagnostic::new(codes::NOT_A_FOLDER, message).in_file(out.display().to_string()),
            ]);
        }
        Err(_) => return Ok(()),
    };
    let crate_of_ours = || {
        let manifest = std::fs::read_to_string(out.join("Cargo.toml"));
        manifest.is_ok_and(|text| text.starts_with("# @generated by ckc"))
    };
    let report = |name: &OsStr| ["layout.json", "layout.txt", "layout.html"].iter().any(|r| name == *r);
    if entries.flatten().all(|entry| report(&entry.file_name())) || crate_of_ours() {
        return Ok(());
    }
    let message = "the output folder holds something that ckc did not write";
    Err(vec![
        Diagnostic::new(codes::FOREIGN_FOLDER, message)
            .in_file(out.display().to_string())
            .help("name an empty or new folder with `-o`"),
    ])
}

/// Removes sources and weights of an earlier compilation that are not written any more.
fn remove_stale(out: &Path, names: &[&str]) -> std::io::Result<()> {
    let starts_with = |path: &Path, magic: &[u8]| {
        let mut head = vec![0; magic.len()];
        std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok()) && head == magic
    };
    for entry in std::fs::read_dir(out)?.chain(std::fs::read_dir(out.join("src"))?) {
        let entry = entry?;
        let path = entry.path();
        let magic: &[u8] = match path.extension().and_then(OsStr::to_str) {
            Some("rs") => b"// @generated by ckc",
            Some("ckw") => ck_runtime::weights::MAGIC,
            _ => continue,
        };
        let kept = names.iter().any(|name| out.join(name) == path);
        if !kept && entry.file_type()?.is_file() && starts_with(&path, magic) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_model_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        write("new.ckw", b"CKWEIGHT...");
        write("old.ckw", b"CKWEIGHT...");
        write("mine.ckw", b"not weights");
        write("short.ckw", b"CK");
        write("src/old.rs", b"// @generated by ckc 0.1.0\n");
        write("src/mine.rs", b"fn mine() {}");
        remove_stale(dir.path(), &["new.ckw"]).unwrap();
        let left = |folder: &str| {
            let entries = std::fs::read_dir(dir.path().join(folder)).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(left(""), ["mine.ckw", "new.ckw", "short.ckw", "src"]);
        assert_eq!(left("src"), ["mine.rs"]);
    }
}

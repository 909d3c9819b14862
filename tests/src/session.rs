//! A model compiled and run in this process: kernels, arena and pool of a runner, no crate and no cargo.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ck_kernels::dtype::DType;
use ck_runtime::{Config, Error, Machine};
use ckc::{
    compile::{self, Options, Planned},
    costs::Costs,
    diag::{self, Diagnostic},
    fuse::Flags,
    graph::interpret::{Interpreter, Select},
    import,
    layout::{Kind, debug::DebugMode},
    model::LoadOptions,
    schedule::order,
    verify::{PackedWeights, Program, open},
};
use tempfile::TempDir;

use crate::shared;

/// A description and its weights on disk.
pub struct Case {
    folder: TempDir,
    yaml: PathBuf,
}

/// How a case is compiled and run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Allowed fusions.
    pub fuse: Flags,
    /// Packed or stride.
    pub layout: Kind,
    /// Canaries and poison, instead of the description's.
    pub debug: Option<DebugMode>,
    /// Order of the steps.
    pub order: order::Kind,
    /// Instead of the description's context.
    pub context: Option<usize>,
    /// Instead of the description's batch.
    pub batch: Option<usize>,
    /// Workers.
    pub threads: usize,
    /// What kernels cost, instead of the committed table.
    pub costs: Option<&'static Costs>,
    /// The instruction set; the best there is if none is named.
    pub isa: Option<&'static str>,
}

impl Default for How {
    fn default() -> How {
        How {
            fuse: Flags::ALL,
            layout: Kind::Packed,
            debug: None,
            order: order::Kind::Memory,
            context: None,
            batch: None,
            threads: 2,
            costs: None,
            isa: None,
        }
    }
}

/// A compiled model with its memory and workers.
pub struct Session {
    /// What was compiled.
    pub planned: Planned,
    /// The memory and the workers.
    pub machine: Machine,
    program: Program,
    weights: PathBuf,
}

#[track_caller]
fn must<T>(what: &str, result: Result<T, Vec<Diagnostic>>) -> T {
    result.unwrap_or_else(|problems| panic!("{what}: {}", diag::render(&problems, [].as_slice(), false)))
}

impl Case {
    /// A golden model, imported with that `config*.json`; none if the golden data is absent.
    ///
    /// # Panics
    /// If it cannot be imported.
    pub fn golden(name: &str, config: &str) -> Option<Case> {
        let golden = shared(&format!("golden/{name}"))?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = folder.path().join("model");
        fs::create_dir(&model).expect("a new folder");
        for entry in fs::read_dir(&golden).expect("a golden folder") {
            let path = entry.expect("an entry of the folder").path();
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if file.starts_with("model") {
                // Not `copy`: the original may be read-only.
                fs::write(model.join(file), fs::read(&path).expect("weights")).expect("a copy");
            }
        }
        fs::write(model.join("config.json"), fs::read(golden.join(config)).expect(config)).expect("a copy");
        let options = import::Options {
            dtype: Some(DType::F32),
            folder: folder.path(),
        };
        let yaml = must(name, import::import(&model, &options)).yaml;
        Some(Case::at(folder, &yaml))
    }

    /// A description whose weights are in `file` beside it.
    pub fn new(yaml: &str, file: &str, weights: &[u8]) -> Case {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(file), weights).expect("the weights file");
        Case::at(folder, yaml)
    }

    /// A description whose paths are absolute.
    pub fn absolute(yaml: &str) -> Case {
        Case::at(tempfile::tempdir().expect("a temporary folder"), yaml)
    }

    fn at(folder: TempDir, yaml: &str) -> Case {
        let path = folder.path().join("model.yaml");
        fs::write(&path, yaml).expect("the description");
        Case { folder, yaml: path }
    }

    /// The description.
    pub fn path(&self) -> &Path {
        &self.yaml
    }

    /// Compiles the case.
    ///
    /// # Panics
    /// If it cannot be compiled.
    pub fn plan(&self, how: &How) -> Planned {
        let options = Options {
            load: LoadOptions {
                context: how.context,
                batch: how.batch,
            },
            fuse: Some(how.fuse),
            layout: Some(how.layout),
            debug: how.debug,
            order: Some(how.order),
            costs: how.costs.cloned(),
        };
        compile::plan(&self.yaml, &options).unwrap_or_else(|failure| {
            let text = fs::read_to_string(&self.yaml).unwrap_or_default();
            panic!("{}\n{text}", diag::render(&failure.diagnostics, [].as_slice(), false))
        })
    }

    /// Compiles and packs the case and opens it.
    ///
    /// # Panics
    /// If it cannot be compiled, packed or opened.
    pub fn open(&self, how: &How) -> Session {
        let mut planned = self.plan(how);
        let name: String = planned.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let weights = self.folder.path().join(name);
        if !weights.exists() {
            must("packing", planned.pack(&weights, &mut |_, _| {}));
        }
        let machine = machine(&planned, &weights, how);
        Session {
            program: Program::new(&planned.layout),
            planned,
            machine,
            weights,
        }
    }
}

fn machine(planned: &Planned, weights: &Path, how: &How) -> Machine {
    let config = Config {
        threads: Some(how.threads),
        isa: how.isa.map(str::to_owned),
        check: true,
    };
    open(planned, weights, &config).expect("a machine for the plan")
}

/// What activations are rounded to in front of quantised weights, and keys and values to f16, makes of logits: relative
/// Euclidean length.
const QUANTISED: f64 = 5e-3;
/// The same where activations and weights are rounded to bf16 for a matrix unit.
const TILES: f64 = 2e-2;

impl Session {
    /// The relative error that the rounding of the session's instruction set allows.
    pub fn allowed(&self) -> f64 {
        if self.machine.rounds_to_bf16() {
            TILES
        } else {
            QUANTISED
        }
    }

    /// Appends `ids` in one prefill; the logits of every token.
    ///
    /// # Panics
    /// If the ids are refused.
    pub fn prefill(&mut self, ids: &[u32]) -> Vec<f32> {
        let mut all = Vec::new();
        let each = |_, logits: &[f32]| all.extend_from_slice(logits);
        self.machine
            .prefill_each(&self.program, ids, each)
            .expect("ids that fit");
        all
    }

    /// Appends `ids` one by one; the logits of every token.
    ///
    /// # Panics
    /// If the ids are refused.
    pub fn decode(&mut self, ids: &[u32]) -> Vec<f32> {
        let one = |id: &u32| self.try_prefill(&[*id]).expect("an id that fits");
        ids.iter().flat_map(one).collect()
    }

    /// Appends `ids` as a runner's `prefill` does; the logits of the last one.
    ///
    /// # Errors
    /// The machine's.
    pub fn try_prefill(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        self.machine.prefill(&self.program, ids).map(<[f32]>::to_vec)
    }

    /// From the last of `logits` on, `n` tokens by the largest logit.
    pub fn greedy(&mut self, mut logits: Vec<f32>, n: usize) -> Vec<u32> {
        let vocab = self.planned.layout.logits.cols;
        let mut ids = Vec::with_capacity(n);
        for _ in 0..n {
            let last = &logits[logits.len() - vocab..];
            let best = (0..vocab).fold(0, |best, i| if last[i] > last[best] { i } else { best });
            ids.push(best as u32);
            logits = self.decode(&[best as u32]);
        }
        ids
    }

    /// Fills everything but the weights with NaN and starts over.
    pub fn dirty(&mut self) {
        self.machine.dirty(0xFF);
    }

    /// What the interpreter says on the weights as they are packed: the logits of every token.
    ///
    /// # Panics
    /// If it refuses.
    pub fn interpret(&self, ids: &[u32]) -> Vec<f32> {
        let graph = &self.planned.model.graph;
        let weights = PackedWeights::open(&self.planned, &self.weights).expect("the packed file");
        let mut interpreter = Interpreter::new(graph, &weights, Select::All).expect("a valid graph");
        let values = interpreter.run(ids).expect("ids that fit");
        values.rows(graph.outputs[0]).to_vec()
    }
}

//! Named arrays, of safetensors files or made up, and as weights for the interpreter.

use std::{collections::BTreeMap, fs, path::Path};

use ckc::graph::{
    Graph, WeightId,
    interpret::{WeightError, Weights},
};
use safetensors::{Dtype, SafeTensors};

/// Floats with a shape. Integers are kept as floats: the ids of the test models are small.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Extents, slowest first.
    pub shape: Vec<usize>,
    /// The elements, row-major.
    pub data: Vec<f32>,
}

impl Array {
    /// Rows and columns of the last axis.
    pub fn matrix(&self) -> (usize, usize) {
        let cols = self.shape.last().copied().unwrap_or(1);
        (self.data.len() / cols.max(1), cols)
    }

    /// The elements as token ids.
    pub fn ids(&self) -> Vec<u32> {
        self.data.iter().map(|&id| id as u32).collect()
    }

    /// The `index`-th of the sub-arrays along the first axis.
    pub fn part(&self, index: usize) -> &[f32] {
        let len = self.data.len() / self.shape[0];
        &self.data[index * len..][..len]
    }
}

/// Arrays by name, and the metadata of their file.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    arrays: BTreeMap<String, Array>,
    metadata: BTreeMap<String, String>,
}

impl Tensors {
    /// The tensors of a safetensors file.
    ///
    /// # Panics
    /// If it cannot be read, or holds other types than f32, bf16 and i32.
    pub fn open(path: &Path) -> Tensors {
        let mut tensors = Tensors::default();
        tensors.read(path);
        tensors
    }

    /// The tensors of a model folder, of one file or of shards.
    ///
    /// # Panics
    /// As [`Tensors::open`].
    pub fn open_model(folder: &Path) -> Tensors {
        let mut tensors = Tensors::default();
        for entry in fs::read_dir(folder).expect("a model folder") {
            let path = entry.expect("an entry of the model folder").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("model") && name.ends_with(".safetensors") {
                tensors.read(&path);
            }
        }
        tensors
    }

    fn read(&mut self, path: &Path) {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors header");
        self.metadata.extend(header.metadata().clone().unwrap_or_default());
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        for (name, view) in file.tensors() {
            let words = || view.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
            let data = match view.dtype() {
                Dtype::F32 => words().map(f32::from_le_bytes).collect(),
                Dtype::I32 => words().map(|b| i32::from_le_bytes(b) as f32).collect(),
                Dtype::BF16 => {
                    let halves = view.data().chunks_exact(2);
                    halves
                        .map(|b| f32::from_bits(u32::from_le_bytes([0, 0, b[0], b[1]])))
                        .collect()
                }
                other => panic!("{name} of {}: type {other:?}", path.display()),
            };
            let shape = view.shape().to_vec();
            self.arrays.insert(name, Array { shape, data });
        }
    }

    /// Adds an array.
    pub fn insert(&mut self, name: &str, shape: &[usize], data: Vec<f32>) {
        let shape = shape.to_vec();
        self.arrays.insert(name.into(), Array { shape, data });
    }

    /// The array of that name.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, name: &str) -> &Array {
        self.arrays.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// All arrays, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.arrays.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// Whether there is an array of that name.
    pub fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    /// The parameters of an op's golden file.
    ///
    /// # Panics
    /// If the file has none.
    pub fn params(&self) -> serde_json::Value {
        serde_json::from_str(&self.metadata["params"]).expect("params are JSON")
    }
}

/// The weights of a graph, by their source names.
pub struct Stored<'a> {
    /// Whose weights.
    pub graph: &'a Graph,
    /// Where they are.
    pub tensors: &'a Tensors,
}

impl Weights for Stored<'_> {
    fn row(&self, id: WeightId, row: usize, out: &mut [f32]) -> Result<(), WeightError> {
        let weight = self.graph.weight(id);
        let array = self
            .tensors
            .arrays
            .get(&weight.source)
            .ok_or("there is no such tensor")?;
        let shape = if weight.vector {
            vec![weight.cols]
        } else {
            vec![weight.rows, weight.cols]
        };
        if array.shape != shape {
            return Err(format!("shape {:?} instead of {shape:?}", array.shape).into());
        }
        out.copy_from_slice(&array.data[row * weight.cols..][..weight.cols]);
        Ok(())
    }

    fn vector(&self, source: &str, out: &mut [f32]) -> Result<(), WeightError> {
        let array = self.tensors.arrays.get(source).ok_or("there is no such tensor")?;
        if array.shape != [out.len()] {
            return Err(format!("shape {:?} instead of [{}]", array.shape, out.len()).into());
        }
        out.copy_from_slice(&array.data);
        Ok(())
    }
}

//! What quantised weights do to the shipped model, by the measure that counts: kernels against the interpreter on the
//! same weights.

use std::fs;
use std::path::Path;

use ck_kernels::{dtype::DType, quant};
use ck_runtime::tokenizer::{EncodeOptions, Tokenizer};
use ck_tests::{Case, Gguf, How, Tensors, k_quants, shared};
use ckc::tokenizer::from_hf;

/// Tokens of a window, and windows.
const WINDOW: usize = 64;
const WINDOWS: usize = 1;

/// The shipped model with weights of that type: made of its own, or, of types that are only read, from a file that has
/// them.
fn shipped(dtype: DType) -> Case {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let folder = models.join("shakespeare").canonicalize().expect("the shipped model");
    let shown = folder.display();
    let yaml = fs::read_to_string(models.join("shakespeare.yaml")).expect("the shipped description");
    let changed = |file: &str| {
        let weights = format!("file: {file}, dtype: {}", dtype.name());
        let changed = yaml
            .replace("file: shakespeare, dtype: bf16", &weights)
            .replace("tokenizer: shakespeare", &format!("tokenizer: {shown}"));
        assert_ne!(changed, yaml);
        changed
    };
    if quant::format(dtype).can_encode() {
        Case::absolute(&changed(&shown.to_string()))
    } else {
        let file = with_k_quants(dtype, &folder.join("model.safetensors"));
        Case::new(&changed("k.gguf"), "k.gguf", &file)
    }
}

/// A GGUF file with those tensors under their names, matrices as `dtype`.
fn with_k_quants(dtype: DType, safetensors: &Path) -> Vec<u8> {
    let tensors = Tensors::open(safetensors);
    let all = tensors.iter().fold(Gguf::default(), |file, (name, array)| {
        let (ggml_type, bytes) = match array.shape[..] {
            [_] => (0, array.data.iter().flat_map(|x| x.to_le_bytes()).collect()),
            _ => (dtype.ggml_id(), encoded(dtype, name, &array.data)),
        };
        file.tensor(name, &array.shape, ggml_type, bytes)
    });
    all.bytes(3)
}

/// Checked to be what they were, but for what rounding to `dtype` costs.
fn encoded(dtype: DType, name: &str, weights: &[f32]) -> Vec<u8> {
    let bytes = k_quants(dtype, weights);
    let mut read = vec![0.0; weights.len()];
    quant::format(dtype).decode_row(&bytes, &mut read);
    let length = |xs: &mut dyn Iterator<Item = f32>| xs.map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    let lost = length(&mut weights.iter().zip(&read).map(|(x, y)| x - y)) / length(&mut weights.iter().copied());
    assert!(lost < 0.1, "{name} as {}: {lost} of it are lost", dtype.name());
    bytes
}

/// Ids from the middle of the text.
fn ids(text: &str) -> Vec<u32> {
    let blob = from_hf(&ck_tests::shipped("")).expect("its tokenizer");
    let tokenizer = Tokenizer::new(&blob).expect("sound tables");
    let part = &text[text.len() / 2..][..8 * WINDOW * WINDOWS];
    let mut ids = tokenizer.encode_to_vec(part, EncodeOptions::default()).expect("text");
    ids.truncate(WINDOW * WINDOWS);
    ids
}

fn perplexity(ids: &[u32], mut logits: impl FnMut(&[u32]) -> Vec<f32>) -> f64 {
    let (mut sum, mut scored) = (0.0, 0);
    for window in ids.chunks(WINDOW) {
        let all = logits(window);
        let vocab = all.len() / window.len();
        for (row, next) in all.chunks_exact(vocab).zip(&window[1..]) {
            let most = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
            let total: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
            sum += total.ln() - f64::from(row[*next as usize] - most);
            scored += 1;
        }
    }
    (sum / f64::from(scored)).exp()
}

#[test]
fn quantised_kernels_lose_nothing() {
    let Some(text) = shared("data/tinyshakespeare.txt") else {
        return;
    };
    let text = fs::read_to_string(text).expect("a text");
    let ids = ids(&text);
    assert_eq!(ids.len(), WINDOW * WINDOWS);
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.quantised()) {
        let case = shipped(dtype);
        let mut session = case.open(&How::default());
        let want = perplexity(&ids, |window| session.interpret(window));
        let got = perplexity(&ids, |window| {
            session.dirty();
            session.prefill(window)
        });
        println!("{}: {got:.4}, interpreter {want:.4}", dtype.name());
        assert!((got / want - 1.0).abs() <= 2e-3, "{}: {got} for {want}", dtype.name());
    }
}

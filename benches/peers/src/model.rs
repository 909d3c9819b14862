//! A whole model, by candle-transformers.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use serde::Serialize;

use crate::Error;

/// Tokens a second.
#[derive(Serialize)]
pub struct Report {
    peer: &'static str,
    threads: usize,
    prefill: f64,
    decode: f64,
}

/// The speed of a prefill of `prompt` tokens and of `decode` tokens one by one, each from an empty cache; the second of two
/// passes counts.
pub fn measure(file: &Path, threads: usize, prompt: usize, decode: usize) -> Result<Report, Error> {
    if prompt.max(decode) > MAX_SEQ_LEN {
        return Err(format!("candle holds at most {MAX_SEQ_LEN} positions").into());
    }
    let mut reader = File::open(file)?;
    let content = Content::read(&mut reader)?;
    let embeddings = content.tensor_infos.get("token_embd.weight");
    let vocab = embeddings
        .ok_or("there is no tensor token_embd.weight")?
        .shape
        .dims2()?
        .0;
    let mut model = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
    // The same tokens as in the other measurements.
    let ids: Vec<u32> = (0..prompt.max(decode) as u64)
        .map(|i| (i * 2_654_435_761 % vocab as u64) as u32)
        .collect();
    let mut call = |ids: &[u32], at: usize| -> Result<(), Error> {
        model.forward(&Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?, at)?;
        Ok(())
    };
    // At position 0 the model begins anew.
    let mut pass = || -> Result<(f64, f64), Error> {
        let begin = Instant::now();
        call(&ids[..prompt], 0)?;
        let prefill = prompt as f64 / begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        for (at, id) in ids[..decode].iter().enumerate() {
            call(&[*id], at)?;
        }
        Ok((prefill, decode as f64 / begin.elapsed().as_secs_f64()))
    };
    pass()?;
    let (prefill, decode) = pass()?;
    Ok(Report {
        peer: "candle",
        threads,
        prefill,
        decode,
    })
}

impl Report {
    /// As lines.
    pub fn to_text(&self) -> String {
        format!(
            "{}, {} threads\n  prefill {:>9.1} tokens/s\n  decode  {:>9.1} tokens/s\n",
            self.peer, self.threads, self.prefill, self.decode
        )
    }
}

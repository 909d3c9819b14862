//! A model small enough to compute in one's head, written the way the compiler emits programs, and its weights file.
//!
//! With `h(p)` the embedding row of the id at position `p`: the body makes `x(p) = h(0) + ... + h(p)`, through a cache of
//! all `h`; the head makes `logits = W x`. All values are small integers, so that every order of summation gives the
//! same bits.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::fs::File;
use std::path::{Path, PathBuf};

use ck_runtime::kernels::dtype::ActType;
use ck_runtime::kernels::isa::Choices;
use ck_runtime::kernels::ops::{Ctx, Kernel, Slot};
use ck_runtime::kernels::partition::{Axis, split};
use ck_runtime::weights::Writer;
use ck_runtime::{Layout, Program, Segment, StepInfo, Worker};

pub const DIM: usize = 32;
pub const VOCAB: usize = 80;
pub const CONTEXT: usize = 50;
pub const BATCH: usize = 7;
const TABLE_BYTES: usize = VOCAB * DIM * 4;

/// Where things are: the table, the head's matrix, and what follows.
#[derive(Clone, Copy)]
struct Places {
    table: usize,
    head: usize,
    cache: Slot,
    ids: Slot,
    x: Slot,
    logits: Slot,
    end: usize,
}

/// Rows of the model's width.
const fn rows(offset: usize) -> Slot {
    Slot {
        offset,
        cols: DIM,
        act: ActType::F32,
    }
}

const fn places(table: usize, head: usize, rest: usize) -> Places {
    let cache = rows(rest);
    let ids = Slot {
        offset: cache.offset + CONTEXT * cache.stride(),
        cols: 1,
        act: ActType::U32,
    };
    let x = rows(ids.offset + 64);
    let logits = Slot {
        offset: x.offset + BATCH * x.stride(),
        cols: VOCAB,
        act: ActType::F32,
    };
    Places {
        table,
        head,
        cache,
        ids,
        x,
        logits,
        end: logits.offset + logits.stride(),
    }
}

const PACKED: Places = places(0, TABLE_BYTES, 2 * TABLE_BYTES);
/// The matrices change places and stand apart.
const STRIDE: Places = places(TABLE_BYTES + 128, 64, 2 * TABLE_BYTES + 192);

const SEGMENTS: &[Segment] = &[
    Segment {
        file_offset: 0,
        arena_offset: STRIDE.table,
        bytes: TABLE_BYTES,
    },
    Segment {
        file_offset: TABLE_BYTES,
        arena_offset: STRIDE.head,
        bytes: TABLE_BYTES,
    },
];

const fn step(id: &'static str, entry: &'static str, axis: Axis, extent: usize) -> StepInfo {
    StepInfo {
        id,
        entry,
        kernel: "test",
        axis,
        extent,
        barrier: None,
        workspace_offset: 0,
        workspace_bytes: 0,
        serial: None,
        flops_per_token: 2,
        weight_bytes: 128,
    }
}

const STEPS: &[StepInfo] = &[
    step("embed", "prefill", Axis::Columns { granule: 16 }, DIM),
    StepInfo {
        barrier: Some("reads \"cache\" of all workers"),
        ..step("sum", "prefill", Axis::Tokens { granule: 1 }, BATCH)
    },
    step("embed", "decode", Axis::Columns { granule: 16 }, DIM),
    StepInfo {
        serial: Some("one row"),
        ..step("sum", "decode", Axis::Serial, 1)
    },
    step("project", "head", Axis::Columns { granule: 16 }, VOCAB),
];

const fn layout(p: Places, hash: u8, segments: &'static [Segment]) -> Layout {
    Layout {
        model: "tiny",
        hash: [hash; 32],
        arena_bytes: p.end,
        weights_bytes: 2 * TABLE_BYTES,
        context: CONTEXT,
        batch: BATCH,
        vocab: VOCAB,
        ids: p.ids,
        logits: p.logits,
        kv_offset: p.cache.offset,
        kv_bytes: CONTEXT * p.cache.stride(),
        segments,
        choices: Choices::all_from(8),
        steps: STEPS,
    }
}

/// Embedding rows into the cache, by column.
#[derive(Clone, Copy)]
struct Embed(Places);
/// Prefix sums over the cache, by token.
#[derive(Clone, Copy)]
struct Sum(Places);
/// One row of logits, by column.
#[derive(Clone, Copy)]
struct Project(Places);
struct Fail(usize);

unsafe fn f32s<'a>(ctx: &Ctx<'_>, offset: usize, n: usize) -> &'a [f32] {
    // SAFETY: `at` checks the bounds; the caller keeps writers away.
    unsafe { std::slice::from_raw_parts(ctx.at(offset, 4 * n).cast(), n) }
}

impl Kernel for Embed {
    fn axis(&self) -> Axis {
        Axis::Columns { granule: 16 }
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let ids = ctx.rows(&self.0.ids, ctx.tokens).cast::<u32>();
        for t in 0..ctx.tokens {
            // SAFETY: `rows` checked the bounds; each worker writes its own columns.
            unsafe {
                let row = f32s(ctx, self.0.table + *ids.add(t) as usize * DIM * 4, DIM);
                let out = ctx
                    .at(self.0.cache.offset + (ctx.pos + t) * self.0.cache.stride(), DIM * 4)
                    .cast::<f32>();
                for c in split(DIM, 16, ctx.ith, ctx.nth) {
                    *out.add(c) = row[c];
                }
            }
        }
    }
}

impl Kernel for Sum {
    fn axis(&self) -> Axis {
        Axis::Tokens { granule: 1 }
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        for t in split(ctx.tokens, 1, ctx.ith, ctx.nth) {
            for c in 0..DIM {
                // SAFETY: `at` checks the bounds; each worker writes its own rows, all read the cache.
                unsafe {
                    let at = |p: usize| f32s(ctx, self.0.cache.offset + p * self.0.cache.stride(), DIM)[c];
                    let out = ctx.at(self.0.x.offset + t * self.0.x.stride(), DIM * 4).cast::<f32>();
                    *out.add(c) = (0..=ctx.pos + t).map(at).sum();
                }
            }
        }
    }
}

impl Kernel for Project {
    fn axis(&self) -> Axis {
        Axis::Columns { granule: 16 }
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let out = ctx.rows(&self.0.logits, 1).cast::<f32>();
        for v in split(VOCAB, 16, ctx.ith, ctx.nth) {
            // SAFETY: `at` and `rows` check the bounds; each worker writes its own columns.
            unsafe {
                let x = f32s(ctx, self.0.x.offset + ctx.row * self.0.x.stride(), DIM);
                let w = f32s(ctx, self.0.head + v * DIM * 4, DIM);
                *out.add(v) = x.iter().zip(w).map(|(x, w)| x * w).sum();
            }
        }
    }
}

impl Kernel for Fail {
    fn axis(&self) -> Axis {
        Axis::Serial
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        if ctx.ith == self.0 % ctx.nth && ctx.pos == 20 {
            std::panic::resume_unwind(Box::new("position 20"));
        }
    }
}

macro_rules! program {
    ($(#[$doc:meta])* $name:ident, $places:expr, $layout:expr $(, $fail:expr)?) => {
        $(#[$doc])*
        pub struct $name;

        impl Program for $name {
            const LAYOUT: Layout = $layout;

            fn prefill(w: &Worker<'_>) {
                assert!((2..=BATCH).contains(&w.tokens()));
                w.run(Embed($places));
                w.barrier();
                w.run(Sum($places));
            }

            fn decode(w: &Worker<'_>) {
                assert_eq!(w.tokens(), 1);
                w.run(Embed($places));
                w.barrier();
                $(w.run($fail);)?
                w.run(Sum($places));
            }

            fn head(w: &Worker<'_>) {
                assert_eq!(w.tokens(), 1);
                w.run(Project($places));
            }
        }
    };
}

program!(
    /// Weights mapped in front.
    Packed,
    PACKED,
    layout(PACKED, 1, &[])
);
program!(
    /// Weights between other things.
    Stride,
    STRIDE,
    layout(STRIDE, 2, SEGMENTS)
);
program!(
    /// The same program, for another plan.
    Other,
    PACKED,
    layout(PACKED, 3, &[])
);

program!(
    /// Fails on one worker, after a barrier, where one token is decoded at position 20.
    Failing,
    PACKED,
    layout(PACKED, 1, &[]),
    Fail(1)
);

fn table(id: usize, c: usize) -> f32 {
    ((id * 7 + c * 3) % 5) as f32 - 2.0
}

fn head(v: usize, c: usize) -> f32 {
    ((v * 11 + c * 5) % 7) as f32 - 3.0
}

/// What the model answers, after each of `ids`.
pub fn expected(ids: &[u32]) -> Vec<Vec<f32>> {
    let mut x = [0.0; DIM];
    ids.iter()
        .map(|&id| {
            (0..DIM).for_each(|c| x[c] += table(id as usize, c));
            (0..VOCAB).map(|v| (0..DIM).map(|c| x[c] * head(v, c)).sum()).collect()
        })
        .collect()
}

/// A deterministic prompt.
pub fn prompt(n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * i * 13 + i) as u32 % VOCAB as u32).collect()
}

/// Ids that [`tokenizer`] knows; the matrices have more rows.
pub const KNOWN: usize = VOCAB - 1;
/// Ends a text.
pub const EOS: u32 = KNOWN as u32 - 1;
/// Bytes of tokens 0 to 77: ASCII from the space on, then the two bytes of `é`.
pub fn token_byte(id: u32) -> u8 {
    match id {
        76 => 0xC3,
        77 => 0xA9,
        id => b' ' + id as u8,
    }
}

/// A tokenizer of bytes.
pub fn tokenizer() -> Vec<u8> {
    use ck_runtime::tokenizer::format::{HEADER_WORDS, Header, MAGIC, Model, NONE, SECTIONS, Section, token};
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let mut bytes = vec![NONE; 256];
    (0..EOS).for_each(|id| bytes[usize::from(token_byte(id))] = id);
    let mut sections = vec![Vec::new(); SECTIONS];
    sections[Section::TokenOffsets as usize] = words(&(0..=EOS).chain([EOS]).collect::<Vec<_>>());
    sections[Section::TokenBytes as usize] = (0..EOS).map(token_byte).collect();
    sections[Section::TokenFlags as usize] = (0..=EOS).map(|id| if id == EOS { token::SPECIAL } else { 0 }).collect();
    sections[Section::Bytes as usize] = words(&bytes);
    sections[Section::ClassIndex as usize] = vec![0; 0x1100 * 2];
    sections[Section::Eos as usize] = words(&[EOS]);
    let mut header = [0; HEADER_WORDS];
    header[Header::VocabLen as usize] = KNOWN as u32;
    header[Header::Model as usize] = Model::CharBpe.word();
    header[Header::Bos as usize] = NONE;
    header[Header::Unk as usize] = NONE;
    let mut end = MAGIC.len() + 4 * HEADER_WORDS + 8 * SECTIONS;
    let mut directory = Vec::new();
    for section in &sections {
        directory.extend([end as u32, section.len() as u32]);
        end += section.len();
    }
    header[Header::TotalBytes as usize] = end as u32;
    [MAGIC.to_vec(), words(&header), words(&directory), sections.concat()].concat()
}

/// Writes the weights of `layout` into `dir`.
pub fn pack(dir: &Path, layout: &Layout, tokenizer: &[u8]) -> PathBuf {
    let path = dir.join(format!("{}-{}.ckw", layout.model, layout.hash[0]));
    let mut writer = Writer::new(File::create(&path).unwrap()).unwrap();
    for value in [table, head] {
        for (row, c) in (0..VOCAB).flat_map(|row| (0..DIM).map(move |c| (row, c))) {
            writer.write(&value(row, c).to_le_bytes()).unwrap();
        }
    }
    writer.finish(layout.model, layout.hash, tokenizer).unwrap();
    path
}

//! The bytes of a row are those of its shape and element type. What a block of a type has is the kernels' to say; how
//! blocks and rows add up is said here again.

use ck_kernels::dtype::DType;

use super::Say;
use super::view::View;

/// Rows of an activation begin on a cache line.
const LINE: u128 = 64;

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    for (i, t) in view.report.tensors.iter().enumerate() {
        let place = format!("tensors[{i}]");
        let needed = match t.layout.as_str() {
            "scratch" | "positions in tiles of 16" => elements(&t.dtype, &t.shape),
            "row-major" if t.shape.len() == 2 => activation(&t.dtype, &t.shape),
            "row-major" => elements(&t.dtype, &t.shape),
            other => {
                say(
                    format!("{place}.layout"),
                    format!("no layout of elements is called `{other}`"),
                );
                continue;
            }
        };
        agree(needed, &t.id, &t.dtype, &t.shape, t.bytes, place, say);
    }
    for (i, w) in view.report.weights.iter().enumerate() {
        let place = format!("weights[{i}]");
        let needed = match (w.packed_layout.as_str(), &w.shape[..]) {
            ("16 rows interleaved", [rows, cols]) => matrix(&w.dtype, *rows, *cols),
            _ => elements(&w.dtype, &w.shape),
        };
        agree(needed, &w.name, &w.dtype, &w.shape, w.bytes, place, say);
    }
}

fn agree(needed: Option<u128>, id: &str, dtype: &str, shape: &[u64], bytes: u64, place: String, say: &mut Say<'_>) {
    // Of an endless shape the start says enough.
    let shown = &shape[..shape.len().min(8)];
    match needed {
        Some(needed) if needed == u128::from(bytes) => {}
        Some(needed) => {
            let message = format!("`{id}` has {bytes} bytes; {dtype} {shown:?} is {needed}");
            say(format!("{place}.bytes"), message);
        }
        None => say(place, format!("`{id}` cannot be {dtype} {shown:?}")),
    }
}

/// Bytes of dense elements.
fn elements(dtype: &str, shape: &[u64]) -> Option<u128> {
    let element = match dtype {
        "f32" | "u32" => 4,
        "f16" | "bf16" => 2,
        "u8" => 1,
        _ => return None,
    };
    shape
        .iter()
        .try_fold(element, |bytes: u128, n| bytes.checked_mul(u128::from(*n)))
}

/// Bytes of rows that each begin on a cache line; a column of ids is dense.
fn activation(dtype: &str, shape: &[u64]) -> Option<u128> {
    let (rows, cols) = (u128::from(shape[0]), u128::from(shape[1]));
    let row = match dtype {
        // Two bytes an element, a scale and a sum for a block of 32.
        "q8" if cols % 32 == 0 => 2 * cols + cols / 32 * 8,
        _ => elements(dtype, &shape[1..])?,
    };
    let row = if cols == 1 { row } else { row.next_multiple_of(LINE) };
    rows.checked_mul(row)
}

/// Bytes of a matrix whose rows are packed by sixteen.
fn matrix(dtype: &str, rows: u64, cols: u64) -> Option<u128> {
    let dtype = DType::from_name(dtype)?;
    let block = dtype.block_len() as u64;
    let row = cols
        .is_multiple_of(block)
        .then(|| u128::from(cols / block) * dtype.block_bytes() as u128)?;
    u128::from(rows).next_multiple_of(16).checked_mul(row)
}

//! `arena`: memories of different speed, the fastest first.

use super::codes;
use super::decode::{Lenient, Spanned};
use super::naming;
use super::sink::{Sink, Span};
use super::syntax::{Document, Memory as Entry};
use crate::diag::Diagnostic;
use crate::layout::Memory;

/// Memories of one file.
const MAX_MEMORIES: usize = 16;

/// Reads the memories. `None` after a mistake, which has been reported.
pub fn read(document: &Document, sink: &mut Sink) -> Option<Vec<(Memory, Span)>> {
    let Some(Lenient(arena)) = &document.arena else {
        return Some(Vec::new());
    };
    let Spanned { value: list, span } = arena.as_ref()?;
    if list.is_empty() {
        sink.error(codes::MEMORIES, "an arena has at least one memory", span, "none here");
    }
    if list.len() > MAX_MEMORIES {
        let message = format!("more than {MAX_MEMORIES} memories");
        sink.error(codes::TOO_LARGE, message, span, format!("{} of them", list.len()));
    }
    let known = list.iter().filter_map(|entry| entry.0.as_ref());
    naming::check_memories(known.filter_map(|entry| entry.name.0.as_ref()), sink);
    let read = list.iter().enumerate().map(|(i, Lenient(entry))| {
        let last = i + 1 == list.len();
        memory(entry.as_ref()?, last, sink)
    });
    // Every memory is looked at before the list is given up.
    let read: Vec<Option<_>> = read.collect();
    read.into_iter().collect()
}

fn memory(entry: &Entry, last: bool, sink: &mut Sink) -> Option<(Memory, Span)> {
    let name = entry.name.0.as_ref();
    let bytes = match &entry.bytes {
        Some(Lenient(bytes)) => Some(bytes.as_ref()?),
        None => None,
    };
    match bytes {
        Some(bytes) if bytes.value.0 == 0 => {
            sink.error(
                codes::OUT_OF_RANGE,
                "a memory holds at least a byte",
                &bytes.span,
                "no bytes",
            );
        }
        None if !last => {
            let name = name?;
            sink.push(
                Diagnostic::new(
                    codes::MEMORIES,
                    format!("`{}` needs `bytes`: only the last memory has no limit", name.value),
                )
                .at(name.span.clone(), "without `bytes`, and not the last")
                .help("memories are listed from the fastest to the slowest"),
            );
        }
        _ => {}
    }
    let name = name?;
    let memory = Memory {
        name: name.value.clone(),
        capacity: bytes.map(|bytes| bytes.value.0),
    };
    Some((memory, name.span.clone()))
}

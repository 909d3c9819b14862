//! Nothing is read before it is written, unless it was put there before: by the caller, or by another entry.

use super::Say;
use super::view::{Role, View};

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let tensors = &view.report.tensors;
    for (id, meeting) in &view.meetings {
        for reader in &meeting.readers {
            let tensor = &tensors[*reader];
            if meeting.writers.is_empty() {
                if tensor.region != "io" {
                    let message = format!(
                        "`{id}` is read in step {} of {}, and nothing writes it",
                        tensor.first, tensor.entry
                    );
                    say(format!("tensors[{reader}]"), message);
                }
                continue;
            }
            let most = meeting.writers.iter().map(|w| tensors[*w].bytes).max().unwrap_or(0);
            if tensor.bytes > most {
                let message = format!(
                    "{} reads {} bytes of `{id}`, and {most} are written",
                    tensor.entry, tensor.bytes
                );
                say(format!("tensors[{reader}].bytes"), message);
            }
        }
        let Some(reader) = meeting.readers.first() else {
            continue;
        };
        let found = &tensors[*reader];
        for other in meeting.writers.iter().chain(&meeting.readers) {
            let left = &tensors[*other];
            if left.offset != found.offset {
                let message = format!(
                    "`{id}` is at {} in {} and at {} in {}, which {} it",
                    found.offset,
                    found.entry,
                    left.offset,
                    left.entry,
                    if view.roles[*other] == Role::Left {
                        "writes"
                    } else {
                        "reads"
                    },
                );
                say(format!("tensors[{other}].offset"), message);
            }
        }
    }
}

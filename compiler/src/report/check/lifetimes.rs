//! A tensor's lifetime is from the first step that touches it to the last.

use super::Say;
use super::view::View;

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let tensors = &view.report.tensors;
    let mut used: Vec<Option<(u64, u64)>> = vec![None; tensors.len()];
    for line in view.lines.values() {
        for (position, step) in line.steps.iter().enumerate() {
            for touch in &view.touches[*step] {
                let position = position as u64;
                let (_, last) = used[touch.tensor].get_or_insert((position, position));
                *last = position;
            }
        }
    }
    for (i, tensor) in tensors.iter().enumerate().filter(|(_, t)| !t.entry.is_empty()) {
        let stated = (tensor.first, tensor.last);
        match used[i] {
            None => say(
                format!("tensors[{i}]"),
                format!("no step of {} touches `{}`", tensor.entry, tensor.id),
            ),
            Some(used) if used != stated => {
                let message = format!(
                    "`{}` lives in steps {}..={}, and is touched in {}..={}",
                    tensor.id, stated.0, stated.1, used.0, used.1
                );
                say(format!("tensors[{i}].first"), message);
            }
            Some(_) => {}
        }
    }
}

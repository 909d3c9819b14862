//! What a step has live is no less than the activations that it meets.

use std::collections::BTreeMap;

use super::Say;
use super::in_place::{Alias, alias};
use super::view::View;

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let r = view.report;
    // Where nothing is reused, what is live is that of the packed form.
    if r.header.options.layout == "stride" {
        return;
    }
    for line in view.lines.values() {
        // Bytes that are live from a step on, and no more.
        let mut events: BTreeMap<u64, (u128, u128)> = BTreeMap::new();
        for &t in &line.tensors {
            let tensor = &r.tensors[t];
            let from = match alias(view, t) {
                Alias::View => continue,
                // In the step that writes it, its bytes are those of the other one.
                Alias::TakesOver(_) => tensor.first.saturating_add(1),
                Alias::None => tensor.first,
            };
            if tensor.region == "activations" && from <= tensor.last {
                events.entry(from).or_default().0 += u128::from(tensor.bytes);
                events.entry(tensor.last.saturating_add(1)).or_default().1 += u128::from(tensor.bytes);
            }
        }
        let mut events = events.into_iter().peekable();
        let mut live = 0;
        for (position, step) in line.steps.iter().enumerate() {
            while let Some((_, (born, dead))) = events.next_if(|(at, _)| *at <= position as u64) {
                live = live + born - dead;
            }
            let stated = r.steps[*step].live_bytes;
            if u128::from(stated) < live {
                let message = format!(
                    "{stated}, but the tensors that `{}` meets have {live}",
                    r.steps[*step].id
                );
                say(format!("steps[{step}].live_bytes"), message);
            }
        }
    }
}

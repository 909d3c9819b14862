//! A report with its names looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use crate::report::types::{Report, Step, Tensor, WeightRow};

/// What a name in a step stands for, by position in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    Tensor(usize),
    Weight(usize),
}

/// The part of an operand that one worker touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Any of it.
    All,
    /// Its own rows.
    Rows { granule: u64 },
    /// Its own columns of every row.
    Columns { granule: u64 },
    /// Its own of so many heads of a cache.
    Heads { heads: u64 },
    /// An equal part of so many heads where the workers divide them, else any of it.
    Even { heads: u64 },
    /// A part that no other step's division shares.
    Private,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::All => f.write_str("all"),
            Part::Rows { granule } => write!(f, "rows/{granule}"),
            Part::Columns { granule } => write!(f, "columns/{granule}"),
            Part::Heads { heads } => write!(f, "heads/{heads}"),
            Part::Even { heads } => write!(f, "even/{heads}"),
            Part::Private => f.write_str("private"),
        }
    }
}

impl Part {
    /// The part of that name.
    pub fn parse(text: &str) -> Option<Part> {
        let granule = |digits: &str| digits.parse().ok().filter(|granule| *granule > 0);
        let heads = granule;
        match text.split_once('/') {
            None if text == "all" => Some(Part::All),
            None if text == "private" => Some(Part::Private),
            Some(("rows", digits)) => Some(Part::Rows {
                granule: granule(digits)?,
            }),
            Some(("columns", digits)) => Some(Part::Columns {
                granule: granule(digits)?,
            }),
            Some(("heads", digits)) => Some(Part::Heads { heads: heads(digits)? }),
            Some(("even", digits)) => Some(Part::Even { heads: heads(digits)? }),
            _ => None,
        }
    }
}

/// What a step does with a tensor, or with one of the parts that it touches.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// The tensor.
    pub tensor: usize,
    /// The part, if the report states one.
    pub part: Option<Part>,
    pub reads: bool,
    pub writes: bool,
}

/// One entry's steps in order.
#[derive(Debug, Default)]
pub struct Line {
    /// Positions in [`Report::steps`].
    pub steps: Vec<usize>,
    /// Positions in [`Report::tensors`] of the tensors that are the entry's own.
    pub tensors: Vec<usize>,
}

/// Bytes of a canary.
const CANARY: u64 = 64;

/// A report with its names looked up.
pub struct View<'a> {
    pub report: &'a Report,
    /// By entry.
    pub lines: BTreeMap<&'a str, Line>,
    /// What each step does with tensors, by position of the step; in the order of tensors.
    pub touches: Vec<Vec<Touch>>,
    /// Places of each step in its entry's line.
    pub positions: Vec<usize>,
    /// Place of the last step that writes each tensor, in its entry's line.
    pub written: Vec<Option<u64>>,
    /// What each tensor is to other entries.
    pub roles: Vec<Role>,
    /// Tensors that are read before their entry writes them, by id.
    pub meetings: BTreeMap<&'a str, Meeting>,
    tensors: BTreeMap<(&'a str, &'a str), usize>,
    weights: BTreeMap<&'a str, usize>,
}

/// What a tensor is to other entries than its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    #[default]
    Own,
    /// Read by another entry, which finds it where this one left it.
    Left,
    /// Read before its entry writes it.
    Found,
}

/// A tensor that one entry leaves for another.
#[derive(Debug, Default)]
pub struct Meeting {
    /// Positions of the tensors that hold it in entries that write it first.
    pub writers: Vec<usize>,
    /// Positions of the tensors that hold it in entries that read it first.
    pub readers: Vec<usize>,
}

impl<'a> View<'a> {
    pub fn new(report: &'a Report) -> View<'a> {
        let tensors: BTreeMap<_, _> = rev(&report.tensors)
            .map(|(i, t)| ((t.entry.as_str(), t.id.as_str()), i))
            .collect();
        let weights: BTreeMap<_, _> = rev(&report.weights).map(|(i, w)| (w.name.as_str(), i)).collect();
        let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
        for (i, step) in report.steps.iter().enumerate() {
            lines.entry(step.entry.as_str()).or_default().steps.push(i);
        }
        for (i, tensor) in report.tensors.iter().enumerate().filter(|(_, t)| !t.entry.is_empty()) {
            lines.entry(tensor.entry.as_str()).or_default().tensors.push(i);
        }
        let mut positions = vec![0; report.steps.len()];
        for line in lines.values_mut() {
            line.steps.sort_by_key(|i| report.steps[*i].index);
            for (position, step) in line.steps.iter().enumerate() {
                positions[*step] = position;
            }
        }
        let mut view = View {
            report,
            lines,
            touches: Vec::new(),
            positions,
            written: vec![None; report.tensors.len()],
            roles: vec![Role::Own; report.tensors.len()],
            meetings: BTreeMap::new(),
            tensors,
            weights,
        };
        view.touches = report.steps.iter().map(|step| view.touched(step)).collect();
        for (touches, position) in view.touches.iter().zip(&view.positions) {
            for touch in touches.iter().filter(|t| t.writes) {
                let last = &mut view.written[touch.tensor];
                *last = (*last).max(Some(*position as u64));
            }
        }
        view.meetings = view.meetings();
        for meeting in view.meetings.values() {
            meeting.writers.iter().for_each(|t| view.roles[*t] = Role::Left);
            meeting.readers.iter().for_each(|t| view.roles[*t] = Role::Found);
        }
        view
    }

    /// What `name` stands for in an entry: a tensor of its own, one that all share, or a weight.
    pub fn find(&self, entry: &str, name: &str) -> Option<Operand> {
        let tensor = self
            .tensors
            .get(&(entry, name))
            .or_else(|| self.tensors.get(&("", name)));
        tensor
            .map(|t| Operand::Tensor(*t))
            .or_else(|| self.weights.get(name).map(|w| Operand::Weight(*w)))
    }

    /// The tensor called `name` in an entry, or shared by all.
    pub fn tensor(&self, entry: &str, name: &str) -> Option<usize> {
        match self.find(entry, name)? {
            Operand::Tensor(tensor) => Some(tensor),
            Operand::Weight(_) => None,
        }
    }

    /// Bytes behind every buffer, and before the first of a region: none but in a program that watches its memory.
    pub fn canary(&self) -> u64 {
        let debug = &self.report.header.options.debug;
        if debug.iter().any(|d| d == "canaries") {
            CANARY
        } else {
            0
        }
    }

    /// The tensor that is the step's scratch.
    pub fn scratch(&self, step: &Step) -> Option<usize> {
        self.tensor(&step.entry, &format!("{}.workspace", step.id))
    }

    /// Steps of an entry that has them.
    pub fn length(&self, entry: &str) -> usize {
        self.lines.get(entry).map_or(0, |line| line.steps.len())
    }

    fn touched(&self, step: &Step) -> Vec<Touch> {
        let mut parts: BTreeMap<&str, BTreeSet<Option<Part>>> = BTreeMap::new();
        for (part, operands) in &step.parts {
            for name in operands {
                parts.entry(name).or_default().insert(Part::parse(part));
            }
        }
        let scratch = format!("{}.workspace", step.id);
        // A weight may be called like a tensor. It has no part, and no step reads a tensor that it writes by this list.
        let written: BTreeSet<&String> = step.outputs.iter().collect();
        let tensor = |name: &&String| {
            let part = parts.contains_key(name.as_str()) && !written.contains(name);
            part || !self.weights.contains_key(name.as_str())
        };
        let inputs = step.inputs.iter().filter(tensor);
        let inputs = inputs.map(|name| (name.as_str(), true, false));
        let outputs = step.outputs.iter().map(|name| (name.as_str(), false, true));
        let clobbers = step.clobbers.iter().map(|name| (name.as_str(), true, true));
        let scratch = std::iter::once((scratch.as_str(), false, true));
        let unsaid = BTreeSet::from([None]);
        let mut list: Vec<Touch> = Vec::new();
        let mut seen: BTreeMap<usize, Range<usize>> = BTreeMap::new();
        for (name, reads, writes) in inputs.chain(outputs).chain(clobbers).chain(scratch) {
            let Some(tensor) = self.tensor(&step.entry, name) else {
                continue;
            };
            let own = seen.entry(tensor).or_insert_with(|| {
                let start = list.len();
                list.extend(parts.get(name).unwrap_or(&unsaid).iter().map(|part| Touch {
                    tensor,
                    part: *part,
                    reads: false,
                    writes: false,
                }));
                start..list.len()
            });
            // Which of several parts is read and which is written is not said: each is both.
            for touch in &mut list[own.clone()] {
                touch.reads |= reads;
                touch.writes |= writes;
            }
        }
        list.sort_by_key(|touch| touch.tensor);
        list
    }

    /// What a step does with a tensor: as many as it has parts there.
    pub fn touches_of(&self, step: usize, tensor: usize) -> &[Touch] {
        let touches = &self.touches[step];
        let from = touches.partition_point(|t| t.tensor < tensor);
        let to = touches.partition_point(|t| t.tensor <= tensor);
        &touches[from..to]
    }

    /// Which ids an entry reads before it writes them, and who writes them elsewhere.
    fn meetings(&self) -> BTreeMap<&'a str, Meeting> {
        let mut meetings: BTreeMap<&str, Meeting> = BTreeMap::new();
        for line in self.lines.values() {
            let mut seen = BTreeSet::new();
            for touch in line.steps.iter().flat_map(|step| &self.touches[*step]) {
                let tensor = &self.report.tensors[touch.tensor];
                // A view reads what another tensor's writer wrote.
                let view = touch.reads && tensor.alias_of.is_some();
                if tensor.entry.is_empty() || !seen.insert(touch.tensor) || view {
                    continue;
                }
                let meeting = meetings.entry(tensor.id.as_str()).or_default();
                match touch.reads {
                    true => meeting.readers.push(touch.tensor),
                    false => meeting.writers.push(touch.tensor),
                }
            }
        }
        meetings.retain(|_, meeting| !meeting.readers.is_empty());
        meetings
    }

    /// When the bytes of a tensor hold its value, in steps of its entry: what entries leave for each other stays to the
    /// end of the one that writes it, and all through the one that reads it, which may be run again; what the program
    /// leaves in `io` stays as well.
    pub fn live(&self, index: usize) -> Range<u64> {
        let tensor = &self.report.tensors[index];
        let end = self.length(&tensor.entry) as u64;
        let own = tensor.first..tensor.last.saturating_add(1);
        match self.roles[index] {
            // Nobody writes it: it is put there before the entry runs.
            Role::Found if self.meetings[tensor.id.as_str()].writers.is_empty() => 0..own.end,
            Role::Found => 0..end.max(own.end),
            Role::Left => own.start..end.max(own.end),
            Role::Own if tensor.region == "io" => own.start..end.max(own.end),
            Role::Own => own,
        }
    }
}

/// The last first, so that of two with one name the first is found.
fn rev<T>(list: &[T]) -> impl Iterator<Item = (usize, &T)> {
    list.iter().enumerate().rev()
}

/// The bytes of a tensor, cut where numbers end.
pub fn bytes(tensor: &Tensor) -> Range<u64> {
    tensor.offset..tensor.offset.saturating_add(tensor.bytes)
}

/// The bytes of a weight in the packed file, cut where numbers end.
pub fn payload(weight: &WeightRow) -> Range<u64> {
    weight.offset..weight.offset.saturating_add(weight.bytes)
}

/// Whether two ranges have a byte in common.
pub fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

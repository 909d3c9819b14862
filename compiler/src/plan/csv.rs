//! Buffers as comma-separated values: the interchange format of published instances.
//!
//! The header row names the columns, in any order; see [`COLUMNS`]. `alignment` and `gaps` are optional, other columns,
//! `offset` among them, are ignored. Lifetimes are half-open; a column called `end` holds the last tick instead.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;

use super::{Buffer, PlanError, Problem, Solution};

/// What is wrong with a table, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvError {
    /// Line, from 1.
    pub line: usize,
    /// The bytes of the text that are wrong.
    pub span: Range<usize>,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for CsvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for CsvError {}

/// A table of buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The buffers, in the order of the file.
    pub problem: Problem,
    /// What the file says of each buffer.
    rows: Vec<Row>,
    /// Whether the file has the columns `alignment` and `gaps`.
    optional: (bool, bool),
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    id: String,
    lower: u64,
    upper: u64,
    size: u64,
    align: u64,
    gaps: Vec<(u64, u64)>,
}

/// The columns that mean something, under all their names; the first four are needed.
pub const COLUMNS: [&[&str]; 6] = [
    &["id", "buffer", "buffer_id"],
    &["lower", "start", "begin"],
    &["upper", "end"],
    &["size"],
    &["alignment"],
    &["gaps"],
];

/// A field with its bytes in the text.
type Field<'t> = (&'t str, Range<usize>);

/// Reads a table.
///
/// # Errors
/// Everything that cannot be understood, in the order of lines.
pub fn read(text: &str) -> Result<Table, Vec<CsvError>> {
    let mut lines = lines(text);
    let Some((number, header)) = lines.next() else {
        return Err(vec![CsvError {
            line: 1,
            span: 0..text.len().min(1),
            what: String::from("no header row; it names the columns id,lower,upper,size"),
        }]);
    };
    let mut faults = Faults(Vec::new());
    let header = fields(text, header);
    let places = columns(&header, number, &mut faults);
    let [Some(id), Some(lower), Some(upper), Some(size), align, gaps] = places else {
        return Err(faults.0);
    };
    // A column called `end` holds the last tick.
    let last = u64::from(header[upper].0 == "end");
    let mut rows = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut total = 0u64;
    for (line, range) in lines {
        let fields = fields(text, range.clone());
        if fields.len() != header.len() {
            let what = format!("{} fields where the header row has {}", fields.len(), header.len());
            faults.add(line, range, what);
            continue;
        }
        let before = faults.0.len();
        let mut number = |column: usize| {
            let (field, span) = &fields[column];
            field.parse::<u64>().unwrap_or_else(|_| {
                let what = format!("{} `{field}` is not a number from 0 to 2^64-1", header[column].0);
                faults.add(line, span.clone(), what);
                0
            })
        };
        let [lower_at, upper_at, bytes] = [lower, upper, size].map(&mut number);
        let alignment = align.map_or(1, &mut number);
        let name = unquoted(fields[id].0);
        if before == faults.0.len() {
            if lower_at > upper_at.saturating_add(last) {
                let what = format!(
                    "buffer `{name}`: {} {upper_at} is below {} {lower_at}",
                    header[upper].0, header[lower].0
                );
                faults.add(line, fields[upper].1.clone(), what);
            }
            if !alignment.is_power_of_two() {
                let what = format!("buffer `{name}`: alignment {alignment} is not a power of two");
                faults.add(line, fields[align.unwrap_or(id)].1.clone(), what);
            }
            let sum = total
                .checked_add(bytes)
                .and_then(|t| t.checked_add(alignment.checked_mul(2)?));
            match sum.filter(|&t| t < PlanError::LIMIT) {
                Some(sum) => total = sum,
                None => {
                    let what = format!("buffer `{name}`: the sizes add up to 2^62 bytes or more");
                    faults.add(line, fields[size].1.clone(), what);
                }
            }
        }
        if let Some(first) = seen.insert(name.clone(), line) {
            let what = format!("buffer `{name}` is also on line {first}");
            faults.add(line, fields[id].1.clone(), what);
            seen.insert(name.clone(), first);
        }
        let gaps = gaps.map_or(Some(Vec::new()), |column| {
            read_gaps(unquoted(fields[column].0).as_str(), last)
        });
        if gaps.is_none() {
            let what =
                format!("buffer `{name}`: gaps are pairs such as `3-5 8-9`, ascending; windows are not supported");
            faults.add(line, range, what);
        }
        rows.push(Row {
            id: name,
            lower: lower_at,
            upper: upper_at.saturating_add(last),
            size: bytes,
            align: alignment,
            gaps: gaps.unwrap_or_default(),
        });
    }
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    Ok(Table {
        problem: problem(&rows),
        rows,
        optional: (align.is_some(), gaps.is_some()),
    })
}

/// Faults beyond this many are not collected.
const MAX_FAULTS: usize = 100;

struct Faults(Vec<CsvError>);

impl Faults {
    fn add(&mut self, line: usize, span: Range<usize>, what: String) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(CsvError { line, span, what });
        }
    }
}

/// The lines that are not blank, with their number and their bytes, trimmed.
fn lines(text: &str) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut start = 0;
    text.split_inclusive('\n').enumerate().filter_map(move |(n, line)| {
        let from = start;
        start += line.len();
        // A byte order mark is no part of the first name.
        let bare = line.trim_start_matches('\u{feff}').trim_start();
        let from = from + line.len() - bare.len();
        let bare = bare.trim_end();
        (!bare.is_empty()).then(|| (n + 1, from..from + bare.len()))
    })
}

/// Splits a line at its commas, except inside quotation marks.
fn fields(text: &str, line: Range<usize>) -> Vec<Field<'_>> {
    let mut quoted = false;
    let mut start = line.start;
    let mut cut = |end: usize| {
        let field = &text[start..end];
        let lead = field.len() - field.trim_start().len();
        let from = start + lead;
        start = end + 1;
        (field.trim(), from..from + field.trim().len())
    };
    let mut out = Vec::new();
    for (at, c) in text[line.clone()].char_indices() {
        quoted ^= c == '"';
        if c == ',' && !quoted {
            out.push(cut(line.start + at));
        }
    }
    out.push(cut(line.end));
    out
}

fn unquoted(field: &str) -> String {
    match field.strip_prefix('"').and_then(|f| f.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => field.to_owned(),
    }
}

fn quoted(field: &str) -> String {
    let plain = !field.contains([',', '"']) && field.trim() == field;
    if plain {
        field.to_owned()
    } else {
        format!("\"{}\"", field.replace('"', "\"\""))
    }
}

/// Where each of [`COLUMNS`] stands in the header row.
fn columns(header: &[Field<'_>], line: usize, faults: &mut Faults) -> [Option<usize>; COLUMNS.len()] {
    let whole = header[0].1.start..header[header.len() - 1].1.end;
    let mut places = [None; COLUMNS.len()];
    for (n, (place, names)) in places.iter_mut().zip(COLUMNS).enumerate() {
        let mut found = (0..header.len()).filter(|&i| names.contains(&header[i].0));
        *place = found.next();
        if let Some(again) = found.next() {
            let what = format!("two columns are called `{}`", names[0]);
            faults.add(line, header[again].1.clone(), what);
        }
        if place.is_none() && n < 4 {
            faults.add(
                line,
                whole.clone(),
                format!("no column `{}` in the header row", names[0]),
            );
        }
    }
    if faults.0.is_empty() {
        places
    } else {
        [None; COLUMNS.len()]
    }
}

/// Stretches of a lifetime without use, ascending.
fn read_gaps(text: &str, last: u64) -> Option<Vec<(u64, u64)>> {
    let mut reached = 0;
    text.split_ascii_whitespace()
        .map(|gap| {
            let (from, to) = gap.split_once('-')?;
            let (from, to) = (from.parse::<u64>().ok()?, to.parse::<u64>().ok()?.checked_add(last)?);
            let ascending = reached <= from && from <= to;
            reached = to;
            ascending.then_some((from, to))
        })
        .collect()
}

/// Only the order of times matters to a layout, so that any 64-bit clock fits. Small clocks are kept, since orders look
/// at durations.
fn problem(rows: &[Row]) -> Problem {
    let times = |r: &Row| {
        r.gaps
            .iter()
            .flat_map(|g| [g.0, g.1])
            .chain([r.lower, r.upper])
            .collect::<Vec<_>>()
    };
    let mut clock: Vec<u64> = rows.iter().flat_map(times).collect();
    clock.sort_unstable();
    clock.dedup();
    let small = clock.last().is_none_or(|&t| u32::try_from(t).is_ok());
    let tick = |t: u64| {
        if small {
            t as u32
        } else {
            clock.partition_point(|&x| x < t) as u32
        }
    };
    let live = |r: &Row| {
        let starts = [r.lower]
            .into_iter()
            .chain(r.gaps.iter().map(|g| g.1.clamp(r.lower, r.upper)));
        let ends = r.gaps.iter().map(|g| g.0.clamp(r.lower, r.upper)).chain([r.upper]);
        starts
            .zip(ends)
            .filter(|(a, b)| a < b)
            .map(|(a, b)| tick(a)..tick(b))
            .collect()
    };
    let buffer = |r: &Row| Buffer {
        live: live(r),
        ..Buffer::new(r.id.as_str(), r.size, r.align, 0..0)
    };
    Problem {
        buffers: rows.iter().map(buffer).collect(),
        ..Problem::default()
    }
}

/// The table with the column `offset` added.
pub fn write(table: &Table, solution: &Solution) -> String {
    let (aligned, gaps) = table.optional;
    let mut out = String::from("id,lower,upper,size");
    out.push_str(if aligned { ",alignment" } else { "" });
    out.push_str(if gaps { ",gaps" } else { "" });
    out.push_str(",offset\n");
    for (r, offset) in table.rows.iter().zip(&solution.offsets) {
        // Writing to a string cannot fail.
        let _ = write!(out, "{},{},{},{}", quoted(&r.id), r.lower, r.upper, r.size);
        if aligned {
            let _ = write!(out, ",{}", r.align);
        }
        if gaps {
            let list: Vec<String> = r.gaps.iter().map(|g| format!("{}-{}", g.0, g.1)).collect();
            let _ = write!(out, ",{}", list.join(" "));
        }
        let _ = writeln!(out, ",{offset}");
    }
    out
}

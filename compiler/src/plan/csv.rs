//! Buffers as comma-separated values: the interchange format of published instances.
//!
//! The header row names the columns `id`, `lower`, `upper` and `size`, in any order; `alignment` is optional; other
//! columns are ignored. Lifetimes are half-open.

use std::fmt;
use std::fmt::Write as _;

use super::{Buffer, Problem, Solution};

/// What is wrong with a table, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvError {
    /// Line, from 1.
    pub line: usize,
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
    /// `lower` and `upper` of each buffer, as the file has them.
    times: Vec<(u64, u64)>,
    /// Whether the file has the column `alignment`.
    aligned: bool,
}

/// The columns that mean something.
const COLUMNS: [&str; 5] = ["id", "lower", "upper", "size", "alignment"];

/// Reads a table.
///
/// # Errors
/// [`CsvError`] names the first line that cannot be understood.
pub fn read(text: &str) -> Result<Table, CsvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows = || {
        text.lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty())
    };
    let fail = |line, what| Err(CsvError { line, what });
    let Some((line, header)) = rows().next() else {
        return fail(
            1,
            format!("no header row; it names the columns {}", COLUMNS[..4].join(",")),
        );
    };
    let names: Vec<&str> = header.split(',').map(str::trim).collect();
    let mut places = [None; COLUMNS.len()];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        let mut found = (0..names.len()).filter(|&i| names[i] == column);
        *place = found.next();
        if found.next().is_some() {
            return fail(line, format!("two columns are called `{column}`"));
        }
    }
    let [Some(id), Some(lower), Some(upper), Some(size), align] = places else {
        let missing = COLUMNS
            .iter()
            .zip(&places)
            .find(|(_, place)| place.is_none())
            .map_or("", |(c, _)| c);
        return fail(line, format!("no column `{missing}` in the header row"));
    };
    let mut raw = Vec::new();
    for (line, row) in rows().skip(1) {
        let fields: Vec<&str> = row.split(',').map(str::trim).collect();
        if fields.len() != names.len() {
            return fail(
                line,
                format!("{} fields where the header row has {}", fields.len(), names.len()),
            );
        }
        let number = |column: usize| {
            fields[column].parse::<u64>().map_err(|_| CsvError {
                line,
                what: format!(
                    "{} `{}` is not a number from 0 to 2^64-1",
                    names[column], fields[column]
                ),
            })
        };
        let (lower, upper, size) = (number(lower)?, number(upper)?, number(size)?);
        let align = align.map_or(Ok(1), number)?;
        if lower > upper {
            return fail(
                line,
                format!("buffer `{}`: upper {upper} is below lower {lower}", fields[id]),
            );
        }
        raw.push((fields[id], lower, upper, size, align));
    }
    // Only the order of times matters to a layout, so that any 64-bit clock fits. Small clocks are kept, since orders
    // look at durations.
    let mut clock: Vec<u64> = raw.iter().flat_map(|r| [r.1, r.2]).collect();
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
    Ok(Table {
        problem: Problem {
            buffers: raw
                .iter()
                .map(|r| Buffer::new(r.0, r.3, r.4, tick(r.1)..tick(r.2)))
                .collect(),
            ..Problem::default()
        },
        times: raw.iter().map(|r| (r.1, r.2)).collect(),
        aligned: align.is_some(),
    })
}

/// The table with the column `offset` added.
pub fn write(table: &Table, solution: &Solution) -> String {
    let mut out = String::from(if table.aligned {
        "id,lower,upper,size,alignment,offset\n"
    } else {
        "id,lower,upper,size,offset\n"
    });
    for ((b, (lower, upper)), offset) in table.problem.buffers.iter().zip(&table.times).zip(&solution.offsets) {
        let align = if table.aligned {
            format!(",{}", b.align)
        } else {
            String::new()
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{},{lower},{upper},{}{align},{offset}", b.id, b.size);
    }
    out
}

//! Rows that say the same of many names become one fact.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{map_names, pattern};
use super::{Fact, Kind};

/// Something about one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// The name.
    pub name: String,
    /// Its entry; empty for what all entries share.
    pub entry: String,
    /// What is said of it; rows are only grouped if this is the same, up to numbers in names.
    pub detail: String,
    /// Bytes more or fewer.
    pub delta: i128,
}

/// Rows of one pattern.
#[derive(Debug)]
pub(super) struct Group {
    /// What is said, with the numbers left out in which the rows differ.
    pub detail: String,
    rows: Vec<Row>,
}

/// Groups rows; those with the most bytes stand first, then those with the most rows.
pub(super) fn group(rows: Vec<Row>) -> Vec<Group> {
    let mut groups: BTreeMap<(String, String), Vec<Row>> = BTreeMap::new();
    for row in rows {
        let key = (pattern(&row.name), map_names(&row.detail, pattern));
        groups.entry(key).or_default().push(row);
    }
    let mut out: Vec<Group> = groups
        .into_iter()
        .map(|((_, detail), rows)| {
            let same = rows.iter().all(|r| r.detail == rows[0].detail);
            let detail = if same { rows[0].detail.clone() } else { detail };
            Group { detail, rows }
        })
        .collect();
    out.sort_by_key(|g| std::cmp::Reverse((g.total().unsigned_abs(), g.rows.len())));
    out
}

impl Group {
    /// The name, or the pattern with the number of `nouns`; then the entries: `layers.*.q: 8 steps (prefill, decode)`.
    pub fn subject(&self, nouns: &str) -> String {
        let mut entries: Vec<&str> = self.rows.iter().map(|r| r.entry.as_str()).collect();
        entries.sort_unstable();
        entries.dedup();
        let entries = match entries.join(", ") {
            list if list.is_empty() => list,
            list => format!(" ({list})"),
        };
        let first = &self.rows[0].name;
        if self.rows.iter().all(|r| r.name == *first) {
            return format!("{first}{entries}");
        }
        format!("{}: {} {nouns}{entries}", pattern(first), self.rows.len())
    }

    /// The bytes of all rows together.
    pub fn total(&self) -> i128 {
        self.rows.iter().map(|r| r.delta).sum()
    }

    /// `+64 B`, `+64 B each` or `+640 B in all`; `signed` for differences, without a plus for sizes.
    pub fn bytes(&self, signed: bool) -> String {
        let number = |n: i128| if signed { format!("{n:+} B") } else { format!("{n} B") };
        let first = self.rows[0].delta;
        if self.rows.len() == 1 {
            number(first)
        } else if self.rows.iter().all(|r| r.delta == first) {
            format!("{} each", number(first))
        } else {
            format!("{} in all", number(self.total()))
        }
    }

    /// The fact with these words, which holds for all rows.
    pub fn fact(&self, kind: Kind, text: String) -> Fact {
        let names: BTreeSet<String> = self.rows.iter().map(|r| qualified(&r.entry, &r.name)).collect();
        Fact {
            kind,
            text,
            count: self.rows.len() as u64,
            bytes: i64::try_from(self.total()).unwrap_or(if self.total() < 0 { i64::MIN } else { i64::MAX }),
            names: names.into_iter().collect(),
        }
    }
}

/// Entry and name; the name alone for what all entries share.
pub(super) fn qualified(entry: &str, id: &str) -> String {
    if entry.is_empty() {
        id.to_owned()
    } else {
        format!("{entry} {id}")
    }
}

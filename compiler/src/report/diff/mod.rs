//! Two reports compared by meaning: what a reviewer has to know, and not which lines differ.
//!
//! Rows are matched by their stable names. Offsets are compared within their region, so that a weight that grew does not
//! make everything behind it look changed; a row that only moved is told apart from one that changed.

mod render;

use std::collections::BTreeMap;

use serde::Serialize;

use super::types::{Entry, FuseOutcome, Fusion, Header, Region, Report, Step, Tensor, Totals, WeightRow};

/// Limits that a change may not pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// Bytes by which the arena may grow; without it any growth is reported and none is refused.
    pub max_arena_growth: Option<u64>,
}

/// What the comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The arena did not grow.
    SameOrBetter,
    /// The arena grew, within the limit or without one.
    Larger,
    /// The arena grew by more than [`DiffOptions::max_arena_growth`].
    OverBudget,
}

impl Verdict {
    /// The exit code of `ckc diff`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::SameOrBetter | Self::Larger => 0,
            Self::OverBudget => 3,
        }
    }
}

/// The differences. Empty lists and absent fields mean "no difference".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// What it comes to.
    pub verdict: Verdict,
    /// Bytes by which the arena may grow, if that was limited.
    pub max_arena_growth: Option<u64>,
    /// Header fields: model, options, compiler version, ....
    pub header: Vec<Change>,
    /// Arena bytes; always there.
    pub arena: Amount,
    /// The other totals that differ.
    pub totals: Vec<Amount>,
    /// Status of the whole plan.
    pub status: Option<Change>,
    /// Regions whose bytes or status differ; a region that is not there has 0 bytes.
    pub regions: Vec<RegionChange>,
    /// The step at the peak.
    pub peak: Option<Change>,
    /// Steps, barriers, flops and traffic of each entry.
    pub entries: Vec<Amount>,
    /// Applied before, not applied now. The reason is the new one, or that the site is gone.
    pub fusions_lost: Vec<FusionChange>,
    /// Applied now, not applied before.
    pub fusions_gained: Vec<FusionChange>,
    /// Steps that are new, gone, or do their work differently.
    pub steps: Rows,
    /// Barriers in one report only, on steps that both have or that only one has.
    pub barriers: Barriers,
    /// Tensors.
    pub tensors: Rows,
    /// Weights.
    pub weights: Rows,
}

/// A field with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The field.
    pub name: String,
    /// Value before.
    pub old: String,
    /// Value now.
    pub new: String,
}

/// A number with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// The field.
    pub name: String,
    /// Value before.
    pub old: u64,
    /// Value now.
    pub new: u64,
}

/// A region with other bytes or another status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegionChange {
    /// Its bytes.
    pub bytes: Amount,
    /// Its status.
    pub status: Option<Change>,
}

/// A fusion site that changed sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FusionChange {
    /// The flag.
    pub flag: String,
    /// The entry.
    pub entry: String,
    /// The site.
    pub site: String,
    /// Why it is not applied; empty for a gained one.
    pub reason: String,
}

/// Rows by name, in what they differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Only in the new report.
    pub new: Vec<String>,
    /// Only in the old report.
    pub gone: Vec<String>,
    /// In both, with what changed about them.
    pub changed: Vec<RowChange>,
    /// In both, at another offset within their region, and otherwise the same.
    pub moved: Vec<String>,
}

/// One row that is in both reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowChange {
    /// The row.
    pub name: String,
    /// Its fields that differ.
    pub fields: Vec<Change>,
}

/// Barriers that only one report has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Barriers {
    /// The step, and why workers wait there.
    pub added: Vec<Barrier>,
    /// The step, and why workers waited there.
    pub removed: Vec<Barrier>,
}

/// A barrier before a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Barrier {
    /// Entry and step.
    pub step: String,
    /// Why.
    pub reason: String,
}

/// Compares two reports.
pub fn diff(old: &Report, new: &Report, options: DiffOptions) -> Diff {
    let arena = Amount::new("arena", old.totals.arena_bytes, new.totals.arena_bytes);
    let verdict = match arena.new.saturating_sub(arena.old) {
        0 => Verdict::SameOrBetter,
        grown if options.max_arena_growth.is_some_and(|limit| grown > limit) => Verdict::OverBudget,
        _ => Verdict::Larger,
    };
    let (old_fusions, new_fusions) = (applied(old), applied(new));
    Diff {
        verdict,
        max_arena_growth: options.max_arena_growth,
        header: header(&old.header, &new.header),
        arena,
        totals: totals(&old.totals, &new.totals),
        status: change("status", old.totals.status, new.totals.status),
        regions: regions(&old.totals, &new.totals),
        peak: change("peak", peak(&old.totals), peak(&new.totals)),
        entries: entries(&old.header, &new.header),
        fusions_lost: only_in(&old_fusions, &new_fusions, |key| reason(new, key)),
        fusions_gained: only_in(&new_fusions, &old_fusions, |_| String::new()),
        steps: steps(old, new),
        barriers: barriers(old, new),
        tensors: tensors(old, new),
        weights: weights(old, new),
    }
}

impl Diff {
    /// What the comparison comes to.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The comparison as JSON, newline at the end.
    pub fn to_json(&self) -> String {
        // Plain structs with string keys: serialising them has no way to fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl Amount {
    fn new(name: impl Into<String>, old: u64, new: u64) -> Self {
        Self {
            name: name.into(),
            old,
            new,
        }
    }
}

fn change<T: ToString + PartialEq>(name: &str, old: T, new: T) -> Option<Change> {
    (old != new).then(|| Change {
        name: name.to_owned(),
        old: old.to_string(),
        new: new.to_string(),
    })
}

fn header(old: &Header, new: &Header) -> Vec<Change> {
    let fields = |h: &Header| -> [(&'static str, String); 13] {
        let o = &h.options;
        [
            ("ckc version", h.ckc_version.clone()),
            ("model", h.model.clone()),
            ("yaml sha256", h.yaml_sha256.clone()),
            ("target", h.target.clone()),
            ("mode", o.mode.clone()),
            ("context", o.context.to_string()),
            ("batch", o.batch.to_string()),
            (
                "fuse",
                if o.fuse.is_empty() {
                    "none".to_owned()
                } else {
                    o.fuse.join(",")
                },
            ),
            ("layout", o.layout.clone()),
            ("kv_dtype", o.kv_dtype.clone()),
            ("weights_dtype", o.weights_dtype.clone()),
            ("max_threads", o.max_threads.to_string()),
            ("debug", o.debug.join(",")),
        ]
    };
    fields(old)
        .into_iter()
        .zip(fields(new))
        .filter_map(|((name, a), (_, b))| change(name, a, b))
        .collect()
}

/// Pairs the values of two maps by key; `None` where a map lacks the key.
fn paired<'a, K: Ord, V>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> Vec<(&'a K, Option<&'a V>, Option<&'a V>)> {
    let mut keys: Vec<&K> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(|k| (k, old.get(k), new.get(k))).collect()
}

fn totals(old: &Totals, new: &Totals) -> Vec<Amount> {
    let mut all = vec![
        Amount::new("lower bound", old.lower_bound_bytes, new.lower_bound_bytes),
        Amount::new("naive", old.naive_bytes, new.naive_bytes),
        Amount::new("kv per token", old.kv_bytes_per_token, new.kv_bytes_per_token),
    ];
    for (dtype, a, b) in paired(&old.weights_bytes, &new.weights_bytes) {
        all.push(Amount::new(
            format!("weights {dtype}"),
            a.copied().unwrap_or(0),
            b.copied().unwrap_or(0),
        ));
    }
    all.retain(|a| a.old != a.new);
    all
}

fn regions(old: &Totals, new: &Totals) -> Vec<RegionChange> {
    let by_name = |t: &Totals| -> BTreeMap<String, (u64, String)> {
        let row = |r: &Region| (r.name.clone(), (r.bytes, r.status.to_string()));
        t.regions.iter().map(row).collect()
    };
    let mut out = Vec::new();
    for (name, a, b) in paired(&by_name(old), &by_name(new)) {
        let bytes = Amount::new(name.clone(), a.map_or(0, |r| r.0), b.map_or(0, |r| r.0));
        let status = a.zip(b).and_then(|(a, b)| change("status", &a.1, &b.1));
        if bytes.old != bytes.new || status.is_some() {
            out.push(RegionChange { bytes, status });
        }
    }
    out
}

fn peak(totals: &Totals) -> String {
    totals
        .peak
        .as_ref()
        .map_or_else(|| "nowhere".to_owned(), |p| format!("{} {}", p.entry, p.step))
}

type EntryField = fn(&Entry) -> u64;

/// The numbers of an entry, by the names a reader sees.
const ENTRY_FIELDS: &[(&str, EntryField)] = &[
    ("steps", |e| e.steps),
    ("barriers", |e| e.barriers),
    ("peak bytes", |e| e.peak_bytes),
    ("flop", |e| e.flops),
    ("bytes read", |e| e.bytes_read),
    ("bytes written", |e| e.bytes_written),
];

fn entries(old: &Header, new: &Header) -> Vec<Amount> {
    fn by_name(h: &Header) -> BTreeMap<&str, &Entry> {
        h.entries.iter().map(|e| (e.name.as_str(), e)).collect()
    }
    let mut out = Vec::new();
    for (entry, a, b) in paired(&by_name(old), &by_name(new)) {
        for (field, value) in ENTRY_FIELDS {
            let (old, new) = (a.map_or(0, |e| value(e)), b.map_or(0, |e| value(e)));
            out.push(Amount::new(format!("{entry} {field}"), old, new));
        }
    }
    out.retain(|a| a.old != a.new);
    out
}

type FusionKey<'a> = (&'a str, &'a str, &'a str);

fn key(f: &Fusion) -> FusionKey<'_> {
    (&f.entry, &f.site, &f.flag)
}

fn applied(report: &Report) -> BTreeMap<FusionKey<'_>, &Fusion> {
    report
        .fusions
        .iter()
        .filter(|f| f.outcome == FuseOutcome::Applied)
        .map(|f| (key(f), f))
        .collect()
}

/// Why the site is not applied in `report`.
fn reason(report: &Report, wanted: FusionKey<'_>) -> String {
    match report.fusions.iter().find(|f| key(f) == wanted) {
        Some(f) if f.reason.is_empty() => "refused".to_owned(),
        Some(f) => f.reason.clone(),
        None => "the site is gone".to_owned(),
    }
}

fn only_in(
    here: &BTreeMap<FusionKey<'_>, &Fusion>,
    there: &BTreeMap<FusionKey<'_>, &Fusion>,
    reason: impl Fn(FusionKey<'_>) -> String,
) -> Vec<FusionChange> {
    let missing = here.iter().filter(|(k, _)| !there.contains_key(*k));
    missing
        .map(|(k, f)| FusionChange {
            flag: f.flag.clone(),
            entry: f.entry.clone(),
            site: f.site.clone(),
            reason: reason(*k),
        })
        .collect()
}

/// Compares rows by name: `fields` lists what matters about a row, `place` is where it is.
fn rows<T>(
    old: &BTreeMap<String, &T>,
    new: &BTreeMap<String, &T>,
    fields: impl Fn(&T) -> Vec<(&'static str, String)>,
    place: impl Fn(&T, bool) -> u64,
) -> Rows {
    let mut out = Rows::default();
    for (name, a, b) in paired(old, new) {
        match (a, b) {
            (Some(a), Some(b)) => {
                let pairs = fields(a).into_iter().zip(fields(b));
                let changed: Vec<Change> = pairs.filter_map(|((field, x), (_, y))| change(field, x, y)).collect();
                if !changed.is_empty() {
                    out.changed.push(RowChange {
                        name: name.clone(),
                        fields: changed,
                    });
                } else if place(a, false) != place(b, true) {
                    out.moved.push(name.clone());
                }
            }
            (Some(_), None) => out.gone.push(name.clone()),
            _ => out.new.push(name.clone()),
        }
    }
    out
}

/// Entry and name; the name alone for what all entries share.
fn qualified(entry: &str, id: &str) -> String {
    if entry.is_empty() {
        id.to_owned()
    } else {
        format!("{entry} {id}")
    }
}

fn steps(old: &Report, new: &Report) -> Rows {
    let by_name = |r: &'_ Report| -> Vec<String> { r.steps.iter().map(|s| qualified(&s.entry, &s.id)).collect() };
    let (old_names, new_names) = (by_name(old), by_name(new));
    let old: BTreeMap<String, &Step> = old_names.into_iter().zip(&old.steps).collect();
    let new: BTreeMap<String, &Step> = new_names.into_iter().zip(&new.steps).collect();
    let fields = |s: &Step| {
        vec![
            ("kernel", s.kernel.clone()),
            ("fused from", s.fused_from.join("+")),
            ("inputs", s.inputs.join(", ")),
            ("outputs", s.outputs.join(", ")),
            (
                "in place of",
                s.in_place_of.clone().unwrap_or_else(|| "nothing".to_owned()),
            ),
            ("partition", s.partition.to_string()),
            ("workspace", s.workspace_bytes.to_string()),
            ("flop", s.flops.to_string()),
        ]
    };
    rows(&old, &new, fields, |_, _| 0)
}

fn barriers(old: &Report, new: &Report) -> Barriers {
    let waits = |r: &Report| -> BTreeMap<String, String> {
        let wait = |s: &Step| {
            s.barrier
                .as_ref()
                .map(|b| (qualified(&s.entry, &s.id), b.reason.clone()))
        };
        r.steps.iter().filter_map(wait).collect()
    };
    let missing = |here: &BTreeMap<String, String>, there: &BTreeMap<String, String>| -> Vec<Barrier> {
        let only = here.iter().filter(|(step, _)| !there.contains_key(*step));
        only.map(|(step, reason)| Barrier {
            step: step.clone(),
            reason: reason.clone(),
        })
        .collect()
    };
    let (old, new) = (waits(old), waits(new));
    Barriers {
        added: missing(&new, &old),
        removed: missing(&old, &new),
    }
}

fn tensors(old: &Report, new: &Report) -> Rows {
    fn by_name(r: &Report) -> BTreeMap<String, &Tensor> {
        r.tensors.iter().map(|t| (qualified(&t.entry, &t.id), t)).collect()
    }
    fn base(r: &Report) -> BTreeMap<&str, u64> {
        r.totals
            .regions
            .iter()
            .map(|region| (region.name.as_str(), region.offset))
            .collect()
    }
    let (old_base, new_base) = (base(old), base(new));
    let fields = |t: &Tensor| {
        vec![
            ("region", t.region.clone()),
            ("dtype", t.dtype.clone()),
            ("shape", super::text::shape(&t.shape)),
            ("layout", t.layout.clone()),
            ("bytes", t.bytes.to_string()),
            ("align", t.align.to_string()),
            ("alias of", t.alias_of.clone().unwrap_or_else(|| "nothing".to_owned())),
        ]
    };
    let place = |t: &Tensor, is_new: bool| {
        let base = if is_new { &new_base } else { &old_base };
        t.offset.wrapping_sub(base.get(t.region.as_str()).copied().unwrap_or(0))
    };
    rows(&by_name(old), &by_name(new), fields, place)
}

fn weights(old: &Report, new: &Report) -> Rows {
    fn by_name(r: &Report) -> BTreeMap<String, &WeightRow> {
        r.weights.iter().map(|w| (w.name.clone(), w)).collect()
    }
    // A report made without weights has no hashes; that is not a change of the weights.
    let hashed = |r: &Report| r.weights.iter().all(|w| !w.hash.is_empty());
    let both_hashed = hashed(old) && hashed(new);
    let fields = |w: &WeightRow| {
        vec![
            ("source", w.source.clone()),
            ("source dtype", w.dtype_source.clone()),
            ("dtype", w.dtype.clone()),
            ("packed layout", w.packed_layout.clone()),
            ("shape", super::text::shape(&w.shape)),
            ("bytes", w.bytes.to_string()),
            ("sha256", if both_hashed { w.hash.clone() } else { String::new() }),
        ]
    };
    rows(&by_name(old), &by_name(new), fields, |w, _| w.offset)
}

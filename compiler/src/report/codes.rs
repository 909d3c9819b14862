//! The codes of diagnostics about layout reports: one a rule of [`super::check()`].

crate::codes::codes! {
    SCHEMA "CK1001" "The report is of another version." "Make it again with this version: `ckc plan MODEL.yaml --json`.";
    LIMITS "CK1002" "A name, a shape or a number is beyond anything a report can hold." "Names have at most 1024 bytes, shapes at most 8 extents.";
    NAMES "CK1003" "A name stands for two things, or for nothing." "Every row has a name of its own, and every name has a row.";
    COUNTS "CK1004" "A count of the header is not that of the rows, or steps are not numbered from 0." "Count the steps of the entry again.";
    BYTES "CK1005" "The bytes of a row are not those of its shape and element type." "Rows of activations begin on 64 bytes; packed matrices have 16 rows together.";
    REGIONS "CK1006" "A region leaves the arena or overlaps another." "Regions lie one after the other in 0..arena_bytes.";
    PLACES "CK1007" "A tensor leaves its region." "offset + bytes of a tensor stays inside its region, or the memory that it lives in.";
    ALIGNMENT "CK1008" "An offset is not aligned." "Everything begins on a multiple of 64 and of its own `align`.";
    TOTALS "CK1009" "A total is not the sum of its parts." "Add up the regions, weights, caches or scratch again.";
    STATUS "CK1010" "Lower bound, bytes, naive bytes and status contradict each other." "lower bound <= bytes <= naive; `optimal` means that the first two are equal.";
    WEIGHTS "CK1011" "Weights or caches share bytes, or a step writes a weight." "What stays for the whole run has bytes of its own.";
    PARTITION "CK1012" "The workers' ranges do not cover a step's work exactly once." "Length and granule are positive, and the axis is known.";
    PARTS "CK1013" "The part of an operand that a worker touches is not said, or not one that the step's division gives it." "A report of an older ckc does not say the parts: make it again.";
    LIFETIMES "CK1014" "A tensor's `first` and `last` are not the steps that touch it first and last." "Count the steps of the entry again.";
    ORDER "CK1015" "A tensor is read before anything writes it, or entries look for it in different places." "Write it in an earlier step, or put it in `io`.";
    OVERLAP "CK1016" "Tensors that are live in the same step share bytes." "Move one of them, or end the life of the one before the other begins.";
    IN_PLACE "CK1017" "A tensor is no view of the one that `alias_of` names, and cannot take over its bytes." "An output takes over the bytes of an input of the same size that is dead afterwards, in a kernel that reads before it writes.";
    RACE "CK1018" "Between two barriers, workers touch bytes that another worker writes." "Put a barrier before the later step, or divide both steps in the same way.";
    MEMORIES "CK1019" "A memory is not its region, or has other bytes than what lives there." "Every tensor says which memory it lives in; what a memory has is the sum of what lives there.";
    CANARIES "CK1020" "A program has canaries, and there is no room for one behind a buffer or before the first of a region." "With `debug: {canaries: true}` 64 bytes stay free behind every buffer that is live, and before the first of each region.";
}

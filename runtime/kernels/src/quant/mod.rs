//! Weight formats: one file each, one line in [`FORMATS`].

//! Diagnostics: code, place, cause, hint; rustc style or JSON.

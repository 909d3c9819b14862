//! The runner crate: Rust by quote and prettyplease, the rest by tera.

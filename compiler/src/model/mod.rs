//! The YAML language: types with spans, expressions, validation; a model description becomes a graph.

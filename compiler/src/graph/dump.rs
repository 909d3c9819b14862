//! The text form of a graph, for people and tests.

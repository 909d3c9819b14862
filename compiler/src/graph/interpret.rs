//! The reference interpreter: the oracle of `ckc verify` and of the tests.

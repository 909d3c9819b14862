//! What can go wrong, said so that a user can act on it.

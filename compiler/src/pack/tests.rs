//! Packing of small files made by hand.

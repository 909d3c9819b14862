//! Step order, partitions, barriers.

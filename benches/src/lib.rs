//! Benchmarks of the ring beside its peers.

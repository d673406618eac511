//! Empty: the benchmarks are in `benches/pieces.rs`.

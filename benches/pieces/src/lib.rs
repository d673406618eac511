//! Nothing: what is measured is in `benches/pieces.rs`.

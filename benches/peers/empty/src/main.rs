//! An empty program: its size is the part of every program's size that no library adds.

fn main() {}

//! Nothing: what a program weighs before it does anything.

fn main() {}

//! Checks for the programs of the chapters, and for any other that prints its port: each runs the program as a black box, and
//! says in a sentence what it saw.

pub mod answers;
pub mod checks;
pub mod diag;
pub mod peer;
pub mod proc;
pub mod program;
pub mod receipt;
pub mod trace;

//! The simulation: what a reactor, its handlers and their peers see in it.
#![cfg(feature = "sim")]

mod conversation;
mod invariants;
mod kernel;
mod running;

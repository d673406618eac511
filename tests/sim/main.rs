//! The simulation: what a reactor, its handlers and their peers see in it.
#![cfg(feature = "sim")]

mod audit;
mod conversation;
mod invariants;
mod kernel;
mod running;
mod wild;

//! The simulation: what a reactor, its handlers and their peers see in it.
#![cfg(feature = "sim")]

mod audit;
mod callbacks;
mod conversation;
mod edges;
mod events;
mod examples;
mod invariants;
mod kernel;
mod layers;
mod limits;
mod pool;
mod running;
mod scale;
#[cfg(feature = "services")]
mod services;
mod through;
mod tls;
#[path = "../common/layers.rs"]
mod toys;
mod turns;
mod wild;

//! `kernel NN`: the observation of chapter NN. It tells the kernel's behaviour, and panics if the chapter says otherwise.

mod k01_call_order;
mod k02_connect_returns;
mod k03_accept_queue;
mod k04_which_queue;
mod k05_who_is_ready;
mod k06_one_event;
mod k07_what_is_left;
mod k08_partial_writes;
mod k09_closed_window;
mod k10_half_close;
mod k11_no_descriptor;
mod k12_short_read;
mod k13_order;
mod k14_numbers_return;
mod k15_sleep;
mod setting;

use std::io::Result;
use std::process::ExitCode;

/// Returns its sentences.
type Observation = fn() -> Result<Vec<String>>;

const OBSERVATIONS: [(&str, Observation); 15] = [
    ("01", k01_call_order::observe),
    ("02", k02_connect_returns::observe),
    ("03", k03_accept_queue::observe),
    ("04", k04_which_queue::observe),
    ("05", k05_who_is_ready::observe),
    ("06", k06_one_event::observe),
    ("07", k07_what_is_left::observe),
    ("08", k08_partial_writes::observe),
    ("09", k09_closed_window::observe),
    ("10", k10_half_close::observe),
    ("11", k11_no_descriptor::observe),
    ("12", k12_short_read::observe),
    ("13", k13_order::observe),
    ("14", k14_numbers_return::observe),
    ("15", k15_sleep::observe),
];

fn main() -> Result<ExitCode> {
    let number = std::env::args().nth(1).unwrap_or_default();
    let Some((_, observe)) = OBSERVATIONS.iter().find(|(chapter, _)| *chapter == number) else {
        eprintln!("Usage: kernel NN, where NN is 01 to 15");
        return Ok(ExitCode::from(2));
    };
    for line in observe()? {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

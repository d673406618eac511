//! `kernel NN`: the observation of chapter NN; `kernel NAME`: that of a page in also/. It tells the kernel's behaviour, and panics if the chapter says otherwise.

mod also;
mod k01_call_order;
mod k02_connect_returns;
mod k03_accept_queue;
mod k04_syn_cookies;
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

use std::io::{ErrorKind, Result};
use std::process::ExitCode;

/// Returns its sentences.
type Observation = fn() -> Result<Vec<String>>;

const OBSERVATIONS: [(&str, Observation); 25] = [
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
    ("cookies", k04_syn_cookies::observe),
    ("nagle", also::nagle::observe),
    ("fin-and-reset", also::fin_and_reset::observe),
    ("reset-in-queue", also::reset_in_queue::observe),
    ("zero-window", also::zero_window::observe),
    ("time-wait", also::time_wait::observe),
    ("reuse-port", also::reuse_port::observe),
    ("syn-retries", also::syn_retries::observe),
    ("herd", also::herd::observe),
    ("ready-of-n", also::ready_of_n::observe),
];

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [word, kind] if word == also::herd::CHILD => also::herd::child(kind == "exclusive")?,
        [word, _] if word == k04_syn_cookies::INSIDE => {
            return tell(k04_syn_cookies::observe_inside);
        }
        _ => {}
    }
    let name = words.first().map_or("", String::as_str);
    let Some((_, observe)) = OBSERVATIONS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = OBSERVATIONS.iter().map(|(known, _)| *known).collect();
        eprintln!(
            "Usage: kernel NAME, where NAME is one of {}",
            names.join(", ")
        );
        return Ok(ExitCode::from(2));
    };
    tell(*observe)
}

/// Exit status 3: something that the observation needs is missing; 1 where nothing may be missing.
fn tell(observe: Observation) -> Result<ExitCode> {
    let lines = match observe() {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            eprintln!("NOT CHECKED: {error}");
            let may_be_missing = std::env::var_os("CI").is_none();
            return Ok(ExitCode::from(if may_be_missing { 3 } else { 1 }));
        }
        lines => lines?,
    };
    for line in lines {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

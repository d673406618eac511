//! The messages of sock_diag(7) against their model. `tests/sock_diag.rs` replays the corpus through
//! the same function.
//!
//! ```sh
//! cargo +nightly fuzz run sock_diag -- -max_len=512
//! cargo +nightly fuzz cmin sock_diag  # keep the corpus small: one file for each behaviour
//! ```

#![no_main]

#[path = "../../src/sys/sock_diag/message.rs"]
#[allow(dead_code)]
mod message;
#[path = "../../tests/sock_diag/model.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    model::check(bytes);
});

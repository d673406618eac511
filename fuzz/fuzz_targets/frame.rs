//! The decoders of `doorkeeper::frame` against their model. `tests/frame.rs` replays the corpus through the same function.
//!
//! ```sh
//! cargo +nightly fuzz run frame -- -max_len=256
//! cargo +nightly fuzz cmin frame      # keep the corpus small: one file for each behaviour
//! ```

#![no_main]

#[path = "../../tests/frame/model.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    model::check(bytes);
});

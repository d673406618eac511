//! The header of the PROXY protocol against its model. `tests/proxy_protocol.rs` replays the corpus
//! through the same function.
//!
//! ```sh
//! cargo +nightly fuzz run proxy_header -- -max_len=512
//! cargo +nightly fuzz cmin proxy_header  # keep the corpus small: one file for each behaviour
//! ```

#![no_main]

#[path = "../../src/cli/serve/proxy_header.rs"]
mod header;
#[path = "../../tests/proxy_protocol/model.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    model::check(bytes);
});

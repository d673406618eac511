//! Running an embedder's code, and dropping its values: no panic gets out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs an embedder's code. `None` if it panicked.
pub(crate) fn guard<R>(code: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(value) => Some(value),
        Err(payload) => {
            discard_payload(payload);
            None
        }
    }
}

/// Drops a value of an embedder's type. False if that panicked.
///
/// Each value has a call of its own: a second panic while the first one unwinds ends the process.
pub(crate) fn discard<T>(value: T) -> bool {
    guard(|| drop(value)).is_some()
}

/// Drops the payload of a panic. The payload of a panic in that drop is not dropped but leaked,
/// because there may be no end to them.
#[cold]
#[inline(never)]
pub(crate) fn discard_payload(payload: Box<dyn Any + Send>) {
    if let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(next);
    }
}

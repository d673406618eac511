//! Panics of runs that are repeated: their messages are kept instead of printed.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The panic hook belongs to the process, so it is set once, and asks the thread.
static HOOK: Once = Once::new();

/// Runs a test quietly. The message of its panic, if it panics.
pub(super) fn message_of(test: impl FnOnce()) -> Option<String> {
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                LAST.set(info.to_string());
            } else {
                print(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(test));
    QUIET.set(before);
    result.err().map(|_| LAST.take())
}

/// The last panic on this thread that was kept quiet, if it was.
pub(super) fn last() -> String {
    if !QUIET.get() {
        return "its message is printed above".to_string();
    }
    LAST.with_borrow(Clone::clone)
}

//! What a simulation asks of the true system: nothing that changes a run.

/// The run that the environment asks for.
pub(crate) fn asked_run() -> Option<String> {
    std::env::var("DOORKEEPER_SIM").ok()
}

/// The name of the running test, which cargo gives its thread.
pub(crate) fn test_name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or_default().to_string()
}

/// True while a panic unwinds this thread.
pub(crate) fn is_unwinding() -> bool {
    std::thread::panicking()
}

//! The line between a reactor and the simulated kernel, for tests that count the bytes of the first.

/// Runs code of the kernel. What it allocates is not counted as the reactor's.
#[cfg(not(test))]
pub(super) fn apart<T>(code: impl FnOnce() -> T) -> T {
    code()
}

#[cfg(test)]
pub(super) fn apart<T>(code: impl FnOnce() -> T) -> T {
    let mut result = None;
    allocation_counter::opt_out(|| result = Some(code()));
    result.expect("it ran")
}

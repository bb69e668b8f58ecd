//! The allocator of the C library: how much it keeps for later.

/// Has threads share `n` heaps. Each heap keeps what its busiest moment took, so that a program with many
/// threads that seldom work is smaller with few. Not every C library has heaps; then nothing changes.
pub fn limit_heaps(n: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` has no preconditions but to be called before the threads that it concerns; a value
    // that it does not take changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, n);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = n;
}

//! Work that may wait for a disk or for the kernel, on a thread of its own.
//!
//! Where no thread can be had (a seccomp profile that is older than clone3(2), a pids
//! limit that was full from the start) it is done here instead: slower to answer is
//! better than gone.

use std::sync::OnceLock;

static HAS_THREADS: OnceLock<bool> = OnceLock::new();

/// Whether there can be threads: asked once, at the start, when the pids are not yet used up.
pub(super) fn has_threads() -> bool {
    *HAS_THREADS.get_or_init(|| {
        // The runtime would panic where this is refused.
        let thread = std::thread::Builder::new().spawn(|| {});
        thread.map(std::thread::JoinHandle::join).is_ok()
    })
}

/// Does `work`, and returns what comes of it.
///
/// # Errors
/// It panicked: said in words.
pub(super) async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    if !has_threads() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}

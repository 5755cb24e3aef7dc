//! Standard error as a place that may be full, closed or gone.

use crate::sys::descriptors::{standard_error, write_without_waiting};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines that nobody took since the last one that got through.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Writes a line or drops it; never waits, never fails.
#[derive(Debug, Default)]
pub(super) struct StandardError;

impl io::Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let notice = format!("bookend: {dropped} log lines were lost: standard error was not read\n");
            if write_without_waiting(standard_error(), notice.as_bytes()).is_err() {
                DROPPED.fetch_add(dropped + 1, Ordering::Relaxed);
                return Ok(bytes.len());
            }
        }
        // Longer lines than a page are cut: a pipe takes a page at once or nothing.
        let mut page = [0_u8; 4096];
        let line = match bytes.get(..4095) {
            Some(head) if bytes.len() > 4096 => {
                if let (Some(start), Some(end)) = (page.get_mut(..4095), Some(b'\n')) {
                    start.copy_from_slice(head);
                    if let Some(last) = page.last_mut() {
                        *last = end;
                    }
                }
                page.as_slice()
            }
            _ => bytes,
        };
        if write_without_waiting(standard_error(), line).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Every exit code that bookend itself ever gives, in one place.
//!
//! The main process's own code always goes first (DESIGN.md, promise 4). Codes of
//! our own stay clear of what shells mean by 0–127 and of `128 + signal`
//! (129–192), so that a dashboard can tell them apart; the two exceptions are
//! the shell's own words for "not found" and "not runnable".

/// A client verb did what it was asked.
pub const SUCCESS: u8 = 0;
/// A client verb (`dump`, `jcmd`, `healthcheck`, …) failed or answers "no".
pub const FAILURE: u8 = 1;
/// A command was found but cannot be run (POSIX shell convention).
pub const NOT_EXECUTABLE: u8 = 126;
/// A command was not found (POSIX shell convention).
pub const NOT_FOUND: u8 = 127;
/// The command line or the configuration is wrong; nothing was started.
pub const CONFIGURATION: u8 = 240;
/// A declared need (`[preflight]`) is not met; no hook was started.
pub const PREFLIGHT: u8 = 241;
/// A hook did not end within its timeout and was stopped.
pub const HOOK_TIMED_OUT: u8 = 242;
/// The kernel refused us something that we cannot do without (no process, no
/// signal descriptor); the text on standard error names it.
pub const KERNEL: u8 = 243;
/// A fault of bookend itself.
pub const INTERNAL: u8 = 244;

/// A helper process did not become ready, or ended more often than its limit allows.
pub const HELPER: u8 = 245;

/// The code a shell reports for death by a signal: `128 + number`.
pub fn of_signal(signal: crate::units::Signal) -> u8 {
    128_u8.saturating_add(u8::try_from(signal.number()).unwrap_or(0))
}

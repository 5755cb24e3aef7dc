//! The controlling terminal, where there is one.

use super::descriptors::standard_input;
use nix::unistd::{Pid, getpgrp, tcgetpgrp};

/// Standard input is our controlling terminal and our process group has its
/// foreground: only then is it ours to share or to give.
pub fn has_foreground() -> bool {
    tcgetpgrp(standard_input()).is_ok_and(|group: Pid| group == getpgrp())
}

/// `pid` is in our own process group: what a key gives us, it is given too.
pub fn shares_our_group(pid: super::process::Pid) -> bool {
    nix::unistd::getpgid(Some(Pid::from_raw(pid.number()))).is_ok_and(|group| group == getpgrp())
}

/// Takes the terminal's foreground back from a child that ended, so that keys
/// reach us again. SIGTTOU is blocked in the supervisor, so it cannot stop us.
pub fn take_foreground() {
    let own = getpgrp();
    // A terminal that is gone needs nobody in its foreground.
    let _gone = nix::unistd::tcsetpgrp(standard_input(), own);
}

/// Standard error is a terminal, so a person reads it.
pub fn is_on_standard_error() -> bool {
    nix::unistd::isatty(super::descriptors::standard_error()).unwrap_or(false)
}

//! Which pid is which child.

use super::state::Child;
use crate::sys::process::Pid;
use crate::units::Moment;

/// A child that was started and not yet reaped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) pid: Pid,
    pub(super) since: Moment,
}

/// All of them. A pid is in here exactly as long as it is ours to signal: the
/// kernel cannot give it to anybody else before we have reaped it.
#[derive(Debug, Default)]
pub(super) struct Children(Vec<Running>);

impl Children {
    pub(super) fn add(&mut self, child: Child, pid: Pid, since: Moment) {
        self.0.push(Running { child, pid, since });
    }

    /// Takes out the child that had `pid`; `None` for an orphan that we adopted.
    pub(super) fn remove(&mut self, pid: Pid) -> Option<Running> {
        let index = self.0.iter().position(|running| running.pid == pid)?;
        Some(self.0.swap_remove(index))
    }

    pub(super) fn child_of(&self, pid: Pid) -> Option<Child> {
        self.0.iter().find(|running| running.pid == pid).map(|running| running.child)
    }

    /// The roles that we play ourselves beside the supervisor's, to the very end.
    pub(super) fn roles(&self) -> Vec<Pid> {
        let is_role = |running: &&Running| matches!(running.child, Child::Agent | Child::Carrier);
        self.0.iter().filter(is_role).map(|running| running.pid).collect()
    }

    /// The last one that was started: one that was killed for it may still be there.
    pub(super) fn running(&self, child: Child) -> Option<Running> {
        self.0.iter().filter(|running| running.child == child).max_by_key(|running| running.since).copied()
    }

    pub(super) fn pid_of(&self, child: Child) -> Option<Pid> {
        self.running(child).map(|running| running.pid)
    }
}

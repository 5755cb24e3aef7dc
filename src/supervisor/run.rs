//! The loop: wait, gather events, let the machine decide, do it.

use super::action::{Effects, Outcome, Roles};
use super::state::{Action, Child, Event, Machine};
use super::{leftovers, notes};
use crate::exit;
use crate::link::{Deed, MAXIMUM_SIZE};
use crate::plan::Plan;
use crate::sys::process::{Reaped, reap};
use crate::sys::signals::{Inherited, Received, SignalDescriptor};
use crate::sys::spawn::Session;
use crate::sys::{clock, socket};
use crate::units::Signal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use tracing::{debug, error, warn};

/// So many signals are taken in before children and deadlines get their turn.
const SIGNALS_AT_ONCE: usize = 64;

/// Runs the container's life to its end; the code is what it ends with.
pub fn run(plan: &Plan, inherited: &Inherited, roles: Roles) -> u8 {
    let signals = match SignalDescriptor::open() {
        Ok(signals) => signals,
        Err(error) => {
            error!("cannot receive signals: {}", error.desc());
            return exit::KERNEL;
        }
    };
    if !plan.is_pid_one
        && let Err(error) = nix::sys::prctl::set_child_subreaper(true)
    {
        warn!("cannot become a subreaper: orphans of the service will not be reaped here: {}", error.desc());
    }
    notes::boot(plan);
    let mut supervisor = Supervisor {
        machine: Machine::new(plan, clock::now().nanoseconds()),
        effects: Effects::new(plan, inherited, roles, signals.as_fd().as_raw_fd()),
        events: VecDeque::with_capacity(16),
        actions: Vec::with_capacity(16),
        exit: None,
    };
    supervisor.take_in(Event::Begin);
    let mut first = None;
    loop {
        supervisor.gather(&signals, first);
        if let Some(code) = supervisor.exit {
            return code;
        }
        first = supervisor.wait(&signals);
    }
}

struct Supervisor<'a> {
    machine: Machine<'a>,
    effects: Effects<'a>,
    /// Both are kept, so that a steady supervisor allocates nothing.
    events: VecDeque<Event>,
    actions: Vec<Action>,
    exit: Option<u8>,
}

impl Supervisor<'_> {
    /// Everything that is pending now, until nothing is; `first` woke us.
    fn gather(&mut self, signals: &SignalDescriptor, first: Option<Received>) {
        let mut children_ended = std::mem::take(&mut self.effects.look_for_ended);
        // What the agent knows comes first: a stop must find it armed.
        self.read_link();
        // Bounded: whoever floods us must not keep us from deadlines and children.
        let pending = std::iter::from_fn(|| signals.read());
        for received in first.into_iter().chain(pending).take(SIGNALS_AT_ONCE) {
            match received.signal {
                Signal::CHLD => children_ended = true,
                signal if received.is_meant_for_us(self.effects.session == Session::Shared) => {
                    self.take_in(Event::Signal { signal, by_key: received.is_key() });
                }
                signal => debug!(%signal, sender = received.sender, "not for us"),
            }
        }
        if children_ended {
            self.collect();
        }
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= clock::now()) {
            self.take_in(Event::Timer);
        }
    }

    fn collect(&mut self) {
        loop {
            match reap() {
                Reaped::NoneEnded => return self.look_for_leftovers(),
                Reaped::NoChildren => return self.take_in(Event::Alone),
                Reaped::Stopped(pid, signal) => {
                    if let Some(child) = self.effects.children.child_of(pid) {
                        self.effects.stopped(child, signal);
                    }
                }
                Reaped::Ended(pid, status) => match self.effects.children.remove(pid) {
                    None => debug!(pid = pid.number(), %status, "adopted process reaped"),
                    Some(running) => {
                        let took = running.since.until(clock::now());
                        notes::ended(self.effects.plan, running.child, status, took);
                        self.effects.ended(running.child, pid, status);
                        self.take_in(Event::Exited(running.child, status));
                    }
                },
            }
        }
    }

    /// The kernel says when we are alone, not when only roles of ours are left.
    fn look_for_leftovers(&mut self) {
        let roles = self.effects.children.roles();
        if !roles.is_empty() && self.machine.awaits_leftovers() && !leftovers::any(&roles) {
            self.take_in(Event::NoLeftovers);
        }
    }

    fn read_link(&mut self) {
        let mut buffer = [0; MAXIMUM_SIZE];
        loop {
            let Some(link) = &self.effects.link else { return };
            match socket::receive_message(link, &mut buffer) {
                Err(_) => return,
                // It closed its end; its exit follows.
                Ok(0) => self.effects.link = None,
                Ok(size) => match buffer.get(..size).and_then(Deed::decode) {
                    Some(deed) => self.take_in(Event::Agent(deed)),
                    None => warn!("the agent said something that is no message"),
                },
            }
        }
    }

    /// What was read of the program so far has just been given back
    /// ([`crate::sys::memory::let_go_of_code`]): what a stop needs is read again now,
    /// and not while the service waits for its signal.
    fn rehearse_stop(&mut self) {
        let Some(&signal) = self.effects.plan.stop.signals.first() else { return };
        self.machine.clone().step(Event::Signal { signal, by_key: false }, clock::now(), &mut self.actions);
        self.actions.clear();
        self.effects.rehearse_signal();
    }

    fn take_in(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            let is_settled = event == Event::Spawned(Child::Main) && self.effects.plan.is_configured;
            self.machine.step(event, clock::now(), &mut self.actions);
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                if let Action::Exit(code) = action {
                    self.exit = Some(code);
                }
                let outcome = self.machine.outcome().map(|(code, reason)| Outcome {
                    code,
                    reason,
                    main_was_started: self.machine.main_was_started(),
                });
                if let Some(event) = self.effects.perform(action, outcome) {
                    self.events.push_back(event);
                }
            }
            self.actions = actions;
            if is_settled {
                self.rehearse_stop();
            }
        }
    }

    /// Sleeps until a signal, a message or a deadline. EINTR and every error lead to
    /// one more look at everything.
    fn wait(&self, signals: &SignalDescriptor) -> Option<Received> {
        if self.effects.look_for_ended {
            return None;
        }
        let left = self.machine.next_deadline().map(|deadline| clock::now().until(deadline));
        let Some(link) = &self.effects.link else {
            return signals.wait(left);
        };
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up: waking early would only mean to sleep again.
            PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
        });
        let mut woken = [signals.as_fd(), link.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let _woken = poll(&mut woken, timeout);
        None
    }
}

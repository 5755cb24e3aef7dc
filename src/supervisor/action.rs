//! The only place of effects: what the state machine asked for, done.

use super::carrying::Carried;
use super::children::Children;
use super::exports::ExportFile;
use super::farewell::{self, Farewell};
use super::state::{Action, Child, Event, Reason};
use super::{leftovers, notes};
use crate::config::Ready;
use crate::facts::processes::{self, Process};
use crate::link::{Fact, MAXIMUM_SIZE};
use crate::output::Ring;
use crate::plan::{HookPlan, Plan, Program, Variables, environment_of};
use crate::sys::process::{self, Pid, Status};
use crate::sys::signals::Inherited;
use crate::sys::spawn::{self, Credentials, Forked, Image, Session, Streams};
use crate::sys::{attributes, clock, descriptors, entry, memory, signals, socket, terminal};
use crate::units::Signal;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use tracing::{debug, error, info, trace, warn};

/// What runs in a forked copy of the supervisor instead of another program.
/// Given from outside: the supervisor does not know what an agent does.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// Checks the declared needs; its exit code says whether all are met.
    pub preflight: fn(&Plan) -> u8,
    /// What the agent needs made while the process still has bookend's own
    /// rights: a store's directory.
    pub prepare_agent: fn(&Plan),
    /// Waits until a helper process, by its index, is ready; given the socket on which it says
    /// so, if it does.
    pub gate: fn(&Plan, usize, Option<OwnedFd>) -> u8,
    /// Runs until the link closes.
    pub agent: AgentRole,
}

/// An agent: given what hooks exported, the link, the ring in which the end of the main process's
/// output is, and the memory in which it leaves where evidence went.
pub type AgentRole = fn(&Plan, &Variables, OwnedFd, Option<Ring>, Option<OwnedFd>, Inherited) -> u8;

/// Everything that effects need.
#[derive(Debug)]
pub(super) struct Effects<'a> {
    pub(super) plan: &'a Plan,
    inherited: &'a Inherited,
    roles: Roles,
    pub(super) children: Children,
    /// Our end of the link, while an agent runs.
    pub(super) link: Option<OwnedFd>,
    /// The main process's output, where it goes through us.
    carried: Option<Carried>,
    /// On which helper processes say that they are ready, by index.
    notified: Vec<(usize, OwnedFd)>,
    /// Groups of helper processes that have ended, by index: whoever is left in them is in the way of
    /// the next one.
    remains: Vec<(usize, Pid)>,
    /// Where somebody wants a last word.
    farewell: Option<Farewell>,
    exported: Variables,
    export_file: Option<ExportFile>,
    /// A group of its own for each child; but on a terminal all share ours, so that
    /// keys reach us too and nobody has to hand the foreground round.
    pub(super) session: Session,
    /// A signal went to somebody that may already be gone: look for ended children.
    pub(super) look_for_ended: bool,
    /// Ours, beside the link: the signal descriptor.
    signals: RawFd,
    /// Where we were started. Once the main process runs we are at `/`, so as
    /// to pin no mount; whoever is started later still begins here.
    directory: Option<CString>,
}

/// What post-stop hooks are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) code: u8,
    pub(super) reason: Reason,
    pub(super) main_was_started: bool,
}

impl<'a> Effects<'a> {
    pub(super) fn new(plan: &'a Plan, inherited: &'a Inherited, roles: Roles, signals: RawFd) -> Self {
        Self {
            plan,
            inherited,
            roles,
            children: Children::default(),
            link: None,
            carried: None,
            notified: Vec::new(),
            remains: Vec::new(),
            farewell: None,
            exported: Variables::new(),
            export_file: None,
            session: if terminal::has_foreground() { Session::Shared } else { Session::Group },
            look_for_ended: false,
            signals,
            directory: None,
        }
    }

    /// Does one thing; what comes of it at once is returned as an event.
    pub(super) fn perform(&mut self, action: Action, outcome: Option<Outcome>) -> Option<Event> {
        match action {
            Action::Spawn(child) => return Some(self.spawn(child, outcome)),
            Action::Signal(child, signal) => self.signal(child, signal),
            Action::SignalTree(child, signal) => {
                // A stopped process takes no signal but KILL until it is continued.
                for signal in [signal, Signal::CONT] {
                    self.signal_tree(child, signal);
                }
            }
            Action::SignalIfMissed(child, signal) => {
                if self.children.pid_of(child).is_some_and(|pid| !terminal::shares_our_group(pid)) {
                    self.signal(child, signal);
                }
            }
            Action::ContinueGroup => continue_group(),
            Action::SignalLeftovers(signal) => {
                let roles = self.children.roles();
                for signal in [signal, Signal::CONT] {
                    if !leftovers::signal(self.plan.is_pid_one, &roles, signal) {
                        debug!("cannot look for leftovers: there is no /proc");
                    }
                }
                self.look_for_ended = true;
            }
            Action::TellStop { signal, begun, evidence_until, deadline } => {
                self.tell(Fact::StopRequested { signal, begun, evidence_until, deadline });
            }
            Action::TellMainEnded { status, asked } => self.tell(Fact::MainEnded { status, asked }),
            Action::TellKill { at } => self.tell(Fact::KillComes { at }),
            Action::TellFinish { by } => self.tell(Fact::Finish { by }),
            Action::LetGoOfOutput => {
                if let Some(carried) = &mut self.carried {
                    carried.let_go_of_writers();
                    carried.let_go_of_helpers();
                }
            }
            Action::Note(note) => notes::note(self.plan, note),
            Action::Exit(code) => {
                if let (Some(path), Some(outcome)) = (&self.plan.termination_message, outcome) {
                    farewell::write(path, code, outcome.reason, self.farewell.as_ref());
                }
            }
        }
        None
    }

    fn signal(&self, child: Child, signal: Signal) {
        let Some(pid) = self.children.pid_of(child) else {
            return;
        };
        if child == Child::Main && would_kill_jvm(pid, signal) {
            warn!(%signal, "held back: the main process is a JVM that does not catch it, and would die of it");
            return;
        }
        if let Err(error) = process::signal(pid, signal) {
            warn!(%signal, "cannot signal the {}: {}", notes::name(self.plan, child), error.desc());
        }
        let means_stop =
            self.plan.stop.signals.contains(&signal) || self.plan.main.stop_signal == Some(signal);
        if child != Child::Main || !means_stop {
            return;
        }
        // What is left to do here can wait until the service had the processor.
        std::thread::yield_now();
        // A stopped process takes no signal but KILL until it is continued.
        if Process::read(pid).is_some_and(|process| process.is_stopped()) {
            info!("the main process is stopped (SIGSTOP): continuing it, so that it can end");
            let _gone = process::signal(pid, Signal::CONT);
        }
    }

    /// All of [`Self::signal`] but the signal.
    pub(super) fn rehearse_signal(&self) {
        let is_there = self.children.pid_of(Child::Main).is_some_and(process::is_there);
        trace!(is_there, "a stop would reach the main process");
    }

    /// A group of its own is signalled at once; who shares ours, one by one.
    fn signal_tree(&self, child: Child, signal: Signal) {
        let Some(pid) = self.children.pid_of(child) else {
            return;
        };
        if self.session == Session::Shared {
            // Children before parents: a parent that sees its child end may start another.
            for pid in processes::descendants(pid, &processes::list()).into_iter().rev() {
                let _gone = process::signal(pid, signal);
            }
        } else if process::signal_group(pid, signal).is_err() {
            let _gone = process::signal(pid, signal);
        }
    }

    fn tell_main_started(&mut self) {
        if let Some(main) = self.children.running(Child::Main) {
            self.tell(Fact::MainStarted { pid: main.pid, since: main.since });
        }
    }

    fn tell_helper_started(&mut self, index: usize) {
        if let Some(helper) = self.children.running(Child::Helper(index)) {
            self.tell(Fact::HelperStarted { index, pid: helper.pid, since: helper.since });
        }
    }

    fn tell(&mut self, fact: Fact) {
        let Some(link) = &self.link else { return };
        let mut buffer = [0; MAXIMUM_SIZE];
        if let Err(error) = socket::send_message(link, fact.encode(&mut buffer)) {
            // It is gone, which its exit tells, or it does not read: its deadline tells.
            debug!("cannot reach the agent: {}", error.desc());
        }
    }

    fn spawn(&mut self, child: Child, outcome: Option<Outcome>) -> Event {
        match child {
            Child::Preflight | Child::Agent | Child::Gate(_) => {
                if child == Child::Agent && self.farewell.is_none() && self.plan.termination_message.is_some()
                {
                    self.farewell = Farewell::new().ok();
                }
                self.fork_role(child)
            }
            Child::Helper(index) => self.start_helper(index),
            Child::Carrier => self.start_carrier(),
            Child::Main => {
                let variables = environment_of(&self.plan.environment, &self.exported, &self.plan.main);
                let event = self.start(child, &self.plan.main, &variables);
                // Started or not, nobody else may hold them: the pipes would never end.
                // But where it may be started again.
                if let Some(carried) = self.carried.as_mut().filter(|_| !self.plan.main_restart.is_ever()) {
                    carried.let_go_of_writers();
                }
                if event == Event::Spawned(child)
                    && let Some(pid) = self.children.pid_of(child)
                {
                    info!(
                        pid = pid.number(),
                        command = command_line(&self.plan.main),
                        "main process started"
                    );
                    self.tell_main_started();
                    self.let_go();
                }
                event
            }
            Child::Hook(index) => match self.plan.hooks.get(index) {
                Some(hook) => self.start_hook(child, hook, None),
                None => Event::Skipped(child),
            },
            Child::PostStop(index) => match self.plan.post_stop.get(index) {
                Some(hook) => self.start_hook(child, hook, outcome),
                None => Event::Skipped(child),
            },
        }
    }

    /// Without one the main process prints to our own streams, as it does by default.
    fn start_carrier(&mut self) -> Event {
        let main_runs = self.children.pid_of(Child::Main).is_some();
        if self.carried.is_none() && !main_runs {
            self.carried = Carried::open(self.plan);
        }
        if self.carried.is_none() {
            return Event::Skipped(Child::Carrier);
        }
        let event = self.fork_role(Child::Carrier);
        if let (Event::SpawnFailed(..), false) = (event, main_runs) {
            self.carried = None;
            return Event::Skipped(Child::Carrier);
        }
        event
    }

    /// The main process has what we inherited for it: descriptors from 3 on, and
    /// the working directory. A pipe must end when the service closes it.
    fn let_go(&mut self) {
        let link = self.link.as_ref().map(AsRawFd::as_raw_fd);
        let carried = self.carried.as_ref().map(Carried::descriptors).unwrap_or_default();
        let writers = self.carried.as_ref().map(Carried::writers).unwrap_or_default();
        let notified = self.notified.iter().map(|(_, socket)| socket.as_raw_fd());
        let notified = notified.chain(self.farewell.as_ref().map(Farewell::descriptor));
        let kept: Vec<RawFd> =
            link.into_iter().chain([self.signals]).chain(carried).chain(writers).chain(notified).collect();
        // Who is started again is to find what it had.
        if !self.plan.main_restart.is_ever() {
            descriptors::close_from(3, &kept);
        }
        let current = std::env::current_dir().ok();
        self.directory = current.and_then(|path| CString::new(path.into_os_string().into_vec()).ok());
        let _stay = std::env::set_current_dir("/");
        // Reading a configuration touched most of the program; a plain init is small.
        if self.plan.is_configured {
            memory::let_go_of_code();
        }
    }

    fn start_hook(&mut self, child: Child, hook: &HookPlan, outcome: Option<Outcome>) -> Event {
        let mut variables = environment_of(&self.plan.environment, &self.exported, &hook.program);
        if let Some(condition) = &hook.when
            && !condition.holds(|name| variables.get(OsStr::new(name)).map(OsString::as_os_str))
        {
            info!("hook `{}` skipped: its condition does not hold", hook.name);
            return Event::Skipped(child);
        }
        if let Some(outcome) = outcome {
            variables.insert("BOOKEND_REASON".into(), outcome.reason.word().into());
            variables.insert("BOOKEND_EXIT_CODE".into(), outcome.code.to_string().into());
            variables.insert("BOOKEND_MAIN_STARTED".into(), outcome.main_was_started.to_string().into());
        }
        if hook.exports {
            match ExportFile::create(&self.plan.environment, hook.program.identity.as_ref()) {
                Ok(file) => {
                    variables.insert("BOOKEND_ENV".into(), file.path().into());
                    self.export_file = Some(file);
                }
                Err(error) => {
                    error!(
                        "hook `{}` cannot export: no folder for $BOOKEND_ENV can be written ({error}); \
                         set TMPDIR to one, or mount a tmpfs on /tmp",
                        hook.name
                    );
                    return Event::SpawnFailed(child, crate::exit::NOT_EXECUTABLE);
                }
            }
        }
        info!(command = command_line(&hook.program), "hook `{}` begins", hook.name);
        self.start(child, &hook.program, &variables)
    }

    fn start_helper(&mut self, index: usize) -> Event {
        let child = Child::Helper(index);
        let Some(helper) = self.plan.helpers.get(index) else { return Event::Skipped(child) };
        let mut variables = environment_of(&self.plan.environment, &self.exported, &helper.program);
        self.notified.retain(|(known, _)| *known != index);
        if let Some(at) = self.remains.iter().position(|(known, _)| *known == index) {
            let (_, leader) = self.remains.swap_remove(at);
            leftovers::signal_group_of(leader, Signal::KILL);
        }
        if helper.ready == Some(Ready::Notify) {
            match socket::notify() {
                Ok((socket, name)) => {
                    variables.insert("NOTIFY_SOCKET".into(), name);
                    self.notified.push((index, socket));
                }
                Err(error) => {
                    error!("cannot make a socket for the process `{}`: {}", helper.name, error.desc());
                    return Event::SpawnFailed(child, crate::exit::KERNEL);
                }
            }
        }
        info!(command = command_line(&helper.program), "process `{}` begins", helper.name);
        let event = self.start(child, &helper.program, &variables);
        self.tell_helper_started(index);
        event
    }

    fn start(&mut self, child: Child, program: &Program, variables: &Variables) -> Event {
        let arguments: Option<Vec<CString>> =
            program.arguments.iter().map(|argument| CString::new(argument.as_bytes()).ok()).collect();
        let (Some(arguments), Some(command)) = (arguments, program.arguments.first()) else {
            error!("cannot start the {}: an argument holds a NUL byte", notes::name(self.plan, child));
            return Event::SpawnFailed(child, crate::exit::NOT_EXECUTABLE);
        };
        let path = variables.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let image = Image {
            candidates: spawn::candidates(command, path),
            arguments,
            environment: spawn::to_strings(variables),
            directory: program
                .directory
                .as_ref()
                .and_then(|path| CString::new(path.as_os_str().as_bytes()).ok())
                .or_else(|| self.directory.clone()),
            credentials: program.identity.as_ref().map(credentials),
            attributes: program.attributes.clone(),
            session: self.session,
            streams: match (&self.carried, child) {
                (Some(carried), Child::Main) => carried.for_main(),
                (Some(carried), Child::Helper(index)) => carried.for_helper(index),
                _ => Streams::Inherited,
            },
        };
        match spawn::spawn(&image, self.inherited) {
            Ok(pid) => {
                self.children.add(child, pid, clock::now());
                Event::Spawned(child)
            }
            Err(failure) => {
                self.look_for_ended = true;
                notes::not_started(self.plan, child, program, failure);
                Event::SpawnFailed(child, failure.code())
            }
        }
    }

    /// Forks a copy of ourselves that plays another role, as the main process's user.
    fn fork_role(&mut self, child: Child) -> Event {
        let pair = match socket::pair() {
            Ok(pair) => pair,
            Err(error) => {
                error!("cannot start the {}: {}", notes::name(self.plan, child), error.desc());
                return Event::SpawnFailed(child, crate::exit::KERNEL);
            }
        };
        let (ours, theirs) = pair;
        match spawn::fork() {
            Err(error) => {
                error!("cannot start the {}: {}", notes::name(self.plan, child), error.desc());
                Event::SpawnFailed(child, crate::exit::KERNEL)
            }
            Ok(Forked::Child) => {
                drop(ours);
                spawn::exit_now(self.play(child, theirs))
            }
            Ok(Forked::Parent(pid)) => {
                drop(theirs);
                let leader = nix::unistd::Pid::from_raw(pid.number());
                // Both sides do it: the group exists before anybody signals it.
                let _lost_race = nix::unistd::setpgid(leader, leader);
                self.children.add(child, pid, clock::now());
                if child == Child::Agent {
                    self.link = Some(ours);
                    self.tell_main_started();
                    for index in 0..self.plan.helpers.len() {
                        self.tell_helper_started(index);
                    }
                }
                Event::Spawned(child)
            }
        }
    }

    /// In the forked copy.
    fn play(&self, child: Child, link: OwnedFd) -> u8 {
        let own = nix::unistd::Pid::from_raw(0);
        let _lost_race = nix::unistd::setpgid(own, own);
        let is_check = matches!(child, Child::Preflight | Child::Gate(_));
        let carried = self.carried.as_ref().filter(|_| !is_check);
        let mut kept = carried.map(Carried::descriptors).unwrap_or_default();
        let notified = match child {
            Child::Gate(index) => self.notified.iter().find(|(known, _)| *known == index),
            _ => None,
        };
        kept.extend(notified.map(|(_, socket)| socket.as_raw_fd()));
        let farewell = self.farewell.as_ref().filter(|_| child == Child::Agent);
        kept.extend(farewell.map(Farewell::descriptor));
        descriptors::close_from(3, &[kept, vec![link.as_raw_fd()]].concat());
        if let Some(directory) = &self.directory {
            let _stay = nix::unistd::chdir(directory.as_c_str());
        }
        if child == Child::Agent {
            // Before the JVM, and that before us: it is started again.
            if let Err(error) = attributes::be_taken_first() {
                debug!("the agent's oom_score_adj stays as it is: {}", error.desc());
            }
            (self.roles.prepare_agent)(self.plan);
        }
        if let Some(identity) = &self.plan.main.identity
            && let Err(error) = spawn::take_credentials(&credentials(identity))
        {
            error!(
                "the {} cannot become the main process's user: {}",
                notes::name(self.plan, child),
                error.desc()
            );
            return crate::exit::KERNEL;
        }
        // The changed user has made this process unreadable for its new owner,
        // and so it stays: it carries what hooks were given.
        if child == Child::Agent {
            let for_children = signals::ignore_in_agent(self.inherited);
            let _cosmetic = nix::sys::prctl::set_name(c"bookend-agent");
            entry::set_title("bookend agent");
            let opened = carried.map_or(Ok(None), Carried::ring);
            let ring = opened.unwrap_or_else(|error| {
                warn!("the service's output cannot be read: {error}");
                None
            });
            let farewell = farewell.and_then(|farewell| farewell.share().ok());
            (self.roles.agent)(self.plan, &self.exported, link, ring, farewell, for_children)
        } else if let (Child::Carrier, Some(carried)) = (child, carried) {
            // It ends when there is nothing more to carry: no signal but KILL reaches it.
            let _cosmetic = nix::sys::prctl::set_name(c"bookend-carrier");
            entry::set_title("bookend carrier");
            carried.carry(self.plan)
        } else if let Child::Gate(index) = child {
            self.inherited.restore();
            let _cosmetic = nix::sys::prctl::set_name(c"bookend-ready");
            entry::set_title("bookend readiness");
            let notified = notified.and_then(|(_, socket)| socket.try_clone().ok());
            (self.roles.gate)(self.plan, index, notified)
        } else {
            self.inherited.restore();
            let _cosmetic = nix::sys::prctl::set_name(c"bookend-check");
            entry::set_title("bookend preflight");
            (self.roles.preflight)(self.plan)
        }
    }

    /// A child was stopped. If its terminal did it, there is no shell here that
    /// would ever continue it: we do. A SIGSTOP is somebody's who knows why.
    pub(super) fn stopped(&self, child: Child, signal: Signal) {
        if self.session == Session::Shared
            && [Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(&signal)
            && let Some(pid) = self.children.pid_of(child)
        {
            debug!(%signal, "the {} was stopped by its terminal: continuing it", notes::name(self.plan, child));
            let _gone = process::signal(pid, Signal::CONT);
            continue_group();
        }
    }

    /// A child of ours is gone; takes in what it leaves.
    pub(super) fn ended(&mut self, child: Child, pid: Pid, status: Status) {
        if self.session == Session::Shared
            && matches!(child, Child::Hook(_) | Child::Main | Child::Helper(_) | Child::PostStop(_))
        {
            // A shell that died may have kept it.
            terminal::take_foreground();
        }
        if let Child::Helper(index) = child {
            self.tell(Fact::HelperEnded { index, status });
        }
        match child {
            Child::Agent => self.link = None,
            Child::Helper(index) if self.session != Session::Shared => {
                // Workers do not see that their master was killed.
                for signal in [Signal::TERM, Signal::CONT] {
                    leftovers::signal_group_of(pid, signal);
                }
                self.remains.push((index, pid));
            }
            Child::Hook(index) => {
                let Some(file) = self.export_file.take() else {
                    return;
                };
                let Some(hook) = self.plan.hooks.get(index).filter(|_| status.is_success()) else {
                    return;
                };
                let (variables, problems) = file.read();
                for problem in problems {
                    warn!("hook `{}`, $BOOKEND_ENV: {problem}", hook.name);
                }
                if !variables.is_empty() {
                    let names: Vec<&str> = variables.keys().filter_map(|name| name.to_str()).collect();
                    info!(names = names.join(","), "hook `{}` exports", hook.name);
                }
                self.exported.extend(variables);
            }
            _ => {}
        }
    }
}

/// Everybody on our terminal goes on, ourselves included.
fn continue_group() {
    let _nobody = process::signal_own_group(Signal::CONT);
}

/// HotSpot dies of SIGUSR1 and, up to 17, of SIGUSR2 unless it was given a handler.
fn would_kill_jvm(pid: Pid, signal: Signal) -> bool {
    [Signal::USR1, Signal::USR2].contains(&signal)
        && Process::read(pid).is_some_and(|process| !process.catches(signal) && !process.ignores(signal))
        && processes::is_jvm(pid)
}

fn credentials(identity: &crate::facts::users::Identity) -> Credentials {
    Credentials { user: identity.user, group: identity.group, groups: Some(identity.groups.clone()) }
}

/// For the log: the program's name alone, since arguments may hold passwords.
fn command_line(program: &Program) -> String {
    program.arguments.first().map_or_else(String::new, |command| command.to_string_lossy().into_owned())
}

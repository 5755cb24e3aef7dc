//! The agent's event loop: facts in, deeds out, one event at a time.

mod events;
mod operator;
mod watching;

use super::budget::Rates;
use super::control;
use super::event::Captured;
use super::journal::Journal;
use super::outlook;
use super::prober::Prober;
use super::rules::Rules;
use super::shipping;
use super::status::EventStatus;
use super::storing::{self, Spool, Stored};
use super::task::{self, EcsTask};
use super::warm::{self, Attached};
use super::who::Who;
use crate::config::Trigger;
use crate::evidence::Lost;
use crate::facts::Platform;
use crate::jvm::{Counters, CrashFiles, Session};
use crate::link::{Deed, Fact, MAXIMUM_SIZE};
use crate::output::Ring;
use crate::plan::{Plan, Variables};
use crate::store::Store;
use crate::sys::attributes;
use crate::sys::process::{self, Pid};
use crate::sys::signals::Inherited;
use crate::sys::{clock, socket};
use crate::units::Moment;
use events::PendingStop;
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::{Duration, SystemTime};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};
use watching::Watch;

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How often the supervisor hears that the agent is not stuck.
const BEAT: Duration = Duration::from_secs(30);
/// `bookend status` shows so many.
const EVENTS_KEPT: usize = 20;

/// How long the end waits for those who are told of it.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// What is going on, and what is known.
#[expect(clippy::struct_excessive_bools, reason = "each is known, or not, apart from the others")]
struct Agent<'a> {
    plan: &'a Plan,
    exported: &'a Variables,
    link: &'a UnixStream,
    ring: Option<&'a Ring>,
    store: Option<&'a Store>,
    /// Why it took nothing when it was last tried.
    store_trouble: watch::Sender<Option<String>>,
    inherited: Inherited,
    rules: Rules<'a>,
    watch: Watch<'a>,
    /// As the plan numbers them.
    helpers: Vec<HelperState>,
    main: Option<Pid>,
    main_started: SystemTime,
    who: Who,
    /// Where the supervisor finds what there is to say at the end.
    farewell: Option<File>,
    crash_files: Option<CrashFiles>,
    /// It wrote a heap dump for an OutOfMemoryError, and a rule has acted on that.
    is_out_of_memory: bool,
    /// A stop's evidence is taken already.
    is_prestopped: bool,
    /// It is unhealthy, and is to be started again once its evidence is captured.
    wants_restart: bool,
    session: Option<Session>,
    warming: Option<Pending<'a, Option<Attached>>>,
    lost: Vec<Lost>,
    rates: Rates,
    capturing: Option<Pending<'a, Result<Captured, String>>>,
    /// Since when, and what set it off.
    captures: Option<(&'static str, Instant)>,
    storing: JoinSet<Stored>,
    notifying: JoinSet<()>,
    /// The supervisor wants no more than what is under way.
    is_finishing: bool,
    events: VecDeque<EventStatus>,
    journal: Journal,
    /// What is being written to whoever asked.
    answers: JoinSet<()>,
    held_until: Option<Instant>,
    stage: Stage,
    next_beat: Instant,
    /// When the running event must be done with the JVM.
    limit: watch::Sender<Instant>,
    /// When everything that is being stored must be.
    store_limit: watch::Sender<Instant>,
    /// When the stop that is under way is over.
    stop_deadline: Option<Instant>,
    /// Events so far.
    begun: u64,
    /// A stop that came while an event ran.
    pending_stop: Option<PendingStop>,
    /// How the main process ended, while an event ran.
    pending_end: Option<process::Status>,
    is_armed: bool,
    has_looked_ahead: bool,
}

/// What is known of a helper process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HelperState {
    /// It was not started, or nothing was heard of it in this agent's life.
    Unknown,
    Runs {
        pid: Pid,
        since: Moment,
    },
    Ended(process::Status),
}

/// How far the main process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Running,
    Stopping,
    Ended,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        }
    }
}

/// Serves until told to finish, or until the supervisor is gone.
pub(super) async fn serve(
    plan: &Plan,
    exported: &Variables,
    link: OwnedFd,
    ring: Option<Ring>,
    farewell: Option<OwnedFd>,
    for_children: Inherited,
) -> u8 {
    let link = match UnixStream::from_std(link.into()) {
        Ok(link) => link,
        Err(error) => {
            error!("the agent cannot listen to the supervisor: {error}");
            return crate::exit::KERNEL;
        }
    };
    // The service comes first; a stop changes that.
    attributes::be_background();
    let lost = plan.evidence.as_ref().map(storing::look_at_spool).unwrap_or_default();
    let store_trouble = watch::Sender::new(None);
    let mut store = None;
    if let Some(evidence) = &plan.evidence {
        match storing::store(evidence) {
            Ok(opened) => {
                // It ends with us: what is half sent stays in the spool.
                let spool = Spool::of(evidence);
                drop(tokio::spawn(shipping::ship(opened.clone(), spool, store_trouble.clone())));
                store = Some(opened);
            }
            Err(reason) => {
                error!("evidence cannot be stored: {reason}");
                store_trouble.send_replace(Some(reason));
            }
        }
    }
    let prober =
        plan.health.as_ref().and_then(|health| match Prober::new(plan, exported, health, for_children) {
            Ok(prober) => Some(prober),
            Err(reason) => {
                error!("the service cannot be probed: {reason}");
                None
            }
        });
    let mut requests = control::requests();
    say(&link, Deed::Ready);
    let rules = Rules::new(plan.evidence.as_ref().map_or(&[], |evidence| &evidence.rules));
    let mut agent = Agent {
        plan,
        exported,
        link: &link,
        ring: ring.as_ref(),
        store: store.as_ref(),
        store_trouble,
        inherited: for_children,
        watch: Watch::new(plan, prober.as_ref(), &rules, ring.as_ref()),
        rules,
        helpers: vec![HelperState::Unknown; plan.helpers.len()],
        main: None,
        main_started: SystemTime::now(),
        who: Who::of(plan),
        farewell: farewell.map(File::from),
        crash_files: None,
        is_out_of_memory: false,
        is_prestopped: false,
        wants_restart: false,
        session: None,
        warming: None,
        lost,
        rates: Rates::default(),
        capturing: None,
        captures: None,
        storing: JoinSet::new(),
        notifying: JoinSet::new(),
        is_finishing: false,
        events: VecDeque::new(),
        journal: Journal::new(),
        answers: JoinSet::new(),
        held_until: None,
        stage: Stage::Starting,
        next_beat: Instant::now() + BEAT,
        limit: watch::Sender::new(Instant::now()),
        store_limit: watch::Sender::new(Instant::now()),
        stop_deadline: None,
        begun: 0,
        pending_stop: None,
        pending_end: None,
        is_armed: false,
        has_looked_ahead: false,
    };
    let is_ecs = matches!(plan.platform, Platform::Ecs | Platform::EcsFargate) && plan.evidence.is_some();
    let mut asking_who: Option<Pending<'_, _>> =
        is_ecs.then(|| -> Pending<'_, _> { Box::pin(task::ask(plan)) });
    loop {
        tokio::select! {
            told = pending(&mut asking_who) => {
                asking_who = None;
                agent.is_told_who(told);
            }
            fact = receive(&link) => match fact {
                None => return crate::exit::SUCCESS,
                Some(fact) => agent.learn(fact),
            },
            attached = pending(&mut agent.warming) => agent.attached(attached),
            seen = agent.watch.next() => agent.seen(seen),
            captured = pending(&mut agent.capturing) => agent.captured(captured),
            Some(stored) = agent.storing.join_next() => agent.stored(stored.ok()),
            Some(_) = agent.notifying.join_next() => agent.everything_is_stored(),
            () = due(Some(agent.next_beat)) => agent.beat(),
            Some((stream, request)) = requests.recv() => agent.answer(stream, request),
            Some(_) = agent.answers.join_next() => {}
        }
        // Half a manifest helps nobody: the supervisor ends us where it has no more time.
        if agent.is_finishing && agent.is_done() {
            // Whoever follows the events hears of the last.
            agent.journal.close();
            let heard = std::mem::take(&mut agent.answers).join_all();
            let _late = tokio::time::timeout(LAST_ANSWERS, heard).await;
            return crate::exit::SUCCESS;
        }
    }
}

impl Agent<'_> {
    fn is_told_who(&mut self, told: Result<EcsTask, String>) {
        match told {
            Ok(task) => {
                self.who.learn(self.plan, task);
                let who = &self.who;
                let image = who.image_digest.as_deref().unwrap_or("unknown");
                let detail = |name: &str| {
                    who.details.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.as_str())
                };
                info!(
                    service = who.service,
                    task = who.task,
                    revision = detail("revision"),
                    cluster = detail("cluster"),
                    zone = detail("zone"),
                    image,
                    "ECS says who this is"
                );
            }
            Err(reason) => warn!("service and task are those of the host name: {reason}"),
        }
    }

    fn helper_is(&mut self, index: usize, state: HelperState) {
        if let Some(known) = self.helpers.get_mut(index) {
            *known = state;
        }
    }

    fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::MainStarted { pid, since } => self.main_started(pid, since),
            Fact::StopRequested { signal, begun, evidence_until, deadline } => {
                self.stop(signal, begun.until(evidence_until), instant(evidence_until), instant(deadline));
            }
            Fact::HelperStarted { index, pid, since } => {
                self.helper_is(index, HelperState::Runs { pid, since });
            }
            Fact::HelperEnded { index, status } => self.helper_is(index, HelperState::Ended(status)),
            Fact::KillComes { at } => self.last_words(instant(at)),
            Fact::MainEnded { status, asked } => {
                self.stage = Stage::Ended;
                self.rest();
                self.main_has_ended(status, asked);
                self.everything_is_stored();
            }
            Fact::Finish { by } => {
                self.is_finishing = true;
                self.shorten_store(instant(by));
                self.shorten_capture(instant(by));
            }
        }
    }

    fn main_started(&mut self, pid: Pid, since: Moment) {
        self.main = Some(pid);
        self.stage = Stage::Running;
        // File systems count time more coarsely than we do.
        self.main_started = SystemTime::now() - since.until(clock::now()) - Duration::from_secs(2);
        if self.plan.evidence.is_some() {
            self.warming = Some(Box::pin(warm::attach(pid, self.plan.heap_dump.clone())));
        }
        self.watch.begin(since);
    }

    /// Nothing more is watched.
    fn rest(&mut self) {
        self.warming = None;
        self.watch.end();
        attributes::be_foreground();
    }

    fn attached(&mut self, attached: Option<Attached>) {
        self.warming = None;
        let Some(Attached { session, heap_dump }) = attached else { return };
        let mut files = CrashFiles::of(&session, self.main_started);
        if let Some(path) = heap_dump {
            files.dump_heap_to(path);
        }
        self.crash_files = Some(files);
        self.is_out_of_memory = false;
        self.look_ahead(&session);
        self.watch.jvm_is_there(&session);
        self.rules.renew(|on| matches!(on, Trigger::Deadlock { .. } | Trigger::OutOfMemory));
        self.session = Some(session);
    }

    /// Once a life: the next JVM has the same heap and the same time.
    fn look_ahead(&mut self, session: &Session) {
        if self.has_looked_ahead {
            return;
        }
        let Some((_, heap)) = Counters::read(&session.target).and_then(|counters| counters.heap()) else {
            debug!("the JVM does not tell how large its heap may grow");
            return;
        };
        self.has_looked_ahead = true;
        let Some(evidence) = &self.plan.evidence else { return };
        let stops_the_sick = self.plan.platform.stops_the_sick();
        if let Some(worry) = outlook::of(&self.plan.stop, evidence, stops_the_sick, heap) {
            warn!("{worry}");
        }
    }

    /// The JVM is gone; another one may follow.
    fn lost(&mut self) {
        self.session = None;
        let heap_dump = self.plan.heap_dump.clone();
        self.warming = self.main.map(|main| -> Pending<'_, _> { Box::pin(warm::attach(main, heap_dump)) });
    }
}

/// When `moment` comes; never where there is none.
async fn due(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for what is under way; for ever where nothing is.
async fn pending<T>(slot: &mut Option<Pending<'_, T>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn say(link: &UnixStream, deed: Deed) {
    if let Err(error) = socket::send_message(link, deed.encode(&mut [0; MAXIMUM_SIZE])) {
        debug!("cannot reach the supervisor: {}", error.desc());
    }
}

/// The next fact; `None` once the supervisor is gone.
async fn receive(link: &UnixStream) -> Option<Fact> {
    loop {
        link.readable().await.ok()?;
        let mut buffer = [0; MAXIMUM_SIZE];
        // A socket that keeps message borders: read by recv(2), not as a stream.
        let received = link.try_io(Interest::READABLE, || {
            socket::receive_message(link, &mut buffer).map_err(io::Error::from)
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) | Ok(0) => return None,
            Ok(size) => {
                if let Some(fact) = buffer.get(..size).and_then(Fact::decode) {
                    return Some(fact);
                }
                error!("the supervisor said something that is no message");
            }
        }
    }
}

/// A moment of the common clock on the runtime's.
fn instant(moment: Moment) -> Instant {
    Instant::now() + clock::now().until(moment)
}

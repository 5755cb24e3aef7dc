//! Generated and hand-written sequences of events.

use super::{Action, Child, Event, Machine, Note};
use crate::facts::Platform;
use crate::link::{Deed, Order};
use crate::plan::Plan;
use crate::plan::fixture::plan_on;
use crate::sys::process::Status;
use crate::units::{Moment, Signal};
use proptest::prelude::*;

use std::time::Duration;

pub(super) fn plan_of(text: &str) -> Plan {
    plan_on(Platform::Bare, &[], text)
}

const EVERYTHING: &str = r#"
    stop.grace=10s
    main.reserve=4s
    main.output={ keep = "64KiB" }
    preflight.files=["/x"]
    hook.0.name=one
    hook.0.command=["one"]
    hook.0.timeout=20s
    hook.0.retries=2
    hook.1.name=two
    hook.1.command=["two"]
    hook.1.on_failure=continue
    hook.2.name=bye
    hook.2.command=["bye"]
    hook.2.stage=post-stop
    hook.2.timeout=2s
    rule.0.name=last
    rule.0.on=stop
    rule.0.capture=["threads"]
    rule.1.name=crash
    rule.1.on=exit
    rule.1.capture=["threads"]
    store.url=file:///tmp/x
"#;

const PLAIN: &str = "stop.grace=10s";

pub(super) const HELPED: &str = r#"
    stop.grace=10s
    stop.linger=1s
    main.reserve=4s
    main.restart=always
    health.tcp=127.0.0.1:1
    process.0.name=database
    process.0.command=["database"]
    process.0.ready=notify
    process.0.grace=2s
    process.1.name=proxy
    process.1.command=["proxy"]
    process.1.start=after
    process.1.stop_signal=QUIT
    process.1.signals=["HUP"]
    process.2.name=sidecar
    process.2.command=["sidecar"]
    process.2.start=after
    process.2.restart=on-failure
    process.3.name=late
    process.3.command=["late"]
    process.3.start=healthy
    hook.0.name=bye
    hook.0.command=["bye"]
    hook.0.stage=post-stop
    hook.0.timeout=2s
"#;

/// A world in which spawned children live until an event ends them.
pub(super) struct World<'a> {
    pub(super) machine: Machine<'a>,
    pub(super) now: Moment,
    pub(super) alive: Vec<Child>,
    pub(super) stops_sent: u32,
    stop_begun: Option<Moment>,
    pub(super) exit: Option<u8>,
    pub(super) spawned: Vec<Child>,
    main_status: Option<Status>,
    main_restarts: bool,
    /// The pipes of those that are started again are held open by us.
    holds_output: bool,
    pub(super) noted: Vec<Note>,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let mut world = Self {
            machine: Machine::new(plan, 42),
            now: Moment::from_nanoseconds(1_000_000_000),
            alive: Vec::new(),
            stops_sent: 0,
            stop_begun: None,
            exit: None,
            spawned: Vec::new(),
            main_status: None,
            main_restarts: plan.main_restart.is_ever(),
            holds_output: plan.main_restart.is_ever() || !plan.helpers.is_empty(),
            noted: Vec::new(),
        };
        world.feed(Event::Begin);
        world
    }

    pub(super) fn feed(&mut self, event: Event) {
        let mut queue = vec![event];
        while let Some(event) = queue.pop() {
            if let Event::Exited(child, status) = event {
                let Some(at) = self.alive.iter().position(|alive| *alive == child) else {
                    continue;
                };
                self.alive.remove(at);
                if child == Child::Main {
                    self.main_status = Some(status);
                }
            }
            let mut actions = Vec::new();
            self.machine.step(event, self.now, &mut actions);
            for action in actions {
                assert_eq!(self.exit, None, "nothing may follow the exit: {action:?}");
                match action {
                    Action::Spawn(child) => {
                        assert!(!self.alive.contains(&child), "{child:?} runs already");
                        if child == Child::Main {
                            assert!(self.stop_begun.is_none(), "main started after a stop");
                            assert!(
                                self.main_restarts || !self.spawned.contains(&child),
                                "main started twice"
                            );
                            self.stops_sent = 0;
                        }
                        self.alive.push(child);
                        self.spawned.push(child);
                        queue.insert(0, Event::Spawned(child));
                    }
                    Action::Signal(child, signal)
                    | Action::SignalTree(child, signal)
                    | Action::SignalIfMissed(child, signal) => {
                        assert!(self.alive.contains(&child), "{signal} to {child:?}, which is reaped");
                        if child == Child::Main && signal == Signal::TERM {
                            self.stops_sent += 1;
                        }
                        if signal == Signal::KILL {
                            let killed = Status::Signaled { signal: Signal::KILL, core_dumped: false };
                            queue.insert(0, Event::Exited(child, killed));
                        }
                    }
                    Action::Note(Note::Stop { .. }) => self.stop_begun = Some(self.now),
                    Action::Note(note) => self.noted.push(note),
                    Action::LetGoOfOutput => self.holds_output = false,
                    Action::Exit(code) => self.exit = Some(code),
                    _ => {}
                }
            }
        }
        // Nobody is left to write: the pipes are at their end.
        let writes = |child: &Child| !matches!(child, Child::Agent | Child::Carrier);
        if self.alive.contains(&Child::Carrier)
            && self.spawned.contains(&Child::Main)
            && !self.alive.iter().any(writes)
            && !self.holds_output
            && self.exit.is_none()
        {
            self.feed(Event::Exited(Child::Carrier, Status::Exited(0)));
        }
        if self.alive.is_empty() && self.exit.is_none() && !matches!(event, Event::Alone) {
            self.feed(Event::Alone);
        }
    }

    /// Lets time pass to the machine's own next deadline.
    pub(super) fn pass(&mut self) -> bool {
        let Some(next) = self.machine.next_deadline() else {
            return false;
        };
        self.now = self.now.max(next);
        self.feed(Event::Timer);
        true
    }

    fn run_hooks(&mut self) {
        for child in [Child::Preflight, Child::Hook(0), Child::Hook(1)] {
            if self.alive.contains(&child) {
                self.feed(Event::Exited(child, Status::Exited(0)));
            }
        }
    }
}

pub(super) fn term() -> Event {
    Event::Signal { signal: Signal::TERM, by_key: false }
}

#[test]
fn the_way_through() {
    let plan = plan_of(EVERYTHING);
    let mut world = World::new(&plan);
    world.run_hooks();
    assert_eq!(
        world.spawned,
        [Child::Preflight, Child::Hook(0), Child::Hook(1), Child::Carrier, Child::Agent, Child::Main]
    );
    world.feed(term());
    assert_eq!(world.stops_sent, 0, "evidence comes first");
    world.feed(Event::Agent(Deed::Captured));
    assert_eq!(world.stops_sent, 1);
    world.feed(term());
    assert_eq!(world.stops_sent, 1, "a repeated stop is idempotent");
    world.feed(Event::Exited(Child::Main, Status::Exited(143)));
    assert_eq!(world.exit, None);
    world.feed(Event::Agent(Deed::Stored));
    world.feed(Event::Exited(Child::Agent, Status::Exited(0)));
    assert_eq!(world.spawned.last(), Some(&Child::PostStop(0)));
    world.feed(Event::Exited(Child::PostStop(0), Status::Exited(9)));
    assert_eq!(world.exit, Some(143));
}

#[test]
fn a_stop_in_every_phase_ends_with_the_signals_code() {
    let plan = plan_of(EVERYTHING);
    for hooks_done in 0..3 {
        let mut world = World::new(&plan);
        for child in [Child::Preflight, Child::Hook(0), Child::Hook(1)].into_iter().take(hooks_done) {
            world.feed(Event::Exited(child, Status::Exited(0)));
        }
        world.feed(term());
        let running = *world.alive.last().expect("a task runs");
        world.feed(Event::Exited(running, Status::Exited(0)));
        assert!(!world.spawned.contains(&Child::Main));
        world.feed(Event::Exited(Child::PostStop(0), Status::Exited(0)));
        assert_eq!(world.exit, Some(143));
    }
}

#[test]
fn failures_of_hooks() {
    let plan = plan_of(EVERYTHING);
    let mut world = World::new(&plan);
    world.feed(Event::Exited(Child::Preflight, Status::Exited(0)));
    for _ in 0..2 {
        world.feed(Event::Exited(Child::Hook(0), Status::Exited(3)));
        assert!(world.alive.is_empty());
        assert!(world.pass());
    }
    world.feed(Event::Exited(Child::Hook(0), Status::Exited(3)));
    world.feed(Event::Exited(Child::PostStop(0), Status::Exited(0)));
    assert_eq!(world.exit, Some(3));
    assert_eq!(world.spawned.iter().filter(|child| **child == Child::Hook(0)).count(), 3);

    let mut world = World::new(&plan);
    world.feed(Event::Exited(Child::Preflight, Status::Exited(0)));
    world.feed(Event::Exited(Child::Hook(0), Status::Exited(0)));
    world.feed(Event::Exited(Child::Hook(1), Status::Exited(3)));
    assert!(world.alive.contains(&Child::Main), "on_failure = continue");
}

#[test]
fn a_hook_is_left_to_finish_where_it_wants_that() {
    let settings = "stop.grace=30s\nstop.margin=1s\nhook.0.name=migrate\nhook.0.command=[\"migrate\"]\n\
                    hook.0.on_stop=finish\nhook.0.grace=5s";
    let plan = plan_of(settings);
    let mut world = World::new(&plan);
    let begin = world.now;
    world.feed(term());
    assert!(!world.noted.iter().any(|note| matches!(note, Note::Forwarding { .. })));
    // Done in time: nothing else begins.
    let mut done = World::new(&plan);
    done.feed(term());
    done.feed(Event::Exited(Child::Hook(0), Status::Exited(0)));
    assert_eq!(done.exit, Some(143));
    assert!(!done.spawned.contains(&Child::Main));
    // Not done: it is asked, and then killed.
    assert!(world.pass());
    assert_eq!(begin.until(world.now), Duration::from_secs(24));
    assert!(world.noted.iter().any(|note| matches!(note, Note::Forwarding { .. })));
    assert!(world.pass());
    assert_eq!(begin.until(world.now), Duration::from_secs(29));
    assert!(world.noted.iter().any(|note| matches!(note, Note::Killing(Child::Hook(0)))));
    // A key has reached it already.
    let mut by_key = World::new(&plan);
    by_key.feed(Event::Signal { signal: Signal::INT, by_key: true });
    assert!(by_key.noted.iter().any(|note| matches!(note, Note::Forwarding { .. })));
}

#[test]
fn a_hook_that_ignores_its_timeout_is_killed() {
    let plan = plan_of("hook.0.name=slow\nhook.0.command=[\"slow\"]\nhook.0.timeout=1s\nhook.0.grace=2s");
    let mut world = World::new(&plan);
    let begin = world.now;
    assert!(world.pass());
    assert_eq!(begin.until(world.now), Duration::from_secs(1));
    assert!(world.pass());
    assert_eq!(begin.until(world.now), Duration::from_secs(3));
    assert_eq!(world.exit, Some(crate::exit::HOOK_TIMED_OUT));
}

#[test]
fn without_a_known_grace_main_is_never_killed() {
    let plan = plan_of("log.level=info");
    let mut world = World::new(&plan);
    world.feed(term());
    assert_eq!(world.stops_sent, 1);
    assert!(!world.pass(), "no deadline of ours");
    world.feed(Event::Exited(Child::Main, Status::Exited(0)));
    assert_eq!(world.exit, Some(0));
}

#[test]
fn a_lost_agent_delays_nothing() {
    let plan = plan_of(EVERYTHING);
    let mut world = World::new(&plan);
    world.run_hooks();
    world.feed(term());
    world.feed(Event::Exited(Child::Agent, Status::Exited(1)));
    assert_eq!(world.stops_sent, 1);
    let plan = plan_of(EVERYTHING);
    let mut world = World::new(&plan);
    world.run_hooks();
    world.feed(Event::Exited(Child::Agent, Status::Exited(1)));
    assert!(world.pass(), "it is started again");
    assert!(world.alive.contains(&Child::Agent));
}

#[test]
fn keys_on_the_terminal_hurry_and_then_kill() {
    let plan = plan_of(&format!("{EVERYTHING}\nstop.grace=1h"));
    let mut world = World::new(&plan);
    world.run_hooks();
    let key = Event::Signal { signal: Signal::INT, by_key: true };
    world.feed(key);
    assert!(world.alive.contains(&Child::Main));
    world.feed(key);
    assert!(world.alive.contains(&Child::Main));
    world.feed(key);
    assert!(!world.alive.contains(&Child::Main));
}

/// An event that runs when the main process ends well is not thrown away.
#[test]
fn an_armed_agent_is_waited_for_whatever_the_code() {
    let plan = plan_of(&EVERYTHING.replace("rule.0.on=stop", "rule.0.on=exit"));
    for armed in [true, false] {
        let mut world = World::new(&plan);
        world.run_hooks();
        if armed {
            world.feed(Event::Agent(Deed::Armed));
        }
        world.feed(Event::Exited(Child::Main, Status::Exited(0)));
        world.feed(Event::NoLeftovers);
        let begun = world.now;
        world.pass();
        // Two seconds for an agent with nothing to do; one that is at it is only
        // given up when it no longer says that it lives.
        assert_eq!(begun.until(world.now).as_secs(), if armed { 90 } else { 2 });
    }
}

/// A stop that would set off nothing goes on without a word of evidence.
#[test]
fn a_disarmed_stop_goes_on_at_once() {
    let plan = plan_of(&EVERYTHING.replace("rule.0.on=stop", "rule.0.on=exit"));
    let mut world = World::new(&plan);
    world.run_hooks();
    world.feed(term());
    assert_eq!(world.stops_sent, 1, "nobody is asked");
    let mut world = World::new(&plan);
    world.run_hooks();
    world.feed(Event::Agent(Deed::Armed));
    world.feed(term());
    assert_eq!(world.stops_sent, 0);
    world.feed(Event::Agent(Deed::Disarmed));
    assert_eq!(world.stops_sent, 1);
}

/// Stuck in the kernel, say: it is killed, which its exit tells, and started again.
#[test]
fn an_agent_that_says_nothing_is_replaced() {
    let plan = plan_of(EVERYTHING);
    let mut world = World::new(&plan);
    world.run_hooks();
    let begin = world.now;
    for _ in 0..10 {
        world.now = world.now.after(Duration::from_mins(1));
        world.feed(Event::Agent(Deed::Alive));
    }
    assert!(world.alive.contains(&Child::Agent), "it says that it is alive");
    assert!(world.pass());
    assert_eq!(begin.until(world.now), Duration::from_secs(690));
    assert!(!world.alive.contains(&Child::Agent), "killed");
    assert!(world.pass());
    assert!(world.alive.contains(&Child::Agent), "and started again");
    assert!(world.alive.contains(&Child::Main));
}

#[test]
fn a_hold_keeps_the_container_until_it_is_released() {
    let plan = plan_of(EVERYTHING);
    let hold = |world: &World| Deed::Hold { until: world.now.after(Duration::from_mins(30)) };
    // After an exit: until the release, or its own end.
    for released in [true, false] {
        let mut world = World::new(&plan);
        world.run_hooks();
        let begin = world.now;
        world.feed(Event::Agent(hold(&world)));
        world.feed(Event::Exited(Child::Main, Status::Exited(3)));
        world.feed(Event::Agent(Deed::Stored));
        assert!(world.alive.contains(&Child::Agent) && world.exit.is_none());
        if released {
            world.feed(Event::Agent(Deed::Release));
        } else {
            while !world.spawned.contains(&Child::PostStop(0)) && world.pass() {
                if world.now >= begin.after(Duration::from_mins(30)) {
                    break;
                }
            }
        }
        world.feed(Event::Exited(Child::Agent, Status::Exited(0)));
        world.feed(Event::Exited(Child::PostStop(0), Status::Exited(0)));
        assert_eq!(world.exit, Some(3));
    }
    // At a stop: captured is not enough, the release is.
    let mut world = World::new(&plan);
    world.run_hooks();
    world.feed(Event::Agent(hold(&world)));
    world.feed(term());
    world.feed(Event::Agent(Deed::Captured));
    assert_eq!(world.stops_sent, 0);
    world.feed(Event::Agent(Deed::Release));
    assert_eq!(world.stops_sent, 1);
}

fn any_event() -> impl Strategy<Value = Event> {
    let child = prop_oneof![
        Just(Child::Preflight),
        Just(Child::Hook(0)),
        Just(Child::Hook(1)),
        Just(Child::Main),
        Just(Child::Main),
        Just(Child::PostStop(0)),
        Just(Child::Agent),
        (0_usize..3).prop_map(Child::Helper),
        Just(Child::Gate(0)),
    ];
    let status = prop_oneof![
        Just(Status::Exited(0)),
        Just(Status::Exited(0)),
        (1_u8..=255).prop_map(Status::Exited),
        Just(Status::Signaled { signal: Signal::SEGV, core_dumped: false }),
    ];
    let signal = prop_oneof![Just(Signal::TERM), Just(Signal::INT), Just(Signal::HUP), Just(Signal::QUIT)];
    let order = prop_oneof![Just(Order::Restart), Just(Order::Stop), Just(Order::Start)];
    prop_oneof![
        4 => (child, status).prop_map(|(child, status)| Event::Exited(child, status)),
        2 => (signal, any::<bool>()).prop_map(|(signal, by_key)| Event::Signal { signal, by_key }),
        1 => Just(Event::Agent(Deed::Captured)),
        1 => Just(Event::Agent(Deed::Stored)),
        1 => Just(Event::Agent(Deed::Ready)),
        1 => Just(Event::Agent(Deed::Armed)),
        1 => Just(Event::Agent(Deed::Alive)),
        1 => (1_u64..200_000_000_000).prop_map(|until| Event::Agent(Deed::Hold { until: Moment::from_nanoseconds(until) })),
        1 => Just(Event::Agent(Deed::Release)),
        1 => Just(Event::Agent(Deed::Disarmed)),
        1 => Just(Event::Agent(Deed::RestartMain)),
        1 => Just(Event::Agent(Deed::Healthy)),
        2 => (0_usize..4, order).prop_map(|(index, order)| Event::Agent(Deed::Helper { index, order })),
        3 => Just(Event::Timer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Whatever the order of events: nothing is signalled after it was reaped
    /// (asserted in `World`), a stop signal reaches main at most once, the code
    /// is main's own, and after a stop the end comes by the deadline.
    #[test]
    fn every_order_of_events_ends_well(
        which in 0_usize..3,
        events in prop::collection::vec((any_event(), 0_u64..3000), 0..200),
    ) {
        let plan = plan_of([EVERYTHING, PLAIN, HELPED][which]);
        let mut world = World::new(&plan);
        for (event, milliseconds) in events {
            if world.exit.is_some() {
                break;
            }
            // A timer event comes only when something is due.
            let later = world.now.after(Duration::from_millis(milliseconds));
            match world.machine.next_deadline() {
                Some(due) if due <= later => { world.pass(); }
                _ => world.now = later,
            }
            if world.exit.is_none() {
                world.feed(event);
            }
        }
        if world.exit.is_none() && world.stop_begun.is_none() {
            world.feed(term());
        }
        for _ in 0..1000 {
            if world.exit.is_some() || !world.pass() {
                break;
            }
        }
        prop_assert!(world.exit.is_some(), "it ends: {:?}", world.machine);
        prop_assert!(world.stops_sent <= 1, "the stop signal goes out once");
        if let Some(status) = world.main_status.filter(|_| world.exit != Some(crate::exit::HELPER) && which < 2) {
            prop_assert_eq!(world.exit, Some(status.code()));
        }
        if let Some(begun) = world.stop_begun {
            let deadline = plan.stop.deadline(begun);
            prop_assert!(world.now <= deadline, "{:?} past the deadline", deadline.until(world.now));
        }
    }
}

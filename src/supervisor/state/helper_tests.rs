//! Helper processes, lame duck, and a main process that is started again.

use super::tests::{HELPED, World, plan_of, term};
use super::{Action, Child, Event, Note};
use crate::link::{Deed, Order};
use crate::plan::Plan;
use crate::sys::process::Status;
use crate::units::Signal;
use std::time::Duration;

fn helped(plan: &Plan) -> World<'_> {
    let mut world = World::new(plan);
    assert_eq!(world.alive, [Child::Carrier, Child::Helper(0), Child::Gate(0)], "main waits for it");
    world.feed(Event::Exited(Child::Gate(0), Status::Exited(0)));
    let rest = [Child::Agent, Child::Main, Child::Helper(1), Child::Helper(2)];
    assert_eq!(world.spawned.get(3..), Some(&rest[..]));
    world
}

#[test]
fn helpers_start_in_order_and_stop_in_the_reverse() {
    let plan = plan_of(HELPED);
    let mut world = helped(&plan);
    let hup = Event::Signal { signal: Signal::HUP, by_key: false };
    world.feed(hup);
    world.feed(term());
    let stops = |world: &World<'_>| -> Vec<usize> {
        let index = |note: &Note| match note {
            Note::HelperStops { index, .. } => Some(*index),
            _ => None,
        };
        world.noted.iter().filter_map(index).collect()
    };
    assert_eq!(stops(&world), [2]);
    world.feed(Event::Exited(Child::Helper(2), Status::Exited(0)));
    assert_eq!(stops(&world), [2, 1]);
    world.feed(Event::Exited(Child::Helper(1), Status::Exited(0)));
    assert_eq!(world.stops_sent, 0, "it lingers");
    assert!(world.pass());
    assert_eq!(world.stops_sent, 1);
    assert_eq!(stops(&world), [2, 1], "main needs it still");
    world.feed(Event::Exited(Child::Main, Status::Exited(143)));
    assert_eq!(stops(&world), [2, 1, 0]);
    world.feed(Event::Exited(Child::Helper(0), Status::Exited(1)));
    world.feed(Event::Exited(Child::Agent, Status::Exited(0)));
    world.feed(Event::Exited(Child::PostStop(0), Status::Exited(0)));
    assert_eq!(world.exit, Some(143));
}

#[test]
fn a_second_stop_does_not_linger() {
    let plan = plan_of("stop.linger=5s");
    let mut world = World::new(&plan);
    world.feed(term());
    assert_eq!(world.stops_sent, 0);
    world.feed(term());
    assert_eq!(world.stops_sent, 1);
}

#[test]
fn a_helper_is_started_again_until_its_limit() {
    let plan = plan_of(HELPED);
    let mut world = helped(&plan);
    let begin = world.now;
    for _ in 0..5 {
        world.feed(Event::Exited(Child::Helper(1), Status::Exited(1)));
        assert!(!world.alive.contains(&Child::Helper(1)));
        assert!(world.pass());
        assert!(world.alive.contains(&Child::Helper(1)));
    }
    assert!(begin.until(world.now) > Duration::from_secs(10), "each wait is longer");
    world.feed(Event::Exited(Child::Helper(1), Status::Exited(1)));
    world.feed(Event::Exited(Child::Helper(2), Status::Exited(0)));
    while world.stops_sent == 0 && world.pass() {}
    world.feed(Event::Exited(Child::Main, Status::Exited(0)));
    world.feed(Event::Exited(Child::Helper(0), Status::Exited(0)));
    world.feed(Event::Exited(Child::Agent, Status::Exited(0)));
    world.feed(Event::Exited(Child::PostStop(0), Status::Exited(0)));
    assert_eq!(world.exit, Some(crate::exit::HELPER));
}

#[test]
fn a_sick_main_process_is_restarted_and_others_are_not() {
    let plan = plan_of(HELPED);
    let mut world = helped(&plan);
    world.feed(Event::Agent(Deed::RestartMain));
    assert_eq!(world.stops_sent, 1);
    world.feed(Event::Exited(Child::Main, Status::Exited(143)));
    assert!(world.pass());
    assert!(world.alive.contains(&Child::Main));
    assert_eq!(world.spawned.iter().filter(|child| **child == Child::Helper(1)).count(), 1);
    // By itself, too often.
    for _ in 0..4 {
        world.feed(Event::Exited(Child::Main, Status::Exited(9)));
        assert!(world.pass());
        assert!(world.alive.contains(&Child::Main));
    }
    world.feed(Event::Exited(Child::Main, Status::Exited(9)));
    assert!(!world.pass() || !world.alive.contains(&Child::Main));
    for child in [Child::Helper(2), Child::Helper(1), Child::Helper(0), Child::Agent, Child::PostStop(0)] {
        world.feed(Event::Exited(child, Status::Exited(0)));
    }
    assert_eq!(world.exit, Some(9));
}

#[test]
fn a_stop_while_a_helper_comes_up() {
    let plan = plan_of(HELPED);
    let mut world = World::new(&plan);
    world.feed(term());
    assert!(!world.alive.contains(&Child::Gate(0)));
    while world.exit.is_none() && world.pass() {}
    assert_eq!(world.exit, Some(143), "{:?}", world.machine);
}

fn order(index: usize, order: Order) -> Event {
    Event::Agent(Deed::Helper { index, order })
}

fn starts(world: &World<'_>, index: usize) -> usize {
    world.spawned.iter().filter(|child| **child == Child::Helper(index)).count()
}

#[test]
fn an_operator_stops_starts_and_restarts_a_helper() {
    let plan = plan_of(HELPED);
    let mut world = helped(&plan);
    world.feed(order(1, Order::Stop));
    world.feed(Event::Exited(Child::Helper(1), Status::Exited(1)));
    assert!(!world.alive.contains(&Child::Helper(1)), "it stays away, whatever its restart policy");
    assert_eq!(starts(&world, 1), 1);
    world.feed(order(1, Order::Start));
    assert!(world.alive.contains(&Child::Helper(1)));
    world.feed(order(1, Order::Start));
    assert_eq!(starts(&world, 1), 2, "it runs already");
    world.feed(order(1, Order::Restart));
    assert_eq!(starts(&world, 1), 2, "it is asked to end first");
    world.feed(Event::Exited(Child::Helper(1), Status::Exited(0)));
    assert_eq!(starts(&world, 1), 3);
    // One that waits for its next start does not wait any longer.
    world.feed(Event::Exited(Child::Helper(1), Status::Exited(1)));
    assert_eq!(starts(&world, 1), 3);
    world.feed(order(1, Order::Start));
    assert_eq!(starts(&world, 1), 4);
    world.feed(order(9, Order::Stop));
    // In a stop everybody goes, and nobody comes.
    world.feed(order(2, Order::Restart));
    world.feed(term());
    world.feed(order(1, Order::Restart));
    for index in [2, 1] {
        world.feed(Event::Exited(Child::Helper(index), Status::Exited(0)));
    }
    assert_eq!((starts(&world, 2), starts(&world, 1)), (1, 4));
}

#[test]
fn one_that_waits_for_health_is_started_then() {
    let settings = "health.tcp=127.0.0.1:1\nprocess.0.name=proxy\nprocess.0.command=[\"proxy\"]\nprocess.0.start=healthy";
    let plan = plan_of(settings);
    let mut world = World::new(&plan);
    assert!(world.alive.contains(&Child::Main));
    assert_eq!(starts(&world, 0), 0);
    world.feed(Event::Agent(Deed::Healthy));
    world.feed(Event::Agent(Deed::Healthy));
    assert_eq!(starts(&world, 0), 1);
    world.feed(term());
    assert_eq!(world.stops_sent, 0, "it ends before the main process, as those after it do");
    world.feed(Event::Exited(Child::Helper(0), Status::Exited(0)));
    assert_eq!(world.stops_sent, 1);
}

#[test]
fn a_check_that_was_killed_says_nothing_of_the_next_one() {
    let settings =
        "process.0.name=proxy\nprocess.0.command=[\"proxy\"]\nprocess.0.start=after\nprocess.0.ready=notify";
    let plan = plan_of(settings);
    let mut world = World::new(&plan);
    let killed = Status::Signaled { signal: Signal::KILL, core_dumped: false };
    // The machine alone: the world would reap the check at once.
    let step = |world: &mut World<'_>, event| {
        let mut actions = Vec::new();
        world.machine.step(event, world.now, &mut actions);
        actions
    };
    step(&mut world, order(0, Order::Restart));
    let actions = step(&mut world, Event::Exited(Child::Helper(0), Status::Exited(0)));
    assert!(actions.contains(&Action::Spawn(Child::Helper(0))));
    step(&mut world, Event::Spawned(Child::Helper(0)));
    step(&mut world, Event::Spawned(Child::Gate(0)));
    assert_eq!(step(&mut world, Event::Exited(Child::Gate(0), killed)), []);
    let actions = step(&mut world, Event::Exited(Child::Gate(0), Status::Exited(0)));
    assert!(actions.contains(&Action::Note(Note::HelperReady(0))));
}

#[test]
fn one_that_is_stopped_before_it_is_ready_holds_nobody_up() {
    let settings = "process.0.name=a\nprocess.0.command=[\"a\"]\nprocess.0.start=after\nprocess.0.ready=notify\n\
                    process.1.name=b\nprocess.1.command=[\"b\"]\nprocess.1.start=after";
    let plan = plan_of(settings);
    let mut world = World::new(&plan);
    assert_eq!(starts(&world, 1), 0);
    world.feed(order(0, Order::Stop));
    assert_eq!(starts(&world, 1), 1);
    // One whose turn has not come yet can be left out, and can be had at once.
    let mut world = World::new(&plan);
    world.feed(order(1, Order::Start));
    assert_eq!(starts(&world, 1), 1);
    world.feed(Event::Exited(Child::Gate(0), Status::Exited(0)));
    assert_eq!(starts(&world, 1), 1);
}

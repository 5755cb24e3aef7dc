//! The agent's event loop: facts in, deeds out, one event at a time.

use super::event::{self, Captured, Occasion};
use super::warm;
use crate::config::Trigger;
use crate::evidence;
use crate::jvm::Session;
use crate::link::{Deed, Fact, MAXIMUM_SIZE};
use crate::plan::{Evidence, Plan};
use crate::sys::process::{Pid, Status};
use crate::sys::{clock, socket};
use crate::units::{Moment, format_duration};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tracing::{debug, error};

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What is going on, and what is known.
struct Agent<'a> {
    plan: &'a Plan,
    evidence: &'a Evidence,
    main: Option<Pid>,
    session: Option<Session>,
    warming: Option<Pending<'a, Option<Session>>>,
    watching: Option<Pending<'a, ()>>,
    capturing: Option<Pending<'a, Option<Captured>>>,
    main_ended: bool,
}

/// Serves until told to finish, or until the supervisor is gone.
pub(super) async fn serve(plan: &Plan, link: OwnedFd) -> u8 {
    let Some(evidence) = &plan.evidence else {
        return crate::exit::SUCCESS;
    };
    let link = match UnixStream::from_std(link.into()) {
        Ok(link) => link,
        Err(error) => {
            error!("the agent cannot listen to the supervisor: {error}");
            return crate::exit::KERNEL;
        }
    };
    event::look_at_store(evidence);
    say(&link, Deed::Ready);
    let mut agent = Agent {
        plan,
        evidence,
        main: None,
        session: None,
        warming: None,
        watching: None,
        capturing: None,
        main_ended: false,
    };
    loop {
        tokio::select! {
            fact = receive(&link) => match fact {
                None | Some(Fact::Finish { .. }) => return crate::exit::SUCCESS,
                Some(fact) => agent.learn(fact, &link),
            },
            session = pending(&mut agent.warming) => {
                agent.warming = None;
                agent.watching = session.as_ref().map(|session| -> Pending<'_, ()> {
                    Box::pin(warm::until_gone(session.target.clone()))
                });
                agent.session = session;
            }
            () = pending(&mut agent.watching) => {
                agent.watching = None;
                agent.session = None;
                agent.warming = agent.main.map(|main| -> Pending<'_, _> { Box::pin(warm::attach(main)) });
            }
            captured = pending(&mut agent.capturing) => {
                agent.capturing = None;
                say(&link, if captured.is_some() { Deed::Captured } else { Deed::NotCaptured });
                if let Some(captured) = captured {
                    event::store_all(agent.evidence, agent.plan, captured);
                }
                if agent.main_ended {
                    say(&link, Deed::Stored);
                }
            }
        }
    }
}

impl Agent<'_> {
    fn learn(&mut self, fact: Fact, link: &UnixStream) {
        match fact {
            Fact::MainStarted { pid } => {
                self.main = Some(pid);
                self.warming = Some(Box::pin(warm::attach(pid)));
            }
            Fact::StopRequested { signal, begun, evidence_until, deadline } => {
                // Attaching goes on as part of the event, within its time.
                self.warming = None;
                self.watching = None;
                let budget = begun.until(evidence_until);
                let stop = evidence::Stop {
                    signal: signal.to_string(),
                    grace: format_duration(self.plan.stop.grace),
                    grace_source: self.plan.stop.grace_source.clone(),
                    evidence_budget: format_duration(budget),
                };
                self.begin(Occasion {
                    trigger: Trigger::Stop,
                    capture_until: instant(evidence_until),
                    store_until: instant(deadline),
                    stop: Some(stop),
                    main_ended: None,
                });
            }
            Fact::MainEnded { status, asked } => {
                self.main_ended = true;
                self.warming = None;
                self.watching = None;
                self.main_has_ended(status, asked);
                if self.capturing.is_none() {
                    say(link, Deed::Stored);
                }
            }
            Fact::Finish { .. } => {}
        }
    }

    fn main_has_ended(&mut self, status: Status, asked: bool) {
        let has_rule = self.evidence.rules_on(Trigger::Exit).next().is_some();
        if asked || status.is_success() || !has_rule || self.capturing.is_some() {
            return;
        }
        let longest = self.evidence.rules_on(Trigger::Exit).map(|rule| rule.deadline).max();
        let until = Instant::now() + longest.unwrap_or(Duration::ZERO);
        self.begin(Occasion {
            trigger: Trigger::Exit,
            capture_until: until,
            store_until: until,
            stop: None,
            main_ended: Some(status.to_string()),
        });
    }

    fn begin(&mut self, occasion: Occasion) {
        if self.capturing.is_some() {
            debug!("an event is running already: this one is part of it");
            return;
        }
        let (plan, evidence) = (self.plan, self.evidence);
        let (main, session) = (self.main, self.session.clone());
        self.capturing = Some(Box::pin(event::capture(plan, evidence, main, session, occasion)));
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
    if let Err(error) = socket::send_message(link, &deed.encode()) {
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

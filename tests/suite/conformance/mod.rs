//! The conformance list: what every init must do, case by case, run against
//! bookend under each of its names and against Debian's tini, dumb-init and
//! catatonit. The peers prove that the tests are right; where one is known to
//! fail, its trial is ignored here and shown by `cargo xtask conformance`, which
//! runs them all and writes the table in `docs/conformance.md`.

mod exit;
mod process;
mod reaping;
mod signals;
mod terminal;

pub(crate) use process::{SECCOMP, assert_idle};
pub(crate) use reaping::storm_of;
pub(crate) use signals::masks;

use crate::folders;
use crate::scenario::{Init, Scenario};
use crate::setup::{Need, Setup};
use libtest_mimic::{Failed, Trial};

type Outcome = Result<(), String>;

/// One case of the list.
pub(crate) struct Case {
    /// Its number and name: `a1_exit_passthrough`.
    pub(crate) id: &'static str,
    /// Peers that fail it, always or at times.
    fails: &'static [Init],
    /// Names whose programs promise something else; documented in `compat`.
    promises_otherwise: &'static [Init],
    check: fn(&Subject) -> Outcome,
}

impl Case {
    const fn new(id: &'static str, check: fn(&Subject) -> Outcome) -> Self {
        Self { id, fails: &[], promises_otherwise: &[], check }
    }

    const fn fails(mut self, peers: &'static [Init]) -> Self {
        self.fails = peers;
        self
    }

    const fn promises_otherwise(mut self, names: &'static [Init]) -> Self {
        self.promises_otherwise = names;
        self
    }
}

const EVERY_PEER: &[Init] = &[Init::Tini, Init::DumbInit, Init::Catatonit];
const BOTH_NAMES: &[Init] = &[Init::AsTini, Init::AsDumbInit];

/// The init under test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) setup: &'static Setup,
    pub(crate) init: Init,
}

impl Subject {
    fn scenario(&self) -> Scenario<'static> {
        Scenario::new(self.setup).init(self.init)
    }

    /// The program, its verb and the end of its options.
    fn words(&self, scenario: &Scenario) -> Vec<String> {
        let mut words = self.init.program(self.setup, scenario.folder());
        words.push("--".to_owned());
        words
    }

    /// As [`crate::scenario::on_terminal`], with this init.
    fn on_terminal(&self, deed: &str, command: &[&str]) -> (Option<i32>, String) {
        let words = self.words(&self.scenario());
        let words: Vec<&str> = words.iter().map(String::as_str).chain(command.iter().copied()).collect();
        crate::scenario::run_on_terminal(deed, &words, self.init.patience())
    }
}

fn cases() -> Vec<Case> {
    [exit::CASES, signals::CASES, reaping::CASES, terminal::CASES, process::CASES]
        .into_iter()
        .flatten()
        .map(|case| Case { ..*case })
        .collect()
}

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let mut trials = Vec::new();
    let ours = [Init::Bookend, Init::AsTini, Init::AsDumbInit];
    for init in ours.iter().chain(EVERY_PEER).copied() {
        for case in cases() {
            if case.promises_otherwise.contains(&init) {
                continue;
            }
            let name = format!("conformance::{}::{}", init.name(), case.id);
            let subject = Subject { setup, init };
            if case.fails.contains(&init) {
                let trial =
                    Trial::test(name, move || folders::with(|| (case.check)(&subject)).map_err(Failed::from));
                trials.push(trial.with_ignored_flag(true));
            } else {
                let needs = [Need::Root, Need::Peer(init)];
                trials.push(setup.trial(name, &needs, move |_| (case.check)(&subject)));
            }
        }
    }
    trials
}

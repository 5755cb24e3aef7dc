//! Plans for unit tests, made the way real ones are: from what somebody wrote.

use super::Plan;
use crate::config::{self, Diagnostics};
use crate::facts::{Facts, Identity, Platform, Users};
use std::ffi::OsString;

/// The plan of these settings (`stop.grace=10s`, a line each) on that platform.
pub(crate) fn plan_on(platform: Platform, environment: &[(&str, &str)], text: &str) -> Plan {
    let overrides = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let inputs = config::Inputs {
        file: None,
        environment: vec![("BOOKEND_CONFIG".into(), OsString::new())],
        overrides,
        explain: false,
    };
    let (config, _, mut diagnostics): (_, _, Diagnostics) = config::load(&inputs);
    let facts = Facts {
        platform,
        users: Users::default(),
        host_name: "test".to_owned(),
        identity: Identity::default(),
        user: 0,
        group: 0,
        is_pid_one: true,
        memory_limit: None,
        oom_kills: 0,
        started: 0,
        environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        is_elsewhere: false,
    };
    let plan = super::make(&config, &facts, &["main".into()], &mut diagnostics);
    assert!(diagnostics.is_empty(), "{}", diagnostics.render());
    plan.expect("there is a command")
}

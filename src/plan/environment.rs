//! The environment that each child gets.
//!
//! Order, last wins: what bookend was given < the user's HOME, USER, LOGNAME <
//! what hooks exported < the program's own `env` < what bookend tells a hook.

use super::Program;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Names to values, sorted: no name twice.
pub type Variables = BTreeMap<OsString, OsString>;

/// The environment of `program`.
pub fn environment_of(base: &[(OsString, OsString)], exported: &Variables, program: &Program) -> Variables {
    let mut variables: Variables = base.iter().cloned().collect();
    if let Some(identity) = &program.identity {
        variables.insert("HOME".into(), identity.home.clone().into());
        variables.insert("USER".into(), identity.name.clone().into());
        variables.insert("LOGNAME".into(), identity.name.clone().into());
    }
    variables.extend(exported.iter().map(|(name, value)| (name.clone(), value.clone())));
    variables.extend(program.environment.iter().cloned());
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win() {
        let base =
            vec![("A".into(), "base".into()), ("B".into(), "base".into()), ("C".into(), "base".into())];
        let exported = Variables::from([("B".into(), "hook".into()), ("C".into(), "hook".into())]);
        let program = Program {
            arguments: Vec::new(),
            identity: None,
            directory: None,
            environment: vec![("C".into(), "own".into())],
            attributes: crate::units::Attributes::default(),
            stop_signal: None,
        };
        let variables = environment_of(&base, &exported, &program);
        let pairs: Vec<(&str, &str)> =
            variables.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?))).collect();
        assert_eq!(pairs, [("A", "base"), ("B", "hook"), ("C", "own")]);
    }
}

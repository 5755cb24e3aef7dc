//! The environment that each child gets.
//!
//! Order, last wins: what bookend was given < the user's HOME, USER, LOGNAME <
//! what hooks exported < the program's own `env` < what bookend tells a hook.

use crate::plan::Program;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Names to values, sorted: no name twice.
pub(super) type Variables = BTreeMap<OsString, OsString>;

/// The environment of `program`.
pub(super) fn of(base: &[(OsString, OsString)], exported: &Variables, program: &Program) -> Variables {
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

/// `NAME=value` strings for `execve`; what holds a NUL byte cannot be said there.
pub(super) fn to_strings(variables: &Variables) -> Vec<CString> {
    variables
        .iter()
        .filter_map(|(name, value)| {
            let mut text = name.clone().into_vec();
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
            CString::new(text).ok()
        })
        .collect()
}

/// The paths to try for `command`, by the child's own PATH.
pub(super) fn candidates(command: &OsStr, variables: &Variables) -> Vec<CString> {
    crate::sys::spawn::candidates(command, variables.get(OsStr::new("PATH")).map(OsString::as_os_str))
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
        let strings = to_strings(&of(&base, &exported, &program));
        let strings: Vec<&str> = strings.iter().filter_map(|text| text.to_str().ok()).collect();
        assert_eq!(strings, ["A=base", "B=hook", "C=own"]);
    }

    #[test]
    fn looks_where_a_shell_would() {
        let variables = Variables::from([("PATH".into(), "/a::/b".into())]);
        let text = |command: &str| -> Vec<String> {
            candidates(OsStr::new(command), &variables)
                .into_iter()
                .filter_map(|path| path.into_string().ok())
                .collect()
        };
        assert_eq!(text("x"), ["/a/x", "./x", "/b/x"]);
        assert_eq!(text("./x"), ["./x"]);
    }
}

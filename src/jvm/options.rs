//! Options that decide whether a JVM can be talked to.

use super::Target;
use crate::facts::processes;

/// The JVM was told never to attach: a SIGQUIT would print a thread dump to
/// its standard output and no socket would ever come.
///
/// Looks where options can stand: the command line and the three variables
/// that HotSpot reads. An `@argfile` is not opened.
pub(super) fn disables_attach(target: &Target) -> bool {
    let option = "-XX:+DisableAttachMechanism";
    let variables = ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"];
    processes::command_line(target.pid).iter().any(|argument| argument == option)
        || variables.iter().any(|name| {
            processes::variable(target.pid, name)
                .is_some_and(|value| value.split_whitespace().any(|word| word == option))
        })
}

//! Options that decide whether a JVM can be talked to.

use super::Target;
use crate::facts::processes;

/// The JVM was told never to attach: a SIGQUIT would print a thread dump to
/// its standard output and no socket would ever come.
///
/// Looks where options can stand: the command line and the three variables
/// that HotSpot reads. An `@argfile` is not opened.
pub(super) fn disables_attach(target: &Target) -> bool {
    options(target).iter().any(|option| option == "-XX:+DisableAttachMechanism")
}

/// Every word that may be an option of that JVM, later ones winning.
pub(super) fn options(target: &Target) -> Vec<String> {
    let variables = ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"];
    let of_variables = variables.iter().filter_map(|name| processes::variable(target.pid, name));
    let mut words: Vec<String> = of_variables
        .flat_map(|value| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    words.extend(processes::command_line(target.pid));
    words
}

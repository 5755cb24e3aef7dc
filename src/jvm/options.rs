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

/// The files to which that JVM was told to log collections: `-Xlog:…:file=PATH` and
/// `-Xlog:…:PATH` (JEP 158), and `-Xloggc:PATH`. `%p` in a name is the pid.
pub fn gc_log_files(target: &Target) -> Vec<std::path::PathBuf> {
    let folder = processes::working_directory(target.pid);
    let pid = target.inner_pid().to_string();
    options(target)
        .iter()
        .filter_map(|option| gc_log_file(option))
        .map(|name| folder.join(name.replace("%p", &pid)))
        .collect()
}

fn gc_log_file(option: &str) -> Option<String> {
    if let Some(path) = option.strip_prefix("-Xloggc:") {
        return Some(path.to_owned());
    }
    let mut parts = option.strip_prefix("-Xlog:")?.splitn(2, ':');
    let (what, rest) = (parts.next()?, parts.next()?);
    if !what.contains("gc") && !what.contains("all") {
        return None;
    }
    // `file="a:b"` keeps its colons.
    let rest = rest.strip_prefix("file=").unwrap_or(rest);
    let path = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => rest.split(':').next()?,
    };
    (!path.is_empty() && !matches!(path, "stdout" | "stderr")).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gc_log_that_the_flags_name() {
        for (option, path) in [
            ("-Xlog:gc*:file=/var/log/gc.log:time,level:filecount=5,filesize=10m", Some("/var/log/gc.log")),
            ("-Xlog:gc*,safepoint:gc-%p.log", Some("gc-%p.log")),
            ("-Xlog:gc:file=\"/a:b/gc.log\":time", Some("/a:b/gc.log")),
            ("-Xloggc:/old.log", Some("/old.log")),
            ("-Xlog:gc:stdout", None),
            ("-Xlog:gc*", None),
            ("-Xlog:class+load:file=/classes.log", None),
            ("-Xmx1g", None),
        ] {
            assert_eq!(gc_log_file(option).as_deref(), path, "{option}");
        }
    }
}

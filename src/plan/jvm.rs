//! Options for the JVM: those that make evidence possible, and the heap's size.
//!
//! Through `JDK_JAVA_OPTIONS`, which the `java` launcher reads since 9 and no other
//! tool of the JDK does, so that `keytool` in a hook gets no flight recorder. What
//! the user set himself, wherever it stands, is never said again.

use super::programs::Program;
use crate::config::{Config, Diagnostic, DiagnosticOption, Diagnostics};
use crate::facts::Facts;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

const VARIABLE: &str = "JDK_JAVA_OPTIONS";

/// Adds to the main process's environment; the options that were added.
pub(super) fn add_options(
    config: &Config,
    facts: &Facts,
    main: &mut Program,
    diagnostics: &mut Diagnostics,
) -> Vec<String> {
    let said = said_already(facts, main);
    let has = |part: &str| said.iter().any(|word| word.contains(part));
    let mut options = Vec::new();
    let folder = &config.jvm.folder;
    if folder.value.to_string_lossy().contains(char::is_whitespace) {
        let message = "the folder for the JVM's files has a space in its name";
        diagnostics.push(Diagnostic::error(message, &folder.place, "it would be parted in two options"));
        return options;
    }
    for option in &config.jvm.diagnostics.value.0 {
        let (mark, words) = words(*option, &folder.value, facts.started);
        if !has(mark) {
            // Each word by its own name too: a path that the user has named stays.
            let name = |word: &String| word.split(['=', ':']).take(2).collect::<Vec<_>>().join(":");
            options.extend(words.into_iter().filter(|word| !word.contains("Path=") || !has(&name(word))));
        }
    }
    if let (Some(percent), Some(limit)) = (&config.jvm.memory, facts.memory_limit)
        && !["-Xmx", "MaxRAMPercentage", "MaxHeapSize"].iter().any(|mark| has(mark))
    {
        let mebibytes = (limit / 100).saturating_mul(u64::from(percent.value.0)) >> 20;
        options.push(format!("-Xmx{mebibytes}m"));
    }
    if options.is_empty() {
        return options;
    }
    let given = main.environment.iter().rev().chain(&facts.environment);
    let mut value =
        given.filter(|(name, _)| name == VARIABLE).map(|(_, value)| value.clone()).next().unwrap_or_default();
    if !value.is_empty() {
        value.push(" ");
    }
    value.push(options.join(" "));
    main.environment.retain(|(name, _)| name != VARIABLE);
    main.environment.push((VARIABLE.into(), value));
    options
}

/// Where the JVM dumps its heap at an OutOfMemoryError, if that is asked for and the user has
/// said nothing of it: also a JVM that does not read the variable is told so.
pub(super) fn heap_dump(config: &Config, facts: &Facts, main: &Program) -> Option<PathBuf> {
    let is_asked = config.jvm.diagnostics.value.0.contains(&DiagnosticOption::HeapDumpOnOutOfMemory);
    let is_said = || said_already(facts, main).iter().any(|word| word.contains("HeapDump"));
    (is_asked && !is_said()).then(|| config.jvm.folder.value.join(heap_dump_name(facts.started)))
}

fn heap_dump_name(started: u64) -> String {
    format!("java-oom-{started}.hprof")
}

/// Every word in which the user may have said something about the same.
fn said_already(facts: &Facts, main: &Program) -> Vec<String> {
    let names = [VARIABLE, "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"];
    let variables = main.environment.iter().chain(&facts.environment);
    let words = |value: &OsStr| -> Vec<String> {
        value.to_string_lossy().split_whitespace().map(str::to_owned).collect()
    };
    let of_variables = variables
        .filter(|(name, _)| names.iter().any(|known| name == known))
        .flat_map(|(_, value)| words(value));
    let of_command = main.arguments.iter().map(OsString::as_os_str).flat_map(words);
    of_variables.chain(of_command).collect()
}

/// By what the option is told apart, and its words. Files have names of their own
/// for each start: a pid is the same again in the next container.
fn words(option: DiagnosticOption, folder: &Path, started: u64) -> (&'static str, Vec<String>) {
    let file = |name: &str| folder.join(name).display().to_string();
    let (mark, words): (_, Vec<String>) = match option {
        DiagnosticOption::HeapDumpOnOutOfMemory => (
            "HeapDumpOnOutOfMemoryError",
            vec![
                "-XX:+HeapDumpOnOutOfMemoryError".to_owned(),
                format!("-XX:HeapDumpPath={}", file(&heap_dump_name(started))),
            ],
        ),
        DiagnosticOption::ExitOnOutOfMemory => {
            ("tOnOutOfMemoryError", vec!["-XX:+ExitOnOutOfMemoryError".to_owned()])
        }
        DiagnosticOption::ErrorFile => {
            ("ErrorFile", vec![format!("-XX:ErrorFile={}", file(&format!("hs_err-{started}-%p.log")))])
        }
        DiagnosticOption::NativeMemory => {
            ("NativeMemoryTracking", vec!["-XX:NativeMemoryTracking=summary".to_owned()])
        }
        DiagnosticOption::Recording => (
            "StartFlightRecording",
            vec!["-XX:StartFlightRecording=name=bookend,settings=default,maxage=10m,maxsize=32m".to_owned()],
        ),
        DiagnosticOption::GcLog => (
            "-Xlog",
            vec![format!(
                "-Xlog:gc*,safepoint:file={}:time,uptime,level,tags:filecount=2,filesize=4m",
                file(&format!("gc-{started}.log"))
            )],
        ),
    };
    (mark, words)
}

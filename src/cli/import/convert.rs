//! What supervisord's keys are called here, and what to do about those that have no name.

use super::ini::{Section, pairs, words};
use std::fmt::Write as _;

/// Of one program, as supervisord would run it.
#[derive(Debug)]
struct Program<'a> {
    name: String,
    priority: i64,
    section: &'a Section,
}

/// A configuration, and what is to be known of it.
#[derive(Debug, Default)]
pub(super) struct Converted {
    pub(super) toml: String,
    pub(super) remarks: Vec<String>,
}

/// Keys that change nothing here, and why: not worth a remark each.
const SILENT: [&str; 12] = [
    "command",
    "priority",
    "autostart",
    "autorestart",
    "exitcodes",
    "startretries",
    "stopsignal",
    "stopwaitsecs",
    "user",
    "directory",
    "environment",
    "umask",
];

/// `main`: the program that is the container's main process, where it is not clear.
///
/// # Errors
/// What cannot be converted at all.
pub(super) fn convert(sections: &[Section], main: Option<&str>) -> Result<Converted, String> {
    let mut converted = Converted::default();
    let mut programs: Vec<Program<'_>> = Vec::new();
    for section in sections {
        match section.name.split_once(':') {
            Some(("program", name)) => {
                let priority = section.get("priority").and_then(|text| text.parse().ok()).unwrap_or(999);
                programs.push(Program { name: name.trim().to_owned(), priority, section });
            }
            Some((kind, name)) => converted.remarks.push(format!(
                "[{kind}:{name}] is not carried over: {}",
                match kind {
                    "group" => "processes here have no groups; their order is that of the file",
                    "eventlistener" => "rules and [[notify]] tell of events",
                    "fcgi-program" => "sockets of FastCGI programs are not opened here",
                    _ => "this version knows nothing like it",
                }
            )),
            None => other_section(section, &mut converted.remarks),
        }
    }
    programs.retain(|program| {
        let starts = program.section.get("autostart").is_none_or(is_true);
        if !starts {
            let name = &program.name;
            converted
                .remarks
                .push(format!("[program:{name}] is left out: autostart=false, nobody starts it"));
        }
        starts
    });
    programs.sort_by_key(|program| program.priority);
    let chosen = choose(&programs, main)?;
    let Some(chosen_priority) = programs.get(chosen).map(|program| program.priority) else {
        return Err("there is no program in it".to_owned());
    };
    converted
        .toml
        .push_str("# From supervisord.conf by `bookend import`. Read the remarks that it printed.\n");
    for (index, program) in programs.iter().enumerate() {
        let place = if index == chosen {
            Place::Main
        } else if program.priority < chosen_priority || index < chosen {
            Place::Before
        } else {
            Place::After
        };
        write_program(program, place, &mut converted)?;
    }
    Ok(converted)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Before,
    Main,
    After,
}

/// The one that is named; else the only one, or the only JVM.
fn choose(programs: &[Program<'_>], main: Option<&str>) -> Result<usize, String> {
    let names = || programs.iter().map(|program| program.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = main {
        let found = programs.iter().position(|program| program.name == name);
        return found.ok_or_else(|| format!("there is no [program:{name}], only {}", names()));
    }
    if let [_] = programs {
        return Ok(0);
    }
    let is_java = |program: &Program<'_>| {
        let words = words(program.section.get("command").unwrap_or_default()).unwrap_or_default();
        words.iter().any(|word| word.rsplit('/').next() == Some("java"))
    };
    let mut javas = programs.iter().enumerate().filter(|(_, program)| is_java(program));
    match (javas.next(), javas.next()) {
        (Some((index, _)), None) => Ok(index),
        _ => Err(format!(
            "which one is the main process, whose end is the container's? --main with one of {}",
            names()
        )),
    }
}

fn other_section(section: &Section, remarks: &mut Vec<String>) {
    match section.name.as_str() {
        "supervisord" => {
            for entry in &section.entries {
                let advice = match entry.key.as_str() {
                    "nodaemon" | "pidfile" | "childlogdir" | "logfile" | "logfile_maxbytes"
                    | "logfile_backups" | "silent" | "nocleanup" | "identifier" => continue,
                    "loglevel" => "[log] level",
                    "environment" => "write it into env of each process, or into the image (ENV)",
                    "user" => "user of [main] and of each [[process]]",
                    "umask" => "umask of [main] and of each [[process]]",
                    "directory" => "workdir of each process",
                    "minfds" | "minprocs" => "limits = { nofile = ... } of [main]",
                    _ => "nothing here is like it",
                };
                remarks.push(format!("line {}: [supervisord] {}: {advice}", entry.line, entry.key));
            }
        }
        "unix_http_server" | "inet_http_server" | "supervisorctl" => {
            remarks
                .push(format!("[{}]: `bookend status` and its control socket need no setting", section.name));
        }
        "include" => {
            let files = section.get("files").unwrap_or_default();
            remarks
                .push(format!("[include] {files}: import each of these files, or put them into one before"));
        }
        name if name.starts_with("rpcinterface") => {}
        name => remarks.push(format!("[{name}] is not carried over")),
    }
}

fn is_true(text: &str) -> bool {
    ["true", "1", "yes", "on"].contains(&text.to_ascii_lowercase().as_str())
}

fn write_program(program: &Program<'_>, place: Place, converted: &mut Converted) -> Result<(), String> {
    let (name, section) = (&program.name, program.section);
    let command = section.get("command").ok_or_else(|| format!("[program:{name}] has no command"))?;
    let words = words(command).map_err(|reason| format!("[program:{name}] command: {reason}"))?;
    let words = if command.contains("%(ENV_") {
        converted.remarks.push(format!(
            "[program:{name}] command: nobody but a shell replaces variables in commands: it is run by sh, which the \
             image must have"
        ));
        let line: Vec<String> = words.iter().map(|word| for_shell(&expanded(word))).collect();
        vec!["sh".to_owned(), "-c".to_owned(), format!("exec {}", line.join(" "))]
    } else {
        words.iter().map(|word| expanded(word)).collect()
    };
    let restart = match section.get("autorestart").map(str::to_ascii_lowercase).as_deref() {
        None | Some("unexpected") => "on-failure",
        Some(text) if is_true(text) => "always",
        Some(_) => "never",
    };
    // It runs once: what comes after it waits for its end.
    let is_task = place == Place::Before && restart == "never";
    let seconds = section.get("stopwaitsecs").unwrap_or("10");
    let signal = section.get("stopsignal").unwrap_or("TERM");
    let text = &mut converted.toml;
    let mut line =
        |key: &str, value: &str| writeln!(text, "{key} = {value}").map_err(|error| error.to_string());
    match (place, is_task) {
        (Place::Main, _) => line("\n[main]\ncommand", &list(&words))?,
        (_, true) => {
            line("\n[[hook]]\nname", &quoted(name))?;
            line("command", &list(&words))?;
            converted.remarks.push(format!(
                "[program:{name}] runs once (autorestart=false): it is a hook now, and what follows waits for its end"
            ));
        }
        _ => {
            line("\n[[process]]\nname", &quoted(name))?;
            line("command", &list(&words))?;
            line("start", if place == Place::Before { "\"before\"" } else { "\"after\"" })?;
        }
    }
    if let Some(user) = section.get("user") {
        line("user", &quoted(user))?;
    }
    if let Some(directory) = section.get("directory") {
        line("workdir", &quoted(&expanded(directory)))?;
    }
    if let Some(umask) = section.get("umask") {
        line("umask", &quoted(umask))?;
    }
    if let Some(environment) = section.get("environment") {
        let pairs = pairs(environment);
        let pairs: Vec<String> =
            pairs.iter().map(|(key, value)| format!("{key} = {}", quoted(&expanded(value)))).collect();
        line("env", &format!("{{ {} }}", pairs.join(", ")))?;
    }
    match (place, is_task) {
        (Place::Main, _) => {
            line("stop_signal", &quoted(signal))?;
            if restart != "never" {
                line("restart", &quoted(restart))?;
                converted.remarks.push(format!(
                    "[program:{name}] is the main process, and restart = \"{restart}\" keeps supervisord's way; \
                     on ECS and Kubernetes leave that line out: the orchestrator starts a new container, and sees why"
                ));
            }
            converted.remarks.push(format!(
                "[program:{name}] stopwaitsecs={seconds}: [stop] grace is the orchestrator's (stopTimeout, \
                 terminationGracePeriodSeconds, docker stop -t): set both to at least that"
            ));
        }
        (_, true) => {}
        _ => {
            line("stop_signal", &quoted(signal))?;
            line("grace", &quoted(&format!("{seconds}s")))?;
            line("restart", &quoted(restart))?;
            if let Some(times) = section.get("startretries") {
                line("limit", &format!("{{ times = {times}, per = \"10m\" }}"))?;
            }
        }
    }
    remarks_on(program, &mut converted.remarks);
    Ok(())
}

/// Of every key that could not be carried over, what to do instead.
fn remarks_on(program: &Program<'_>, remarks: &mut Vec<String>) {
    for entry in &program.section.entries {
        let (key, value) = (entry.key.as_str(), entry.value.as_str());
        if SILENT.contains(&key) && key != "exitcodes" {
            continue;
        }
        let advice = match key {
            "exitcodes" if value == "0" => continue,
            "exitcodes" => "only 0 is a success here; map others by a script, or leave restart out",
            "startsecs" => {
                "a process is up once its `ready` says so: \"tcp://...\", \"http://...\" or \"notify\""
            }
            "numprocs" if value == "1" => continue,
            "numprocs" => "one [[process]] for each",
            "process_name" => continue,
            "redirect_stderr" | "stdout_logfile" | "stderr_logfile"
                if value == "/dev/stdout" || is_true(value) =>
            {
                continue;
            }
            "stdout_logfile" | "stderr_logfile" if value == "/dev/stderr" => continue,
            "stdout_logfile" | "stderr_logfile" => {
                "output goes to the container's own, where its logs are collected"
            }
            "redirect_stderr" => "both streams go to the container's own",
            key if key.starts_with("stdout_") || key.starts_with("stderr_") => {
                "nobody rotates what the platform collects"
            }
            "stopasgroup" | "killasgroup" => continue,
            "serverurl" => "there is no such server",
            _ => "nothing here is like it",
        };
        remarks.push(format!("line {}: [program:{}] {key}={value}: {advice}", entry.line, program.name));
    }
}

/// `%(ENV_NAME)s` is `${NAME}` here, `%%` a percent sign.
fn expanded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("%(ENV_") {
        let Some((name, behind)) = after.split_once(")s") else { break };
        out.push_str(before);
        out.push_str(&format!("${{{name}}}"));
        rest = behind;
    }
    out.push_str(rest);
    out.replace("%%", "%")
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}

/// One word, in which a shell replaces variables and no more.
fn for_shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for character in word.chars() {
        if matches!(character, '"' | '\\' | '`') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
    out
}

/// As TOML's basic strings are written.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

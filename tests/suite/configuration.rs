//! Configuration: every error at once, in its place, with what to do; and what
//! is in force, with where it came from.

use crate::scenario::Scenario;
use crate::setup::Setup;
use libtest_mimic::Trial;
use std::path::Path;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    vec![
        setup.trial("configuration::all_errors_at_once", &[], all_errors),
        setup.trial("configuration::one_error_each", &[], one_error_each),
        setup.trial("configuration::layers", &[], layers),
        setup.trial("configuration::nothing_starts_with_an_error", &[], nothing_starts),
        setup.trial("configuration::a_named_file_must_exist", &[], missing_file),
        setup.trial("configuration::what_nobody_wrote_is_shown", &[], default_rules),
        setup.trial("configuration::checked_outside_of_its_image", &[], elsewhere),
    ]
}

type Outcome = Result<(), String>;

/// `bookend check` on `text`: exit code, and both outputs with the path taken out.
fn check(setup: &Setup, text: &str, environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
    let scenario = Scenario::new(setup);
    let path = scenario.folder().join("bookend.toml");
    std::fs::write(&path, text).expect("the file is written");
    run(setup, &path, environment, arguments)
}

fn run(setup: &Setup, path: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
    let output = std::process::Command::new(&setup.binary)
        .arg("check")
        .arg(path)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the binary runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let text = text.replace(&path.display().to_string(), "bookend.toml");
    (output.status.code().unwrap_or(-1), text)
}

fn all_errors(setup: &Setup) -> Outcome {
    let text = r#"[service]
name = "orders service"

[main]
user = "nosuchuser"
workdir = "srv"
reserve = "40s"
stop_signal = "SIGKILL"

[stop]
grace = "30s"
grase = "30s"

[[hook]]
name = "migrate"
command = "/app/migrate"

[[hook]]
name = "migrate"
command = ["/app/migrate"]
retries = "three"
on_failure = "abrt"
when = "RUN == true"

[[rule]]
name = "last-words"
on = "stopp"
capture = ["thraeds", "haep"]

[store]
url = "ftp://bucket"
"#;
    let (code, text) = check(setup, text, &[], &[]);
    assert_eq!(code, 240, "{text}");
    insta::assert_snapshot!("all-errors", text);
    Ok(())
}

fn one_error_each(setup: &Setup) -> Outcome {
    for (text, place, part) in [
        ("[stop]\ngrace = 30\n", "bookend.toml:2:9", "has no unit; write \"30s\""),
        ("[stop]\ngrace = \"0s\"\n", "bookend.toml:2:9", "there is no time to stop"),
        (
            "[stop]\ngrace = \"10s\"\nmargin = \"10s\"\n",
            "bookend.toml:3:10",
            "the margin takes the whole grace",
        ),
        ("[main]\nreserve = \"40s\"\n", "bookend.toml:2:11", "the reserve is larger"),
        ("[stop]\nsignals = []\n", "bookend.toml:2:11", "no signal would stop"),
        ("[stop\n", "bookend.toml:1:6", "cannot read the TOML"),
        ("[stop]\ngrace = \"5s\"\ngrace = \"6s\"\n", "bookend.toml:3:1", "duplicate key"),
        // What stands behind it is not missing.
        (
            "[stop]\ngrace = 5s\n[[hook]]\nname = \"x\"\ncommand = [\"y\"]\n[[rule]]\nname = \"z\"\n",
            "bookend.toml:2:9",
            "cannot read the TOML",
        ),
        ("stop = 3\n", "bookend.toml:1:8", "expected the table [stop]"),
        ("hook = 3\n", "bookend.toml:1:8", "expected an array of tables [[hook]]"),
        ("[[hook]]\nname = \"x\"\n", "bookend.toml:1:1", "`hook.0.command` is missing"),
        ("[[hook]]\nname = \"x\"\ncommand = []\n", "bookend.toml:3:11", "the command is empty"),
        (
            "[[hook]]\nname = \"x\"\ncommand = [\"y\"]\ntimeout = \"0s\"\n",
            "bookend.toml:4:11",
            "has no time to run",
        ),
        ("[preflight]\nfiles = [\"/a\", \"b\"]\n", "bookend.toml:2:16", "\"b\" is relative"),
        ("[preflight]\nreachable = [\"db:5432\"]\n", "bookend.toml:2:14", "write it as tcp://host:port"),
        (
            "[[rule]]\nname = \"x\"\non = \"stop\"\ncapture = [\"heap\"]\n",
            "bookend.toml:1:1",
            "there are rules but no store",
        ),
        ("[main]\nenv = { A = 3 }\n", "bookend.toml:2:13", "expected a string"),
        ("[signals]\nHUP = \"dorp\"\n", "bookend.toml:2:7", "`dorp` is not a signal"),
        ("[signals]\nHPU = \"drop\"\n", "bookend.toml:2:1", "`HPU` is not a signal"),
        ("[signals]\nTERM = \"drop\"\n", "bookend.toml:1:1", "means \"stop\", and would be dropped"),
        ("[exit]\nmap = { 300 = 0 }\n", "bookend.toml:2:9", "an exit code is 0 to 255"),
        ("sevrice = {}\n", "bookend.toml:1:1", "did you mean `service`?"),
    ] {
        let (code, output) = check(setup, text, &[], &[]);
        assert_eq!(code, 240, "{text}\n{output}");
        assert!(output.contains(place), "{place} for\n{text}\n{output}");
        assert!(output.contains(part), "{part} for\n{text}\n{output}");
        assert!(output.contains("1 error in the configuration"), "{output}");
    }
    for (name, value, part) in [
        ("BOOKEND_STOP__GRACE", "soon", "environment variable BOOKEND_STOP__GRACE:1:21"),
        ("BOOKEND_STOP__GRASE", "5s", "did you mean `grace`?"),
        ("BOOKEND_HOOK__1__NAME", "x", "the next one is number 0"),
    ] {
        let (code, output) = check(setup, "", &[(name, value)], &[]);
        assert_eq!(code, 240, "{name}\n{output}");
        assert!(output.contains(part), "{part} for {name}\n{output}");
    }
    // A misspelled section does not print the password that stands in it.
    let (code, output) = check(setup, "", &[("BOOKEND_MAIN__ENB__DB_PASSWORD", "s3cret")], &[]);
    assert!(code == 240 && output.contains("did you mean `env`?") && !output.contains("s3cret"), "{output}");
    let (code, output) = check(setup, "", &[], &["--set", "stop.grace"]);
    assert!(code == 240 && output.contains("there is no `=`"), "{output}");
    Ok(())
}

fn layers(setup: &Setup) -> Outcome {
    let text = "[service]\nname = \"orders\"\n[stop]\ngrace = \"30s\"\nmargin = \"2s\"\n[main]\nenv = { A = \"1\" }\n\
        [[hook]]\nname = \"migrate\"\ncommand = [\"/app/migrate\"]\n";
    let environment = [
        ("BOOKEND_STOP__GRACE", "45s"),
        ("BOOKEND_STOP__MARGIN", "3s"),
        ("BOOKEND_MAIN__ENV__Mixed_Case", "kept"),
        ("BOOKEND_HOOK__0__RETRIES", "3"),
        ("BOOKEND_HOOK__1__NAME", "second"),
        ("BOOKEND_HOOK__1__COMMAND", "[\"/bin/true\"]"),
        // A later element before an earlier one: the environment has no order.
        ("BOOKEND_HOOK__3__NAME", "fourth"),
        ("BOOKEND_HOOK__3__COMMAND", "[\"/bin/true\"]"),
        ("BOOKEND_HOOK__2__NAME", "third"),
        ("BOOKEND_HOOK__2__COMMAND", "[\"/bin/true\"]"),
        ("BOOKEND_MAIN__ENV__DOUBLE__UNDERSCORE", "kept"),
        ("BOOKEND_SOMETHING", "not ours: no double underscore"),
    ];
    let (code, output) = check(setup, text, &environment, &["--set", "stop.margin=4s"]);
    assert_eq!(code, 0, "{output}");
    let line = |path: &str| {
        let line = output.lines().find(|line| line.starts_with(&format!("{path} "))).unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("service.name"), "service.name = \"orders\" # bookend.toml:2:8");
    assert_eq!(line("stop.grace"), "stop.grace = \"45s\" # environment variable BOOKEND_STOP__GRACE");
    assert_eq!(line("stop.margin"), "stop.margin = \"4s\" # flag --set stop.margin");
    assert_eq!(line("hook.0.retries"), "hook.0.retries = 3 # environment variable BOOKEND_HOOK__0__RETRIES");
    assert_eq!(line("hook.1.name"), "hook.1.name = \"second\" # environment variable BOOKEND_HOOK__1__NAME");
    // Values of variables are where passwords are: names only.
    assert!(line("main.env").contains("DOUBLE__UNDERSCORE = …"), "{output}");
    assert!(line("main.env").contains("Mixed_Case = …") && !output.contains("kept"), "{output}");
    Ok(())
}

fn default_rules(setup: &Setup) -> Outcome {
    let text = "[health]\nhttp = \"http://127.0.0.1:8080/\"\n[store]\nurl = \"file:///evidence\"\n";
    let (code, output) = check(setup, text, &[], &[]);
    assert_eq!(code, 0, "{output}");
    for line in [
        "# default rule unhealthy: on unhealthy, captures os, vm, threads, histogram, jfr, heap",
        "# default rule stop-while-unhealthy: on stop of a service that is unhealthy, captures os,",
        "# default rule out-of-memory: on oom, captures os, crash",
    ] {
        assert!(output.contains(line), "{line}\n{output}");
    }
    let rule = "[[rule]]\nname = \"mine\"\non = \"stop\"\ncapture = [\"os\"]\n";
    let (_, output) = check(setup, &format!("{text}{rule}"), &[], &[]);
    assert!(!output.contains("default rule"), "{output}");
    Ok(())
}

/// A developer's machine does not know the image's users.
fn elsewhere(setup: &Setup) -> Outcome {
    let text = "[main]\nuser = \"nosuchuser\"\n[stop]\ngrace = \"10 s\"\n";
    let (code, output) = check(setup, text, &[], &[]);
    assert!(code == 240 && output.contains("there is no user `nosuchuser`"), "{output}");
    let (code, output) = check(setup, text, &[], &["--elsewhere"]);
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("main.user") && output.contains("\"10s\""), "{output}");
    let (code, output) = check(setup, "[main]\nuser = \":app\"\n", &[], &["--elsewhere"]);
    assert!(code == 240 && output.contains("write it as name"), "{output}");
    Ok(())
}

fn nothing_starts(setup: &Setup) -> Outcome {
    let output = std::process::Command::new(&setup.binary)
        .args(["run", "--set", "stop.grase=5s", "--", "echo", "MAIN STARTED"])
        .env("BOOKEND_CONFIG", "")
        .output()
        .map_err(|error| error.to_string())?;
    assert_eq!(output.status.code(), Some(240));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was started"));
    Ok(())
}

fn missing_file(setup: &Setup) -> Outcome {
    let (code, output) = run(setup, Path::new("/nonexistent/bookend.toml"), &[], &[]);
    assert_eq!(code, 240);
    let said = "cannot read the configuration bookend.toml, which the command line names: No such file";
    assert!(output.contains(said), "{output}");
    let output = std::process::Command::new(&setup.binary)
        .arg("check")
        .env("BOOKEND_CONFIG", "/nonexistent/bookend.toml")
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(240) && said.contains("which BOOKEND_CONFIG names"), "{said}");
    Ok(())
}

//! The verbs that people use by hand.

use crate::hprof;
use crate::jvm::{VERSIONS, port, sick};
use crate::scenario::{Scenario, poll};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Output;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let mut trials = vec![
        setup.trial("cli::help_and_version", &[], help),
        setup.trial("cli::healthcheck", &[], healthcheck),
        setup.trial("cli::no_jvm_there", &[], no_jvm),
    ];
    for version in VERSIONS {
        let needs = &[Need::Root, Need::Java(version)];
        trials.push(
            setup.trial(format!("cli::{version}::dump_and_jcmd"), needs, move |setup| jvm(setup, version)),
        );
        trials.push(setup.trial(
            format!("cli::{version}::a_lost_trigger_is_made_again"),
            needs,
            move |setup| lost_trigger(setup, version),
        ));
    }
    trials
}

type Outcome = Result<(), String>;

fn bookend(setup: &Setup, arguments: &[&str]) -> Output {
    std::process::Command::new(&setup.binary)
        .args(arguments)
        .env("BOOKEND_CONFIG", "")
        .env("COLUMNS", "100")
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn help(setup: &Setup) -> Outcome {
    insta::assert_snapshot!("help", text(&bookend(setup, &["--help"]).stdout));
    insta::assert_snapshot!("help-run", text(&bookend(setup, &["run", "--help"]).stdout));
    let version = text(&bookend(setup, &["--version"]).stdout);
    assert!(version.starts_with(concat!("bookend ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    assert!(version.contains("-linux-"), "the target is named: {version}");
    let none = bookend(setup, &["run"]);
    assert_eq!(none.status.code(), Some(240));
    assert!(text(&none.stderr).contains("there is no command to run"));
    let wrong = bookend(setup, &["rum"]);
    assert_eq!(wrong.status.code(), Some(240));
    assert!(
        text(&wrong.stderr).contains("similar subcommands exist: 'dump', 'run'"),
        "{}",
        text(&wrong.stderr)
    );
    Ok(())
}

fn healthcheck(setup: &Setup) -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let address = format!("tcp://127.0.0.1:{port}");
    let healthy = bookend(setup, &["healthcheck", &address]);
    assert_eq!(healthy.status.code(), Some(0));
    assert!(text(&healthy.stdout).starts_with(&format!("healthy: {address} answered in ")));
    drop(listener);
    let unhealthy = bookend(setup, &["healthcheck", &address]);
    assert_eq!(unhealthy.status.code(), Some(1));
    assert!(text(&unhealthy.stdout).contains("unhealthy: ") && unhealthy.stderr.is_empty());
    Ok(())
}

fn no_jvm(setup: &Setup) -> Outcome {
    let gone = bookend(setup, &["dump", "threads", "--pid", "2147483647"]);
    assert_eq!(gone.status.code(), Some(1));
    assert_eq!(text(&gone.stderr), "error: there is no process 2147483647\n");
    // A process that is no JVM is never sent a SIGQUIT: it would die of it.
    let mut sleep =
        std::process::Command::new("sleep").arg("600").spawn().map_err(|error| error.to_string())?;
    let answer = bookend(setup, &["dump", "threads", "--pid", &sleep.id().to_string()]);
    let alive = sleep.try_wait().map_err(|error| error.to_string())?.is_none();
    drop(sleep.kill());
    drop(sleep.wait());
    assert_eq!(answer.status.code(), Some(1));
    assert!(text(&answer.stderr).contains("a SIGQUIT would kill it"), "{}", text(&answer.stderr));
    assert!(alive, "it was killed");
    Ok(())
}

fn jvm(setup: &Setup, version: u32) -> Outcome {
    // Run by root against a JVM of another user, as in `docker exec`.
    let scenario = Scenario::new(setup);
    let folder = scenario.folder().join("dumps");
    std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
    let running = scenario
        .config("[main]\nuser = \"1000:1000\"\n")
        .command(sick(setup, version, &["-Xmx128m"], &["--heap=8m"]))
        .start();
    port(&running);
    let pid = running.descendant("SickService").to_string();
    let to = folder.display().to_string();

    let answer = bookend(setup, &["jcmd", &pid, "VM.version"]);
    assert!(text(&answer.stdout).contains(&format!("JDK {version}.")), "{answer:?}");
    let unknown = bookend(setup, &["jcmd", &pid, "VM.nonsense"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("Unknown diagnostic command"), "{}", text(&unknown.stderr));

    // Its compiler's threads have numbers too, and are no process to ask.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
    let mut threads = threads.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let thread = threads.find(|thread| *thread != pid).ok_or("it has one thread only")?;
    let refused = bookend(setup, &["jcmd", &thread, "help"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains(&format!("{thread} is a thread of process {pid}")),
        "{}",
        text(&refused.stderr)
    );
    let nothing = bookend(setup, &["jcmd", &pid]);
    assert!(text(&nothing.stderr).contains("what shall process"), "{}", text(&nothing.stderr));

    // The second dump never fails because the first is there.
    for (artifact, names) in
        [("threads", ["threads-1.txt", "threads-2.txt"]), ("heap", ["heap.hprof", "heap-2.hprof"])]
    {
        for name in names {
            let answer = bookend(setup, &["dump", artifact, "--pid", &pid, "--to", &to]);
            assert!(answer.status.success(), "{}", text(&answer.stderr));
            let path = folder.join(name);
            assert!(
                text(&answer.stdout).starts_with(&path.display().to_string()),
                "{}",
                text(&answer.stdout)
            );
            match artifact {
                "heap" => assert!(hprof::walk(&path)?.ended),
                _ => assert!(
                    std::fs::read_to_string(&path).is_ok_and(|dump| dump.contains("\"Signal Dispatcher\""))
                ),
            }
        }
    }
    assert_eq!(
        std::fs::read_dir(&folder).map_err(|error| error.to_string())?.count(),
        4,
        "no working folder stays"
    );
    let closed = folder_of_root(&folder)?;
    let answer = bookend(setup, &["dump", "heap", "--pid", &pid, "--to", &closed]);
    assert!(text(&answer.stderr).contains("the JVM writes it as user 1000"), "{}", text(&answer.stderr));
    let printed = bookend(setup, &["dump", "threads", "--pid", &pid, "--to", "-"]);
    assert!(text(&printed.stdout).contains("Full thread dump"));
    running.stop().exits(143);
    Ok(())
}

/// Nobody else gets there.
fn folder_of_root(beside: &std::path::Path) -> Result<String, String> {
    use std::os::unix::fs::DirBuilderExt;
    let closed = beside.with_file_name("closed");
    std::fs::DirBuilder::new().mode(0o700).create(&closed).map_err(|error| error.to_string())?;
    Ok(closed.display().to_string())
}

/// Somebody who attaches to another container's JVM of the same pid, in the same directory, takes
/// the trigger file away before this JVM has seen it; and once more.
fn lost_trigger(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let place = scenario.folder().join("work");
    std::fs::create_dir(&place).map_err(|error| error.to_string())?;
    let mut command = vec!["sh".to_owned(), "-c".to_owned()];
    command.extend([format!("cd {} && exec \"$@\"", place.display()), "sh".to_owned()]);
    command.extend(sick(setup, version, &["-Xmx64m"], &["--heap=1m"]));
    let running = scenario.command(command).start();
    port(&running);
    let pid = running.descendant("SickService");
    let java = Pid::from_raw(pid);
    // It sees nothing before it may go on.
    kill(java, Signal::SIGSTOP).map_err(|error| error.to_string())?;
    let asking = std::process::Command::new(&setup.binary)
        .args(["jcmd", &pid.to_string(), "VM.version"])
        .env("BOOKEND_CONFIG", "")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let trigger = || {
        poll("the trigger file", || {
            let mut entries = std::fs::read_dir(&place).ok()?;
            entries.find_map(|entry| Some(entry.ok()?.path()))
        })
    };
    for _ in 0..2 {
        let trigger = trigger();
        poll("SIGQUIT has been sent", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"))?;
            let mask = u64::from_str_radix(pending.trim(), 16).ok()?;
            (mask & 1 << (Signal::SIGQUIT as u32 - 1) != 0).then_some(())
        });
        std::fs::remove_file(trigger).map_err(|error| error.to_string())?;
    }
    trigger();
    kill(java, Signal::SIGCONT).map_err(|error| error.to_string())?;
    let answer = asking.wait_with_output().map_err(|error| error.to_string())?;
    assert!(text(&answer.stdout).contains(&format!("JDK {version}.")), "{answer:?}");
    running.stop().exits(143);
    Ok(())
}

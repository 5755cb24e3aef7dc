//! PID 1: what only bookend promises. What every init must do is in
//! `conformance`. Names carry the numbers of the list where they have one.

use crate::conformance::{SECCOMP, assert_idle, masks};
use crate::scenario::{Scenario, poll};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let root = &[Need::Root];
    vec![
        setup.trial("init::a3_a4_not_found_and_not_runnable", root, not_runnable),
        setup.trial("init::b5_term_ignored_is_killed_at_the_known_grace", root, term_ignored),
        setup.trial("init::b7_second_term_is_idempotent", root, double_term),
        setup.trial("init::b8_signals_are_rewritten_and_dropped", root, rewrite),
        setup.trial("init::b9_stop_signal", root, stop_signal),
        setup.trial("init::b12_child_gets_a_clean_mask", root, child_mask),
        setup.trial("init::b19_stubborn_leftover_is_killed", root, stubborn_leftover),
        setup.trial("init::e1_inherited_descriptors_are_let_go", root, descriptors),
        setup.trial("init::exit_codes_are_mapped_after_a_stop_only", root, exit_map),
        setup.trial("init::e13_no_wake_ups_with_hooks", root, idle),
        setup.trial("init::e6_options_stop_at_the_command", root, option_stop),
        setup.trial("init::b20_not_pid_one_leaves_siblings_alone", &[], subreaper),
        setup.trial("init::user_and_environment", root, user),
        setup.trial("init::attributes", root, attributes),
        setup.trial("init::attributes_that_cannot_be_set", root, impossible_attributes),
        setup.trial("init::e12_hooks_and_evidence_under_old_seccomp_profiles", root, seccomp),
        setup.trial("init::without_proc", root, without_proc),
        setup.trial("init::pids_limit_reached", root, pids_limit),
        setup.trial("init::a_stopped_leftover_ends", root, stopped_leftover),
        setup.trial("init::logs_as_json", root, json),
    ]
}

type Outcome = Result<(), String>;

fn not_runnable(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let plain = scenario.folder().join("plain");
    let orphaned = scenario.folder().join("orphaned");
    let garbage = scenario.folder().join("garbage");
    std::fs::write(&plain, "x").map_err(|error| error.to_string())?;
    std::fs::write(&orphaned, "#!/nonexistent/interpreter\n").map_err(|error| error.to_string())?;
    std::fs::write(&garbage, "neither a program nor a script").map_err(|error| error.to_string())?;
    for path in [&orphaned, &garbage] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())?;
    }
    let text = |path: &std::path::Path| path.display().to_string();
    for (command, code, reason) in [
        ("/nonexistent".to_owned(), 127, "cannot run `/nonexistent`: No such file or directory"),
        ("nonexistent-in-path".to_owned(), 127, "`nonexistent-in-path` is not in PATH"),
        ("/etc".to_owned(), 126, "Permission denied"),
        (text(&plain), 126, "Permission denied"),
        (text(&orphaned), 127, "No such file or directory"),
        (text(&garbage), 126, "Exec format error"),
    ] {
        Scenario::new(setup).command([command]).finish().exits(code).says(reason);
    }
    Ok(())
}

fn term_ignored(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup)
        .config("[stop]\ngrace = \"2s\"\nmargin = \"500ms\"\n")
        .shell("trap '' TERM; echo ready; while :; do sleep 1; done")
        .start();
    running.wait_for("ready");
    running.stop().exits(137).says("main process did not end in time: SIGKILL");
    Ok(())
}

fn double_term(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup)
        .config("[log]\nlevel = \"debug\"\n")
        .shell("n=0; trap 'n=$((n+1)); echo got $n' TERM; echo ready; until [ $n -ge 1 ]; do sleep .1; done; sleep 1; exit $n")
        .start();
    running.wait_for("ready");
    running.terminate();
    running.wait_for("got 1");
    running.terminate();
    running.wait_for("stop requested again");
    running.wait().exits(1).never_says("got 2");
    Ok(())
}

fn stop_signal(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup)
        .config("[main]\nstop_signal = \"SIGUSR1\"\n")
        .shell("trap 'echo got usr1; exit 4' USR1; trap 'echo got term; exit 5' TERM; echo ready; while :; do sleep .1; done")
        .start();
    running.wait_for("ready");
    running.stop().exits(4).says("got usr1");
    Ok(())
}

fn child_mask(setup: &Setup) -> Outcome {
    let config =
        "[[hook]]\nname = \"mask\"\ncommand = [\"grep\", \"-E\", \"Sig(Blk|Ign)\", \"/proc/self/status\"]\n";
    let ended = Scenario::new(setup)
        .config(config)
        .command(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
        .finish();
    ended.exits(0);
    // What anybody gets who is started here without bookend.
    let bare = std::process::Command::new("grep")
        .args(["-E", "Sig(Blk|Ign)", "/proc/self/status"])
        .output()
        .map_err(|error| error.to_string())?;
    let bare = String::from_utf8_lossy(&bare.stdout).into_owned();
    assert!(bare.contains("SigBlk:\t0000000000000000"), "{bare}");
    assert_eq!(masks(&ended.output), [masks(&bare), masks(&bare)].concat(), "{bare}\n{}", ended.output);
    Ok(())
}

fn stubborn_leftover(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup)
        .config("[stop]\ngrace = \"3s\"\n")
        .shell("setsid sh -c 'trap \"\" TERM; echo daemon ready; while :; do sleep .1; done' & sleep 600")
        .start();
    running.wait_for("daemon ready");
    running.stop().exits(143).says("SIGKILL");
    Ok(())
}

fn option_stop(setup: &Setup) -> Outcome {
    let output = std::process::Command::new(&setup.binary)
        .args(["run", "sh", "-c", "exit 5"])
        .env("BOOKEND_CONFIG", "")
        .output()
        .map_err(|error| error.to_string())?;
    assert_eq!(output.status.code(), Some(5));
    // A misspelled option is an error, not the command.
    let output = std::process::Command::new(&setup.binary)
        .args(["run", "--log-levle", "debug", "--", "echo", "MAIN STARTED"])
        .env("BOOKEND_CONFIG", "")
        .output()
        .map_err(|error| error.to_string())?;
    assert_eq!(output.status.code(), Some(240));
    assert!(output.stdout.is_empty());
    Ok(())
}

fn subreaper(setup: &Setup) -> Outcome {
    // Siblings that are not ours stay untouched (B20).
    let mut sibling =
        std::process::Command::new("sleep").arg("600").spawn().map_err(|error| error.to_string())?;
    let script = "(sh -c 'sleep .3; echo orphan of $(ps -o ppid= -p $$)' &) ; sleep .1; echo init $PPID; sleep 1; exit 3";
    let output = std::process::Command::new(&setup.binary)
        .args(["run", "--", "sh", "-c", script])
        .env("BOOKEND_CONFIG", "")
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |word: &str| -> Option<i32> {
        text.lines().find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
    };
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(number("init"), number("orphan of"), "{text}");
    let alive = sibling.try_wait().map_err(|error| error.to_string())?.is_none();
    drop(sibling.kill());
    drop(sibling.wait());
    assert!(alive, "a sibling was killed");
    Ok(())
}

fn user(setup: &Setup) -> Outcome {
    let ended = Scenario::new(setup)
        .config("[main]\nuser = \"4711:4712\"\nworkdir = \"/usr\"\nenv = { GREETING = \"hello world\" }\n[log]\nlevel = \"error\"\n")
        .shell("id -u; id -g; id -G; pwd; echo \"$HOME $USER $LOGNAME $GREETING\"")
        .finish();
    ended.exits(0).says("4711\n4712\n4712\n/usr\n/ 4711 4711 hello world\n");
    Ok(())
}

/// For the main process, with and without another user, and for a hook, which has
/// them too unless it says otherwise.
fn attributes(setup: &Setup) -> Outcome {
    let script = "echo umask $(umask) nice $(nice) oom $(cat /proc/self/oom_score_adj) files $(ulimit -n) $(ulimit -Hn); \
        grep -E 'NoNewPrivs|Cap(Eff|Prm|Bnd|Amb)' /proc/self/status | tr -d '\\n'; echo";
    // CAP_NET_BIND_SERVICE is number 10.
    let main = "umask = \"027\"\nnice = 5\noom_score_adj = 300\nno_new_privs = true\n\
        caps = [\"net_bind_service\"]\nlimits = { nofile = \"100:200\" }\n";
    let hook = format!(
        "[[hook]]\nname = \"a\"\ncommand = [\"sh\", \"-c\", '''{script}''']\nnice = 7\ncaps = []\nlimits = {{ nofile = 50 }}\n"
    );
    for user in ["", "user = \"4711:4712\"\n"] {
        let ended =
            Scenario::new(setup).config(&format!("[main]\n{user}{main}{hook}")).shell(script).finish();
        ended.exits(0).says("umask 0027 nice 5 oom 300 files 100 200\n");
        ended.says("umask 0027 nice 7 oom 300 files 50 50\n");
        for name in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            ended.says(&format!("{name}:\t0000000000000400")).says(&format!("{name}:\t0000000000000000"));
        }
        ended.says("NoNewPrivs:\t1").never_says("NoNewPrivs:\t0");
    }
    Ok(())
}

/// What was asked for and is not possible is said, and nothing runs without it.
fn impossible_attributes(setup: &Setup) -> Outcome {
    for (keys, reason) in [
        ("oom_score_adj = -900", "cannot set its oom_score_adj: Permission denied (a lower value"),
        ("nice = -5", "cannot set its nice: Permission denied (a lower value"),
        (
            "limits = { nofile = \"unlimited\" }",
            "cannot set its nofile: Operation not permitted (a hard limit",
        ),
        ("caps = []", "cannot set its caps: Operation not permitted (bookend must have"),
    ] {
        let scenario = Scenario::new(setup);
        let path = scenario.folder().join("bookend.toml");
        std::fs::write(&path, format!("[main]\n{keys}\n")).map_err(|error| error.to_string())?;
        let output = std::process::Command::new("setpriv")
            .args(["--reuid", "4711", "--regid", "4711", "--clear-groups"])
            .arg(&setup.binary)
            .args(["run", "--config"])
            .arg(&path)
            .args(["--", "echo", "MAIN STARTED"])
            .output()
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(126), "{said}");
        assert!(said.contains(reason) && output.stdout.is_empty(), "{said}");
    }
    Ok(())
}

/// Descriptors are closed one by one, and the agent still works.
fn seccomp(setup: &Setup) -> Outcome {
    for error in ["1", "38"] {
        let scenario =
            Scenario::new(setup).under(["python3", "-c", SECCOMP, error, "434,435,436,424,439,437,441"]);
        let store = scenario.folder().join("store");
        let config = format!(
            "[stop]\ngrace = \"60s\"\n[[hook]]\nname = \"a\"\ncommand = [\"ls\", \"/proc/self/fd\"]\n\
             [[rule]]\nname = \"last\"\non = \"stop\"\ncapture = [\"threads\"]\n[store]\nurl = \"file://{}\"\n",
            store.display()
        );
        let running = scenario.config(&config).mount("exec 7</etc/passwd").command(["sleep", "600"]).start();
        running.descendant("sleep\x00600");
        let init = running.init();
        poll("what was inherited is closed", || {
            let seven = std::fs::read_link(format!("/proc/{init}/fd/7"));
            (!seven.is_ok_and(|target| target.ends_with("passwd"))).then_some(())
        });
        running.stop().exits(143).never_says("agent ended").says("evidence captured");
    }
    Ok(())
}

/// A stop still reaches everything; what needs /proc is left out.
fn without_proc(setup: &Setup) -> Outcome {
    let script = "setsid sh -c 'trap \"echo leftover done; exit\" TERM; echo ready; while :; do sleep .1; done' & sleep 600";
    let running = Scenario::new(setup)
        .config("[stop]\ngrace = \"30s\"\n[[hook]]\nname = \"a\"\ncommand = [\"true\"]\n")
        .mount("mount -t tmpfs none /proc")
        .shell(script)
        .start();
    running.wait_for("ready");
    running.stop().exits(143).says("leftover done");
    Ok(())
}

/// `RLIMIT_NPROC` refuses as a pids cgroup does: no fork.
fn pids_limit(setup: &Setup) -> Outcome {
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "4713", "--regid", "4713", "--clear-groups", "prlimit", "--nproc=1"])
        .arg(&setup.binary)
        .args(["run", "--", "echo", "MAIN STARTED"])
        .env("BOOKEND_CONFIG", "")
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(243), "{said}");
    assert!(
        said.contains("no more processes are allowed here (pids limit of the container, or RLIMIT_NPROC)"),
        "{said}"
    );
    assert!(output.stdout.is_empty());
    Ok(())
}

/// A stopped process takes no signal but KILL until it is continued.
fn stopped_leftover(setup: &Setup) -> Outcome {
    let script = "setsid sh -c 'trap \"echo leftover done; exit\" TERM; kill -STOP $$' & \
        until grep -q 'State:.T' /proc/$!/status; do sleep .05; done; echo stopped; sleep 600";
    let running = Scenario::new(setup).config("[stop]\ngrace = \"60s\"\n").shell(script).start();
    running.wait_for("stopped");
    running.stop().exits(143).says("leftover done").never_says("SIGKILL");
    Ok(())
}

fn json(setup: &Setup) -> Outcome {
    let ended = Scenario::new(setup)
        .config("[service]\nname = \"orders\"\n")
        .argument("--log-format=json")
        .shell("exit 3")
        .finish();
    ended.exits(3);
    let lines: Vec<serde_json::Value> =
        ended.output.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(
        messages,
        ["starting", "main process started", "main process ended", "exit: the main process ended by itself"]
    );
    assert_eq!(lines[3]["code"], 3);
    // A line is there when it happens, not when a buffer is full.
    let running = Scenario::new(setup).config("[service]\nname = \"x\"\n").command(["sleep", "600"]).start();
    poll("the log line is there", || {
        running.wait_for("main process started").contains("sleep").then_some(())
    });
    running.stop().exits(143);
    Ok(())
}

fn rewrite(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup)
        .config("[signals]\nHUP = \"drop\"\nUSR1 = \"USR2\"\nTERM = \"QUIT\"\n[log]\nlevel = \"debug\"\n")
        .shell("for s in HUP USR1 USR2 TERM; do trap \"echo got $s\" $s; done; trap 'echo got QUIT; exit 6' QUIT; echo ready; while :; do sleep .1; done")
        .start();
    running.wait_for("ready");
    running.signal(1);
    running.wait_for("signal dropped, as configured");
    running.signal(10);
    running.wait_for("got USR2");
    let ended = running.stop();
    ended.exits(6).says("got QUIT").never_says("got HUP").never_says("got USR1").never_says("got TERM");
    Ok(())
}

fn exit_map(setup: &Setup) -> Outcome {
    let config = "[exit]\nmap = { 143 = 0 }\n";
    let running = Scenario::new(setup).config(config).command(["sleep", "600"]).start();
    running.descendant("sleep");
    running.stop().exits(0);
    // By itself it is the service's own message.
    Scenario::new(setup).config(config).shell("exit 143").finish().exits(143);
    Ok(())
}

/// A pipe that only the service holds ends when the service closes it, and the
/// init is at `/`, while what it starts later still begins where it was started.
fn descriptors(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let folder = scenario.folder().display().to_string();
    let script = "echo child has $(ls /proc/$$/fd | tr '\\n' ' '); \
        echo init has $(ls -l /proc/1/fd | sed -n 's/.* \\([0-9]*\\) -> /\\1:/p' | tr '\\n' ' '); \
        echo init is at $(readlink /proc/1/cwd); echo main is at $(pwd)";
    let hook = "[[hook]]\nname = \"after\"\nstage = \"post-stop\"\ncommand = [\"sh\", \"-c\", \"echo hook is at $(pwd)\"]\n";
    let ended = scenario
        .config(hook)
        .mount(&format!("cd {folder} && exec 7</etc/passwd 8</etc/passwd"))
        .shell(script)
        .finish();
    ended
        .exits(0)
        .says("init is at /\n")
        .says(&format!("main is at {folder}\n"))
        .says(&format!("hook is at {folder}\n"));
    let line = |start: &str| {
        ended.output.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned()
    };
    assert!(line("child has").contains(" 7 8"), "{}", ended.output);
    let init = line("init has");
    assert!(!init.contains("7:/etc") && !init.contains("8:/etc") && init.contains("signalfd"), "{init}");
    Ok(())
}

fn idle(setup: &Setup) -> Outcome {
    let config = "[stop]\ngrace = \"30s\"\n[[hook]]\nname = \"a\"\ncommand = [\"true\"]\n";
    let running = Scenario::new(setup).config(config).command(["sleep", "600"]).start();
    running.descendant("sleep");
    assert_idle(running.init());
    running.stop().exits(143);
    Ok(())
}

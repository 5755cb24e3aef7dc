//! Hooks: order, failure, time-outs, stops, exports, preflight.

use crate::scenario::{Scenario, on_terminal};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let root = &[Need::Root];
    vec![
        setup.trial("hooks::f1_order", root, order),
        setup.trial("hooks::f2_failure_ends_the_container", root, failure),
        setup.trial("hooks::f3_failure_is_ignored_where_asked", root, ignored_failure),
        setup.trial("hooks::f4_timeout", root, timeout),
        setup.trial("hooks::f5_stop_while_a_hook_runs", root, stop_in_hook),
        setup.trial("hooks::f7_a_daemon_survives_into_the_main_phase", root, daemon),
        setup.trial("hooks::f8_death_by_signal", root, signal_death),
        setup.trial("hooks::f9_not_found", root, not_found),
        setup.trial("hooks::f11_user", root, user),
        setup.trial("hooks::f12_post_stop_after_a_crash", root, post_stop),
        setup.trial("hooks::f13_post_stop_has_a_budget", root, post_stop_budget),
        setup.trial("hooks::f14_reachable", root, reachable),
        setup.trial("hooks::stop_exactly_at_a_hooks_end", root, stop_at_the_end),
        setup.trial("hooks::retries", root, retries),
        setup.trial("hooks::a_key_on_the_terminal_stops_everything", root, terminal_key),
        setup.trial("hooks::exports_reach_what_follows", root, exports),
        setup.trial("hooks::conditions", root, conditions),
        setup.trial("hooks::preflight_names_everything_that_is_missing", root, preflight),
    ]
}

type Outcome = Result<(), String>;

/// A main process that tells that it was started.
const MAIN: &str = "echo MAIN STARTED";

fn hook(name: &str, script: &str, more: &str) -> String {
    format!("[[hook]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n{more}\n")
}

fn order(setup: &Setup) -> Outcome {
    let config = hook("a", "sleep .2; echo a", "") + &hook("b", "echo b", "");
    let ended = Scenario::new(setup).config(&config).shell("echo main").finish();
    ended.exits(0).says_in_order("\na\n", "\nb\n").says_in_order("\nb\n", "\nmain\n");
    ended
        .says_in_order("hook `a` begins", "hook `a` ended")
        .says_in_order("hook `a` ended", "hook `b` begins");
    Ok(())
}

fn failure(setup: &Setup) -> Outcome {
    let config = hook("migrate", "exit 3", "") + &hook("second", "echo SECOND", "");
    let ended = Scenario::new(setup).config(&config).shell(MAIN).finish();
    ended.exits(3).never_says("MAIN STARTED").never_says("SECOND");
    ended.says("error: hook `migrate` failed: the main process is not started code=3");
    Ok(())
}

fn ignored_failure(setup: &Setup) -> Outcome {
    let config = hook("warmup", "exit 3", "on_failure = \"continue\"");
    let ended = Scenario::new(setup).config(&config).shell(MAIN).finish();
    ended.exits(0).says("hook `warmup` failed: going on").says("MAIN STARTED");
    Ok(())
}

fn timeout(setup: &Setup) -> Outcome {
    let config =
        hook("slow", "trap '' TERM; while :; do sleep .1; done", "timeout = \"500ms\"\ngrace = \"500ms\"");
    let ended = Scenario::new(setup).config(&config).shell(MAIN).finish();
    ended.exits(242).never_says("MAIN STARTED");
    ended.says_in_order(
        "hook `slow` did not end within its timeout",
        "hook `slow` did not end in time: SIGKILL",
    );
    Ok(())
}

fn stop_in_hook(setup: &Setup) -> Outcome {
    let script = "trap 'sleep 1; echo rolled back; exit 0' TERM; echo working; while :; do sleep .1; done";
    let config = hook("migrate", script, "");
    let running = Scenario::new(setup).config(&config).shell(MAIN).start();
    running.wait_for("working");
    let ended = running.stop();
    ended.exits(143).says("rolled back").never_says("MAIN STARTED").says("exit: stopped code=143");
    Ok(())
}

fn stop_at_the_end(setup: &Setup) -> Outcome {
    // Wherever the stop lands, there is no half-started second process and no hang.
    let config = hook("quick", "exit 0", "");
    for round in 0..50_u32 {
        let running = Scenario::new(setup).config(&config).shell("echo MAIN; exec sleep 600").start();
        let text = running.wait_for("hook `quick` begins");
        assert!(!text.contains("PANIC"));
        // A different moment each time, without a clock: so much work.
        std::hint::black_box((0..round * 20_000).fold(0_u64, |sum, next| sum ^ u64::from(next)));
        running.stop().exits(143);
    }
    Ok(())
}

fn daemon(setup: &Setup) -> Outcome {
    let script = "setsid sh -c 'trap \"echo daemon stopped; exit\" TERM; echo daemon ready; \
                  while :; do sleep .1; done' &";
    let running =
        Scenario::new(setup).config(&hook("agent", script, "")).shell("echo MAIN; exec sleep 600").start();
    running.wait_for("MAIN\n");
    running.wait_for("daemon ready\n");
    running.descendant("daemon stopped");
    running.stop().exits(143).says("daemon stopped");
    Ok(())
}

fn signal_death(setup: &Setup) -> Outcome {
    let ended =
        Scenario::new(setup).config(&hook("crash", "ulimit -c 0; kill -SEGV $$", "")).shell(MAIN).finish();
    ended.exits(139).says("hook `crash` ended status=SIGSEGV").never_says("MAIN STARTED");
    Ok(())
}

fn not_found(setup: &Setup) -> Outcome {
    let config = "[[hook]]\nname = \"migrate\"\ncommand = [\"/app/migrate\"]\nretries = 5\n";
    let ended = Scenario::new(setup).config(config).shell(MAIN).finish();
    ended.exits(127).never_says("MAIN STARTED").never_says("tried again");
    ended.says("cannot start the hook `migrate`: cannot run `/app/migrate`: No such file or directory");
    Ok(())
}

fn user(setup: &Setup) -> Outcome {
    let config = "[main]\nuser = \"4711:4711\"\n".to_owned()
        + &hook("as-root", "echo hook is $(id -u)", "user = \"root\"")
        + &hook("as-main", "echo second is $(id -u) in $HOME", "");
    let ended = Scenario::new(setup).config(&config).shell("echo main is $(id -u) $(id -G)").finish();
    ended.exits(0).says("hook is 0\n").says("second is 4711 in /\n").says("main is 4711 4711\n");
    Ok(())
}

fn post_stop(setup: &Setup) -> Outcome {
    let script = "echo reason $BOOKEND_REASON code $BOOKEND_EXIT_CODE started $BOOKEND_MAIN_STARTED";
    let config = hook("goodbye", script, "stage = \"post-stop\"\ntimeout = \"3s\"");
    let crash = Scenario::new(setup).config(&config).shell("ulimit -c 0; kill -SEGV $$").finish();
    crash.exits(139).says("reason exit code 139 started true");
    let running = Scenario::new(setup).config(&config).command(["sleep", "600"]).start();
    running.descendant("sleep");
    running.stop().exits(143).says("reason stop code 143 started true");
    let missing = Scenario::new(setup).config(&config).command(["/nonexistent"]).finish();
    missing.exits(127).says("reason not-started code 127 started false");
    Ok(())
}

fn post_stop_budget(setup: &Setup) -> Outcome {
    let config = "[stop]\ngrace = \"2s\"\n".to_owned()
        + &hook(
            "hangs",
            "trap '' TERM; while :; do sleep .1; done",
            "stage = \"post-stop\"\ntimeout = \"60s\"",
        );
    let running = Scenario::new(setup).config(&config).command(["sleep", "600"]).start();
    running.descendant("sleep");
    running.stop().exits(143).says("hook `hangs` did not end in time: SIGKILL");
    Ok(())
}

fn reachable(setup: &Setup) -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let config = |timeout: &str| {
        format!("[preflight]\nreachable = [\"tcp://localhost:{port}\"]\ntimeout = \"{timeout}\"\n")
    };
    Scenario::new(setup).config(&config("30s")).shell(MAIN).finish().exits(0).says("preflight passed");
    drop(listener);
    let closed = Scenario::new(setup).config(&config("1s")).shell(MAIN).finish();
    closed
        .exits(241)
        .never_says("MAIN STARTED")
        .says("was not reachable within 1s")
        .says("Connection refused");
    // It opens while it is waited for.
    let running =
        Scenario::new(setup).config(&config("60s")).argument("--log-level=debug").shell(MAIN).start();
    running.wait_for("starting");
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    running.wait().exits(0).says("MAIN STARTED");
    drop(listener);
    Ok(())
}

fn retries(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let count = scenario.folder().join("count").display().to_string();
    let script = format!("echo x >> {count}; [ $(wc -l < {count}) -ge 3 ]");
    let config = hook("flaky", &script, "retries = 5\nbackoff = \"50ms\"");
    let ended = scenario.config(&config).shell(MAIN).finish();
    ended.exits(0).says("hook `flaky` is tried again attempt=2").says("attempt=3").never_says("attempt=4");
    ended.says("MAIN STARTED");
    Ok(())
}

fn exports(setup: &Setup) -> Outcome {
    let config = "[main]\nuser = \"1000:1000\"\n".to_owned()
        + &hook(
            "secrets",
            "echo TOKEN=s3cret with spaces >> $BOOKEND_ENV; echo nonsense >> $BOOKEND_ENV",
            "exports = true",
        )
        + &hook("second", "echo second has $TOKEN and ${BOOKEND_ENV:-no file}", "");
    let ended = Scenario::new(setup).config(&config).shell("echo main has $TOKEN").finish();
    ended.exits(0).says("second has s3cret with spaces and no file").says("main has s3cret with spaces");
    ended.says("hook `secrets` exports names=TOKEN").says("$BOOKEND_ENV: line 2 is not NAME=value");
    // The value is in no log line: only the two echoes above show it.
    assert_eq!(ended.output.matches("s3cret").count(), 2, "{}", ended.output);
    Ok(())
}

fn conditions(setup: &Setup) -> Outcome {
    let config = hook("yes", "echo YES RAN", "when = \"env.RUN_MIGRATIONS == 'true'\"")
        + &hook("no", "echo NO RAN", "when = \"env.RUN_MIGRATIONS != 'true'\"");
    let ended = Scenario::new(setup).config(&config).env("RUN_MIGRATIONS", "true").shell(MAIN).finish();
    ended
        .exits(0)
        .says("YES RAN")
        .never_says("NO RAN")
        .says("hook `no` skipped: its condition does not hold");
    Ok(())
}

fn preflight(setup: &Setup) -> Outcome {
    let config = "[main]\nuser = \"1000:1000\"\n[preflight]\nfiles = [\"/etc/passwd\", \"/app.jar\", \"/etc/shadow\"]\n\
        env = [\"DB_URL\", \"PATH\"]\nwritable = [\"/tmp\", \"/etc\"]\n"
        .to_owned()
        + &hook("migrate", "echo HOOK RAN", "");
    let ended = Scenario::new(setup).config(&config).shell(MAIN).finish();
    ended.exits(241).never_says("MAIN STARTED").never_says("HOOK RAN");
    for missing in [
        "the file /app.jar cannot be read: No such file or directory",
        "the file /etc/shadow cannot be read: Permission denied",
        "the environment variable DB_URL is not set",
        "/etc cannot be written: Permission denied",
    ] {
        ended.says(missing);
    }
    ended.never_says("/etc/passwd cannot").never_says("PATH is not set").never_says("/tmp cannot");
    Ok(())
}

/// Ctrl-C reaches the hook, which has the terminal; it is neither retried nor
/// is the main process started.
fn terminal_key(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let path = scenario.folder().join("bookend.toml");
    let config = hook("slow", "echo READY; exec sleep 600", "retries = 3\non_failure = \"continue\"");
    std::fs::write(&path, config).map_err(|error| error.to_string())?;
    let path = path.display().to_string();
    let arguments = ["run", "--config", &path, "--", "sh", "-c", MAIN];
    let (code, text) = on_terminal(setup, "os.write(master, b'\\x03')", &arguments);
    assert_eq!(code, Some(130), "{text}");
    assert!(!text.contains("MAIN STARTED") && !text.contains("tried again"), "{text}");
    Ok(())
}

//! The main process's output through bookend: unchanged, whole, and its end kept.

use crate::bundle;
use crate::conformance::SECCOMP;
use crate::scenario::{Scenario, send};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let root = &[Need::Root][..];
    vec![
        setup.trial("output::nothing_is_lost_when_the_carrier_is_killed", root, killed),
        setup.trial("output::the_end_of_a_long_output_comes_out", root, long),
        setup.trial("output::both_streams_stay_apart", root, apart),
        setup.trial("output::one_thread_carries_both_where_no_more_is_allowed", root, in_turns),
        setup.trial("output::a_reader_that_is_gone_hurts_nobody", root, gone),
        setup.trial("output::a_reader_that_reads_nothing_is_not_waited_for", root, stuck),
        setup.trial("output::a_file_opened_for_appending", root, appending),
        setup.trial("output::leftovers_print_to_the_end", root, leftovers),
        setup.trial("output::the_last_lines_are_evidence", root, kept),
    ]
}

type Outcome = Result<(), String>;

const KEEP: &str = "[main]\noutput = { keep = \"64KiB\" }\n";

/// The same, and no line of our own on standard error: it would part the service's.
const KEEP_QUIETLY: &str = "[main]\noutput = { keep = \"64KiB\" }\n[log]\nlevel = \"error\"\n";

/// Numbers, one a line, and nothing of bookend's own.
fn numbers(output: &str) -> Vec<u32> {
    output.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Standard output is for the service alone: our own lines would part its.
fn alone(scenario: Scenario<'_>) -> Scenario<'_> {
    let file = scenario.folder().join("error").display().to_string();
    scenario.config(KEEP).under(["sh", "-c", &format!("exec \"$@\" 2> {file}"), "sh"])
}

fn killed(setup: &Setup) -> Outcome {
    let script = "i=0; while [ $i -lt 100 ]; do seq $((i*1000+1)) $((i*1000+1000)); i=$((i+1)); done; \
                  echo first; read line < go; seq 100001 200000; exit 3";
    let scenario = Scenario::new(setup);
    let go = scenario.folder().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::from_bits_truncate(0o666)).map_err(|e| e.to_string())?;
    let error = scenario.folder().join("error");
    let running = alone(scenario).shell(&script.replace("< go", &format!("< {}", go.display()))).start();
    running.wait_for("first");
    for round in 1..=3 {
        send(running.descendant("bookend carrier"), 9);
        crate::scenario::poll("there is another one", || {
            let log = std::fs::read_to_string(&error).unwrap_or_default();
            (log.matches("carrier of the output ended").count() == round).then_some(())
        });
    }
    std::fs::write(&go, "go\n").map_err(|error| error.to_string())?;
    let ended = running.wait();
    ended.exits(3);
    assert!(numbers(&ended.output).into_iter().eq(1..=200_000), "a number is missing or doubled");
    Ok(())
}

fn long(setup: &Setup) -> Outcome {
    let ended = alone(Scenario::new(setup)).command(["seq", "1", "300000"]).finish();
    ended.exits(0);
    assert!(numbers(&ended.output).into_iter().eq(1..=300_000));
    Ok(())
}

fn apart(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let file = scenario.folder().join("error");
    let script = "seq 1 50000; seq 50001 100000 >&2";
    let to_file = format!("exec \"$@\" 2> {}", file.display());
    let ended = scenario.config(KEEP_QUIETLY).under(["sh", "-c", &to_file, "sh"]).shell(script).finish();
    ended.exits(0);
    assert!(numbers(&ended.output).into_iter().eq(1..=50_000));
    let error = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    assert!(numbers(&error).into_iter().eq(50_001..=100_000));
    Ok(())
}

/// A seccomp profile that is older than clone3(2) allows no thread: one for both streams.
fn in_turns(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let [file, go] = ["error", "go"].map(|name| scenario.folder().join(name));
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::from_bits_truncate(0o666)).map_err(|e| e.to_string())?;
    let script = format!(
        "seq 1 50000 & seq 50001 100000 >&2; wait; echo first; read line < {}; seq 100001 150000",
        go.display()
    );
    let to_file = format!("exec \"$@\" 2> {}", file.display());
    let profile = ["python3", "-c", SECCOMP, "1", "434,435,436,424,439,437,441"];
    let under = ["sh", "-c", &to_file, "sh"].into_iter().chain(profile);
    let running = scenario.config(KEEP_QUIETLY).under(under).shell(&script).start();
    running.wait_for("first");
    let threads = std::fs::read_dir(format!("/proc/{}/task", running.descendant("bookend carrier")));
    let threads = threads.map_err(|error| error.to_string())?.count();
    std::fs::write(&go, "go\n").map_err(|error| error.to_string())?;
    let ended = running.wait();
    ended.exits(0);
    assert_eq!(threads, 1, "a thread was allowed: this shows nothing");
    assert!(numbers(&ended.output).into_iter().eq((1..=50_000).chain(100_001..=150_000)));
    let error = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    assert!(numbers(&error).into_iter().eq(50_001..=100_000));
    Ok(())
}

/// `head` leaves: the service goes on, as if somebody read it.
fn gone(setup: &Setup) -> Outcome {
    let through_head = "{ \"$@\"; echo code=$? >&2; } | head -n 1";
    let running = Scenario::new(setup)
        .config(KEEP)
        .under(["sh", "-c", through_head, "sh"])
        .shell("seq 1 300000; exit 3")
        .start();
    running.wait_for("code=3");
    assert!(running.output().contains("cannot be passed on: Broken pipe"), "{}", running.output());
    Ok(())
}

/// The pipe is full and stays so: the container ends all the same, and says what is lost.
fn stuck(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let fifo = scenario.folder().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).map_err(|e| e.to_string())?;
    // Open, and never read.
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).map_err(|e| e.to_string())?;
    let to_fifo = format!("exec \"$@\" > {}", fifo.display());
    let script = "trap 'exit 5' TERM; seq 1 300000 & echo ready >&2; while :; do sleep 0.01; done";
    let running = scenario.config(KEEP).under(["sh", "-c", &to_fifo, "sh"]).shell(script).start();
    running.wait_for("ready");
    // Whoever prints sleeps once both pipes are full: ours to the carrier, and the reader's.
    let printing = running.descendant("seq");
    crate::scenario::poll("both pipes are full", || {
        let mut room = [PollFd::new(reader.as_fd(), PollFlags::POLLOUT)];
        let has_room = poll(&mut room, PollTimeout::ZERO).ok()? > 0;
        let state = std::fs::read_to_string(format!("/proc/{printing}/status")).ok()?;
        (!has_room && state.contains("State:\tS")).then_some(())
    });
    running.stop().exits(5).says("printed last is cut off: nobody reads it");
    Ok(())
}

fn appending(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let file = scenario.folder().join("log");
    let append = format!("exec \"$@\" >> {}", file.display());
    let ended =
        scenario.config(KEEP).under(["sh", "-c", &append, "sh"]).command(["seq", "1", "100000"]).finish();
    ended.exits(0);
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    assert!(numbers(&text).into_iter().eq(1..=100_000));
    Ok(())
}

/// What outlives the main process is asked to end, and its last words come out.
fn leftovers(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let script = format!(
        "(trap 'echo goodbye; exit 0' TERM; : > {0}; while :; do sleep 0.01; done) & \
         while ! [ -e {0} ]; do sleep 0.01; done; exit 6",
        scenario.folder().join("ready").display()
    );
    scenario.config(KEEP).shell(&script).finish().exits(6).says("goodbye");
    Ok(())
}

fn kept(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let store = crate::jvm::store(scenario.folder());
    let config = format!(
        "[main]\noutput = {{ keep = \"4KiB\" }}\n[store]\nurl = \"file://{}\"\n\
         [[rule]]\nname = \"crash\"\non = \"exit\"\nif = {{ exit_code = [7] }}\ncapture = [\"logs\"]\n\
         [[rule]]\nname = \"other\"\non = \"exit\"\nif = {{ exit_code = [8] }}\ncapture = [\"os\"]\n",
        store.display()
    );
    let script = "seq 1 5000; echo password=SESAME; echo the last line; exit 7";
    scenario.config(&config).shell(script).finish().exits(7).says("the last line").says("evidence stored");
    let bundle = bundle::only(&store);
    assert_eq!(bundle.manifest["event"]["rules"], serde_json::json!(["crash"]));
    let text = bundle.read("logs.txt");
    assert!(text.ends_with("5000\npassword=****\nthe last line\n"), "{text}");
    assert!(text.len() <= 4096 && text.len() > 3000 && numbers(&text)[0] > 4000, "{text}");
    Ok(())
}

//! PID 1: what every init must do. Names carry the numbers of the conformance
//! list where they have one.

use crate::scenario::{Scenario, on_terminal, poll};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let root = &[Need::Root];
    vec![
        setup.trial("init::a1_exit_passthrough", root, exit_passthrough),
        setup.trial("init::a2_signal_death", root, signal_death),
        setup.trial("init::a3_a4_not_found_and_not_runnable", root, not_runnable),
        setup.trial("init::b1_every_signal_is_forwarded", root, forward_all),
        setup.trial("init::b2_term_default", root, term_default),
        setup.trial("init::b5_term_ignored_is_killed_at_the_known_grace", root, term_ignored),
        setup.trial("init::b6_term_slow_keeps_its_code", root, term_slow),
        setup.trial("init::b7_second_term_is_idempotent", root, double_term),
        setup.trial("init::b8_signals_are_rewritten_and_dropped", root, rewrite),
        setup.trial("init::b9_stop_signal", root, stop_signal),
        setup.trial("init::b12_child_gets_a_clean_mask", root, child_mask),
        setup.trial("init::b16_b18_leftovers_get_the_stop_signal", root, leftovers),
        setup.trial("init::b19_stubborn_leftover_is_killed", root, stubborn_leftover),
        setup.trial("init::c1_orphans_are_reaped", root, orphans),
        setup.trial("init::d_ctrl_z_does_not_hang", root, ctrl_z),
        setup.trial("init::e1_inherited_descriptors_are_let_go", root, descriptors),
        setup.trial("init::exit_codes_are_mapped_after_a_stop_only", root, exit_map),
        setup.trial("init::a7_c3_the_main_code_wins", root, main_code_wins),
        setup.trial("init::b3_early_term_is_never_lost", root, early_term),
        setup.trial("init::b10_a_fault_signal_from_outside", root, fault_signal),
        setup.trial("init::b17_an_adopted_daemon_ends_in_its_own_time", root, adopted_daemon),
        setup.trial("init::c2_orphans_under_a_storm_of_signals", root, storm),
        setup.trial("init::c5_a_zombie_with_a_living_parent", root, foreign_zombie),
        setup.trial("init::d3_d4_keys_reach_the_child", root, keys),
        setup.trial("init::d7_hang_up", root, hang_up),
        setup.trial("init::d10_closed_standard_streams", root, closed_streams),
        setup.trial("init::e5_arguments_are_bytes", root, argument_bytes),
        setup.trial("init::e8_nobody_reads_our_output", root, nobody_reads),
        setup.trial("init::e10_nobody_special_on_a_read_only_root", root, read_only),
        setup.trial("init::e13_no_wake_ups_while_idle", root, idle),
        setup.trial("init::e6_options_stop_at_the_command", root, option_stop),
        setup.trial("init::e15_static_and_alone_in_an_empty_root", root, empty_root),
        setup.trial("init::not_pid_one_is_a_subreaper", &[], subreaper),
        setup.trial("init::user_and_environment", root, user),
        setup.trial("init::logs_as_json", root, json),
    ]
}

type Outcome = Result<(), String>;

fn exit_passthrough(setup: &Setup) -> Outcome {
    for code in 0..=255 {
        Scenario::new(setup).shell(&format!("exit {code}")).finish().exits(code);
    }
    Ok(())
}

fn signal_death(setup: &Setup) -> Outcome {
    for signal in [1, 2, 3, 6, 9, 11, 13, 15, 34] {
        let script = format!(
            "import os,resource;resource.setrlimit(resource.RLIMIT_CORE,(0,0));os.kill(os.getpid(),{signal});import time;time.sleep(60)"
        );
        let script = format!(
            "import signal;signal.signal(2,signal.SIG_DFL);signal.signal(13,signal.SIG_DFL);{script}"
        );
        Scenario::new(setup).command(["python3", "-c", &script]).finish().exits(128 + signal);
    }
    Ok(())
}

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

fn term_default(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup).command(["sleep", "600"]).start();
    running.descendant("sleep");
    running.stop().exits(143);
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

fn term_slow(setup: &Setup) -> Outcome {
    let running = Scenario::new(setup)
        .config("[stop]\ngrace = \"60s\"\n")
        .shell("trap 'sleep 1; echo rolled back; exit 9' TERM; echo ready; while :; do sleep .1; done")
        .start();
    running.wait_for("ready");
    running.stop().exits(9).says("rolled back");
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
    // What anybody gets who is started here without bookend: the C library's
    // own 32 and 33 may be ignored by the test's parent.
    let bare = std::process::Command::new("grep")
        .args(["-E", "Sig(Blk|Ign)", "/proc/self/status"])
        .output()
        .map_err(|error| error.to_string())?;
    let bare = String::from_utf8_lossy(&bare.stdout).into_owned();
    assert!(bare.contains("SigBlk:\t0000000000000000"), "{bare}");
    assert_eq!(ended.output.matches(&bare).count(), 2, "{bare}\n{}", ended.output);
    Ok(())
}

fn leftovers(setup: &Setup) -> Outcome {
    let daemon = "setsid sh -c 'trap \"sleep .5; echo daemon done; exit\" TERM; echo daemon ready; while :; do sleep .1; done' &";
    let script = format!("{daemon} sleep 600");
    let running = Scenario::new(setup).shell(&script).start();
    running.wait_for("daemon ready");
    running.stop().exits(143).says("daemon done");
    // The same when the main process ends by itself.
    let script = format!("{daemon} until [ -e go ]; do sleep .1; done; exit 3");
    let scenario = Scenario::new(setup);
    let go = scenario.folder().join("go");
    let running = scenario.shell(&script.replace("-e go", &format!("-e {}", go.display()))).start();
    running.wait_for("daemon ready");
    std::fs::write(go, "").map_err(|error| error.to_string())?;
    running.wait().exits(3).says("daemon done");
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

/// Python: how many processes are dead and wait for PID 1 to reap them.
const ZOMBIES: &str = "def zombies():\n\
        \x20   found = 0\n\
        \x20   for name in os.listdir('/proc'):\n\
        \x20       if name.isdigit():\n\
        \x20           try: found += open(f'/proc/{name}/stat').read().split(') ')[1].startswith('Z 1 ')\n\
        \x20           except OSError: pass\n\
        \x20   return found\n";

fn orphans(setup: &Setup) -> Outcome {
    let script = "import os,time\n\
        for _ in range(300):\n\
        \x20   pid = os.fork()\n\
        \x20   if pid == 0:\n\
        \x20       if os.fork() == 0: os._exit(0)\n\
        \x20       os._exit(0)\n\
        \x20   os.waitpid(pid, 0)\n\
        for _ in range(1000):\n\
        \x20   if zombies() == 0: print('no zombies', flush=True); break\n\
        \x20   time.sleep(.01)\n";
    let script = [ZOMBIES, script].concat();
    Scenario::new(setup).command(["python3", "-c", &script]).finish().exits(0).says("no zombies");
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

fn empty_root(setup: &Setup) -> Outcome {
    let scenario = Scenario::new(setup);
    let folder = scenario.folder().to_owned();
    std::fs::copy(&setup.binary, folder.join("bookend")).map_err(|error| error.to_string())?;
    let output = std::process::Command::new("chroot")
        .arg(&folder)
        .args(["/bookend", "run", "--", "/bookend", "--version"])
        .output()
        .map_err(|error| error.to_string())?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("bookend "));
    let elf = std::fs::read(&setup.binary).map_err(|error| error.to_string())?;
    assert!(!has_interpreter(&elf), "the binary asks for a dynamic loader");
    Ok(())
}

/// An ELF file with a PT_INTERP program header needs a dynamic loader.
fn has_interpreter(elf: &[u8]) -> bool {
    let u16_at = |at: usize| u16::from_le_bytes(elf[at..at + 2].try_into().expect("two bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().expect("eight bytes"));
    let (table, size, count) = (u64_at(0x20), u16_at(0x36), u16_at(0x38));
    (0..usize::from(count)).any(|index| {
        let at = usize::try_from(table).expect("fits") + index * usize::from(size);
        elf[at..at + 4] == 3_u32.to_le_bytes()
    })
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
        .config("[main]\nuser = \"4711:4712\"\nworkdir = \"/usr\"\nenv = { GREETING = \"hello world\" }\n")
        .shell("id -u; id -g; id -G; pwd; echo \"$HOME $USER $LOGNAME $GREETING\"")
        .finish();
    ended.exits(0).says("4711\n4712\n4712\n/usr\n/ 4711 4711 hello world\n");
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

/// Every catchable signal but SIGCHLD, which is ours, and those of a terminal.
fn forward_all(setup: &Setup) -> Outcome {
    let script = "import signal,sys,time\n\
        def got(number, frame): print(f'got {number}.', flush=True)\n\
        for number in range(1, 65):\n\
        \x20   if number not in (9, 17, 19, 32, 33): signal.signal(number, got)\n\
        print('ready', flush=True)\n\
        while True: time.sleep(60)\n";
    // Stop signals go their own way, once: here SIGRTMAX is the only one.
    let running = Scenario::new(setup)
        .config("[stop]\nsignals = [\"SIGRTMAX\"]\ngrace = \"1s\"\n")
        .command(["python3", "-c", script])
        .start();
    running.wait_for("ready");
    let init = running.init();
    for number in (1..=63).filter(|number| ![9, 17, 19, 32, 33].contains(number)) {
        // By the kernel's own number: nix has no names for real-time signals.
        let sent = std::process::Command::new("kill").args([format!("-{number}"), init.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "signal {number}");
        running.wait_for(&format!("got {number}."));
    }
    drop(std::process::Command::new("kill").args(["-64".to_owned(), init.to_string()]).status());
    running.wait_for("got 64.");
    running.wait().exits(137);
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

fn keys(setup: &Setup) -> Outcome {
    let sleep = ["run", "--", "sh", "-c", "echo READY; exec sleep 600"];
    let (code, text) = on_terminal(setup, "os.write(master, b'\\x03')", &sleep);
    assert_eq!(code, Some(130), "{text}");
    let (code, text) = on_terminal(setup, "os.write(master, b'\\x1c')", &sleep);
    assert_eq!(code, Some(131), "{text}");
    let job_control = ["run", "--", "bash", "--norc", "-ic", "echo READY $-; exit 4"];
    let (code, text) = on_terminal(setup, "pass", &job_control);
    assert_eq!(code, Some(4), "{text}");
    assert!(!text.contains("job control") && !text.contains("terminal process group"), "{text}");
    Ok(())
}

fn hang_up(setup: &Setup) -> Outcome {
    // The other end goes away: SIGHUP reaches the child, which writes where it can be seen.
    let scenario = Scenario::new(setup);
    let file = scenario.folder().join("hup");
    let child = format!(
        "trap 'echo got HUP > {}; exit 129' HUP; echo READY; while :; do sleep .1; done",
        file.display()
    );
    let (code, text) = on_terminal(setup, "os.close(master); break", &["run", "--", "sh", "-c", &child]);
    assert_eq!(code, Some(129), "{text}");
    assert!(file.exists(), "{text}");
    Ok(())
}

/// Nobody is there to continue what a key has stopped: without help the
/// container would hang for ever.
fn ctrl_z(setup: &Setup) -> Outcome {
    let child = ["run", "--", "sh", "-c", "echo READY; sleep 1.25; exit 3"];
    // Once `sleep` runs: a shell that is stopped between its vfork and the exec
    // of its child is a known gap (docs/signals.md).
    let deed = "import glob\n\
        \x20       while not any(b'sleep\\0' + b'1.25' in open(path, 'rb').read() for path in glob.glob(f'/proc/[0-9]*/cmdline') if os.path.exists(path)): pass\n\
        \x20       os.write(master, b'\\x1a')";
    let (code, text) = on_terminal(setup, deed, &child);
    assert_eq!(code, Some(3), "{text}");
    Ok(())
}

fn main_code_wins(setup: &Setup) -> Outcome {
    for _ in 0..50 {
        let script = "(sh -c 'exit 3' &); for i in 1 2 3 4 5 6 7 8; do true & done; exit 7";
        Scenario::new(setup).shell(script).finish().exits(7);
    }
    Ok(())
}

/// The TERM comes the moment that bookend handles signals, wherever its child is.
fn early_term(setup: &Setup) -> Outcome {
    let hook = "[[hook]]\nname = \"slow\"\ncommand = [\"sleep\", \"600\"]\n";
    for (config, rounds) in [("", 60), (hook, 60)] {
        for _ in 0..rounds {
            let running = Scenario::new(setup).config(config).command(["sleep", "600"]).start();
            running.wait_until_signals_are_blocked(setup);
            running.stop().exits(143);
        }
    }
    Ok(())
}

fn fault_signal(setup: &Setup) -> Outcome {
    let script = "import signal,time\n\
        for number in (6, 11): signal.signal(number, lambda number, frame: print(f'got {number}.', flush=True))\n\
        print('ready', flush=True)\n\
        while True: time.sleep(60)\n";
    let running = Scenario::new(setup).command(["python3", "-c", script]).start();
    running.wait_for("ready");
    for signal in [6, 11] {
        running.signal(signal);
        running.wait_for(&format!("got {signal}."));
    }
    running.stop().exits(143);
    Ok(())
}

fn adopted_daemon(setup: &Setup) -> Outcome {
    let script = "(setsid sh -c 'trap \"sleep .5; echo daemon done; exit\" TERM; echo daemon ready; while :; do sleep .1; done' &) ; sleep 600";
    let running = Scenario::new(setup).shell(script).start();
    running.wait_for("daemon ready");
    running.stop().exits(143).says("daemon done");
    Ok(())
}

fn storm(setup: &Setup) -> Outcome {
    let script = "import os,signal,time\n\
        seen = 0\n\
        def got(number, frame):\n\
        \x20   global seen; seen += 1\n\
        signal.signal(signal.SIGUSR1, got)\n\
        print('ready', flush=True)\n\
        for _ in range(2000):\n\
        \x20   pid = os.fork()\n\
        \x20   if pid == 0:\n\
        \x20       if os.fork() == 0: os._exit(0)\n\
        \x20       os._exit(0)\n\
        \x20   os.waitpid(pid, 0)\n\
        for _ in range(1000):\n\
        \x20   if zombies() == 0: break\n\
        \x20   time.sleep(.01)\n\
        print('zombies', zombies(), 'signals', 'seen' if seen else 'lost', flush=True)\n\
        time.sleep(600)\n";
    let script = [ZOMBIES, script].concat();
    let running = Scenario::new(setup).command(["python3", "-c", &script]).start();
    running.wait_for("ready");
    let init = running.init();
    let text = poll("the storm is over", || {
        crate::scenario::send(init, 10);
        let text = running.output();
        text.contains("zombies").then_some(text)
    });
    assert!(text.contains("zombies 0 signals seen"), "{text}");
    running.stop().exits(143);
    Ok(())
}

fn foreign_zombie(setup: &Setup) -> Outcome {
    let script = "import os,time\n\
        if os.fork() == 0: os._exit(0)\n\
        print('ready', flush=True)\n\
        time.sleep(600)\n";
    let running = Scenario::new(setup).command(["python3", "-c", script]).start();
    running.wait_for("ready");
    let before = switches(running.init());
    running.descendant("python3");
    // Neither touched nor looked at again and again.
    std::thread::park_timeout(std::time::Duration::from_secs(1));
    assert!(switches(running.init()) <= before + 1);
    running.stop().exits(143);
    Ok(())
}

fn closed_streams(setup: &Setup) -> Outcome {
    for redirection in ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"] {
        let script = format!("exec \"$0\" run -- sh -c 'ls /proc/$$/fd > \"$OUT\"; exit 4' {redirection}");
        let scenario = Scenario::new(setup);
        let out = scenario.folder().join("out");
        let status = std::process::Command::new("sh")
            .args(["-c", &script])
            .arg(&setup.binary)
            .env("BOOKEND_CONFIG", "")
            .env("OUT", &out)
            .status()
            .map_err(|error| error.to_string())?;
        assert_eq!(status.code(), Some(4), "{redirection}");
        let open = std::fs::read_to_string(&out).map_err(|error| error.to_string())?;
        for number in ["0", "1", "2"] {
            assert!(open.lines().any(|line| line == number), "{redirection}: {open}");
        }
    }
    Ok(())
}

fn argument_bytes(setup: &Setup) -> Outcome {
    use std::os::unix::ffi::OsStrExt;
    let odd: [&[u8]; 6] = [b"", b"a b", b"\"'$X`", b"line\nbreak", b"\xff\xfe", b"--help"];
    let script = "import os,sys\nprint([os.fsencode(word) for word in sys.argv[1:]])";
    let output = std::process::Command::new(&setup.binary)
        .args(["run", "--", "python3", "-c", script])
        .args(odd.iter().map(|bytes| std::ffi::OsStr::from_bytes(bytes)))
        .env("BOOKEND_CONFIG", "")
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.trim(), r#"[b'', b'a b', b'"\'$X`', b'line\nbreak', b'\xff\xfe', b'--help']"#);
    Ok(())
}

fn nobody_reads(setup: &Setup) -> Outcome {
    // Standard error is a pipe that is full and never read, then one without a reader.
    for reader in ["sleep 600", "true"] {
        let script = format!(
            "{{ yes | head -c 1000000 >&2 & sleep .2; \"$0\" run --log-level=debug -- sh -c 'exit 6'; echo code $? >&3; kill $!; }} 2>&1 >/dev/null 3>\"$OUT\" | {reader} & \
             for i in $(seq 600); do [ -s \"$OUT\" ] && break; sleep .1; done; kill $! 2>/dev/null; true"
        );
        let scenario = Scenario::new(setup);
        let out = scenario.folder().join("out");
        std::process::Command::new("bash")
            .args(["-c", &script])
            .arg(&setup.binary)
            .env("BOOKEND_CONFIG", "")
            .env("OUT", &out)
            .stderr(std::process::Stdio::null())
            .status()
            .map_err(|error| error.to_string())?;
        let said = std::fs::read_to_string(&out).map_err(|error| error.to_string())?;
        assert_eq!(said.trim(), "code 6", "{reader}");
    }
    Ok(())
}

fn read_only(setup: &Setup) -> Outcome {
    let script = "mount -o remount,bind,ro / / 2>/dev/null || { mount --rbind / /mnt && mount -o remount,bind,ro /mnt; }; \
        exec setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps=-all env -i PATH=\"$PATH\" BOOKEND_CONFIG= \"$0\" run -- sh -c 'id -u; exit 3'";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script])
        .arg(&setup.binary)
        .output()
        .map_err(|error| error.to_string())?;
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "54321\n");
    Ok(())
}

/// How often a process gave up the processor of its own will: its wake-ups.
fn switches(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .expect("a kernel that counts");
    line.trim().parse().expect("a number")
}

fn idle(setup: &Setup) -> Outcome {
    let hooks = "[stop]\ngrace = \"30s\"\n[[hook]]\nname = \"a\"\ncommand = [\"true\"]\n";
    for config in ["", hooks] {
        let running = Scenario::new(setup).config(config).command(["sleep", "600"]).start();
        running.descendant("sleep");
        let init = running.init();
        // What is done at start is over when nothing has happened for a while.
        poll("it is idle", || {
            let before = switches(init);
            std::thread::park_timeout(std::time::Duration::from_millis(300));
            (switches(init) == before).then_some(())
        });
        let before = switches(init);
        std::thread::park_timeout(std::time::Duration::from_secs(3));
        assert_eq!(switches(init), before, "wake-ups while idle");
        let threads =
            std::fs::read_dir(format!("/proc/{init}/task")).map_err(|error| error.to_string())?.count();
        assert_eq!(threads, 1);
        running.stop().exits(143);
    }
    Ok(())
}

//! D: the terminal, as in `docker run -it`: the init leads the session.

use super::{Case, Outcome, Subject};
use crate::scenario::Init;
use std::process::{Command, Stdio};

pub(super) const CASES: &[Case] = &[
    Case::new("d1_job_control", job_control),
    Case::new("d2_foreground", foreground),
    Case::new("d3_ctrl_c", ctrl_c),
    Case::new("d4_ctrl_backslash", ctrl_backslash),
    Case::new("d5_window_size", window_size),
    Case::new("d6_ctrl_z", ctrl_z).fails(&[Init::Tini, Init::Catatonit]),
    Case::new("d7_hang_up", hang_up),
    Case::new("d9_no_terminal", no_terminal),
    Case::new("d10_closed_standard_streams", closed_streams).fails(&[Init::Tini]),
];

fn job_control(subject: &Subject) -> Outcome {
    let (code, text) = subject.on_terminal("pass", &["bash", "--norc", "-ic", "echo READY $-; exit 4"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(!text.contains("job control") && !text.contains("terminal process group"), "{text}");
    Ok(())
}

/// The terminal's foreground is the group that the child is in.
fn foreground(subject: &Subject) -> Outcome {
    let script =
        "echo READY; set -- $(ps -o pgid=,tpgid= -p $$); [ $1 = $2 ] && exit 4; echo group $1, foreground $2";
    let (code, text) = subject.on_terminal("pass", &["sh", "-c", script]);
    assert_eq!(code, Some(4), "{text}");
    Ok(())
}

fn ctrl_c(subject: &Subject) -> Outcome {
    let (code, text) =
        subject.on_terminal("os.write(master, b'\\x03')", &["sh", "-c", "echo READY; exec sleep 600"]);
    assert_eq!(code, Some(130), "{text}");
    Ok(())
}

fn ctrl_backslash(subject: &Subject) -> Outcome {
    let script = "ulimit -c 0; echo READY; exec sleep 600";
    let (code, text) = subject.on_terminal("os.write(master, b'\\x1c')", &["sh", "-c", script]);
    assert_eq!(code, Some(131), "{text}");
    Ok(())
}

/// Once, not once from the terminal and once more from the init.
fn window_size(subject: &Subject) -> Outcome {
    let script = "import signal,time\n\
        seen = 0\n\
        def got(number, frame):\n\
        \x20   global seen; seen += 1\n\
        signal.signal(signal.SIGWINCH, got)\n\
        print('READY', flush=True)\n\
        while not seen: time.sleep(.01)\n\
        time.sleep(.5)\n\
        print('window', seen, flush=True)\n";
    let deed = "import fcntl, struct, termios; fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 90, 0, 0))";
    let (code, text) = subject.on_terminal(deed, &["python3", "-c", script]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("window 1\r\n"), "{text}");
    Ok(())
}

/// Nobody is there to continue what a key has stopped: without help the
/// container would hang for ever. At any moment, also while the shell starts
/// its child.
fn ctrl_z(subject: &Subject) -> Outcome {
    for _ in 0..10 {
        let deed = "os.write(master, b'\\x1a')";
        let (code, text) = subject.on_terminal(deed, &["sh", "-c", "echo READY; sleep .3; sleep .1; exit 3"]);
        assert_eq!(code, Some(3), "{text}");
    }
    Ok(())
}

/// The other end goes away: SIGHUP reaches the child, which writes where it can be seen.
fn hang_up(subject: &Subject) -> Outcome {
    let scenario = subject.scenario();
    let file = scenario.folder().join("hup");
    let child = format!(
        "trap 'echo got HUP > {}; exit 129' HUP; echo READY; while :; do sleep .1; done",
        file.display()
    );
    let (code, text) = subject.on_terminal("os.close(master); break", &["sh", "-c", &child]);
    assert_eq!(code, Some(129), "{text}");
    assert!(file.exists(), "{text}");
    Ok(())
}

/// Standard input is a file, a pipe, or nothing: it is the child's.
fn no_terminal(subject: &Subject) -> Outcome {
    let scenario = subject.scenario();
    let words = subject.words(&scenario);
    let file = scenario.folder().join("input");
    std::fs::write(&file, "from the file\n").map_err(|error| error.to_string())?;
    let file = file.display();
    for (script, expected) in [
        (format!("\"$@\" cat < {file}"), "from the file\n"),
        ("echo from the pipe | \"$@\" cat".to_owned(), "from the pipe\n"),
        ("\"$@\" cat < /dev/null".to_owned(), ""),
    ] {
        let output = Command::new("setsid")
            .args(["--wait", "sh", "-c", &script, "sh"])
            .args(&words)
            .env("BOOKEND_CONFIG", "")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        assert_eq!(output.status.code(), Some(0), "{script}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{script}");
    }
    Ok(())
}

/// No descriptor of the init's own ever becomes 0, 1 or 2.
fn closed_streams(subject: &Subject) -> Outcome {
    for redirection in ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"] {
        let scenario = subject.scenario();
        let words = subject.words(&scenario);
        let out = scenario.folder().join("out");
        // Whatever stands at 0 to 2 is a file or nothing, never something of an init.
        let child = "ls -l /proc/$$/fd > \"$OUT\"; exit 4";
        let status = Command::new("sh")
            .args(["-c", &format!("exec \"$@\" {redirection}"), "sh"])
            .args(&words)
            .args(["sh", "-c", child])
            .env("BOOKEND_CONFIG", "")
            .env("OUT", &out)
            .status()
            .map_err(|error| error.to_string())?;
        assert_eq!(status.code(), Some(4), "{redirection}");
        let open = std::fs::read_to_string(&out).map_err(|error| error.to_string())?;
        assert!(!open.contains("anon_inode") && !open.contains("socket:"), "{redirection}: {open}");
    }
    Ok(())
}

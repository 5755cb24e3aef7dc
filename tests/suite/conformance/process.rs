//! E: descriptors, arguments, footprint.

use super::{Case, Outcome, Subject};
use crate::scenario::{Init, poll};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

pub(super) const CASES: &[Case] = &[
    Case::new("e1_inherited_descriptors_are_let_go", descriptors).fails(&[Init::Tini, Init::DumbInit]),
    Case::new("e2_the_child_has_what_was_inherited", child_descriptors),
    Case::new("e5_arguments_are_bytes", argument_bytes),
    Case::new("e6_options_stop_at_the_command", option_stop).fails(&[Init::Tini, Init::Catatonit]),
    Case::new("e8_nobody_reads_our_output", nobody_reads).fails(&[Init::Tini]),
    Case::new("e10_nobody_special_on_a_read_only_root", read_only),
    Case::new("e11_socket_activation", socket_activation).fails(&[Init::Tini, Init::DumbInit]),
    Case::new("e12_old_seccomp_profiles", seccomp),
    Case::new("e13_no_wake_ups_while_idle", idle).fails(&[Init::Tini]),
    Case::new("e15_static_and_alone_in_an_empty_root", empty_root).fails(&[Init::DumbInit]),
];

/// A pipe that only the service holds ends when the service closes it.
fn descriptors(subject: &Subject) -> Outcome {
    let running =
        subject.scenario().mount("exec 7</etc/passwd 8</etc/passwd").command(["sleep", "600"]).start();
    running.descendant("sleep");
    let init = running.init();
    poll("only its own are open", || {
        let entries = std::fs::read_dir(format!("/proc/{init}/fd")).ok()?;
        let open = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        (!open.into_iter().any(|target| target.ends_with("passwd"))).then_some(())
    });
    running.stop().exits(143);
    Ok(())
}

fn child_descriptors(subject: &Subject) -> Outcome {
    // One process that looks at itself: a shell's own pipes come and go.
    let command = ["python3", "-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"];
    let ended = subject.scenario().mount("exec 7</etc/passwd 8</etc/passwd").command(command).finish();
    let bare = Command::new("sh")
        .args(["-c", "exec 7</etc/passwd 8</etc/passwd; exec \"$@\"", "sh"])
        .args(command)
        .output()
        .map_err(|error| error.to_string())?;
    let bare = String::from_utf8_lossy(&bare.stdout).into_owned();
    assert!(bare.contains(", 7, 8"), "{bare}");
    assert_eq!(ended.exits(0).output, bare);
    Ok(())
}

fn argument_bytes(subject: &Subject) -> Outcome {
    let odd: [&[u8]; 6] = [b"", b"a b", b"\"'$X`", b"line\nbreak", b"\xff\xfe", b"--help"];
    let script = "import os,sys\nprint([os.fsencode(word) for word in sys.argv[1:]])";
    let words = subject.words(&subject.scenario());
    let output = Command::new(&words[0])
        .args(&words[1..])
        .args(["python3", "-c", script])
        .args(odd.iter().map(|bytes| OsStr::from_bytes(bytes)))
        .env("BOOKEND_CONFIG", "")
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.trim(), r#"[b'', b'a b', b'"\'$X`', b'line\nbreak', b'\xff\xfe', b'--help']"#);
    Ok(())
}

fn option_stop(subject: &Subject) -> Outcome {
    let program = subject.init.program(subject.setup, subject.scenario().folder());
    let output = Command::new(&program[0])
        .args(&program[1..])
        .args(["sh", "-c", "exit 5"])
        .env("BOOKEND_CONFIG", "")
        .output()
        .map_err(|error| error.to_string())?;
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Standard error is a pipe that is full and never read, then one without a reader.
fn nobody_reads(subject: &Subject) -> Outcome {
    for reader in ["sleep 600", "true"] {
        let script = format!(
            "{{ yes | head -c 1000000 >&2 & sleep .2; \"$@\" sh -c 'exit 6'; echo code $? >&3; kill $!; }} 2>&1 >/dev/null 3>\"$OUT\" | {reader} & \
             for i in $(seq 600); do [ -s \"$OUT\" ] && break; sleep .1; done; kill $! 2>/dev/null; true"
        );
        let scenario = subject.scenario();
        let out = scenario.folder().join("out");
        Command::new("bash")
            .args(["-c", &script, "bash"])
            .args(subject.words(&scenario))
            .env("BOOKEND_CONFIG", "")
            .env("OUT", &out)
            .stderr(Stdio::null())
            .status()
            .map_err(|error| error.to_string())?;
        let said = std::fs::read_to_string(&out).map_err(|error| error.to_string())?;
        assert_eq!(said.trim(), "code 6", "{reader}");
    }
    Ok(())
}

fn read_only(subject: &Subject) -> Outcome {
    let script = "mount -o remount,bind,ro / / 2>/dev/null || { mount --rbind / /mnt && mount -o remount,bind,ro /mnt; }; \
        exec setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps=-all env -i PATH=\"$PATH\" BOOKEND_CONFIG= \"$@\" sh -c 'id -u; exit 3'";
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh"])
        .args(subject.words(&subject.scenario()))
        .output()
        .map_err(|error| error.to_string())?;
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "54321\n");
    Ok(())
}

/// The descriptors of `sd_listen_fds(3)` are the child's: `LISTEN_PID` says so.
fn socket_activation(subject: &Subject) -> Outcome {
    let script = "[ \"$LISTEN_PID\" = $$ ] && exit 5; echo \"LISTEN_PID is $LISTEN_PID, not $$\"";
    let words = ["sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"];
    subject.scenario().under(words).shell(script).finish().exits(5);
    // Somebody else's is left alone.
    let words = ["env", "LISTEN_PID=4711"];
    subject.scenario().under(words).shell("echo pid $LISTEN_PID").finish().exits(0).says("pid 4711\n");
    Ok(())
}

/// Python: refuses system calls by number with an error, then executes the rest
/// (`seccomp(2)`; the filter is that of the kernel's own samples).
pub(crate) const SECCOMP: &str = "import ctypes,os,struct,sys\n\
        error = int(sys.argv[1]); refused = [int(word) for word in sys.argv[2].split(',')]\n\
        code = struct.pack('HBBI', 0x20, 0, 0, 0)\n\
        for number in refused:\n\
        \x20   code += struct.pack('HBBI', 0x15, 0, 1, number) + struct.pack('HBBI', 0x06, 0, 0, 0x50000 | error)\n\
        code += struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000)\n\
        class Program(ctypes.Structure): _fields_ = [('size', ctypes.c_ushort), ('code', ctypes.c_void_p)]\n\
        memory = ctypes.create_string_buffer(code)\n\
        program = Program(len(code) // 8, ctypes.cast(memory, ctypes.c_void_p))\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0\n\
        os.execvp(sys.argv[3], sys.argv[3:])\n";

/// What old profiles refuse since they do not know it: pidfd_open, clone3,
/// close_range, pidfd_send_signal, faccessat2, openat2, epoll_pwait2.
const REFUSED: &str = "434,435,436,424,439,437,441";

fn seccomp(subject: &Subject) -> Outcome {
    for error in ["1", "38"] {
        let scenario = subject.scenario().under(["python3", "-c", SECCOMP, error, REFUSED]);
        scenario.shell("(sleep .1 &); true; exit 7").finish().exits(7);
        let scenario = subject.scenario().under(["python3", "-c", SECCOMP, error, REFUSED]);
        let running = scenario.command(["sleep", "600"]).start();
        running.descendant("sleep\x00600");
        running.stop().exits(143);
    }
    Ok(())
}

/// How often a process gave up the processor of its own will: its wake-ups.
pub(crate) fn switches(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .expect("a kernel that counts");
    line.trim().parse().expect("a number")
}

fn idle(subject: &Subject) -> Outcome {
    let running = subject.scenario().command(["sleep", "600"]).start();
    running.descendant("sleep");
    assert_idle(running.init());
    running.stop().exits(143);
    Ok(())
}

/// Once what is done at start is over, nothing wakes it.
pub(crate) fn assert_idle(init: i32) {
    poll("it is idle", || {
        let before = switches(init);
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        (switches(init) == before).then_some(())
    });
    let before = switches(init);
    std::thread::park_timeout(std::time::Duration::from_secs(3));
    assert_eq!(switches(init), before, "wake-ups while idle");
    let threads = std::fs::read_dir(format!("/proc/{init}/task")).expect("it is there").count();
    assert_eq!(threads, 1);
}

fn empty_root(subject: &Subject) -> Outcome {
    let scenario = subject.scenario();
    let folder = scenario.folder().to_owned();
    let program = subject.init.peer().unwrap_or(&subject.setup.binary);
    // By the name that it is to be called by.
    let name = match subject.init {
        Init::AsTini => "tini",
        Init::AsDumbInit => "dumb-init",
        _ => "init",
    };
    // Not by ourselves: a child of another test, forked meanwhile, would have the new file open for
    // writing, and nobody could execute it.
    for (from, to) in [(program, name), (&subject.setup.binary, "child")] {
        let copied = Command::new("cp").arg(from).arg(folder.join(to)).status();
        assert!(copied.is_ok_and(|status| status.success()), "{}", from.display());
    }
    let path = format!("/{name}");
    let mut words = vec![path.as_str()];
    if subject.init == Init::Bookend {
        words.push("run");
    }
    words.extend(["--", "/child", "--version"]);
    let output =
        Command::new("chroot").arg(&folder).args(&words).output().map_err(|error| error.to_string())?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("bookend "));
    let elf = std::fs::read(program).map_err(|error| error.to_string())?;
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

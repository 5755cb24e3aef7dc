//! One run of an init as a real PID 1, told as a sentence. The init is bookend,
//! unless the scenario says otherwise.

use crate::folders;
use crate::setup::Setup;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// No step takes longer unless it hangs.
pub(crate) const HANG: Duration = Duration::from_secs(90);

/// Who is PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "dumb-init is a name")]
pub(crate) enum Init {
    Bookend,
    AsTini,
    AsDumbInit,
    /// Debian's packages, the static build of tini.
    Tini,
    DumbInit,
    Catatonit,
}

impl Init {
    /// As reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bookend => "bookend",
            Self::AsTini => "bookend-as-tini",
            Self::AsDumbInit => "bookend-as-dumb-init",
            Self::Tini => "tini",
            Self::DumbInit => "dumb-init",
            Self::Catatonit => "catatonit",
        }
    }

    /// A program that is not ours.
    pub(crate) fn peer(self) -> Option<&'static Path> {
        match self {
            Self::Tini => Some(Path::new("/usr/bin/tini-static")),
            Self::DumbInit => Some(Path::new("/usr/bin/dumb-init")),
            Self::Catatonit => Some(Path::new("/usr/bin/catatonit")),
            Self::Bookend | Self::AsTini | Self::AsDumbInit => None,
        }
    }

    /// The program and what stands before its options; a link is made in `folder`.
    pub(crate) fn program(self, setup: &Setup, folder: &Path) -> Vec<String> {
        let link = |name: &str| {
            let link = folder.join(name);
            if !link.is_symlink() {
                std::os::unix::fs::symlink(&setup.binary, &link).expect("the link is made");
            }
            vec![link.display().to_string()]
        };
        match (self, self.peer()) {
            (_, Some(path)) => vec![path.display().to_string()],
            (Self::AsTini, _) => link("tini"),
            (Self::AsDumbInit, _) => link("dumb-init"),
            _ => vec![setup.binary.display().to_string(), "run".to_owned()],
        }
    }

    /// What the kernel calls its executable.
    fn executable(self, setup: &Setup) -> PathBuf {
        self.peer().map_or_else(|| setup.binary.clone(), Path::to_owned)
    }

    /// A peer that takes longer hangs (the conformance list's own bound); ours
    /// may share a noisy machine with a whole suite.
    pub(crate) fn patience(self) -> Duration {
        if self.peer().is_some() { Duration::from_secs(10) } else { HANG }
    }
}

/// What is to be run, before it runs.
#[must_use]
#[derive(Debug)]
pub(crate) struct Scenario<'a> {
    setup: &'a Setup,
    init: Init,
    config: Option<String>,
    /// Called by this name, through a link.
    name: Option<String>,
    arguments: Vec<String>,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    /// Options of the private /tmp.
    temporary: String,
    /// What runs the init: a program that changes something and executes the rest.
    wrapper: Vec<String>,
    /// Shell commands in the scenario's mount namespace, before bookend.
    mounts: Vec<String>,
    folder: PathBuf,
}

impl<'a> Scenario<'a> {
    pub(crate) fn new(setup: &'a Setup) -> Self {
        let folder = folders::make(&setup.root);
        open_to_all(&folder);
        Self {
            setup,
            init: Init::Bookend,
            config: None,
            name: None,
            arguments: Vec::new(),
            command: Vec::new(),
            environment: Vec::new(),
            temporary: "mode=1777".to_owned(),
            wrapper: Vec::new(),
            mounts: Vec::new(),
            folder,
        }
    }

    /// A folder that belongs to this scenario, writable for every user.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    pub(crate) fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// Called as another init: its options are the arguments.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn mount(mut self, command: &str) -> Self {
        self.mounts.push(command.to_owned());
        self
    }

    /// A program with arguments that executes what stands behind them.
    pub(crate) fn under<T: AsRef<str>>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        self.wrapper = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// The size of its private /tmp.
    pub(crate) fn temporary(mut self, options: &str) -> Self {
        self.temporary = format!("mode=1777,{options}");
        self
    }

    /// A /tmp of its own: JVMs of two namespaces have the same pid, and would
    /// have the same attach socket. A checkout below /tmp stays where it is.
    fn private_temporary(&self) -> Vec<String> {
        let folder = self.folder.join("tmp");
        std::fs::create_dir_all(&folder).expect("a folder for /tmp");
        let mut commands = vec![format!("mount -t tmpfs -o {} none {}", self.temporary, folder.display())];
        if let Ok(below) = self.setup.root.strip_prefix("/tmp") {
            let (inside, root) = (folder.join(below), &self.setup.root);
            commands.push(format!("mkdir -p {0} && mount --bind {1} {0}", inside.display(), root.display()));
        }
        commands.push(format!("mount --rbind {} /tmp", folder.display()));
        // And a /run: where there is no container, all control sockets would meet there.
        commands.push("mount -t tmpfs -o mode=755 none /run".to_owned());
        commands
    }

    pub(crate) fn command<T: AsRef<str>>(mut self, command: impl IntoIterator<Item = T>) -> Self {
        self.command = command.into_iter().map(|part| part.as_ref().to_owned()).collect();
        self
    }

    /// `sh -c` as the main process.
    pub(crate) fn shell(self, script: &str) -> Self {
        self.command(["sh", "-c", script])
    }

    /// Starts it and waits until bookend is PID 1.
    pub(crate) fn start(self) -> Running {
        let config = self.folder.join("bookend.toml");
        std::fs::write(&config, self.config.as_deref().unwrap_or("")).expect("the configuration is written");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        let mut inner: Vec<String> = match &self.name {
            None => self.init.program(self.setup, &self.folder),
            Some(name) => {
                let link = self.folder.join(name);
                std::os::unix::fs::symlink(&self.setup.binary, &link).expect("the link is made");
                vec![link.display().to_string()]
            }
        };
        if self.config.is_some() {
            inner.extend(["--config".to_owned(), config.display().to_string()]);
        }
        inner.extend(self.arguments.clone());
        inner.push("--".to_owned());
        inner.extend(self.command.clone());
        let mounts = [self.private_temporary(), self.mounts.clone()].concat().join(" && ");
        command.args(["--mount", "sh", "-c", &format!("{mounts} && exec \"$@\""), "sh"]);
        command.args(&self.wrapper).args(&inner);
        command.env_remove("CI").envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("BOOKEND_CONFIG", "");
        // Of its own too, as for /tmp: an attach trigger lies in the JVM's working directory.
        command.current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("unshare starts");
        let output = Output { patience: self.init.patience(), ..Output::default() };
        output.collect(child.stdout.take().expect("piped"));
        output.collect(child.stderr.take().expect("piped"));
        let executable = self.init.executable(self.setup);
        Running { child, init: self.init, executable, output, folder: self.folder }
    }

    /// Starts it and waits for its end.
    pub(crate) fn finish(self) -> Ended {
        self.start().wait()
    }
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).expect("the folder is ours");
}

/// Standard output and standard error together, as they come.
#[derive(Clone, Debug, Default)]
struct Output {
    shared: Arc<(Mutex<String>, Condvar)>,
    patience: Duration,
}

impl Output {
    fn collect(&self, mut stream: impl Read + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = stream.read(&mut buffer) {
                if count == 0 {
                    return;
                }
                let mut text = shared.0.lock().expect("no reader panics");
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
                shared.1.notify_all();
            }
        });
    }

    fn text(&self) -> String {
        self.shared.0.lock().expect("no reader panics").clone()
    }

    fn wait_for(&self, wanted: &str) -> String {
        let (text, changed) = &*self.shared;
        let guard = text.lock().expect("no reader panics");
        let (guard, timeout) = changed
            .wait_timeout_while(guard, self.patience, |text| !text.contains(wanted))
            .expect("no reader panics");
        assert!(!timeout.timed_out(), "HANG: `{wanted}` never came; output:\n{guard}");
        guard.clone()
    }
}

/// A scenario that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    init: Init,
    /// The init's own, once everything before it is done.
    executable: PathBuf,
    output: Output,
    folder: PathBuf,
}

/// A scenario that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) folder: PathBuf,
}

impl Running {
    /// Everything printed, once `text` is among it.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.output.wait_for(text)
    }

    /// Everything printed so far.
    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    /// bookend's pid as seen from here.
    pub(crate) fn init(&self) -> i32 {
        let unshare = self.child.id();
        let path = format!("/proc/{unshare}/task/{unshare}/children");
        poll("bookend starts", || {
            let children = std::fs::read_to_string(&path).unwrap_or_default();
            children.split_whitespace().next()?.parse().ok()
        })
    }

    /// The first moment from which a signal cannot be lost: before it the kernel
    /// drops what PID 1 has no handler for.
    pub(crate) fn wait_until_signals_are_blocked(&self) {
        let init = self.init();
        poll("signals are blocked", || {
            let is_init =
                std::fs::read_link(format!("/proc/{init}/exe")).is_ok_and(|exe| exe == self.executable);
            (is_init && takes_term(init)).then_some(())
        });
    }

    /// The pid, as seen from here, of the process below bookend that has `name`
    /// in its command line.
    pub(crate) fn descendant(&self, name: &str) -> i32 {
        let init = self.init();
        poll(&format!("a process `{name}` runs"), || {
            let entries = std::fs::read_dir("/proc").ok()?;
            let line = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // Before that it is a shell that prepares; and a fork is not yet its program.
            let prepared = std::fs::read_link(format!("/proc/{init}/exe")).ok()? == self.executable;
            let own = line(init);
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()).find(|pid| {
                let line = line(*pid);
                prepared
                    && line != own
                    && is_below(*pid, init)
                    && String::from_utf8_lossy(&line).contains(name)
            })
        })
    }

    /// Sends bookend a signal, as `docker kill` does: from outside its namespace.
    pub(crate) fn signal(&self, signal: i32) {
        send(self.init(), signal);
    }

    pub(crate) fn terminate(&self) {
        self.signal(15);
    }

    pub(crate) fn wait(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("unshare is ours") {
                break status;
            }
            assert!(
                begun.elapsed() < self.init.patience(),
                "HANG: it never ended; output:\n{}",
                self.output.text()
            );
            std::thread::park_timeout(Duration::from_millis(5));
        };
        // The readers see the end of both pipes a moment later.
        poll("the output ends", || (Arc::strong_count(&self.output.shared) == 1).then_some(()));
        let code = status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0));
        Ended { code, output: self.output.text(), folder: self.folder.clone() }
    }

    /// Sends TERM until it ends: one that came before PID 1 had any handler was
    /// dropped by the kernel, as it should be.
    pub(crate) fn stop_again(mut self, init: i32) -> Ended {
        let begun = Instant::now();
        let mut next = begun;
        while self.child.try_wait().expect("unshare is ours").is_none() {
            assert!(
                begun.elapsed() < self.init.patience(),
                "HANG: it never ended; output:\n{}",
                self.output.text()
            );
            if Instant::now() >= next {
                let pid = nix::unistd::Pid::from_raw(init);
                let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
                next = Instant::now() + Duration::from_millis(500);
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        self.wait()
    }

    /// Runs bookend with these arguments in its namespaces, as that user: as `docker exec` does.
    pub(crate) fn verb(&self, setup: &Setup, user: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.exec(setup, user, arguments).output().expect("nsenter runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// The same, to its end, whenever that is; returns once it has printed something.
    pub(crate) fn verb_in_background(
        &self,
        setup: &Setup,
        user: &str,
        arguments: &[&str],
    ) -> std::thread::JoinHandle<String> {
        let mut command = self.exec(setup, user, arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("nsenter runs");
        let mut stdout = child.stdout.take().expect("piped");
        let mut text = vec![0; 4096];
        let size = stdout.read(&mut text).expect("a pipe");
        text.truncate(size);
        std::thread::spawn(move || {
            drop(stdout.read_to_end(&mut text));
            drop(child.wait());
            String::from_utf8_lossy(&text).into_owned()
        })
    }

    fn exec(&self, setup: &Setup, user: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        // Whoever looks for the JVM has to be among its processes; the others are so spared the
        // end of PID 1, which may come before they have printed their answer.
        if matches!(arguments.first(), Some(&"dump")) {
            command.arg("--pid");
        }
        command
            .args(["--mount", "--target", &self.init().to_string()])
            .args(["setpriv", "--reuid", user, "--regid", user, "--clear-groups"])
            .arg(&setup.binary)
            .args(arguments)
            .env("BOOKEND_CONFIG", "");
        command
    }

    /// The scenario's own.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sends TERM and waits for the end.
    pub(crate) fn stop(self) -> Ended {
        self.terminate();
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Killing unshare kills its child, which takes the namespace with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Ended {
    /// Asserts the exit code, with the output where it is another.
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "exit code; output:\n{}", self.output);
        self
    }

    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(self.output.contains(text), "`{text}` is not in the output:\n{}", self.output);
        self
    }

    pub(crate) fn never_says(&self, text: &str) -> &Self {
        assert!(!self.output.contains(text), "`{text}` is in the output:\n{}", self.output);
        self
    }

    /// `first` comes before `second`.
    pub(crate) fn says_in_order(&self, first: &str, second: &str) -> &Self {
        self.says(first).says(second);
        assert!(self.output.find(first) < self.output.find(second), "{first} … {second}:\n{}", self.output);
        self
    }
}

/// Waits for something to be there; panics if that takes so long that it hangs.
pub(crate) fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    poll_telling(what, || look().ok_or_else(String::new))
}

/// One that tells what it saw instead.
pub(crate) fn poll_telling<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(begun.elapsed() < HANG, "HANG: waiting until {what}: {seen}"),
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// SIGSTOP, and it has stopped.
pub(crate) fn freeze(pid: i32) {
    send(pid, 19);
    poll("it is stopped", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.contains("State:\tT").then_some(())
    });
}

pub(crate) fn send(pid: i32, signal: i32) {
    let signal = nix::sys::signal::Signal::try_from(signal).expect("a signal with a name");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it is there to be signalled");
}

/// A TERM now waits or is handled: it is blocked or caught, or the process waits in
/// `sigtimedwait(2)`, which shows it as neither – and has a child then.
pub(crate) fn takes_term(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        u64::from_str_radix(line.trim(), 16).unwrap_or(0)
    };
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    (mask("SigBlk:") | mask("SigCgt:")) & (1 << 14) != 0
        || children.is_ok_and(|children| !children.is_empty())
}

fn is_below(pid: i32, ancestor: i32) -> bool {
    let mut current = pid;
    for _ in 0..32 {
        if current == ancestor {
            return true;
        }
        let Ok(status) = std::fs::read_to_string(format!("/proc/{current}/status")) else {
            return false;
        };
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
        match parent {
            Some(parent) if parent > 0 => current = parent,
            _ => return false,
        }
    }
    false
}

/// A program on the other end of a pseudo-terminal: runs bookend there,
/// and once the output holds `READY` does `deed` (Python, with `master`).
pub(crate) fn on_terminal(setup: &Setup, deed: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let program = setup.binary.display().to_string();
    let words: Vec<&str> = [program.as_str()].into_iter().chain(arguments.iter().copied()).collect();
    run_on_terminal(deed, &words, HANG)
}

/// The same with any init.
pub(crate) fn run_on_terminal(deed: &str, words: &[&str], patience: Duration) -> (Option<i32>, String) {
    // bookend leads the session, as in `docker run -it`.
    let script = format!(
        "import os, pty, subprocess, sys\n\
        master, slave = pty.openpty()\n\
        child = subprocess.Popen(sys.argv[1:], stdin=slave, stdout=slave, stderr=slave)\n\
        os.close(slave)\n\
        text = b''\n\
        done = False\n\
        while True:\n\
        \x20   try: data = os.read(master, 4096)\n\
        \x20   except OSError: break\n\
        \x20   if not data: break\n\
        \x20   text += data\n\
        \x20   if b'READY' in text and not done:\n\
        \x20       done = True\n\
        \x20       {deed}\n\
        sys.stdout.buffer.write(text)\n\
        sys.exit(child.wait())\n"
    );
    let output = Command::new("timeout")
        .arg(patience.as_secs().to_string())
        .args(["python3", "-c", &script, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["setsid", "--ctty"])
        .args(words)
        .env("BOOKEND_CONFIG", "")
        .output()
        .expect("python3 runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

//! A TCP proxy that fails on purpose, once so much of an upload has passed it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody listens any longer.
    Refused,
    /// Connections are taken, and nothing comes back.
    BlackHole,
    /// Every connection ends, once.
    Reset,
    /// A kilobyte a second.
    Slow,
    /// For five seconds every request is answered with 503.
    Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    /// Two parts and a half have passed: at least one of them as a whole.
    During,
    /// The parts are to be put together.
    Last,
}

/// What passes while it lasts. Bytes.
const DURING: u64 = 15 << 20;
const BUSY: Duration = Duration::from_secs(5);
const ANSWER: &str = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

struct State {
    server: u16,
    fault: Fault,
    moment: Moment,
    passed: AtomicU64,
    since: OnceLock<Instant>,
    /// Connections, to be ended when the fault begins.
    open: Mutex<Vec<TcpStream>>,
    is_over: AtomicBool,
}

/// Ends when dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub(crate) fn start(server: u16, fault: Fault, moment: Moment) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State {
            server,
            fault,
            moment,
            passed: AtomicU64::new(0),
            since: OnceLock::new(),
            open: Mutex::new(Vec::new()),
            is_over: AtomicBool::new(false),
        });
        if moment == Moment::Before {
            state.begin();
        }
        let shared = Arc::clone(&state);
        std::thread::spawn(move || listen(&listener, &shared));
        Self { port, state }
    }

    /// Whether what was to go wrong went wrong.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.since.get().is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        self.state.end_all();
    }
}

fn listen(listener: &TcpListener, state: &Arc<State>) {
    listener.set_nonblocking(true).expect("a socket");
    loop {
        if state.is_over.load(Ordering::SeqCst) || state.is(Fault::Refused) {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("a socket");
                let state = Arc::clone(state);
                std::thread::spawn(move || state.serve(stream));
            }
            Err(_) => std::thread::park_timeout(Duration::from_millis(2)),
        }
    }
}

impl State {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault && self.since.get().is_some()
    }

    fn is_busy(&self) -> bool {
        self.fault == Fault::Busy && self.since.get().is_some_and(|since| since.elapsed() < BUSY)
    }

    fn begin(&self) {
        if self.since.set(Instant::now()).is_ok()
            && matches!(self.fault, Fault::Refused | Fault::Reset | Fault::Busy)
        {
            self.end_all();
        }
    }

    fn end_all(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn serve(self: Arc<Self>, mut client: TcpStream) {
        if self.is_busy() {
            drop(refuse(&mut client));
            return;
        }
        let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.server)) else { return };
        let (Ok(mut back), Ok(mut to)) = (server.try_clone(), client.try_clone()) else { return };
        self.open
            .lock()
            .expect("no panic")
            .extend([client.try_clone(), server.try_clone()].into_iter().flatten());
        std::thread::spawn(move || {
            drop(std::io::copy(&mut back, &mut to));
            drop(to.shutdown(Shutdown::Both));
        });
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            self.look(&buffer[..count]);
            if self.is(Fault::BlackHole) {
                while !self.is_over.load(Ordering::SeqCst) {
                    std::thread::park_timeout(Duration::from_millis(50));
                }
                break;
            }
            for piece in buffer[..count].chunks(1024) {
                if self.is(Fault::Slow) {
                    std::thread::park_timeout(Duration::from_secs(1));
                }
                // What was not passed on by now never is.
                if self.is_over.load(Ordering::SeqCst) {
                    return;
                }
                if server.write_all(piece).is_err() {
                    return;
                }
            }
        }
        drop(server.shutdown(Shutdown::Both));
    }

    fn look(&self, bytes: &[u8]) {
        let passed = self.passed.fetch_add(bytes.len() as u64, Ordering::SeqCst) + bytes.len() as u64;
        let head = String::from_utf8_lossy(bytes.get(..bytes.len().min(400)).unwrap_or_default());
        let is_last = head.starts_with("POST ") && head.contains("uploadId=");
        if match self.moment {
            Moment::Before => false,
            Moment::During => passed > DURING,
            Moment::Last => is_last,
        } {
            self.begin();
        }
    }
}

/// Reads a request and answers that there are too many.
fn refuse(client: &mut TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = client.take(length.unwrap_or(0));
    std::io::copy(&mut body, &mut std::io::sink())?;
    let size = ANSWER.len();
    write!(
        client,
        "HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n{ANSWER}"
    )
}

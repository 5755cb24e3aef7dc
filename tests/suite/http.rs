//! What servers of the suite share: one request off a connection, and the answer.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// A request whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: BufReader<TcpStream>,
}

impl Request {
    /// None from a connection that ends before.
    pub(crate) fn read(stream: &TcpStream) -> Option<Self> {
        let mut body = BufReader::new(stream.try_clone().expect("a descriptor"));
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            body.read_line(&mut line).ok().filter(|size| *size > 0)?;
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let mut words = lines.first()?.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let headers = lines.iter().filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Some(Self { method, target, headers, body })
    }

    /// By its name in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Of the body.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
}

/// On a free port of this host.
pub(crate) fn listen() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

/// `status` with its words; `kind` is the body's.
pub(crate) fn answer(stream: &mut TcpStream, status: &str, kind: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes())
}

/// Status, kind and body.
pub(crate) type Answer = (&'static str, &'static str, String);

/// Answers requests without a body until the suite ends; the port.
pub(crate) fn serve(answered: impl Fn(&Request) -> Answer + Send + 'static) -> u16 {
    let listener = listen();
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let Some(request) = Request::read(&stream) else { continue };
            let (status, kind, body) = answered(&request);
            // Whoever asked may be gone.
            drop(answer(&mut stream, status, kind, &body));
        }
    });
    port
}

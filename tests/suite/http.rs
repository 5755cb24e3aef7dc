//! What servers of the suite share: one request off a connection.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

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

//! A fake of the endpoint that gives a task its role's credentials, as "Container credential
//! provider" (AWS SDKs and Tools reference) describes it: a GET with a token, answered in JSON.

use crate::s3_server::{KEY, SECRET};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const TOKEN: &str = "a-token-of-the-test";

/// A role's session: good for so many requests, until credentials are asked for again.
#[derive(Debug)]
pub(crate) struct Session {
    left: AtomicUsize,
    /// How often credentials were given.
    given: AtomicUsize,
}

impl Session {
    pub(crate) fn of(requests: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(requests), given: AtomicUsize::new(0) })
    }

    /// Whether one more request is taken.
    pub(crate) fn spend(&self) -> bool {
        let spend = |left: usize| left.checked_sub(1);
        self.given() > 1 || self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_ok()
    }

    /// How often it was asked for credentials, with the right token.
    pub(crate) fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }

    /// Credentials of the role, once more.
    pub(crate) fn give(&self) -> Value {
        self.given.fetch_add(1, Ordering::SeqCst);
        json!({
            "AccessKeyId": KEY,
            "SecretAccessKey": SECRET,
            "Token": "session",
            "Expiration": "2099-01-01T00:00:00Z"
        })
    }

    /// Begins to give credentials; the port.
    pub(crate) fn serve(self: &Arc<Self>) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let session = Arc::clone(self);
        // Ends with the suite.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let request = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
                let head: Vec<String> =
                    request.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let is_allowed = head.iter().any(|line| {
                    line.split_once(": ").is_some_and(|(name, value)| {
                        name.eq_ignore_ascii_case("authorization") && value == TOKEN
                    })
                });
                let (status, body) = if is_allowed {
                    ("200 OK", session.give().to_string())
                } else {
                    ("401 Unauthorized", "{\"code\":\"Unauthorized\"}".to_owned())
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                     connection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        port
    }
}

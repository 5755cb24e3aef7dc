//! A fake of the endpoint that gives a task its role's credentials, as "Container credential
//! provider" (AWS SDKs and Tools reference) describes it: a GET with a token, answered in JSON.

use crate::http::serve;
use crate::s3_server::{KEY, SECRET};
use serde_json::{Value, json};
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
        let session = Arc::clone(self);
        // Ends with the suite.
        serve(move |request| {
            if request.header("authorization") == Some(TOKEN) {
                ("200 OK", "application/json", session.give().to_string())
            } else {
                ("401 Unauthorized", "application/json", "{\"code\":\"Unauthorized\"}".to_owned())
            }
        })
    }
}

//! The HTTP client under an object store: ours, with limits for what hangs.

use crate::net::{self, Trust};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A host that does not answer is given up. From one data centre to itself it takes a
/// millisecond.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// The kernel gives a connection up on which nothing sent is acknowledged (`tcp(7)`).
const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// An answer takes no longer, but for what the body needs.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Whoever takes a body more slowly is as good as dead. Bytes per second.
const SLOWEST: u64 = 100 * 1024;

/// A store that has not answered anything for so long is not asked again and again: what waits
/// for it goes to the spool, and the container may end.
const DEAD_AFTER: Duration = Duration::from_secs(6);
/// What one that seems dead may still take to answer, so that it is known when it is back.
const LAST_CHANCE: Duration = Duration::from_secs(3);
/// What was so long ago says nothing of now.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// Gives every part of an object store the same client.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    client: reqwest::Client,
    /// By host: who gives the credentials is another than who takes the evidence.
    contacts: Arc<Mutex<HashMap<String, Contact>>>,
}

/// What is known of a host's answers.
#[derive(Debug, Default)]
struct Contact {
    answered: Option<Instant>,
    silence: Option<Silence>,
}

/// Nothing is answered.
#[derive(Clone, Copy, Debug)]
struct Silence {
    since: Instant,
    /// When it was noticed last.
    last: Instant,
}

impl Contact {
    fn answered(&mut self) {
        *self = Self { answered: Some(Instant::now()), silence: None };
    }

    /// Notes that there was no answer to a request of then. Whether the host seems dead: not for one
    /// request alone, whose body may have been long on a slow way.
    fn unanswered(&mut self, asked: Instant) -> bool {
        let earlier = self.silence();
        let since = match earlier {
            Some(silence) => silence.since,
            None => self.answered.map_or(asked, |answered| answered.max(asked)),
        };
        self.silence = Some(Silence { since, last: Instant::now() });
        earlier.is_some() && since.elapsed() > DEAD_AFTER
    }

    /// Unless the last of it is long ago.
    fn silence(&self) -> Option<Silence> {
        self.silence.filter(|silence| silence.last.elapsed() <= FORGOTTEN_AFTER)
    }

    /// How long a request may take. The less, the longer there was no answer to any.
    fn limit(&self, size: u64) -> Duration {
        match self.silence() {
            None => limit(size),
            Some(silence) => {
                DEAD_AFTER.saturating_sub(silence.since.elapsed()).max(LAST_CHANCE) + for_body(size)
            }
        }
    }
}

/// A request under way. One that is dropped had no answer until then.
struct Asked {
    contacts: Arc<Mutex<HashMap<String, Contact>>>,
    host: String,
    size: u64,
    at: Instant,
    is_over: bool,
}

impl Asked {
    fn note<T>(&mut self, note: impl FnOnce(&mut Contact) -> T) -> Option<T> {
        self.is_over = true;
        let mut contacts = self.contacts.lock().ok()?;
        Some(note(contacts.entry(self.host.clone()).or_default()))
    }

    fn answered(&mut self) {
        self.note(Contact::answered);
    }

    /// How long it may take now.
    fn limit(&self) -> Duration {
        let contacts = self.contacts.lock().ok();
        let contact = contacts.as_ref().and_then(|contacts| contacts.get(&self.host));
        contact.map_or_else(|| limit(self.size), |contact| contact.limit(self.size))
    }

    /// All requests of ours may be repeated: a part or an object that is put twice is the same.
    fn refused(&mut self, error: reqwest::Error) -> HttpError {
        let at = self.at;
        let kind = if self.note(|contact| contact.unanswered(at)) == Some(true) {
            // The only kind that is not tried again.
            HttpErrorKind::Unknown
        } else if error.is_timeout() {
            HttpErrorKind::Timeout
        } else if error.is_connect() {
            HttpErrorKind::Connect
        } else if error.is_decode() {
            HttpErrorKind::Decode
        } else {
            HttpErrorKind::Interrupted
        };
        // Whose request it was is told around it; a presigned URL is a secret.
        HttpError::new(kind, error.without_url())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // Who was in time to be answered was let go for reasons of ours.
        if !self.is_over && self.at.elapsed() > LAST_CHANCE + for_body(self.size) {
            let at = self.at;
            self.note(|contact| contact.unanswered(at));
        }
    }
}

/// For every store: what hangs is given up.
///
/// # Errors
/// What is wrong with the file of roots.
pub(super) fn client(ca_file: Option<&Path>) -> Result<reqwest::Client, String> {
    let trust = Trust { insecure: false, ca_file: ca_file.map(Path::to_owned) };
    net::client(&trust)?
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_LIMIT)
        .tcp_user_timeout(SILENCE_LIMIT)
        .build()
        .map_err(|error| net::in_words(&error))
}

/// How long a request with a body of so many bytes may take.
pub(super) fn limit(size: u64) -> Duration {
    ANSWER_LIMIT + for_body(size)
}

fn for_body(size: u64) -> Duration {
    Duration::from_secs(size / SLOWEST)
}

impl Connector {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        Ok(Self { client: client(ca_file)?, contacts: Arc::default() })
    }

    pub(super) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// For a body of so many bytes.
    fn ask(&self, host: &str, size: u64) -> Asked {
        let contacts = Arc::clone(&self.contacts);
        Asked { contacts, host: host.to_owned(), size, at: Instant::now(), is_over: false }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Connector {
    fn call<'s, 'f>(
        &'s self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url = reqwest::Url::parse(&parts.uri.to_string())
                .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            let mut request = reqwest::Request::new(parts.method, url);
            *request.headers_mut() = parts.headers;
            let size = u64::try_from(body.content_length()).unwrap_or(u64::MAX);
            let mut asked = self.ask(request.url().authority(), size);
            *request.timeout_mut() = Some(asked.limit());
            *request.body_mut() = Some(reqwest::Body::wrap(body));
            let response = self.client.execute(request).await.map_err(|error| asked.refused(error))?;
            asked.answered();
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await.map_err(|error| asked.refused(error))?;
            let mut answer = HttpResponse::new(body.into());
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u64 = 1000;

    fn limit_of(connector: &Connector) -> Duration {
        connector.ask("store", SMALL).limit()
    }

    fn ago(seconds: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the machine runs for longer")
    }

    fn asked(connector: &Connector, host: &str, size: u64, seconds: u64) -> Asked {
        let mut asked = connector.ask(host, size);
        asked.at = ago(seconds);
        asked
    }

    #[test]
    fn a_silent_store_gets_less_and_less_time_until_it_answers() {
        let connector = Connector::new(None).expect("a client");
        assert_eq!(limit_of(&connector), ANSWER_LIMIT);
        // Whoever asked has no patience.
        drop(asked(&connector, "store", SMALL, 1));
        assert_eq!(limit_of(&connector), ANSWER_LIMIT);
        let large = SLOWEST * 60;
        drop(asked(&connector, "store", large, 30));
        assert_eq!(limit_of(&connector), ANSWER_LIMIT, "the body may have taken that long");
        drop(asked(&connector, "store", SMALL, 4));
        assert!(limit_of(&connector) < ANSWER_LIMIT);
        assert_eq!(connector.ask("credentials", SMALL).limit(), ANSWER_LIMIT, "another host");
        drop(asked(&connector, "another", SMALL, 60));
        assert_eq!(connector.ask("another", SMALL).limit(), LAST_CHANCE);
        assert_eq!(connector.ask("another", large).limit(), LAST_CHANCE + Duration::from_mins(1));
        connector.ask("another", SMALL).answered();
        assert_eq!(connector.ask("another", SMALL).limit(), ANSWER_LIMIT);
    }

    #[test]
    fn one_request_alone_tells_of_no_death() {
        let mut contact = Contact::default();
        let asked = ago(20);
        assert!(!contact.unanswered(asked));
        assert!(contact.unanswered(Instant::now()));
        contact.answered();
        // Others were answered while it waited.
        assert!(!contact.unanswered(asked));
        assert!(!contact.unanswered(asked));
    }
}

//! The HTTP client under an object store: ours, with limits for what hangs.

use crate::net::{self, Trust};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
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
/// What was so long ago says nothing of now.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(45);

/// Gives every part of an object store the same client.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    client: reqwest::Client,
    silence: Arc<Mutex<Option<Silence>>>,
}

/// Nothing is answered.
#[derive(Debug)]
struct Silence {
    since: Instant,
    /// When it was noticed last.
    last: Instant,
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
    ANSWER_LIMIT + Duration::from_secs(size / SLOWEST)
}

impl Connector {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        Ok(Self { client: client(ca_file)?, silence: Arc::default() })
    }

    pub(super) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    fn answered(&self) {
        if let Ok(mut silence) = self.silence.lock() {
            *silence = None;
        }
    }

    /// Notes that there was no answer to a request of then; for how long there has been none.
    fn unanswered(&self, asked: Instant) -> Duration {
        let Ok(mut silence) = self.silence.lock() else { return Duration::ZERO };
        let now = Instant::now();
        let since = match &*silence {
            // Nobody asked in between.
            Some(silence) if silence.last.elapsed() <= FORGOTTEN_AFTER => silence.since,
            _ => asked,
        };
        *silence = Some(Silence { since, last: now });
        since.elapsed()
    }

    /// All requests of ours may be repeated: a part or an object that is put twice is the same.
    fn refused(&self, asked: Instant, error: reqwest::Error) -> HttpError {
        let kind = if self.unanswered(asked) > DEAD_AFTER {
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
            *request.timeout_mut() = Some(limit(size));
            *request.body_mut() = Some(reqwest::Body::wrap(body));
            let asked = Instant::now();
            let response = self.client.execute(request).await.map_err(|error| self.refused(asked, error))?;
            self.answered();
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await.map_err(|error| self.refused(asked, error))?;
            let mut answer = HttpResponse::new(body.into());
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            Ok(answer)
        })
    }
}

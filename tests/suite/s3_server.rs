//! A real S3 server in this process: `s3s` over a folder, which checks signatures, or stands
//! behind a gate that checks bearer tokens.

use crate::bundle::{self, Bundle};
use crate::credentials::Session;
use crate::http::listen;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH};
use hyper::service::Service;
use hyper::{Method, Request, StatusCode, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use std::future::ready;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

pub(crate) const KEY: &str = "AKIDBOOKEND";
pub(crate) const SECRET: &str = "a-secret-of-the-test";
pub(crate) const BUCKET: &str = "evidence";

/// Takes one key, in a session that may end.
struct Keys(Option<Arc<Session>>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> s3s::S3Result<SecretKey> {
        if access_key != KEY {
            return Err(s3s::s3_error!(InvalidAccessKeyId));
        }
        match &self.0 {
            Some(session) if !session.spend() => {
                Err(s3s::s3_error!(ExpiredToken, "The provided token has expired."))
            }
            _ => Ok(SecretKey::from(SECRET)),
        }
    }
}

/// Whether a bearer token is taken.
pub(crate) type Gate = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// As Google's XML API refuses ("Error messages", XML API of Cloud Storage).
const REFUSED: &str = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AuthenticationRequired</Code>\
    <Message>Authentication required.</Message></Error>";

/// As S3 refuses ("Error responses", Amazon S3 API reference).
const DENIED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessDenied</Code>\
    <Message>Access Denied</Message></Error>";

#[derive(Clone)]
struct Guarded {
    service: S3Service,
    gate: Option<Gate>,
    /// Its key may put objects, and neither read nor delete them.
    only_puts: bool,
    parts: PartSizes,
    encryption: Arc<Mutex<Vec<String>>>,
}

/// What the bucket shall encrypt a new object with.
fn encryption(request: &Request<Incoming>) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let is_put = request.method() == Method::PUT && !query.contains("partNumber=");
    let begins = request.method() == Method::POST && query.split('&').any(|word| word.starts_with("uploads"));
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let name = "x-amz-server-side-encryption";
    let key = "x-amz-server-side-encryption-aws-kms-key-id";
    (is_put || begins).then(|| format!("{} {}", header(name), header(key)))
}

/// By number, each time that one came. Bytes.
type PartSizes = Arc<Mutex<Vec<(usize, u64)>>>;

/// Which part of an upload it brings.
fn part(request: &Request<Incoming>) -> Option<(usize, u64)> {
    let query = request.uri().query()?;
    let number = query.split('&').find_map(|pair| pair.strip_prefix("partNumber="))?.parse().ok()?;
    let length = request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    Some((number, length))
}

impl Service<Request<Incoming>> for Guarded {
    type Response = s3s::HttpResponse;
    type Error = s3s::HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.parts.lock().expect("not poisoned").extend(part(&request));
        self.encryption.lock().expect("not poisoned").extend(encryption(&request));
        if let Some(gate) = &self.gate {
            let token = request.headers_mut().remove(AUTHORIZATION);
            let token = token.as_ref().and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            if !token.is_some_and(|token| gate(token)) {
                let mut refusal = s3s::HttpResponse::new(s3s::Body::from(REFUSED.to_owned()));
                *refusal.status_mut() = StatusCode::UNAUTHORIZED;
                return Box::pin(ready(Ok(refusal)));
            }
        }
        if self.only_puts && request.headers().contains_key("x-amz-copy-source") {
            let mut refusal = s3s::HttpResponse::new(s3s::Body::from(DENIED.to_owned()));
            *refusal.status_mut() = StatusCode::FORBIDDEN;
            return Box::pin(ready(Ok(refusal)));
        }
        Service::call(&self.service, request)
    }
}

/// Ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    root: PathBuf,
    parts: PartSizes,
    encryption: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Server {
    /// With one bucket, kept below `root`.
    pub(crate) fn start(root: &Path) -> Self {
        Self::on(root, listen())
    }

    pub(crate) fn on(root: &Path, listener: TcpListener) -> Self {
        Self::open(root, listener, Some(Keys(None)), None, false)
    }

    /// For a key whose policy is the smallest: it puts objects, and may not copy them.
    pub(crate) fn only_for_puts(root: &Path) -> Self {
        Self::open(root, listen(), Some(Keys(None)), None, true)
    }

    /// Takes the key as long as its session lasts.
    pub(crate) fn in_session(root: &Path, session: &Arc<Session>) -> Self {
        Self::open(root, listen(), Some(Keys(Some(Arc::clone(session)))), None, false)
    }

    /// Takes whom the gate takes, and looks at no signature.
    pub(crate) fn behind(root: &Path, gate: Gate) -> Self {
        Self::open(root, listen(), None, Some(gate), false)
    }

    fn open(
        root: &Path,
        listener: TcpListener,
        keys: Option<Keys>,
        gate: Option<Gate>,
        only_puts: bool,
    ) -> Self {
        std::fs::create_dir_all(root.join(BUCKET)).expect("made");
        let port = listener.local_addr().expect("bound").port();
        let files = FileSystem::new(root).expect("a folder");
        let mut builder = S3ServiceBuilder::new(files);
        if let Some(keys) = keys {
            builder.set_auth(keys);
        }
        let parts = PartSizes::default();
        let encryption = Arc::default();
        let service = Guarded {
            service: builder.build(),
            gate,
            only_puts,
            parts: Arc::clone(&parts),
            encryption: Arc::clone(&encryption),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads");
        runtime.spawn(async move {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let http = Builder::new(TokioExecutor::new());
            while let Ok((stream, _)) = listener.accept().await {
                let serving = http.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
                tokio::spawn(serving);
            }
        });
        Self { port, root: root.to_owned(), parts, encryption, _runtime: runtime }
    }

    pub(crate) fn bucket(&self) -> PathBuf {
        self.root.join(BUCKET)
    }

    /// The one that is there; the server's own files have names with a dot.
    pub(crate) fn only_bundle(&self) -> Bundle {
        bundle::only_of(&self.bucket(), |name| !name.starts_with('.'))
    }

    /// The same, and what every stop takes is in it.
    pub(crate) fn complete_bundle(&self) -> Bundle {
        let bundle = self.only_bundle();
        for name in ["os", "threads", "heap"] {
            assert_eq!(bundle.status(name), "complete", "{}", bundle.manifest);
        }
        bundle
    }

    /// Of all parts that came, in their order. Bytes.
    pub(crate) fn part_sizes(&self) -> Vec<u64> {
        let mut parts = self.parts.lock().expect("not poisoned").clone();
        parts.sort_unstable();
        parts.into_iter().map(|(_, size)| size).collect()
    }

    /// Of every object: what it was to be encrypted with, and by which key.
    pub(crate) fn encryption(&self) -> Vec<String> {
        self.encryption.lock().expect("not poisoned").clone()
    }

    /// What was begun and neither completed nor given up.
    pub(crate) fn stale_uploads(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        bundle::walk(&self.root, &mut found);
        found.retain(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".upload"))
        });
        found
    }
}

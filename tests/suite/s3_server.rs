//! A real S3 server in this process: `s3s` over a folder, which checks signatures.

use crate::bundle;
use crate::credentials::Session;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// Ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    root: PathBuf,
    _runtime: Runtime,
}

impl Server {
    /// With one bucket, kept below `root`.
    pub(crate) fn start(root: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Self::on(root, listener)
    }

    pub(crate) fn on(root: &Path, listener: TcpListener) -> Self {
        Self::open(root, listener, None)
    }

    /// Takes the key as long as its session lasts.
    pub(crate) fn in_session(root: &Path, session: &Arc<Session>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Self::open(root, listener, Some(Arc::clone(session)))
    }

    fn open(root: &Path, listener: TcpListener, session: Option<Arc<Session>>) -> Self {
        std::fs::create_dir_all(root.join(BUCKET)).expect("made");
        let port = listener.local_addr().expect("bound").port();
        let files = FileSystem::new(root).expect("a folder");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(Keys(session));
        let service = builder.build();
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
        Self { port, root: root.to_owned(), _runtime: runtime }
    }

    pub(crate) fn bucket(&self) -> PathBuf {
        self.root.join(BUCKET)
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

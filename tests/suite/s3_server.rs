//! A real S3 server in this process: `s3s` over a folder, which checks signatures.

use crate::bundle;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

pub(crate) const KEY: &str = "AKIDBOOKEND";
pub(crate) const SECRET: &str = "a-secret-of-the-test";
pub(crate) const BUCKET: &str = "evidence";

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
        std::fs::create_dir_all(root.join(BUCKET)).expect("made");
        let port = listener.local_addr().expect("bound").port();
        let files = FileSystem::new(root).expect("a folder");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
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

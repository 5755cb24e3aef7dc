//! Does a URL answer as it should?

use super::resolve;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// More of a body is not read: what is looked for stands at its begin. Bytes.
const BODY_LIMIT: usize = 256 * 1024;
/// Redirects to the same host that are followed.
const REDIRECTS: usize = 3;

/// What is asked, and what the answer must be.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    pub url: String,
    pub headers: BTreeMap<String, String>,
    /// Any of these.
    pub status: Vec<u16>,
    /// Must stand in the body, within its first 256 KiB.
    pub body: Option<String>,
    /// Any certificate will do.
    pub insecure: bool,
    /// PEM file of the only roots that are trusted; the public ones without it.
    pub ca_file: Option<PathBuf>,
}

impl HttpRequest {
    /// Only to fetch something.
    pub fn get(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            headers: BTreeMap::new(),
            status: vec![200],
            body: None,
            insecure: false,
            ca_file: None,
        }
    }
}

/// A request and the client that sends it; connections are kept.
#[derive(Debug)]
pub struct Http {
    request: HttpRequest,
    client: reqwest::Client,
    headers: HeaderMap,
}

impl Http {
    /// # Errors
    /// What about the request cannot be: a header, the file of roots.
    pub fn new(request: HttpRequest) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("`{name}` cannot be a header's name"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("the value of the header `{name}` cannot be sent"))?;
            headers.append(name, value);
        }
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&request)?)
            .dns_resolver(Arc::new(WithoutNss))
            .redirect(same_host())
            .no_proxy()
            .user_agent(concat!("bookend/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| in_words(&error))?;
        Ok(Self { request, client, headers })
    }

    /// Asks once.
    ///
    /// # Errors
    /// What was answered instead, or that nothing was in time.
    pub async fn ask(&self, limit: Duration) -> Result<(), String> {
        let answer = self.answer();
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {}", crate::units::format_duration(limit))),
        }
    }

    /// The body's first 256 KiB, if the status is as it should be.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn fetch(&self, limit: Duration) -> Result<String, String> {
        let answer = async {
            let request = self.client.get(&self.request.url).headers(self.headers.clone());
            let mut response = request.send().await.map_err(|error| in_words(&error))?;
            if !self.request.status.contains(&response.status().as_u16()) {
                return Err(format!("HTTP {}", response.status()));
            }
            self.read(&mut response, BODY_LIMIT).await
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {}", crate::units::format_duration(limit))),
        }
    }

    async fn answer(&self) -> Result<(), String> {
        let request = self.client.get(&self.request.url).headers(self.headers.clone());
        let mut response = request.send().await.map_err(|error| in_words(&error))?;
        let status = response.status();
        if !self.request.status.contains(&status.as_u16()) {
            let start = self.read(&mut response, 200).await.unwrap_or_default();
            let line = start.lines().next().unwrap_or_default().trim().to_owned();
            return Err(if line.is_empty() {
                format!("HTTP {status}")
            } else {
                format!("HTTP {status}: {line}")
            });
        }
        let Some(wanted) = &self.request.body else {
            return Ok(());
        };
        let body = self.read(&mut response, BODY_LIMIT).await?;
        if body.contains(wanted) {
            return Ok(());
        }
        let start: String = body.chars().take(100).collect();
        Err(format!("HTTP {status}, but `{wanted}` is not in the body: {}", start.escape_debug()))
    }

    async fn read(&self, response: &mut reqwest::Response, limit: usize) -> Result<String, String> {
        let mut body = Vec::new();
        while body.len() < limit
            && let Some(chunk) = response.chunk().await.map_err(|error| in_words(&error))?
        {
            body.extend_from_slice(chunk.get(..chunk.len().min(limit - body.len())).unwrap_or_default());
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

/// The innermost cause says what happened; the outer ones that something did.
fn in_words(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A health path may move to another path, not to another host.
fn same_host() -> Policy {
    Policy::custom(|attempt| {
        let from = attempt.previous().first().and_then(|url| url.host_str()).map(str::to_owned);
        if attempt.previous().len() > REDIRECTS || from.as_deref() != attempt.url().host_str() {
            attempt.stop()
        } else {
            attempt.follow()
        }
    })
}

/// Without NSS, as every look-up here.
struct WithoutNss;

impl Resolve for WithoutNss {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = resolve(name.as_str()).await?;
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

fn tls(request: &HttpRequest) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if request.insecure {
        let any = Arc::new(AnyCertificate(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    match &request.ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let refused = |error: &dyn Error| format!("cannot use {}: {error}", path.display());
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| refused(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| refused(&error))?;
                roots.add(certificate).map_err(|error| refused(&error))?;
            }
            if roots.is_empty() {
                return Err(format!("{} holds no certificate", path.display()));
            }
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// For `insecure`: a service of ours on this machine, with a certificate of its own.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

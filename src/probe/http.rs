//! Does a URL answer as it should?

use crate::net::{Trust, client, in_words};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use std::collections::BTreeMap;
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
    pub trust: Trust,
}

impl HttpRequest {
    /// Only to fetch something.
    pub fn get(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            headers: BTreeMap::new(),
            status: vec![200],
            body: None,
            trust: Trust::default(),
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
        let client = client(&request.trust)?
            .redirect(same_host())
            .no_proxy()
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

//! `[[process]]`: helper processes beside the main one.

use super::attributes::AttributeKeys;
use super::diagnostics::Place;
use super::document::Value;
use super::health::{HttpUrl, TcpAddress};
use super::reader::{Context, FromNode, Reader};
use super::rules::Limit;
use super::values::Setting;
use crate::units::Signal;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// When a helper process is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Before the main process, which waits until it is ready.
    Before,
    /// After the main process.
    After,
    /// After it too, once it is healthy.
    Healthy,
}

/// Who is started again when it ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Never,
    /// After an end that was no success.
    OnFailure,
    Always,
}

/// The main process ends the container, unless somebody says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MainRestart {
    Never,
    /// Stopped and started again once it is unhealthy and its evidence is captured.
    OnUnhealthy,
    /// That, and after an end that was no success.
    OnFailure,
    /// That, and after every end.
    Always,
}

/// How a helper process is known to be ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    Http(HttpUrl),
    Tcp(TcpAddress),
    /// `READY=1` on `$NOTIFY_SOCKET` (`sd_notify(3)`).
    Notify,
}

impl FromNode for Ready {
    const EXPECTED: &'static str = "\"notify\", an address such as \"tcp://127.0.0.1:5432\", or a URL such as \"http://127.0.0.1/ready\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let text = String::from_value(value)?;
        match text.split_once("://") {
            None if text == "notify" => Ok(Self::Notify),
            Some(("tcp", _)) => TcpAddress::from_value(value).map(Self::Tcp),
            Some(("http" | "https", _)) => HttpUrl::from_value(value).map(Self::Http),
            _ => Err(Some(format!("`{text}` is none of them"))),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Http(url) => url.show(),
            Self::Tcp(address) => address.show(),
            Self::Notify => "\"notify\"".to_owned(),
        }
    }
}

/// One `[[process]]`.
#[derive(Clone, Debug)]
pub struct Process {
    pub place: Place,
    pub name: Setting<String>,
    pub command: Setting<Vec<String>>,
    pub start: Setting<Start>,
    pub user: Option<Setting<String>>,
    pub workdir: Option<Setting<PathBuf>>,
    pub env: Setting<BTreeMap<String, String>>,
    pub attributes: AttributeKeys,
    pub ready: Option<Setting<Ready>>,
    pub ready_timeout: Setting<Duration>,
    pub restart: Setting<Restart>,
    pub backoff: Setting<Duration>,
    pub limit: Setting<Limit>,
    pub stop_signal: Setting<Signal>,
    /// Those that it gets instead of the main process.
    pub signals: Setting<Vec<Signal>>,
    pub grace: Setting<Duration>,
    /// Its lines carry its name.
    pub label: Setting<bool>,
}

impl Process {
    pub(super) fn read(mut reader: Reader<'_>, context: &mut Context) -> Option<Self> {
        let place = reader.place().clone();
        let name = reader.required("name", context);
        let command = reader.required("command", context);
        let start = reader.or("start", Start::Before, context);
        let user = reader.optional("user", context);
        let workdir = reader.optional("workdir", context);
        let env = reader.or("env", BTreeMap::new(), context);
        let attributes = AttributeKeys::read(&mut reader, context);
        let ready = reader.optional("ready", context);
        let ready_timeout = reader.or("ready_timeout", Duration::from_mins(1), context);
        let restart = reader.or("restart", Restart::Always, context);
        let backoff = reader.or("backoff", Duration::from_millis(500), context);
        // One that does not come up is for the orchestrator to see.
        let limit = reader.or("limit", Limit { times: 5, per: Duration::from_mins(10) }, context);
        let stop_signal = reader.or("stop_signal", Signal::TERM, context);
        let signals = reader.or("signals", Vec::new(), context);
        let grace = reader.or("grace", Duration::from_secs(10), context);
        let label = reader.or("label", true, context);
        reader.finish(context);
        Some(Self {
            place,
            name: name?,
            command: command?,
            start,
            user,
            workdir,
            env,
            attributes,
            ready,
            ready_timeout,
            restart,
            backoff,
            limit,
            stop_signal,
            signals,
            grace,
            label,
        })
    }
}

//! `[health]`: how the service is asked whether it is well.

use super::document::Value;
use super::reader::{Context, FromNode, Reader};
use super::values::{Reachable, Setting};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The section.
#[derive(Clone, Debug)]
pub struct Health {
    pub http: Option<Setting<HttpUrl>>,
    pub tcp: Option<Setting<TcpAddress>>,
    pub exec: Option<Setting<Vec<String>>>,
    pub expect: Expect,
    pub headers: Setting<BTreeMap<String, String>>,
    pub insecure: Setting<bool>,
    pub ca_file: Option<Setting<PathBuf>>,
    pub interval: Setting<Duration>,
    pub timeout: Setting<Duration>,
    pub start_period: Setting<Duration>,
    pub failing_after: Setting<u32>,
    pub unhealthy_after: Setting<u32>,
    pub healthy_after: Setting<u32>,
}

/// `[health] expect`
#[derive(Clone, Debug)]
pub struct Expect {
    pub status: Setting<Vec<u32>>,
    pub body: Option<Setting<String>>,
}

impl Health {
    pub(super) fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let expect = reader.section("expect", context);
        let section = Self {
            http: reader.optional("http", context),
            tcp: reader.optional("tcp", context),
            exec: reader.optional("exec", context),
            expect: Expect::read(expect, context),
            headers: reader.or("headers", BTreeMap::new(), context),
            insecure: reader.or("insecure", false, context),
            ca_file: reader.optional("ca_file", context),
            interval: reader.or("interval", Duration::from_secs(5), context),
            timeout: reader.or("timeout", Duration::from_secs(2), context),
            start_period: reader.or("start_period", Duration::from_mins(1), context),
            failing_after: reader.or("failing_after", 1, context),
            unhealthy_after: reader.or("unhealthy_after", 3, context),
            healthy_after: reader.or("healthy_after", 2, context),
        };
        reader.finish(context);
        section
    }
}

impl Expect {
    fn read(mut reader: Reader<'_>, context: &mut Context) -> Self {
        let section =
            Self { status: reader.or("status", vec![200], context), body: reader.optional("body", context) };
        reader.finish(context);
        section
    }
}

/// An `http` or `https` URL; what stands behind the scheme is the probe's to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(pub String);

impl FromNode for HttpUrl {
    const EXPECTED: &'static str = "a URL such as \"http://127.0.0.1:8080/actuator/health\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let text = String::from_value(value)?;
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        match rest {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') => Ok(Self(text)),
            Some(_) => Err(Some("there is no host in it".to_owned())),
            None => Err(Some("it begins with http:// or https://".to_owned())),
        }
    }
    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// `127.0.0.1:8080`, with or without `tcp://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpAddress(pub Reachable);

impl FromNode for TcpAddress {
    const EXPECTED: &'static str = "an address such as \"127.0.0.1:8080\"";
    fn from_value(value: &Value) -> Result<Self, Option<String>> {
        let text = String::from_value(value)?;
        let rest = text.strip_prefix("tcp://").unwrap_or(&text);
        Reachable::parse(&format!("tcp://{rest}")).map(Self).map_err(Some)
    }
    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

//! The probe of `[health]`, ready to be asked.

use crate::net::Trust;
use crate::plan::{HealthPlan, Plan, ProbePlan, Program, Variables, environment_of};
use crate::probe::{self, Http, HttpRequest};
use crate::sys::signals::Inherited;
use crate::sys::spawn::{self, Image, Session, Streams};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// One of the three ways to ask.
#[derive(Debug)]
pub enum Prober {
    Http(Box<Http>),
    Tcp { host: String, port: u16 },
    Exec { image: Box<Image>, inherited: Inherited },
}

impl Prober {
    /// # Errors
    /// Why it cannot be asked like that at all.
    pub fn new(
        plan: &Plan,
        exported: &Variables,
        health: &HealthPlan,
        inherited: Inherited,
    ) -> Result<Self, String> {
        Ok(match &health.probe {
            ProbePlan::Http { url, headers, status, body, insecure, ca_file } => {
                Self::Http(Box::new(Http::new(HttpRequest {
                    url: url.clone(),
                    headers: headers.clone(),
                    status: status.clone(),
                    body: body.clone(),
                    trust: Trust { insecure: *insecure, ca_file: ca_file.clone() },
                })?))
            }
            ProbePlan::Tcp(address) => Self::Tcp { host: address.host.clone(), port: address.port },
            ProbePlan::Exec(program) => {
                Self::Exec { image: Box::new(image(plan, exported, program)), inherited }
            }
        })
    }

    /// Asks once.
    ///
    /// # Errors
    /// What was answered instead, in words.
    pub async fn ask(&self, limit: Duration) -> Result<(), String> {
        match self {
            Self::Http(http) => http.ask(limit).await,
            Self::Tcp { host, port } => probe::connect(host, *port, limit).await.map(drop),
            Self::Exec { image, inherited } => probe::exec((**image).clone(), *inherited, limit).await,
        }
    }
}

/// The program with the main process's environment; the user is ours already.
pub(super) fn image(plan: &Plan, exported: &Variables, program: &Program) -> Image {
    let variables = environment_of(&plan.environment, exported, program);
    let text = |text: &OsStr| CString::new(text.as_bytes()).ok();
    let command = program.arguments.first().map(OsString::as_os_str).unwrap_or_default();
    let path = variables.get(OsStr::new("PATH")).map(OsString::as_os_str);
    Image {
        candidates: spawn::candidates(command, path),
        arguments: program.arguments.iter().filter_map(|word| text(word)).collect(),
        environment: spawn::to_strings(&variables),
        directory: program.directory.as_ref().and_then(|path| text(path.as_os_str())),
        credentials: None,
        attributes: crate::units::Attributes::default(),
        session: Session::Group,
        streams: Streams::Inherited,
    }
}

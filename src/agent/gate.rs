//! Waits until a helper process is ready: asked by a probe, or told on its notify socket.

use crate::config::Ready;
use crate::net::Trust;
use crate::plan::{HelperPlan, Plan};
use crate::probe::{self, Http, HttpRequest};
use crate::units::format_duration;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::error;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(200);
/// For one answer.
const ATTEMPT: Duration = Duration::from_secs(2);
/// No message that says it is longer (`sd_notify(3)`). Bytes.
const MESSAGE: usize = 4096;

/// The role's exit code: 0 once it is ready.
pub fn gate(plan: &Plan, index: usize, socket: Option<OwnedFd>) -> u8 {
    let Some(helper) = plan.helpers.get(index) else { return crate::exit::INTERNAL };
    let waited = match super::runtime() {
        Ok(runtime) => runtime.block_on(wait(helper, socket)),
        Err(error) => Err(format!("the kernel gives no epoll descriptor: {error}")),
    };
    match waited {
        Ok(()) => crate::exit::SUCCESS,
        Err(reason) => {
            error!(
                "process `{}` was not ready within {}: {reason}",
                helper.name,
                format_duration(helper.ready_timeout)
            );
            crate::exit::FAILURE
        }
    }
}

async fn wait(helper: &HelperPlan, socket: Option<OwnedFd>) -> Result<(), String> {
    let deadline = Instant::now() + helper.ready_timeout;
    match (&helper.ready, socket) {
        (Some(Ready::Http(url)), _) => {
            let http = Http::new(HttpRequest { trust: Trust::default(), ..HttpRequest::get(&url.0) })?;
            asked(deadline, async |limit| http.ask(limit).await).await
        }
        (Some(Ready::Tcp(address)), _) => {
            let address = &address.0;
            asked(deadline, async |limit| probe::connect(&address.host, address.port, limit).await.map(drop))
                .await
        }
        (Some(Ready::Notify), Some(socket)) => match timeout_at(deadline, told(socket)).await {
            Ok(told) => told.map_err(|error| format!("its notify socket cannot be read: {error}")),
            Err(_) => Err("it has not said READY=1 on $NOTIFY_SOCKET".to_owned()),
        },
        (Some(Ready::Notify), None) => Err("there is no notify socket".to_owned()),
        (None, _) => Ok(()),
    }
}

/// Until it answers well.
async fn asked(deadline: Instant, ask: impl AsyncFn(Duration) -> Result<(), String>) -> Result<(), String> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(left.min(ATTEMPT)).await {
            Ok(()) => return Ok(()),
            Err(reason) if Instant::now() + PAUSE >= deadline => return Err(reason),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Until a message has the line `READY=1`.
async fn told(socket: OwnedFd) -> io::Result<()> {
    let socket = std::os::unix::net::UnixDatagram::from(socket);
    socket.set_nonblocking(true)?;
    let socket = UnixDatagram::from_std(socket)?;
    let mut message = vec![0; MESSAGE];
    loop {
        let size = socket.recv(&mut message).await?;
        let text = message.get(..size).unwrap_or_default();
        if text.split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(());
        }
    }
}

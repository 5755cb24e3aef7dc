//! `bookend jcmd PID COMMAND...`: any diagnostic command, as `jcmd` would.

use super::arguments::Jcmd;
use super::client;
use std::io::Write;
use tokio::time::Instant;

pub(super) fn jcmd(arguments: &Jcmd) -> u8 {
    client::block_on(&client::Begun::default(), ask(arguments))
}

async fn ask(arguments: &Jcmd) -> Result<(), String> {
    let deadline = Instant::now() + arguments.timeout;
    let session = client::session(client::target(Some(arguments.pid))?, deadline).await?;
    let line = arguments.command.join(" ");
    let mut reply = session.command(&line, deadline).await.map_err(|error| error.to_string())?;
    let status = reply.status;
    let mut first = None;
    loop {
        let chunk = reply.chunk().await.map_err(|error| error.to_string())?;
        if chunk.is_empty() {
            break;
        }
        if status != 0 {
            first.get_or_insert_with(|| {
                String::from_utf8_lossy(&chunk).lines().next().unwrap_or_default().to_owned()
            });
            continue;
        }
        std::io::stdout().write_all(&chunk).map_err(|error| format!("cannot write the answer: {error}"))?;
    }
    match status {
        0 => Ok(()),
        _ => Err(format!(
            "the JVM refused `{line}`: {}; `bookend jcmd {} help` lists what it knows",
            first.unwrap_or_default(),
            arguments.pid
        )),
    }
}

//! `bookend jcmd [PID] COMMAND...`: any diagnostic command, as `jcmd` would.

use super::arguments::Jcmd;
use super::client;
use std::io::Write;
use tokio::time::Instant;

pub(super) fn jcmd(arguments: &Jcmd) -> u8 {
    client::block_on(&client::Begun::default(), ask(arguments))
}

async fn ask(arguments: &Jcmd) -> Result<(), String> {
    let deadline = Instant::now() + arguments.timeout;
    let (pid, command) = split(&arguments.words)?;
    let session = client::session(client::target(pid)?, deadline).await?;
    let line = command.join(" ");
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
            session.target.pid
        )),
    }
}

/// No diagnostic command is a number.
fn split(words: &[String]) -> Result<(Option<i32>, &[String]), String> {
    match words.split_first() {
        Some((first, command)) if first.parse::<i32>().is_ok() => {
            if command.is_empty() {
                return Err(format!("what shall process {first} be asked? Try `bookend jcmd {first} help`"));
            }
            Ok((first.parse().ok(), command))
        }
        _ => Ok((None, words)),
    }
}

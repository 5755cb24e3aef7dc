//! A JVM that has answered once, and what it is asked then.

use super::attach::{self, Failure, refused};
use super::protocol::{self, Protocol};
use super::{Reply, Target};
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

/// No text that we read whole is longer than this. Bytes.
const TEXT_LIMIT: usize = 1 << 20;

/// A JVM and the protocol it speaks. Every command is a connection of its own.
#[derive(Clone, Debug)]
pub struct Session {
    pub target: Target,
    pub version: Version,
    protocol: Protocol,
}

/// Which JVM it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `21`, from `21.0.8`; 0 if the JVM's words were not understood.
    pub feature: u32,
    /// `21.0.8`
    pub full: String,
    /// `OpenJDK 64-Bit Server VM version 21.0.8+9-LTS`
    pub name: String,
}

impl Session {
    /// Attaches: wakes the listener if needed, asks for protocol and version.
    ///
    /// Doing so once, soon after the JVM's start, is what makes it answer later
    /// with a full heap: the listener's thread object exists then (facts: 1.4).
    ///
    /// # Errors
    /// Why this JVM cannot be talked to.
    pub async fn open(target: Target, deadline: Instant) -> Result<Self, Failure> {
        let reply = ask(&target, protocol::get_version(), deadline).await?;
        let status = reply.status;
        let text = reply.text(TEXT_LIMIT).await?;
        let protocol = protocol::read_version(status, &text);
        let unknown = Version { feature: 0, full: String::new(), name: String::new() };
        let session = Self { target, version: unknown, protocol };
        let text = session.text("VM.version", deadline).await?;
        Ok(Self { version: parse_version(&text), ..session })
    }

    /// Sends one diagnostic command line and waits for the reply to begin.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn command(&self, line: &str, deadline: Instant) -> Result<Reply, Failure> {
        let request = protocol::diagnostic_command(self.protocol, line)
            .map_err(|reason| Failure::Command { reason })?;
        ask(&self.target, request, deadline).await
    }

    /// The whole answer to a command whose answer is short.
    ///
    /// # Errors
    /// As [`Session::open`]; [`Failure::Command`] with the JVM's own words if it
    /// does not know the command.
    pub async fn text(&self, line: &str, deadline: Instant) -> Result<String, Failure> {
        let reply = self.command(line, deadline).await?;
        let status = reply.status;
        let text = reply.text(TEXT_LIMIT).await?;
        if status == 0 {
            return Ok(text);
        }
        let reason = text.lines().next().unwrap_or("no reason given").to_owned();
        Err(Failure::Command { reason })
    }
}

async fn ask(target: &Target, request: Vec<u8>, deadline: Instant) -> Result<Reply, Failure> {
    let mut stream = attach::connect(target, deadline).await?;
    let sent = timeout_at(deadline, stream.write_all(&request)).await.map_err(|_| Failure::NoAnswer)?;
    let began = match sent {
        Ok(()) => Reply::begin(stream, deadline).await,
        Err(source) => Err(Failure::Broken { source }),
    };
    match began {
        // It closes without a word on whom it does not trust (SO_PEERCRED).
        Err(Failure::Broken { source }) if is_refusal(&source) && differs(target) => Err(refused(target)),
        other => other,
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
    )
}

fn differs(target: &Target) -> bool {
    let (user, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    user != 0 && (user, group) != (target.user, target.group)
}

/// Reads `VM.version`: the JVM's name on the first line, `JDK 21.0.8` on the second.
fn parse_version(text: &str) -> Version {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let name: String = lines.next().unwrap_or_default().chars().take(200).collect();
    let full: String = lines
        .find_map(|line| line.strip_prefix("JDK "))
        .or_else(|| name.split("version ").nth(1)?.split('+').next())
        .unwrap_or_default()
        .chars()
        .take(100)
        .collect();
    // "11.0.13", "25", "1.8.0_402", "22-ea"
    let plain = full.strip_prefix("1.").unwrap_or(&full);
    let digits: String = plain.chars().take_while(char::is_ascii_digit).collect();
    Version { feature: digits.parse().unwrap_or(0), full, name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_jvms_print_them() {
        for (text, feature, full) in [
            ("OpenJDK 64-Bit Server VM version 11.0.13+8\nJDK 11.0.13\n", 11, "11.0.13"),
            ("OpenJDK 64-Bit Server VM version 25.0.2+10-LTS\nJDK 25.0.2\n", 25, "25.0.2"),
            ("OpenJDK 64-Bit Server VM version 25.402-b06\nJDK 8.0_402\n", 8, "8.0_402"),
            ("OpenJDK 64-Bit Server VM version 22-ea+1\n", 22, "22-ea"),
            ("", 0, ""),
        ] {
            let version = parse_version(text);
            assert_eq!((version.feature, version.full.as_str()), (feature, full), "{text}");
        }
    }
}

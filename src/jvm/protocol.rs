//! The bytes of the attach protocol. Pure.
//!
//! Sources: `attachListener.cpp`, `VirtualMachineImpl.java`; version 2 and its
//! options: JDK-8339289 (24), JDK-8319055 (25).

/// Which form of request the JVM takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Three arguments of at most 1024 bytes each: up to JDK 23.
    One,
    /// Any arguments, up to 256 KiB in all. `streaming`: the JVM would write
    /// replies while it stands at a safepoint unless told not to, so that a
    /// slow reader freezes the application (JDK 25).
    Two { streaming: bool },
}

/// The longest argument of version 1 (`AttachOperation::arg_length_max`). Bytes.
const ARGUMENT_LIMIT: usize = 1024;

/// Asks which version the JVM speaks; every JVM understands the question's form.
pub(super) fn get_version() -> Vec<u8> {
    version_one("getversion", "options")
}

/// Reads the answer: older JVMs do not know the operation.
pub(super) fn read_version(status: i32, text: &str) -> Protocol {
    let mut words = text.split_whitespace();
    let version = words.next().and_then(|word| word.parse::<u32>().ok()).unwrap_or(1);
    if status != 0 || version < 2 {
        return Protocol::One;
    }
    Protocol::Two { streaming: words.any(|word| word == "streaming") }
}

/// The request for one diagnostic command line.
///
/// # Errors
/// Why it cannot be said to this JVM.
pub(super) fn diagnostic_command(protocol: Protocol, line: &str) -> Result<Vec<u8>, String> {
    if line.contains('\0') {
        return Err("it holds a NUL byte".to_owned());
    }
    match protocol {
        Protocol::One if line.len() > ARGUMENT_LIMIT => Err(format!(
            "it is {} bytes long, and JVMs before 24 take {ARGUMENT_LIMIT}; use a shorter path",
            line.len()
        )),
        Protocol::One => Ok(version_one("jcmd", line)),
        Protocol::Two { streaming } => {
            let name = if streaming { "jcmd streaming=0" } else { "jcmd" };
            let body = [name, "\0", line, "\0\0\0"].concat();
            Ok([format!("2\0{}\0", body.len()), body].concat().into_bytes())
        }
    }
}

fn version_one(operation: &str, argument: &str) -> Vec<u8> {
    ["1\0", operation, "\0", argument, "\0\0\0"].concat().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_as_the_jvm_reads_them() {
        assert_eq!(get_version(), b"1\0getversion\0options\0\0\0");
        let say = |protocol| diagnostic_command(protocol, "VM.version").expect("short");
        assert_eq!(say(Protocol::One), b"1\0jcmd\0VM.version\0\0\0");
        assert_eq!(say(Protocol::Two { streaming: false }), b"2\x0018\0jcmd\0VM.version\0\0\0");
        assert_eq!(say(Protocol::Two { streaming: true }), b"2\x0030\0jcmd streaming=0\0VM.version\0\0\0");
        assert!(diagnostic_command(Protocol::One, &"x".repeat(1024)).is_ok());
        assert!(diagnostic_command(Protocol::One, &"x".repeat(1025)).is_err());
        assert!(diagnostic_command(Protocol::Two { streaming: true }, &"x".repeat(2000)).is_ok());
        assert!(diagnostic_command(Protocol::One, "a\0b").is_err());
    }

    #[test]
    fn versions_as_jvms_tell_them() {
        assert_eq!(read_version(-1, "Operation getversion not recognized!"), Protocol::One);
        assert_eq!(read_version(0, "2"), Protocol::Two { streaming: false });
        assert_eq!(read_version(0, "2 streaming"), Protocol::Two { streaming: true });
        assert_eq!(read_version(0, "nonsense"), Protocol::One);
    }
}

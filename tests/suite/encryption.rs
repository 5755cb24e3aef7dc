//! Heap dumps that only somebody can read: opened again by Debian's `age`.

use crate::bundle;
use crate::hprof;
use crate::jvm::{config, on_each_jvm, port, sick, store};
use crate::scenario::Scenario;
use crate::setup::Setup;
use libtest_mimic::Trial;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    on_each_jvm(
        setup,
        "encryption",
        &[
            ("only_the_recipient_reads_it", encrypted),
            ("a_dump_by_hand_is_as_the_configuration_says", by_hand),
        ],
    )
}

type Outcome = Result<(), String>;

/// Of the test's own key pair.
fn key(folder: &Path) -> (std::path::PathBuf, String) {
    let file = folder.join("key.txt");
    let made = Command::new("age-keygen").arg("-o").arg(&file).output().expect("Debian's package age");
    assert!(made.status.success());
    let text = std::fs::read_to_string(&file).expect("written");
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("it is there");
    (file.clone(), recipient.to_owned())
}

fn decrypt(key: &Path, from: &Path, to: &mut std::fs::File) {
    let out = to.try_clone().expect("a descriptor");
    let done = Command::new("age")
        .args(["--decrypt", "--identity"])
        .arg(key)
        .arg(from)
        .stdout(Stdio::from(out))
        .status()
        .expect("Debian's package age");
    assert!(done.success(), "{}", from.display());
}

fn encrypted(setup: &Setup, version: u32) -> Outcome {
    for compression in ["auto", "gzip"] {
        let scenario = Scenario::new(setup);
        let (key, recipient) = key(scenario.folder());
        let text = config(scenario.folder(), "60s", "stop")
            + &format!("[heap]\ncompression = \"{compression}\"\nencrypt_to = [\"{recipient}\"]\n");
        let running = scenario
            .config(&text)
            .command(sick(setup, version, &["-Xmx256m"], &["--heap=48m", "--shutdown=0s"]))
            .start();
        port(&running);
        running.wait_for("attached to the JVM");
        let ended = running.stop();
        ended.exits(143);
        let bundle = bundle::only(&store(&ended.folder));
        assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
        let ending = if compression == "gzip" { "gz" } else { "zst" };
        assert_eq!(bundle.file("heap"), format!("heap.hprof.{ending}.age"));
        let sealed =
            std::fs::read(bundle.folder.join(bundle.file("heap"))).map_err(|error| error.to_string())?;
        assert!(sealed.starts_with(b"age-encryption.org/v1\n"), "{}", bundle.manifest);
        let packed = ended.folder.join(format!("heap.hprof.{ending}"));
        let mut to = std::fs::File::create(&packed).map_err(|error| error.to_string())?;
        if version >= 22 {
            decrypt(&key, &bundle.folder.join(bundle.file("heap-names")), &mut to);
        }
        decrypt(&key, &bundle.folder.join(bundle.file("heap")), &mut to);
        let plain = ended.folder.join("plain.hprof");
        let unpack = Command::new(&setup.binary)
            .args(["hprof", "unpack"])
            .args([&packed, &plain])
            .output()
            .map_err(|error| error.to_string())?;
        assert!(unpack.status.success(), "{}", String::from_utf8_lossy(&unpack.stderr));
        assert!(hprof::walk(&plain)?.ended);
        let bytes = plain.metadata().map_err(|error| error.to_string())?.len();
        assert_eq!(bundle.artifact("heap")["content"]["bytes"].as_u64(), Some(bytes), "{}", bundle.manifest);
    }
    Ok(())
}

/// `[heap]` holds for an operator's dump too, as the agent knows it, and as the file says where none
/// answers; without it only at an explicit word.
fn by_hand(setup: &Setup, version: u32) -> Outcome {
    let scenario = Scenario::new(setup);
    let (key, recipient) = key(scenario.folder());
    let secretive = format!("[heap]\nredact = \"strings\"\nencrypt_to = [\"{recipient}\"]\n");
    let text = config(scenario.folder(), "60s", "stop") + &secretive;
    let alone = scenario.folder().join("heap.toml");
    std::fs::write(&alone, &secretive).map_err(|error| error.to_string())?;
    let broken = scenario.folder().join("broken.toml");
    std::fs::write(&broken, "[heap]\nredact = \"some\"\n").map_err(|error| error.to_string())?;
    let running = scenario
        .config(&text)
        .command(sick(setup, version, &["-Xmx256m"], &["--heap=8m", "--shutdown=0s"]))
        .start();
    port(&running);
    running.wait_for("attached to the JVM");
    let folder = |name: &str| {
        let folder = running.folder().join(name);
        std::fs::create_dir(&folder).expect("a new folder");
        folder.display().to_string()
    };

    let by_agent = folder("by-agent");
    let (code, said) = running.verb(setup, "0", &["dump", "heap", "--to", &by_agent]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the heap dump is redacted and encrypted, as [heap] says"), "{said}");
    check(&key, version, Path::new(&by_agent))?;

    // An agent that is there and says nothing may know more than any file.
    let silent = folder("silent");
    let agent = running.descendant("bookend agent");
    crate::scenario::freeze(agent);
    let (code, said) = running.verb(setup, "0", &["dump", "heap", "--to", &silent]);
    crate::scenario::send(agent, 18);
    assert!(code == Some(1) && said.contains("the agent does not say whether"), "{said}");
    assert_eq!(std::fs::read_dir(&silent).map_err(|error| error.to_string())?.count(), 0);

    let pid = running.descendant("SickService").to_string();
    let outside = |configuration: &Path, to: &str| {
        let mut command = Command::new(&setup.binary);
        command.args(["dump", "heap", "--pid", &pid, "--to", to]).env("BOOKEND_CONFIG", configuration);
        command.output().expect("it starts")
    };
    let by_file = folder("by-file");
    let answer = outside(&alone, &by_file);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    check(&key, version, Path::new(&by_file))?;

    let nowhere = folder("nowhere");
    let answer = outside(&broken, &nowhere);
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(!answer.status.success() && said.contains("the configuration cannot be read"), "{said}");
    assert_eq!(std::fs::read_dir(&nowhere).map_err(|error| error.to_string())?.count(), 0);

    let plainly = folder("plainly");
    let (code, said) = running.verb(setup, "0", &["dump", "heap", "--plain", "--to", &plainly]);
    assert_eq!(code, Some(0), "{said}");
    let dump = Path::new(&plainly).join("heap.hprof");
    assert!(hprof::walk(&dump)?.ended);
    let bytes = std::fs::read(&dump).map_err(|error| error.to_string())?;
    assert!(has(&bytes, PLANTED), "the service holds no such text: this test shows nothing");
    running.stop().exits(143);
    Ok(())
}

/// Of each customer of the example.
const PLANTED: &[u8] = b"@example.com";

fn has(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}

/// Only the key opens it, and no text is left in it.
fn check(key: &Path, version: u32, folder: &Path) -> Outcome {
    let plain = folder.join("plain.hprof");
    let mut to = std::fs::File::create(&plain).map_err(|error| error.to_string())?;
    if version >= 22 {
        decrypt(key, &folder.join("heap-names.hprof.age"), &mut to);
    }
    decrypt(key, &folder.join("heap.hprof.age"), &mut to);
    assert!(hprof::walk(&plain)?.ended);
    let bytes = std::fs::read(&plain).map_err(|error| error.to_string())?;
    assert!(!has(&bytes, PLANTED) && has(&bytes, b"SickService$Customer"));
    Ok(())
}

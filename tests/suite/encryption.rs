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
    on_each_jvm(setup, "encryption", &[("only_the_recipient_reads_it", encrypted)])
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

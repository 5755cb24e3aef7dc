//! The same on an S3 server that others wrote: SeaweedFS, asked by curl, which signs by itself.

use crate::bundle;
use crate::hprof;
use crate::jvm::{config_with, on_each_jvm, port, sick};
use crate::scenario::Scenario;
use crate::setup::{Need, Setup, Store};
use libtest_mimic::Trial;
use serde_json::Value;
use std::process::Command;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    // What skips it where no server is there.
    let mut trials =
        vec![setup.trial("seaweed::a_server_is_there", &[Need::Store], |_| Ok::<(), String>(()))];
    if setup.store.is_some() {
        trials.extend(on_each_jvm(setup, "seaweed", &[("a_stop_leaves_everything_in_the_bucket", stop)]));
    }
    trials
}

/// What the server answers to a request that curl signs.
fn ask(store: &Store, path: &str) -> Vec<u8> {
    let answer = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--aws-sigv4", "aws:amz:eu-central-1:s3"])
        .arg("--user")
        .arg(format!("{}:{}", store.key, store.secret))
        .arg(format!("{}/{}{path}", store.endpoint, store.bucket))
        .output()
        .expect("curl runs");
    assert!(answer.status.success(), "{path}: {}", String::from_utf8_lossy(&answer.stderr));
    answer.stdout
}

fn keys(store: &Store, prefix: &str) -> Vec<String> {
    let list = ask(store, &format!("?list-type=2&prefix={prefix}"));
    let list = String::from_utf8_lossy(&list).into_owned();
    list.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect()
}

fn stop(setup: &Setup, version: u32) -> Result<(), String> {
    let store = setup.store.as_ref().expect("asked before");
    let scenario = Scenario::new(setup);
    // Each its own: the server goes on after a test.
    let prefix = format!("suite-{}-{version}", std::process::id());
    let text = config_with(&format!(
        "[store]\nurl = \"s3://{}/{prefix}\"\nendpoint = \"{}\"\nregion = \"eu-central-1\"\ntags = true\n\
         [spool]\ndir = \"{}/spool\"\n",
        store.bucket,
        store.endpoint,
        scenario.folder().display()
    ));
    let running = scenario
        .config(&text)
        .env("AWS_ACCESS_KEY_ID", &store.key)
        .env("AWS_SECRET_ACCESS_KEY", &store.secret)
        .command(sick(setup, version, &["-Xmx700m"], &["--heap=320m", "--shutdown=0s"]))
        .start();
    port(&running);
    running.wait_for("attached to the JVM");
    let ended = running.stop();
    ended.exits(143).says("evidence stored");
    let keys = keys(store, &prefix);
    let manifest = keys.iter().find(|key| key.ends_with("/manifest.json")).ok_or("no manifest")?;
    let manifest: Value =
        serde_json::from_slice(&ask(store, &format!("/{manifest}"))).map_err(|error| error.to_string())?;
    let mut named = 1;
    for artifact in manifest["artifacts"].as_array().expect("a list") {
        assert_eq!(artifact["status"], "complete", "{manifest}");
        let file = artifact["file"].as_str().expect("a file");
        let key = keys.iter().find(|key| key.ends_with(&format!("/{file}"))).expect("it is there");
        let bytes = ask(store, &format!("/{key}"));
        bundle::check_halves(artifact, &bytes);
        named += 1;
        if artifact["artifact"] == "heap" {
            assert!(bytes.len() > 12 << 20, "{} bytes are no three parts", bytes.len());
            let tags = String::from_utf8_lossy(&ask(store, &format!("/{key}?tagging="))).into_owned();
            assert!(tags.contains("<Value>sick</Value>"), "{tags}");
            hprof::walk_packed(&ended.folder, &bytes)?;
        }
    }
    assert_eq!(keys.len(), named, "{keys:?} in {manifest}");
    let uploads = ask(store, &format!("?prefix={prefix}&uploads="));
    assert!(!String::from_utf8_lossy(&uploads).contains("<UploadId>"), "something is left half sent");
    Ok(())
}

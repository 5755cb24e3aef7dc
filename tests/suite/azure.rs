//! The same on Azure's blob protocol: Microsoft's own Azurite, which checks signatures.

use crate::bundle;
use crate::hprof;
use crate::jvm::{config_with, port, sick};
use crate::scenario::Scenario;
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use serde_json::Value;
use std::process::Command;

/// From 22 on the beginning of the heap dump is sent last.
const JVMS: [u32; 2] = [17, 25];
/// Of every Azurite: Microsoft's documentation names it.
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let mut trials = Vec::new();
    for version in JVMS {
        let needs = &[Need::Root, Need::Java(version), Need::Azure];
        let name = format!("azure::{version}::a_stop_leaves_everything_in_the_container");
        trials.push(setup.trial(name, needs, move |setup| stop(setup, version)));
    }
    trials
}

fn ask(setup: &Setup, method: &str, path: &str, query: &str) -> Result<Vec<u8>, String> {
    let answer = Command::new("python3")
        .arg(setup.root.join("tests/suite/azure.py"))
        .arg(setup.azure.expect("the need was checked").to_string())
        .args([method, path, query])
        .output()
        .map_err(|error| error.to_string())?;
    if answer.status.success() {
        return Ok(answer.stdout);
    }
    Err(format!("{method} {path}: {}", String::from_utf8_lossy(&answer.stderr)))
}

fn stop(setup: &Setup, version: u32) -> Result<(), String> {
    let scenario = Scenario::new(setup);
    let container = format!("suite-{}-{version}", std::process::id());
    ask(setup, "PUT", &format!("/{container}"), "restype=container")?;
    let text = config_with(&format!(
        "[store]\nurl = \"az://{container}/prod\"\nendpoint = \"http://127.0.0.1:{}/devstoreaccount1\"\ntags = true\n\
         [spool]\ndir = \"{}/spool\"\n",
        setup.azure.expect("the need was checked"),
        scenario.folder().display()
    ));
    let running = scenario
        .config(&text)
        .env("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1")
        .env("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        .command(sick(setup, version, &["-Xmx700m"], &["--heap=320m", "--shutdown=0s"]))
        .start();
    port(&running);
    running.wait_for("attached to the JVM");
    let ended = running.stop();
    ended.exits(143).says("evidence stored").never_says("goes to the spool");
    let list = ask(setup, "GET", &format!("/{container}"), "comp=list&restype=container")?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let names: Vec<&str> =
        list.split("<Name>").skip(1).filter_map(|rest| Some(rest.split_once("</Name>")?.0)).collect();
    let get = |name: &str| ask(setup, "GET", &format!("/{container}/{name}"), "");
    let manifest = names.iter().find(|name| name.ends_with("/manifest.json")).ok_or("no manifest")?;
    let manifest: Value = serde_json::from_slice(&get(manifest)?).map_err(|error| error.to_string())?;
    let mut named = 1;
    for artifact in manifest["artifacts"].as_array().expect("a list") {
        assert_eq!(artifact["status"], "complete", "{manifest}");
        let file = artifact["file"].as_str().expect("a file");
        let name = names.iter().find(|name| name.ends_with(&format!("/{file}"))).expect("it is there");
        let bytes = get(name)?;
        bundle::check_halves(artifact, &bytes);
        named += 1;
        if artifact["artifact"] == "heap" {
            assert!(bytes.len() > 12 << 20, "{} bytes are no three parts", bytes.len());
            hprof::walk_packed(&ended.folder, &bytes)?;
        }
    }
    assert_eq!(names.len(), named, "{names:?} in {manifest}");
    Ok(())
}

//! Evidence in a bucket: streamed, kept in the spool while there is none, sent by the next
//! start.

use crate::bundle;
use crate::credentials::{Session, TOKEN};
use crate::hprof;
use crate::jvm::{VERSIONS, config_with, on_each_jvm, port, sick};
use crate::proxy::{Fault, Moment, Proxy};
use crate::s3_server::{BUCKET, KEY, SECRET, Server};
use crate::scenario::{Scenario, poll, send};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use serde_json::json;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// The one of the four whose dumps need most: names are put in front at the end.
const FAULTS_JVM: u32 = 25;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let mut trials = on_each_jvm(
        setup,
        "s3",
        &[
            ("a_stop_leaves_everything_in_the_bucket", stop),
            ("a_refusal_is_named_and_the_next_start_sends", refused),
            ("credentials_that_end_on_the_way_are_renewed", expired),
            ("a_dead_endpoint_costs_nothing_but_time", dead),
        ],
    );
    let needs = &[Need::Root, Need::Java(FAULTS_JVM)];
    trials.push(setup.trial("s3::a_killed_life_is_gone_on_with", needs, |setup| resumed(setup, FAULTS_JVM)));
    trials.push(setup.trial("s3::names_of_a_dump_that_is_made_once_more_do_not_stay", needs, |setup| {
        faulty(setup, FAULTS_JVM, Fault::Refused, Moment::Last, "equal_parts = true\n")
    }));
    trials.push(setup.trial("s3::parts_are_of_one_size_where_the_store_wants_it", needs, equal_parts));
    trials.push(setup.trial("s3::a_dump_that_was_cut_off_is_no_whole_one", needs, cut_off));
    let versions = if setup.all_faults { &VERSIONS[..] } else { &[FAULTS_JVM] };
    for &version in versions {
        for fault in [Fault::Refused, Fault::BlackHole, Fault::Reset, Fault::Slow, Fault::Busy] {
            for moment in [Moment::Before, Moment::During, Moment::Last] {
                let name = format!("s3::fault::{version}::{fault:?}_{moment:?}").to_ascii_lowercase();
                let needs = &[Need::Root, Need::Java(version)];
                trials.push(setup.trial(name, needs, move |setup| faulty(setup, version, fault, moment, "")));
            }
        }
    }
    trials
}

type Outcome = Result<(), String>;

fn config(folder: &Path, port: u16) -> String {
    config_with(&format!(
        "[store]\nurl = \"s3://{BUCKET}/prod\"\nendpoint = \"http://127.0.0.1:{port}\"\nregion = \"eu-central-1\"\n\
         [spool]\ndir = \"{}/spool\"\n",
        folder.display()
    ))
}

fn scenario<'a>(setup: &'a Setup, text: &str, secret: &str) -> Scenario<'a> {
    Scenario::new(setup).config(text).env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", secret)
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    bundle::walk(folder, &mut found);
    found.into_iter().map(|path| path.display().to_string()).collect()
}

/// Several parts, and the names in front of them since 22.
fn stop(setup: &Setup, version: u32) -> Outcome {
    let place = Scenario::new(setup);
    let server = Server::start(&place.folder().join("s3"));
    let spool = place.folder().join("spool");
    let text = config(place.folder(), server.port);
    let command = sick(setup, version, &["-Xmx700m"], &["--heap=320m", "--shutdown=0s"]);
    let running = scenario(setup, &text, SECRET).command(command).start();
    port(&running);
    running.wait_for("attached to the JVM");
    let ended = running.stop();
    ended.exits(143).says("s3://evidence/prod/sick/");
    let bundle = server.complete_bundle();
    assert!(bundle.artifact("heap")["bytes"].as_u64() > Some(12 << 20), "{}", bundle.manifest);
    let plain = place.folder().join("plain.hprof");
    hprof::decompress(&bundle.folder.join("heap.hprof.zst"), &plain)?;
    assert!(hprof::walk(&plain)?.ended);
    assert_eq!(server.stale_uploads(), Vec::<std::path::PathBuf>::new());
    assert_eq!(files(&spool), Vec::<String>::new());
    Ok(())
}

/// The JVM dies while it writes: what there is is named so, and told so where the role may not rename.
fn cut_off(setup: &Setup) -> Outcome {
    for may_rename in [true, false] {
        let place = Scenario::new(setup);
        let root = place.folder().join("s3");
        let server = if may_rename { Server::start(&root) } else { Server::only_for_puts(&root) };
        let text = config(place.folder(), server.port);
        let command = sick(setup, FAULTS_JVM, &["-Xmx1g", "-Xms1g"], &["--heap=400m", "--shutdown=0s"]);
        let running = scenario(setup, &text, SECRET).command(command).start();
        port(&running);
        running.wait_for("attached to the JVM");
        let jvm = running.descendant("SickService");
        running.terminate();
        poll("parts have come", || (server.part_sizes().len() > 1).then_some(()));
        send(jvm, 9);
        running.wait().exits(137);
        let bundle = server.only_bundle();
        assert_eq!(bundle.status("heap"), "partial", "{}", bundle.manifest);
        let name = if may_rename { "heap.hprof.zst.partial" } else { "heap.hprof.zst" };
        assert_eq!(bundle.file("heap"), name, "{}", bundle.manifest);
        assert!(bundle.folder.join(name).exists(), "{}", bundle.manifest);
        let said = bundle.reason("heap").contains("to copy it takes s3:GetObject");
        assert_eq!(said, !may_rename, "{}", bundle.manifest);
        assert_eq!(server.stale_uploads(), Vec::<std::path::PathBuf>::new());
    }
    Ok(())
}

/// As Cloudflare's R2 wants it: names that come last are a file of their own.
fn equal_parts(setup: &Setup) -> Outcome {
    let place = Scenario::new(setup);
    let server = Server::start(&place.folder().join("s3"));
    let text = config(place.folder(), server.port).replace("[spool]", "equal_parts = true\n[spool]");
    let command = sick(setup, FAULTS_JVM, &["-Xmx700m"], &["--heap=320m", "--shutdown=0s"]);
    let running = scenario(setup, &text, SECRET).command(command).start();
    port(&running);
    running.wait_for("attached to the JVM");
    running.stop().exits(143);
    let sizes = server.part_sizes();
    let (last, others) = sizes.split_last().ok_or("no parts")?;
    assert!(others.len() > 1 && others.iter().all(|size| size == &others[0]), "{sizes:?}");
    assert!(last <= &others[0], "{sizes:?}");
    let bundle = server.only_bundle();
    let read = |name| std::fs::read(bundle.folder.join(name)).map_err(|error| format!("{name}: {error}"));
    let mut packed = read("heap-names.hprof.zst")?;
    packed.extend(read("heap.hprof.zst")?);
    hprof::walk_packed(place.folder(), &packed)?;
    Ok(())
}

fn refused(setup: &Setup, version: u32) -> Outcome {
    let place = Scenario::new(setup);
    let server = Server::start(&place.folder().join("s3"));
    let spool = place.folder().join("spool");
    let text = config(place.folder(), server.port);
    let command = sick(setup, version, &[], &["--heap=8m", "--shutdown=0s"]);
    let running = scenario(setup, &text, "another").command(&command).start();
    port(&running);
    running.wait_for("attached to the JVM");
    let ended = running.stop();
    ended.exits(143).says("SignatureDoesNotMatch").says("waits in the spool");
    assert!(files(&server.bucket()).is_empty(), "{:?}", files(&server.bucket()));
    assert!(files(&spool).iter().any(|file| file.ends_with("heap.hprof.zst")), "{:?}", files(&spool));
    next_start_sends(setup, &text, &command, &spool, &server)
}

/// Before the first request, and in the middle of the heap dump.
fn expired(setup: &Setup, version: u32) -> Outcome {
    for requests in [0, 3] {
        let place = Scenario::new(setup);
        let role = Session::of(requests);
        let server = Server::in_session(&place.folder().join("s3"), &role);
        let token = place.folder().join("token");
        std::fs::write(&token, TOKEN).map_err(|error| error.to_string())?;
        let text = config(place.folder(), server.port);
        let command = sick(setup, version, &["-Xmx700m"], &["--heap=320m", "--shutdown=0s"]);
        let uri = format!("http://127.0.0.1:{}/credentials", role.serve());
        let running = Scenario::new(setup)
            .config(&text)
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri)
            .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token.display().to_string())
            .command(command)
            .start();
        port(&running);
        running.wait_for("attached to the JVM");
        // Fetched by then: at a stop there is no time for it.
        poll("the credentials are fetched", || (role.given() == 1).then_some(()));
        let ended = running.stop();
        ended.exits(143).says("evidence stored");
        server.complete_bundle();
        assert!(role.given() > 1, "the old ones would have done");
        assert_eq!(server.stale_uploads(), Vec::<std::path::PathBuf>::new());
    }
    Ok(())
}

fn dead(setup: &Setup, version: u32) -> Outcome {
    let place = Scenario::new(setup);
    let spool = place.folder().join("spool");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    drop(listener);
    let text = config(place.folder(), address.port());
    let command = sick(setup, version, &[], &["--heap=8m", "--shutdown=0s"]);
    let running = scenario(setup, &text, SECRET).command(&command).start();
    port(&running);
    running.wait_for("attached to the JVM");
    let ended = running.stop();
    ended.exits(143).says("the heap dump goes to the spool").says("shutdown hook ends");
    let listener = TcpListener::bind(address).map_err(|error| error.to_string())?;
    let server = Server::on(&place.folder().join("s3"), listener);
    next_start_sends(setup, &text, &command, &spool, &server)
}

fn next_start_sends(setup: &Setup, text: &str, command: &[String], spool: &Path, server: &Server) -> Outcome {
    let next = scenario(setup, text, SECRET).command(command).start();
    next.wait_for("evidence that waited is stored");
    let bundle = server.only_bundle();
    assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
    assert!(
        bundle.artifacts().iter().all(|artifact| artifact.get("spooled").is_none()),
        "{}",
        bundle.manifest
    );
    assert!(bundle.manifest["notes"].to_string().contains("sent later"), "{}", bundle.manifest);
    assert!(server.stale_uploads().is_empty(), "{:?}", server.stale_uploads());
    poll("the spool is empty", || files(spool).is_empty().then_some(()));
    next.stop();
    Ok(())
}

/// PID 1 and all others are killed while what waited is sent: the next life sends the rest of it.
fn resumed(setup: &Setup, version: u32) -> Outcome {
    let place = Scenario::new(setup);
    let spool = place.folder().join("spool");
    let server = Server::start(&place.folder().join("s3"));
    let nowhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    let closed = nowhere.local_addr().map_err(|error| error.to_string())?.port();
    drop(nowhere);
    let command = sick(setup, version, &["-Xmx1g"], &["--heap=520m", "--shutdown=0s"]);
    let life = |port: u16| scenario(setup, &config(place.folder(), port), SECRET).command(&command).start();
    let first = life(closed);
    port(&first);
    first.wait_for("attached to the JVM");
    first.stop().exits(143).says("waits in the spool");
    let proxy = Proxy::start(server.port, Fault::Slow, Moment::During);
    let second = life(proxy.port);
    let has_part = |note: &String| {
        note.ends_with(".upload") && std::fs::read_to_string(note).is_ok_and(|text| text.lines().count() > 3)
    };
    poll("a part has arrived", || files(&spool).iter().any(has_part).then_some(()));
    send(second.init(), 9);
    // With PID 1 gone its namespace is: whatever unshare makes of that.
    second.wait();
    drop(proxy);
    assert!(!server.stale_uploads().is_empty(), "a part of it is there");
    let third = life(server.port);
    third.wait_for("going on with an upload that was cut short");
    third.wait_for("evidence that waited is stored");
    let bundle = server.only_bundle();
    assert_eq!(bundle.status("heap"), "complete", "{}", bundle.manifest);
    assert_eq!(server.stale_uploads(), Vec::<std::path::PathBuf>::new());
    third.stop();
    Ok(())
}

/// A store that fails: the service stops in time, nothing is lost but what only the failed
/// upload had, and nothing stays behind, neither parts nor files.
fn faulty(setup: &Setup, version: u32, fault: Fault, moment: Moment, more: &str) -> Outcome {
    let place = Scenario::new(setup);
    let server = Server::start(&place.folder().join("s3"));
    let proxy = Proxy::start(server.port, fault, moment);
    let spool = place.folder().join("spool");
    let text = config(place.folder(), proxy.port).replace("60s", "40s");
    let text = text.replace("[spool]", &format!("{more}[spool]"));
    let command = sick(setup, version, &["-Xmx1g"], &["--heap=520m", "--shutdown=0s"]);
    let running = scenario(setup, &text, SECRET).command(&command).start();
    port(&running);
    running.wait_for("attached to the JVM");
    let begun = Instant::now();
    let ended = running.stop();
    let took = begun.elapsed();
    ended.exits(143).says("shutdown hook ends");
    assert!(proxy.has_failed(), "nothing went wrong: {}", ended.output);
    if fault == Fault::BlackHole {
        assert!(took < Duration::from_secs(38), "HANG: it was waited for all the time: {}", ended.output);
    }
    drop(proxy);
    let arrived_at_once = !bundle::all(&server.bucket()).is_empty();
    if !files(&spool).is_empty() {
        let next = scenario(setup, &config(place.folder(), server.port), SECRET).command(&command).start();
        poll("the spool is empty", || files(&spool).is_empty().then_some(()));
        next.stop();
    }
    // The next start's own stop has one too.
    let bundles = bundle::all(&server.bucket());
    let first = bundles.iter().min_by_key(|bundle| bundle.manifest["event"]["id"].to_string());
    let stopped = first.ok_or_else(|| format!("nothing is there: {}", ended.output))?;
    for name in ["os", "threads"] {
        assert_eq!(stopped.status(name), "complete", "{}", stopped.manifest);
    }
    let heap = stopped.artifact("heap");
    assert_eq!(heap["status"], "complete", "{heap} in {}", ended.output);
    assert_eq!(server.stale_uploads(), Vec::<std::path::PathBuf>::new(), "{}", ended.output);
    if setup.all_faults {
        let artifact = |name: &str| {
            let artifact = stopped.artifact(name);
            json!({ "status": artifact["status"], "reason": artifact["reason"] })
        };
        let cell = json!({
            "version": version, "fault": format!("{fault:?}"), "moment": format!("{moment:?}"),
            "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "at_once": arrived_at_once, "notes": stopped.manifest["notes"],
            "threads": artifact("threads"), "heap": artifact("heap"),
        });
        let folder = setup.root.join("target/faults");
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let file = folder.join(format!("{version}-{fault:?}-{moment:?}.json"));
        std::fs::write(file, cell.to_string()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

//! Evidence in a place that takes files by PUT: a server of this process that keeps what it is given.

use crate::bundle;
use crate::hprof;
use crate::http::{self, Request};
use crate::jvm::{config_with, on_each_jvm, port, sick};
use crate::scenario::Scenario;
use crate::setup::Setup;
use libtest_mimic::Trial;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    on_each_jvm(setup, "web", &[("files_are_put_with_the_token", put)])
}

/// Keeps what is put with the token below `root`; the first request is answered with 503.
fn server(root: &Path) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let root = root.to_owned();
    // Ends with the suite.
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.expect("a connection");
            let root = root.clone();
            std::thread::spawn(move || drop(serve(number, stream, &root)));
        }
    });
    port
}

fn serve(number: usize, mut stream: std::net::TcpStream, root: &Path) -> std::io::Result<()> {
    let Some(request) = Request::read(&stream) else { return Ok(()) };
    let (path, query) = request.target.split_once('?').expect("a query");
    let status = if number == 0 {
        "503 Service Unavailable"
    } else if query != "token=of-the-test" || request.method != "PUT" {
        "403 Forbidden"
    } else {
        let file = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(file.parent().expect("a folder"))?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
        let length = request.length().expect("a length");
        std::io::copy(&mut request.body.take(length), &mut file)?;
        "201 Created"
    };
    http::answer(&mut stream, status, "text/plain", "")
}

fn put(setup: &Setup, version: u32) -> Result<(), String> {
    let scenario = Scenario::new(setup);
    let root = scenario.folder().join("server");
    let spool = scenario.folder().join("spool");
    let text = config_with(&format!(
        "[store]\nurl = \"http://127.0.0.1:{}/uploads?token=of-the-test\"\n[spool]\ndir = \"{}\"\n",
        server(&root),
        spool.display()
    ));
    let running = scenario
        .config(&text)
        .command(sick(setup, version, &["-Xmx256m"], &["--heap=48m", "--shutdown=0s"]))
        .start();
    port(&running);
    running.wait_for("attached to the JVM");
    let ended = running.stop();
    ended.exits(143).says("evidence stored").never_says("of-the-test");
    let bundle = bundle::only_of(&root, |_| true);
    for name in ["os", "threads", "heap"] {
        assert_eq!(bundle.status(name), "complete", "{}", bundle.manifest);
    }
    let plain = ended.folder.join("plain.hprof");
    hprof::decompress(&bundle.folder.join("heap.hprof.zst"), &plain)?;
    assert!(hprof::walk(&plain)?.ended);
    let mut left = Vec::new();
    bundle::walk(&spool, &mut left);
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

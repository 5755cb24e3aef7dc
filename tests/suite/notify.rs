//! People are told of evidence, by a real HTTP server of this process.

use crate::bundle;
use crate::http::{self, Request};
use crate::jvm::store;
use crate::scenario::Scenario;
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use serde_json::Value;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    vec![
        setup.trial("notify::each_in_its_own_form_and_again_after_a_busy_answer", &[Need::Root], told),
        setup.trial("notify::nobody_listens_and_nothing_is_lost", &[Need::Root], nobody),
        setup.trial("notify::what_is_wrong_is_named_before_anything_runs", &[], wrong),
    ]
}

type Outcome = Result<(), String>;
type Posts = Arc<Mutex<Vec<(String, Value)>>>;

/// Takes what is posted; the first post to `/busy` is answered with 503.
fn server() -> (u16, Posts) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let posts = Posts::default();
    let taken = Arc::clone(&posts);
    // Ends with the suite.
    std::thread::spawn(move || {
        let mut was_busy = false;
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = Request::read(&stream).expect("a request");
            let length = request.length().expect("a length");
            let mut body = vec![0; usize::try_from(length).expect("fits")];
            request.body.read_exact(&mut body).expect("the body");
            let path = request.target;
            let is_busy = path == "/busy" && !std::mem::replace(&mut was_busy, true);
            let status = if is_busy { "503 Service Unavailable" } else { "200 OK" };
            if !is_busy {
                let value = serde_json::from_slice(&body).expect("it is JSON");
                taken.lock().expect("no panic").push((path, value));
            }
            drop(http::answer(&mut stream, status, "text/plain", ""));
        }
    });
    (port, posts)
}

fn config(scenario: &Scenario<'_>) -> String {
    format!(
        "[service]\nname = \"orders\"\n[[rule]]\nname = \"ended\"\non = \"exit\"\ncapture = [\"os\"]\n\
         [[rule]]\nname = \"full\"\non = \"oom\"\ncapture = [\"os\"]\n\
         [store]\nurl = \"file://{}/store\"\n",
        scenario.folder().display()
    )
}

fn told(setup: &Setup) -> Outcome {
    let (port, posts) = server();
    let scenario = Scenario::new(setup);
    let url = |path: &str| format!("http://127.0.0.1:{port}/{path}");
    let text = format!(
        "{}[[notify]]\nurl = \"{}\"\n\
         [[notify]]\nurl_env = \"SLACK_WEBHOOK_URL\"\non = [\"exit\"]\ntemplate = \"slack\"\n\
         [[notify]]\nurl = \"{}\"\non = [\"ended\"]\n\
         template = '{{\"summary\": \"{{{{service}}}} {{{{trigger}}}} {{{{artifacts}}}}\", \"where\": \"{{{{url}}}}\"}}'\n\
         [[notify]]\nurl = \"{}\"\non = [\"full\"]\n",
        config(&scenario),
        url("busy"),
        url("own"),
        url("never"),
    );
    let ended =
        scenario.config(&text).env("SLACK_WEBHOOK_URL", &url("slack/secret")).shell("exit 3").finish();
    ended.exits(3).says("evidence stored").says("notification sent").never_says("slack/secret");
    let bundle = bundle::only(&store(&ended.folder));
    let posts = posts.lock().expect("no panic");
    let of = |path: &str| {
        let found: Vec<&Value> = posts.iter().filter(|(to, _)| to == path).map(|(_, body)| body).collect();
        assert_eq!(found.len(), 1, "{path}: {posts:?} {}", ended.output);
        found[0].clone()
    };
    let all = of("/busy");
    for (key, value) in [("service", "orders"), ("trigger", "exit")] {
        assert_eq!(all[key], value, "{all}");
    }
    assert_eq!(all["rules"][0], "ended", "{all}");
    assert_eq!(all["artifacts"][0]["status"], "complete", "{all}");
    let folder = bundle.folder.display().to_string();
    assert_eq!(all["url"], folder.as_str(), "{all}");
    assert!(of("/slack/secret")["text"].as_str().is_some_and(|text| text.starts_with("*orders: ")));
    let own = of("/own");
    assert_eq!(own["summary"], "orders exit 1/1 artifacts", "{own}");
    assert_eq!(own["where"], folder.as_str(), "{own}");
    assert_eq!(posts.len(), 3, "{posts:?}");
    Ok(())
}

fn nobody(setup: &Setup) -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    drop(listener);
    let scenario = Scenario::new(setup);
    let text = format!("{}[[notify]]\nurl = \"http://127.0.0.1:{port}/x\"\n", config(&scenario));
    let ended = scenario.config(&text).shell("exit 3").finish();
    ended.exits(3).says("evidence stored").says("not told of the evidence");
    assert_eq!(bundle::only(&store(&ended.folder)).status("os"), "complete");
    Ok(())
}

fn wrong(setup: &Setup) -> Outcome {
    for (lines, complaint) in [
        ("url = \"hooks.example.com\"", "write https://host/path"),
        ("template = \"slack\"", "no url"),
        ("url = \"https://x/y\"\nurl_env = \"X\"", "which?"),
        ("url_env = \"NOT_THERE\"", "NOT_THERE is not set"),
        ("url = \"https://x/y\"\non = [\"exot\"]", "nothing is ever captured on `exot`"),
        ("url = \"https://x/y\"\ntemplate = \"slak\"", "did you mean \"slack\"?"),
        ("url = \"https://x/y\"\ntemplate = '{\"a\": \"{{servis}}\"}'", "there is no {{servis}}"),
    ] {
        let scenario = Scenario::new(setup);
        let text = format!("{}[[notify]]\n{lines}\n", config(&scenario));
        let file = scenario.folder().join("wrong.toml");
        std::fs::write(&file, text).map_err(|error| error.to_string())?;
        let answer = std::process::Command::new(&setup.binary)
            .arg("check")
            .arg(&file)
            .output()
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert!(!answer.status.success() && said.contains(complaint), "{lines}: {said}");
    }
    Ok(())
}

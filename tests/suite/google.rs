//! The same on Google Cloud Storage. Its server is not to be had: this is a fake of what guards it,
//! before a real S3 server. Google's XML API has S3's requests for objects and multipart uploads
//! (cloud.google.com/storage/docs/xml-api/overview, .../multipart-uploads); what it asks for is a
//! bearer token: a JWT that the service account has signed itself (google.aip.dev/auth/4111), which
//! is checked here against its public key, or one that the metadata server gave
//! (cloud.google.com/compute/docs/access/authenticate-workloads).

use crate::bundle;
use crate::hprof;
use crate::http::serve;
use crate::jvm::{config_with, port, sick};
use crate::s3_server::{BUCKET, Server};
use crate::scenario::Scenario;
use crate::setup::{Need, Setup};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use libtest_mimic::Trial;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

const ACCOUNT: &str = "bookend@example.iam.gserviceaccount.com";
const GIVEN: &str = "ya29.a-token-of-the-test";

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    // From 22 on the beginning of the heap dump is sent last.
    let java = |version| [Need::Root, Need::Java(version)];
    vec![
        setup.trial("google::a_service_account_sends_everything", &java(17), service_account),
        setup.trial("google::the_metadata_server_gives_the_token", &java(25), metadata_server),
        setup.trial("google::a_wrong_key_is_refused_and_the_spool_keeps_it", &java(17), wrong_key),
    ]
}

type Outcome = Result<(), String>;

fn openssl(arguments: &[&str]) -> Result<(), String> {
    let made = Command::new("openssl").args(arguments).output().map_err(|error| error.to_string())?;
    made.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&made.stderr).into_owned())
}

/// Writes the file that Google gives for a service account; its public key, in PKCS#1.
fn account(folder: &Path) -> Result<Vec<u8>, String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let (private, public) = (path("private.pem"), path("public.der"));
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &private])?;
    openssl(&["rsa", "-in", &private, "-RSAPublicKey_out", "-outform", "DER", "-out", &public])?;
    let key = std::fs::read_to_string(private).map_err(|error| error.to_string())?;
    let account = json!({
        "type": "service_account",
        "private_key_id": "1",
        "private_key": key,
        "client_email": ACCOUNT,
    });
    std::fs::write(folder.join("account.json"), account.to_string()).map_err(|error| error.to_string())?;
    std::fs::read(public).map_err(|error| error.to_string())
}

/// Whether this is a JWT that the account has signed, for now and for its storage.
fn is_signed(bearer: &str, public: &[u8]) -> bool {
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    let Some((message, signature)) = bearer.rsplit_once('.') else { return false };
    let Some((_, claims)) = message.split_once('.') else { return false };
    let (Some(signature), Some(claims)) = (decode(signature), decode(claims)) else { return false };
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
    let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    key.verify(message.as_bytes(), &signature).is_ok()
        && claims["iss"] == ACCOUNT
        && claims["exp"].as_u64() > Some(now)
        && claims["scope"].as_str().is_some_and(|scope| scope.contains("googleapis.com/auth/cloud-platform"))
}

fn config(folder: &Path, port: u16) -> String {
    config_with(&format!(
        "[store]\nurl = \"gs://{BUCKET}/prod\"\nendpoint = \"http://127.0.0.1:{port}\"\ntags = true\n\
         [spool]\ndir = \"{}/spool\"\n",
        folder.display()
    ))
}

fn stop(setup: &Setup, version: u32, server: &Server, variable: (&str, &str)) -> Outcome {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), server.port);
    let command = sick(setup, version, &["-Xmx700m"], &["--heap=320m", "--shutdown=0s"]);
    let running = scenario.config(&text).env(variable.0, variable.1).command(command).start();
    port(&running);
    running.wait_for("attached to the JVM");
    let ended = running.stop();
    ended.exits(143).says("gs://evidence/prod/sick/").never_says("goes to the spool");
    let bundle = server.complete_bundle();
    assert!(bundle.artifact("heap")["bytes"].as_u64() > Some(12 << 20), "{}", bundle.manifest);
    let plain = ended.folder.join("plain.hprof");
    hprof::decompress(&bundle.folder.join("heap.hprof.zst"), &plain)?;
    assert!(hprof::walk(&plain)?.ended);
    assert_eq!(server.stale_uploads(), Vec::<std::path::PathBuf>::new());
    Ok(())
}

fn service_account(setup: &Setup) -> Outcome {
    let place = Scenario::new(setup);
    let public = account(place.folder())?;
    let gate = move |bearer: &str| is_signed(bearer, &public);
    let server = Server::behind(&place.folder().join("s3"), Arc::new(gate));
    let file = place.folder().join("account.json").display().to_string();
    stop(setup, 17, &server, ("GOOGLE_APPLICATION_CREDENTIALS", &file))
}

/// On GKE and Compute Engine; `GCE_METADATA_HOST` is the variable of Google's own libraries.
fn metadata_server(setup: &Setup) -> Outcome {
    let place = Scenario::new(setup);
    let server = Server::behind(&place.folder().join("s3"), Arc::new(|bearer: &str| bearer == GIVEN));
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    let metadata = serve(move |request| {
        let is_right = request.header("metadata-flavor") == Some("Google")
            && request.target.starts_with("/computeMetadata/v1/instance/service-accounts/default/token");
        if !is_right {
            return ("404 Not Found", "application/json", String::new());
        }
        count.fetch_add(1, Ordering::SeqCst);
        let token = json!({"access_token": GIVEN, "expires_in": 3599, "token_type": "Bearer"});
        ("200 OK", "application/json", token.to_string())
    });
    let host = format!("127.0.0.1:{metadata}");
    stop(setup, 25, &server, ("GCE_METADATA_HOST", &host))?;
    assert!(given.load(Ordering::SeqCst) > 0, "nobody asked");
    Ok(())
}

fn wrong_key(setup: &Setup) -> Outcome {
    let place = Scenario::new(setup);
    let other = place.folder().join("other");
    std::fs::create_dir(&other).map_err(|error| error.to_string())?;
    let public = account(&other)?;
    account(place.folder())?;
    let server =
        Server::behind(&place.folder().join("s3"), Arc::new(move |bearer: &str| is_signed(bearer, &public)));
    let file = place.folder().join("account.json").display().to_string();
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), server.port);
    let command = sick(setup, 17, &[], &["--heap=8m", "--shutdown=0s"]);
    let running =
        scenario.config(&text).env("GOOGLE_APPLICATION_CREDENTIALS", &file).command(command).start();
    port(&running);
    running.wait_for("attached to the JVM");
    let ended = running.stop();
    ended.exits(143).says("is the service account's key still valid").says("waits in the spool");
    let mut spooled = Vec::new();
    bundle::walk(&ended.folder.join("spool"), &mut spooled);
    assert!(spooled.iter().any(|file| file.ends_with("heap.hprof.zst")), "{spooled:?}");
    Ok(())
}

//! Who sends: each way in which Amazon's platforms give credentials, up to an S3 server that checks
//! signatures. What gives them is a fake each, built from its documentation and named so; a task's
//! role is in `s3::*::credentials_that_end_on_the_way_are_renewed` and in `ecs_task`.

use crate::http::serve;
use crate::jvm::{config_with, port, sick};
use crate::s3_server::{BUCKET, KEY, SECRET, Server};
use crate::scenario::{Ended, Scenario};
use crate::setup::{Need, Setup};
use libtest_mimic::Trial;
use serde_json::json;
use std::path::Path;

const JVM: u32 = 21;
const ROLE: &str = "arn:aws:iam::123456789012:role/orders";
const WEB_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.a-token-of-the-cluster.signature";
const MACHINE_TOKEN: &str = "AQAAAHmHjT==";

pub(crate) fn trials(setup: &'static Setup) -> Vec<Trial> {
    let needs = &[Need::Root, Need::Java(JVM)];
    vec![
        setup.trial("identities::a_service_account_of_eks", needs, web_identity),
        setup.trial("identities::a_service_account_that_the_role_does_not_trust", needs, not_trusted),
        setup.trial("identities::the_role_of_an_instance_and_its_region", needs, instance_role),
        setup.trial("identities::a_profile_of_a_developer", needs, profile),
        setup.trial("identities::the_bucket_encrypts_with_a_key_of_ours", needs, server_side_encryption),
    ]
}

type Outcome = Result<(), String>;

fn config(folder: &Path, server: &Server, more: &str) -> String {
    config_with(&format!(
        "[store]\nurl = \"s3://{BUCKET}/prod\"\nendpoint = \"http://127.0.0.1:{}\"\n{more}\
         [spool]\ndir = \"{}/spool\"\n",
        server.port,
        folder.display()
    ))
}

fn stop(setup: &Setup, server: &Server, more: &str, environment: &[(&str, &str)]) -> Ended {
    let scenario = Scenario::new(setup);
    let text = config(scenario.folder(), server, more);
    let mut scenario = scenario.config(&text);
    for (name, value) in environment {
        scenario = scenario.env(name, value);
    }
    let running = scenario.command(sick(setup, JVM, &[], &["--heap=8m", "--shutdown=0s"])).start();
    port(&running);
    running.wait_for("attached to the JVM");
    running.stop()
}

/// A fake of the call `AssumeRoleWithWebIdentity` (AWS STS API reference), which EKS's IAM roles for
/// service accounts are made with.
fn sts(is_trusted: bool) -> String {
    let port = serve(move |request| {
        let decoded = request.target.replace("%3A", ":").replace("%2F", "/");
        let has = |pair: String| decoded.split(['?', '&']).any(|found| found == pair);
        let is_right = request.method == "POST"
            && has("Action=AssumeRoleWithWebIdentity".to_owned())
            && has(format!("RoleArn={ROLE}"))
            && has(format!("WebIdentityToken={WEB_TOKEN}"));
        if is_right && is_trusted {
            let body = format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <AssumeRoleWithWebIdentityResult><Credentials><SessionToken>session</SessionToken>\
                 <SecretAccessKey>{SECRET}</SecretAccessKey><Expiration>2099-01-01T00:00:00Z</Expiration>\
                 <AccessKeyId>{KEY}</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\
                 </AssumeRoleWithWebIdentityResponse>"
            );
            return ("200 OK", "text/xml", body);
        }
        let body = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                    <Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message>\
                    </Error></ErrorResponse>";
        ("403 Forbidden", "text/xml", body.to_owned())
    });
    format!("http://127.0.0.1:{port}")
}

fn by_web_identity(setup: &Setup, server: &Server, place: &Path, is_trusted: bool) -> Result<Ended, String> {
    let token = place.join("token");
    std::fs::write(&token, WEB_TOKEN).map_err(|error| error.to_string())?;
    let environment = [
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token.display().to_string()),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL_STS", &sts(is_trusted)),
    ];
    Ok(stop(setup, server, "", &environment))
}

fn web_identity(setup: &Setup) -> Outcome {
    let place = Scenario::new(setup);
    let server = Server::start(&place.folder().join("s3"));
    by_web_identity(setup, &server, place.folder(), true)?.exits(143).says("region=eu-central-1");
    server.complete_bundle();
    Ok(())
}

fn not_trusted(setup: &Setup) -> Outcome {
    let place = Scenario::new(setup);
    let server = Server::start(&place.folder().join("s3"));
    let ended = by_web_identity(setup, &server, place.folder(), false)?;
    ended.exits(143).says("AccessDenied").says("trust policy").says("waits in the spool");
    Ok(())
}

/// A fake of an instance's metadata (Amazon EC2 user guide, "Use the Instance Metadata Service", version 2).
fn instance_role(setup: &Setup) -> Outcome {
    let place = Scenario::new(setup);
    let server = Server::start(&place.folder().join("s3"));
    let machine = serve(|request| {
        let has_token = request.header("x-aws-ec2-metadata-token") == Some(MACHINE_TOKEN);
        match (request.method.as_str(), request.target.as_str()) {
            ("PUT", "/latest/api/token")
                if request.header("x-aws-ec2-metadata-token-ttl-seconds").is_some() =>
            {
                ("200 OK", "text/plain", MACHINE_TOKEN.to_owned())
            }
            ("GET", "/latest/meta-data/placement/region") if has_token => {
                ("200 OK", "text/plain", "eu-west-3".to_owned())
            }
            ("GET", "/latest/meta-data/iam/security-credentials/") if has_token => {
                ("200 OK", "text/plain", "orders".to_owned())
            }
            ("GET", "/latest/meta-data/iam/security-credentials/orders") if has_token => {
                let credentials = json!({
                    "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
                    "AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": "session",
                    "Expiration": "2099-01-01T00:00:00Z",
                });
                ("200 OK", "application/json", credentials.to_string())
            }
            _ => ("401 Unauthorized", "text/plain", String::new()),
        }
    });
    let machine = format!("http://127.0.0.1:{machine}");
    let ended = stop(setup, &server, "", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &machine)]);
    ended.exits(143).says("region=eu-west-3 source=\"instance metadata\"");
    server.complete_bundle();
    Ok(())
}

fn profile(setup: &Setup) -> Outcome {
    let place = Scenario::new(setup);
    let server = Server::start(&place.folder().join("s3"));
    let home = place.folder().join("home/.aws");
    std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    let credentials = format!(
        "[default]\naws_access_key_id = ANOTHER\naws_secret_access_key = another\n\
         [work]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    );
    for (name, text) in
        [("credentials", credentials.as_str()), ("config", "[profile work]\nregion = eu-north-1\n")]
    {
        std::fs::write(home.join(name), text).map_err(|error| error.to_string())?;
    }
    let file = |name: &str| home.join(name).display().to_string();
    let environment = [
        ("AWS_PROFILE", "work"),
        ("AWS_CONFIG_FILE", &file("config")),
        ("AWS_SHARED_CREDENTIALS_FILE", &file("credentials")),
    ];
    let ended = stop(setup, &server, "", &environment);
    ended
        .exits(143)
        .says("credentials are those of the profile `work`")
        .says("region=eu-north-1 source=profile");
    server.complete_bundle();
    Ok(())
}

/// "Specifying server-side encryption with AWS KMS", Amazon S3 user guide: two headers, of every object.
fn server_side_encryption(setup: &Setup) -> Outcome {
    let place = Scenario::new(setup);
    let server = Server::start(&place.folder().join("s3"));
    let more = "region = \"eu-central-1\"\nencryption = \"aws:kms\"\nkms_key = \"alias/evidence\"\n";
    let keys = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    stop(setup, &server, more, &keys).exits(143);
    server.complete_bundle();
    let asked = server.encryption();
    // The heap in parts, `os`, threads, the summaries, the manifest.
    assert!(asked.len() >= 6, "{asked:?}");
    assert!(asked.iter().all(|one| one == "aws:kms alias/evidence"), "{asked:?}");
    Ok(())
}

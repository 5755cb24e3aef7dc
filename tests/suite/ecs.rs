//! A fake of what the ECS agent answers inside a task, built from AWS's documentation: the real
//! one is to be had on ECS alone. "Task metadata endpoint version 4" and "Task scale-in protection
//! endpoint", Amazon ECS developer guide. Credentials: `credentials`.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

use crate::http::Request;

pub(crate) const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const TASK: &str = "158d1c8083dd49d6b527399fd6414f5c";

/// What the fake was asked to protect.
pub(crate) type Protections = Arc<Mutex<Vec<Value>>>;

/// Listens; the port, and what was asked of the protection endpoint. `grants`: whether it does as
/// it is asked, or fails within a success, as the real one.
pub(crate) fn serve(grants: bool) -> (u16, Protections) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let protections = Protections::default();
    let asked = Arc::clone(&protections);
    // Ends with the suite.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let Some(mut request) = Request::read(&stream) else { continue };
            let mut body = vec![0; usize::try_from(request.length().unwrap_or(0)).expect("fits")];
            request.body.read_exact(&mut body).expect("the body");
            let (status, answer) = match (request.method.as_str(), request.target.as_str()) {
                ("GET", "/v4/x") => ("200 OK", container()),
                ("GET", "/v4/x/task") => ("200 OK", task()),
                ("PUT", "/api/x/task-protection/v1/state") => {
                    let wanted: Value = serde_json::from_slice(&body).expect("it is JSON");
                    asked.lock().expect("no panic").push(wanted.clone());
                    ("200 OK", protection(&wanted, grants))
                }
                _ => ("404 Not Found", json!({})),
            };
            let text = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            drop(stream.write_all((head + &text).as_bytes()));
        }
    });
    (port, protections)
}

/// Every field of the example for Fargate.
fn container() -> Value {
    json!({
        "DockerId": "cd189a933e5849daa93386466019ab50-2495160603",
        "Name": "orders",
        "DockerName": "orders",
        "Image": "111122223333.dkr.ecr.us-west-2.amazonaws.com/orders:latest",
        "ImageID": DIGEST,
        "Labels": {
            "com.amazonaws.ecs.cluster": "arn:aws:ecs:us-west-2:111122223333:cluster/default",
            "com.amazonaws.ecs.container-name": "orders",
            "com.amazonaws.ecs.task-arn": format!("arn:aws:ecs:us-west-2:111122223333:task/default/{TASK}"),
            "com.amazonaws.ecs.task-definition-family": "orders-task",
            "com.amazonaws.ecs.task-definition-version": "7"
        },
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": { "CPU": 2, "Memory": 2048 },
        "CreatedAt": "2026-11-25T12:00:00.000000000Z",
        "StartedAt": "2026-11-25T12:00:01.000000000Z",
        "Type": "NORMAL",
        "ContainerARN": "arn:aws:ecs:us-west-2:111122223333:container/default/1",
        "Networks": [{ "NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.0.108"] }],
        "RestartCount": 1
    })
}

fn task() -> Value {
    json!({
        "Cluster": "arn:aws:ecs:us-west-2:111122223333:cluster/default",
        "TaskARN": format!("arn:aws:ecs:us-west-2:111122223333:task/default/{TASK}"),
        "ServiceName": "orders-service",
        "Family": "orders-task",
        "Revision": "7",
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": { "CPU": 0.25, "Memory": 512 },
        "PullStartedAt": "2026-11-25T11:59:50.000000000Z",
        "PullStoppedAt": "2026-11-25T11:59:59.000000000Z",
        "AvailabilityZone": "us-west-2d",
        "LaunchType": "FARGATE",
        "Containers": [container()],
        "EphemeralStorageMetrics": { "Utilized": 261, "Reserved": 20496 },
        "ClockDrift": {
            "ClockErrorBound": 0.5,
            "ReferenceTimestamp": "2026-11-25T12:00:00Z",
            "ClockSynchronizationStatus": "SYNCHRONIZED"
        }
    })
}

fn protection(wanted: &Value, grants: bool) -> Value {
    let arn = format!("arn:aws:ecs:us-west-2:111122223333:task/default/{TASK}");
    if !grants {
        return json!({ "failure": { "Arn": arn, "Detail": null, "Reason": "TASK_NOT_VALID" } });
    }
    let mut protection = json!({ "ProtectionEnabled": wanted["ProtectionEnabled"], "TaskArn": arn });
    if wanted["ProtectionEnabled"] == true {
        protection["ExpirationDate"] = json!("2026-11-25T14:29:16Z");
    }
    json!({ "protection": protection })
}

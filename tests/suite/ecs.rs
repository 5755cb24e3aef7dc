//! A fake of what the ECS agent answers inside a task, built from AWS's documentation: the real
//! one is to be had on ECS alone. "Task metadata endpoint version 4", "Task scale-in protection
//! endpoint" and "Task IAM role", Amazon ECS developer guide.

use crate::credentials::Session;
use crate::http::{self, Request};
use serde_json::{Value, json};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const TASK: &str = "158d1c8083dd49d6b527399fd6414f5c";
/// The path that the agent puts into `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
pub(crate) const CREDENTIALS: &str = "/v2/credentials/7b9c4a0e-1f5d-4c63-9d4e-2b8f0a6c1d3e";

/// What the agent knows and is told.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Whether it protects as it is asked, or fails within a success, as the real one.
    grants: bool,
    role: Option<Arc<Session>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    asked: Vec<Value>,
    desired: &'static str,
    restarts: u32,
}

impl Agent {
    pub(crate) fn new(grants: bool, role: Option<Arc<Session>>) -> Arc<Self> {
        let state = State { asked: Vec::new(), desired: "RUNNING", restarts: 1 };
        Arc::new(Self { grants, role, state: Mutex::new(state) })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the protection endpoint was asked for, in order.
    pub(crate) fn protections(&self) -> Vec<Value> {
        self.state().asked.clone()
    }

    /// The task is to be stopped.
    pub(crate) fn stops(&self) {
        self.state().desired = "STOPPED";
    }

    /// The container was restarted in place so often.
    pub(crate) fn restarted(&self, times: u32) {
        self.state().restarts = times;
    }

    /// Answers on a port of this machine.
    pub(crate) fn serve(self: &Arc<Self>) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        self.serve_on(listener);
        port
    }

    /// Answers there, until the suite ends.
    pub(crate) fn serve_on(self: &Arc<Self>, listener: TcpListener) {
        let agent = Arc::clone(self);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _broken_off = agent.answer(stream.expect("a connection"));
            }
        });
    }

    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut request = Request::read(&stream)?;
        let mut body = vec![0; usize::try_from(request.length().unwrap_or(0)).ok()?];
        request.body.read_exact(&mut body).ok()?;
        let (status, answer) = match (request.method.as_str(), request.target.as_str()) {
            ("GET", "/v4/x") => ("200 OK", self.container()),
            ("GET", "/v4/x/task") => ("200 OK", self.task()),
            ("GET", CREDENTIALS) if self.role.is_some() => ("200 OK", self.role.as_ref()?.give()),
            ("PUT", "/api/x/task-protection/v1/state") => {
                let wanted: Value = serde_json::from_slice(&body).expect("it is JSON");
                self.state().asked.push(wanted.clone());
                ("200 OK", protection(&wanted, self.grants))
            }
            _ => ("404 Not Found", json!({})),
        };
        http::answer(&mut stream, status, "application/json", &answer.to_string()).ok()
    }

    /// Every field of the example for Fargate.
    fn container(&self) -> Value {
        let state = self.state();
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
            "DesiredStatus": state.desired,
            "KnownStatus": "RUNNING",
            "Limits": { "CPU": 2, "Memory": 2048 },
            "CreatedAt": "2026-11-25T12:00:00.000000000Z",
            "StartedAt": "2026-11-25T12:00:01.000000000Z",
            "Type": "NORMAL",
            "ContainerARN": "arn:aws:ecs:us-west-2:111122223333:container/default/1",
            "Networks": [{ "NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.0.108"] }],
            "RestartCount": state.restarts
        })
    }

    fn task(&self) -> Value {
        let desired = self.state().desired;
        json!({
            "Cluster": "arn:aws:ecs:us-west-2:111122223333:cluster/default",
            "TaskARN": format!("arn:aws:ecs:us-west-2:111122223333:task/default/{TASK}"),
            "ServiceName": "orders-service",
            "Family": "orders-task",
            "Revision": "7",
            "DesiredStatus": desired,
            "KnownStatus": "RUNNING",
            "Limits": { "CPU": 0.25, "Memory": 512 },
            "PullStartedAt": "2026-11-25T11:59:50.000000000Z",
            "PullStoppedAt": "2026-11-25T11:59:59.000000000Z",
            "AvailabilityZone": "us-west-2d",
            "LaunchType": "FARGATE",
            "Containers": [self.container()],
            "EphemeralStorageMetrics": { "Utilized": 261, "Reserved": 20496 },
            "ClockDrift": {
                "ClockErrorBound": 0.5,
                "ReferenceTimestamp": "2026-11-25T12:00:00Z",
                "ClockSynchronizationStatus": "SYNCHRONIZED"
            }
        })
    }
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

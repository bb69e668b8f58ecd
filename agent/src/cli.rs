//! The commands that a person on the machine has, over the local socket.

mod client;
mod table;
mod terminal;

use std::{io::Write, path::Path};

use agent_sync::stream::{StreamKind, StreamRequest};
use serde_json::Value;

use client::Client;
pub use client::ClientError;
use table::Table;

use crate::local_api::LocalRequest;

/// Which container a command is about.
#[derive(Clone, Debug)]
pub struct Target {
    pub namespace: String,
    pub pod: String,
    /// The only one if empty.
    pub container: String,
}

impl Target {
    fn request(&self, kind: StreamKind) -> StreamRequest {
        StreamRequest {
            pod_namespace: self.namespace.clone(),
            pod_name: self.pod.clone(),
            pod_uid: String::new(),
            container: self.container.clone(),
            kind,
        }
    }
}

/// Prints how the node is.
///
/// # Errors
/// The agent does not answer.
pub async fn status(socket: &Path, json: bool) -> Result<(), ClientError> {
    let status = Client::connect(socket).await?.ask(&LocalRequest::Status).await?;
    if json {
        return print(&format!("{status:#}\n"));
    }
    let text = |key: &str| plain(&status[key]);
    let hub = &status["hub"];
    let link = match (hub["connected"].as_bool(), hub["last_error"].as_str()) {
        (Some(true), _) => format!("connected to {}", plain(&hub["hub"])),
        (_, Some(error)) => format!("not connected: {error}"),
        (_, None) => "not connected".to_owned(),
    };
    let rows = [
        ("Node", text("node")),
        ("Hub", link),
        ("Pods", format!("{} ready of {}", text("ready"), text("pods"))),
        ("Pod CIDR", text("podCIDR")),
        ("Address", text("address")),
        ("Desired objects", desired(&status)),
        ("Reports waiting", text("reportsWaiting")),
        ("State", text("stateDir")),
        ("Version", text("version")),
    ];
    let mut out = String::new();
    for (name, value) in rows {
        out.push_str(&format!("{name:<16} {value}\n"));
    }
    print(&out)
}

fn desired(status: &Value) -> String {
    let complete = status["desiredComplete"] == true;
    let note = if complete { "" } else { " (the set is not complete)" };
    format!("{}{note}", plain(&status["desiredObjects"]))
}

/// Prints what runs.
///
/// # Errors
/// The agent does not answer.
pub async fn pods(socket: &Path, json: bool) -> Result<(), ClientError> {
    let pods = Client::connect(socket).await?.ask(&LocalRequest::Pods).await?;
    if json {
        return print(&format!("{pods:#}\n"));
    }
    let mut table =
        Table::new(["NAMESPACE", "POD", "CONTAINER", "STATE", "READY", "RESTARTS", "IP"]);
    for pod in pods.as_array().into_iter().flatten() {
        let (namespace, name) = (plain(&pod["pod"]["namespace"]), plain(&pod["pod"]["name"]));
        let ip = plain(&pod["status"]["podIP"]);
        let list = |key: &str| pod["status"][key].as_array().into_iter().flatten();
        for container in list("initContainerStatuses")
            .chain(list("containerStatuses"))
            .chain(list("ephemeralContainerStatuses"))
        {
            table.row([
                namespace.clone(),
                name.clone(),
                plain(&container["name"]),
                state(container, pod["deleting"] == true),
                if container["ready"] == true { "yes" } else { "no" }.to_owned(),
                plain(&container["restartCount"]),
                ip.clone(),
            ]);
        }
    }
    print(&table.to_text())
}

fn state(container: &Value, deleting: bool) -> String {
    let state = &container["state"];
    if deleting && !state["running"].is_null() {
        return "Terminating".to_owned();
    }
    if !state["running"].is_null() {
        return "Running".to_owned();
    }
    let reason = state["waiting"]["reason"].as_str();
    match (reason, state["terminated"]["reason"].as_str()) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(reason)) => {
            format!("{reason} ({})", plain(&state["terminated"]["exitCode"]))
        }
        (None, None) => "Unknown".to_owned(),
    }
}

/// Prints which images are here.
///
/// # Errors
/// The agent does not answer.
pub async fn images(socket: &Path, json: bool) -> Result<(), ClientError> {
    let images = Client::connect(socket).await?.ask(&LocalRequest::Images).await?;
    if json {
        return print(&format!("{images:#}\n"));
    }
    let mut table = Table::new(["IMAGE", "DIGEST", "LAYERS", "SIZE"]);
    for image in images.as_array().into_iter().flatten() {
        let digest: String = plain(&image["digest"]).chars().take(19).collect();
        let size = image["sizeBytes"].as_u64().unwrap_or(0);
        table.row([plain(&image["name"]), digest, plain(&image["layers"]), table::size(size)]);
    }
    print(&table.to_text())
}

/// Prints a container's log.
///
/// # Errors
/// The agent does not answer, or refuses.
pub async fn logs(socket: &Path, target: &Target, kind: StreamKind) -> Result<(), ClientError> {
    let client = Client::connect(socket).await?;
    client.stream(target.request(kind), false).await.map(drop)
}

/// Runs a command in a container; the answer is its exit code.
///
/// # Errors
/// The agent does not answer, or refuses.
pub async fn exec(
    socket: &Path,
    target: &Target,
    command: Vec<String>,
    stdin: bool,
    tty: bool,
) -> Result<u8, ClientError> {
    let client = Client::connect(socket).await?;
    let kind = StreamKind::Exec { command, stdin, stdout: true, stderr: !tty, tty };
    let _raw = terminal::raw_mode(tty);
    client.stream(target.request(kind), stdin).await
}

/// Replaces the desired objects by those of a JSON file: one object, a list, or a `List`.
///
/// # Errors
/// The file cannot be read, or the agent does not answer.
pub async fn put_desired(socket: &Path, file: &Path) -> Result<(), ClientError> {
    let bytes =
        std::fs::read(file).map_err(|err| ClientError::File { path: file.to_owned(), err })?;
    let mut parsed: Value = serde_json::from_slice(&bytes)
        .map_err(|err| ClientError::Json { path: file.to_owned(), err })?;
    let items = parsed.get_mut("items").map(Value::take);
    let objects = match items.unwrap_or(parsed) {
        Value::Array(objects) => objects,
        one @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => vec![one],
        Value::Object(one) => vec![Value::Object(one)],
    };
    let answer = Client::connect(socket).await?.ask(&LocalRequest::PutDesired { objects }).await?;
    print(&format!("{answer}\n"))
}

/// A value as a person writes it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// What comes from elsewhere must not talk to the terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn print(text: &str) -> Result<(), ClientError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(ClientError::Output)
}

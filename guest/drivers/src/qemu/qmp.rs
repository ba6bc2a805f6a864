//! QMP, QEMU's control protocol: JSON objects on a socket, one a line.
//!
//! A task reads the socket for as long as it is open, so that events never fill it. Requests are answered in order.
//!
//! Source: QEMU's `docs/interop/qmp-spec.rst`, `qapi/migration.json` and `qapi/block-core.json`.

use std::io::IoSlice;
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tracing::debug;
use vm::VmError;

/// A control connection that is past its greeting.
#[derive(Debug)]
pub(super) struct Qmp {
    requests: OwnedWriteHalf,
    answers: mpsc::Receiver<Value>,
    migration: watch::Receiver<String>,
}

impl Qmp {
    /// Takes over a fresh connection. `disk_failed` is told why the guest's disk cannot be used.
    pub(super) fn new(stream: UnixStream, disk_failed: impl Fn(&str) + Send + 'static) -> Self {
        let (reader, requests) = stream.into_split();
        // One request is under way at a time.
        let (answer, answers) = mpsc::channel(1);
        let (status, migration) = watch::channel(String::new());
        tokio::spawn(read(reader, answer, status, disk_failed));
        Self {
            requests,
            answers,
            migration,
        }
    }

    /// Leaves negotiation mode; to be done first.
    pub(super) async fn negotiate(&mut self) -> Result<(), VmError> {
        self.execute("qmp_capabilities", json!({})).await?;
        let capabilities = json!({"capabilities": [
            // The guest's memory is a file already.
            {"capability": "x-ignore-shared", "state": true},
            {"capability": "events", "state": true},
        ]});
        self.execute("migrate-set-capabilities", capabilities)
            .await
            .map(drop)
    }

    /// Sends one request and waits for its answer.
    pub(super) async fn execute(
        &mut self,
        command: &str,
        arguments: Value,
    ) -> Result<Value, VmError> {
        let sent = self.requests.write_all(&line(command, &arguments)).await;
        self.answer(command, sent).await
    }

    /// Gives QEMU a descriptor, to be used under `name`. It travels with the request.
    pub(super) async fn give(&mut self, name: &str, fd: &impl AsRawFd) -> Result<(), VmError> {
        let request = line("getfd", &json!({"fdname": name}));
        let fds = [fd.as_raw_fd()];
        let stream = self.requests.as_ref();
        let send = || {
            let bytes = [IoSlice::new(&request)];
            let rights = [ControlMessage::ScmRights(&fds)];
            let sent = sendmsg::<()>(stream.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None)?;
            // A line is far shorter than a socket's buffer, so it goes whole or not at all.
            if sent == request.len() {
                Ok(())
            } else {
                Err(std::io::ErrorKind::WriteZero.into())
            }
        };
        let sent = stream.async_io(Interest::WRITABLE, send).await;
        self.answer("getfd", sent).await.map(drop)
    }

    async fn answer(&mut self, command: &str, sent: std::io::Result<()>) -> Result<Value, VmError> {
        let failed = |problem: String| VmError::Vmm {
            doing: format!("QMP {command}"),
            problem,
        };
        sent.map_err(|error| failed(error.to_string()))?;
        let answer = self
            .answers
            .recv()
            .await
            .ok_or_else(|| failed("QEMU hung up".into()))?;
        match answer.get("error") {
            Some(error) => Err(failed(
                error["desc"].as_str().unwrap_or("no reason given").into(),
            )),
            None => Ok(answer["return"].clone()),
        }
    }

    /// Waits until a migration, in or out, is done.
    pub(super) async fn migrated(&mut self) -> Result<(), VmError> {
        let failed = |problem: &str| VmError::Vmm {
            doing: "migrate".into(),
            problem: problem.into(),
        };
        let over = |status: &String| status == "completed" || status == "failed";
        let status = self.migration.wait_for(over).await;
        if *status.map_err(|_| failed("QEMU hung up"))? == "completed" {
            return Ok(());
        }
        let told = self.execute("query-migrate", json!({})).await?;
        let reason = told["error-desc"].as_str();
        Err(failed(reason.unwrap_or("no reason given")))
    }
}

/// What of a disk's error counts: what was being done, and why it failed.
fn disk_problem(data: &Value) -> String {
    let field = |name: &str| data[name].as_str().unwrap_or("unknown").to_owned();
    format!("{}: {}", field("operation"), field("reason"))
}

fn line(command: &str, arguments: &Value) -> Vec<u8> {
    format!("{}\n", json!({"execute": command, "arguments": arguments})).into_bytes()
}

/// Sorts what comes: answers to whoever asked, the state of a migration to whoever waits for it, the rest to the log.
async fn read(
    reader: OwnedReadHalf,
    answers: mpsc::Sender<Value>,
    migration: watch::Sender<String>,
    disk_failed: impl Fn(&str),
) {
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if message.get("return").is_some() || message.get("error").is_some() {
            if answers.send(message).await.is_err() {
                return;
            }
        } else if message["event"] == "MIGRATION" {
            let status = message["data"]["status"].as_str().unwrap_or_default();
            migration.send_replace(status.into());
        } else if message["event"] == "BLOCK_IO_ERROR" {
            disk_failed(&disk_problem(&message["data"]));
        } else {
            debug!(%line, "QMP");
        }
    }
}

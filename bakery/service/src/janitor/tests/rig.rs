//! A nats-server of a test's own, with the streams and buckets of a bakery: a janitor keeps the whole of a queue, and two tests would take
//! each other's for theirs.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream::{self, kv};
use bus::lease::Leases;
use bus::retry::{self, Failure, Policy};
use schemas::names::{bucket, cancel_key, stream};
use schemas::{JobResult, JobSubject, Token};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::janitor::Janitor;

/// 20 s for whatever a test waits for, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

const JOB: &[u8] = include_bytes!("../../../../../schemas/examples/job.json");

pub(super) struct Rig {
    pub(super) janitor: Janitor,
    pub(super) tenant: Token,
    server: Child,
    program: OsString,
    port: String,
    store: TempDir,
}

/// A janitor that runs beside the test.
pub(super) struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// What a test waits for is not there yet.
#[derive(Debug, thiserror::Error)]
#[error("not yet")]
struct NotYet;

impl Rig {
    /// None where there is no nats-server to start.
    pub(super) async fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("NATS_SERVER") else {
            eprintln!("skipped: no NATS_SERVER");
            return None;
        };
        let store = tempfile::tempdir().unwrap();
        let server = serve(&program, &store, "-1");
        let url = url_of(&server, &store).await;
        let (_, port) = url.rsplit_once(':').unwrap();
        let client = async_nats::connect(&url).await.unwrap();
        let jetstream = jetstream::new(client);
        bus::streams::provision(&jetstream, 1).await.unwrap();
        Some(Self {
            janitor: janitor(&jetstream, "bakery-1").await,
            tenant: "acme".parse().unwrap(),
            server,
            program,
            port: port.to_owned(),
            store,
        })
    }

    /// Kills the server, and starts it again with what it stored.
    pub(super) async fn restart(&mut self) {
        self.server.kill().await.unwrap();
        self.server = serve(&self.program, &self.store, &self.port);
        url_of(&self.server, &self.store).await;
    }

    /// The janitor of another bakery.
    pub(super) async fn another(&self, name: &str) -> Janitor {
        janitor(&self.janitor.jetstream, name).await
    }

    pub(super) fn subject(&self) -> JobSubject {
        let subject = format!("build.job.default.untrusted.5.{}", self.tenant);
        subject.parse().unwrap()
    }

    /// Publishes a body, and gives its sequence.
    pub(super) async fn publish(&self, body: &[u8]) -> u64 {
        self.publish_to(self.subject().to_string(), body).await
    }

    pub(super) async fn publish_to(&self, subject: String, body: &[u8]) -> u64 {
        let published = self
            .janitor
            .jetstream
            .publish(subject, body.to_vec().into());
        published.await.unwrap().await.unwrap().sequence
    }

    pub(super) async fn cancel(&self, id: &Token) {
        let key = cancel_key(&self.tenant, id);
        self.janitor.cancels.put(key, "".into()).await.unwrap();
    }

    /// Waits for a result.
    pub(super) async fn result(&self, id: &Token) -> JobResult {
        let jetstream = &self.janitor.jetstream;
        // Where the server is away for a moment, there is none yet.
        let fetch = async || bus::results::fetch(jetstream, &self.tenant, id).await;
        until(async || fetch().await.ok().flatten()).await
    }

    /// Messages in a stream.
    pub(super) async fn count(&self, stream: &str) -> u64 {
        let jetstream = &self.janitor.jetstream;
        let stream = jetstream.get_stream(stream).await.unwrap();
        stream.cached_info().state.messages
    }

    /// Waits until the queue is empty.
    pub(super) async fn drained(&self) {
        until(async || (self.count(stream::JOBS).await == 0).then_some(())).await;
    }

    /// Waits until exactly these consumers are there.
    pub(super) async fn consumers(&self, expected: &[String]) {
        use futures_util::TryStreamExt as _;
        let queue = self.janitor.queue().await;
        until(async || {
            let names: Vec<String> = queue.consumer_names().try_collect().await.unwrap();
            (names == expected).then_some(())
        })
        .await;
    }
}

impl Running {
    pub(super) fn start(janitor: Janitor) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(janitor.keep(shutdown.clone()));
        Self { shutdown, task }
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// A job with a new id that may wait for so long.
pub(super) fn job(queue_s: u32) -> (Token, Vec<u8>) {
    let id = Uuid::new_v4();
    let mut job: serde_json::Value = serde_json::from_slice(JOB).unwrap();
    job["id"] = json!(id);
    job["timeouts"] = json!({ "queue_s": queue_s });
    (id.into(), job.to_string().into_bytes())
}

/// Waits until `look` gives something.
pub(super) async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let policy = Policy {
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(100),
        ..Policy::up_to(PATIENCE)
    };
    let looked = retry::with(policy, "look", || async {
        look().await.ok_or(Failure::Transient(NotYet))
    });
    looked.await.unwrap()
}

async fn janitor(jetstream: &jetstream::Context, name: &str) -> Janitor {
    let open = async |bucket: &str| -> kv::Store { jetstream.get_key_value(bucket).await.unwrap() };
    Janitor {
        client: jetstream.client(),
        jetstream: jetstream.clone(),
        leases: Leases::open(jetstream).await.unwrap(),
        records: open(bucket::JOBS).await,
        cancels: open(bucket::CANCELS).await,
        name: name.parse().unwrap(),
    }
}

fn serve(program: &OsStr, store: &TempDir, port: &str) -> Child {
    Command::new(program)
        .args(["--jetstream", "--addr", "127.0.0.1", "--port", port])
        .arg("--store_dir")
        .arg(store.path())
        .arg("--ports_file_dir")
        .arg(store.path())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The address of a server, once it listens.
async fn url_of(server: &Child, store: &TempDir) -> String {
    let ports = format!("nats-server_{}.ports", server.id().unwrap());
    let ports = store.path().join(ports);
    until(async || url_in(&std::fs::read(&ports).ok()?)).await
}

/// The address in the file that the server writes then.
fn url_in(ports: &[u8]) -> Option<String> {
    let ports: serde_json::Value = serde_json::from_slice(ports).ok()?;
    ports["nats"][0].as_str().map(str::to_owned)
}

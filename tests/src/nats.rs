//! A real nats-server with `JetStream` on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::launch::{Launch, OnDisk, ServerOptions};
use crate::process::Process;
use crate::running::Running;
use crate::tools::Tools;

/// 30 s: it takes 20 ms on an idle machine, and longer the more `JetStream` has to recover.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// 10 s for a shutdown, which takes milliseconds.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A running nats-server. Dropping it kills it.
#[derive(Debug)]
pub struct NatsServer {
    process: Process,
    url: String,
}

impl NatsServer {
    /// Starts one that keeps its streams, log and configuration in `directory`, which is made if it is not there. Streams of
    /// an earlier run are recovered. Returns when it accepts connections.
    pub async fn start(tools: &Tools, directory: &Path, options: ServerOptions) -> Result<Self> {
        let ports = directory.join("ports");
        // A server that was killed leaves its file, and its process id may come again.
        let _absent = fs::remove_dir_all(&ports);
        fs::create_dir_all(&ports).with_context(|| format!("make {}", ports.display()))?;
        let configuration = directory.join("nats.conf");
        fs::write(&configuration, configure(directory, &ports, options))
            .with_context(|| format!("write {}", configuration.display()))?;
        let mut process = Process::spawn(Launch {
            name: "nats-server",
            program: tools.nats_server.clone(),
            arguments: vec!["--config".into(), configuration.into()],
            environment: Vec::new(),
            log: directory.join("nats-server.log"),
            lifetime: options.lifetime,
            leftovers: Vec::new(),
        })?;
        let announced = ports_file(&ports, process.id());
        let url = process
            .ready(READY_DEADLINE, async || read_url(&announced))
            .await?;
        Ok(Self { process, url })
    }

    /// Its address, as `nats://127.0.0.1:4222`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port, to start it again at the same address.
    pub fn port(&self) -> Result<u16> {
        let (_, port) = self.url.rsplit_once(':').context("an address has a port")?;
        port.parse()
            .with_context(|| format!("read the port of {}", self.url))
    }

    /// Its process id.
    pub fn id(&self) -> Pid {
        self.process.id()
    }

    /// Kills it and waits for its end. What it had acknowledged is on disk.
    pub fn kill_in_place(&mut self) -> Result<()> {
        self.process.kill_in_place()?;
        Ok(())
    }

    /// Shuts it down.
    pub async fn stop(self) -> Result<()> {
        self.process.stop(STOP_GRACE).await?;
        Ok(())
    }

    /// Leaves it running. It should have been started [detached](crate::launch::Lifetime::Detached).
    pub fn detach(self) -> Result<Running> {
        self.process.detach()
    }
}

/// The part of the ports file that we read.
#[derive(Deserialize)]
struct Announced {
    nats: Vec<String>,
}

fn configure(directory: &Path, ports: &Path, options: ServerOptions) -> String {
    // A JSON string is a string of nats-server's configuration language too. -1 asks for a free port.
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let port = options.port.map_or(-1, i32::from);
    let sync_interval = match options.on_disk {
        OnDisk::AtOnce => "always",
        OnDisk::Later => "2m",
    };
    format!(
        "listen: \"127.0.0.1:{port}\"\n\
         ports_file_dir: {}\n\
         jetstream {{\n  store_dir: {}\n  sync_interval: {sync_interval}\n}}\n",
        quoted(ports),
        quoted(&directory.join("jetstream")),
    )
}

fn ports_file(ports: &Path, server: Pid) -> PathBuf {
    ports.join(format!("nats-server_{server}.ports"))
}

/// The address in the ports file, once it is there in whole.
fn read_url(path: &Path) -> Option<String> {
    let announced: Announced = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    announced.nats.into_iter().next()
}

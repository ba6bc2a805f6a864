//! A whole stack on this machine: two servers, one bakery, one worker, all on loopback.
//!
//! ```text
//! <directory>/
//!   lock                     held while a stack is started or owned
//!   running.json             what `make up` left running
//!   nats/ s3/                the servers' data and logs
//!   bakery.toml worker.toml  what the services are told
//!   bakery/ worker/          their state; the worker's can be deleted at any time it does not run
//!   bakery.log worker.log
//! ```
//!
//! What always holds: one stack in one directory at a time; a stack that is dropped leaves no process; whatever state an
//! interrupted one left is used again.

mod config;
mod lock;
mod record;
mod registry;
mod servers;
pub mod service;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream;
use nix::sys::signal::Signal;

use config::{BakeryConfig, Shared, WorkerConfig};
pub(crate) use lock::acquire;
pub use record::Record;
pub use registry::{Reachable, Registry};
pub use servers::Servers;
pub use service::{GRACE, Service};

use crate::launch::Lifetime;
use crate::process::Process;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::project::Project;
use crate::state::State;
use crate::tools::Tools;
use crate::wait;

/// The tenant whose environments a stack has.
pub const TENANT: &str = "default";

/// A value that must be in no snapshot: a bake that has it in memory or on disk publishes nothing.
pub const CANARY: &str = "canary-5b1f0c1e-7d0b-4f5e-8a35-d1c9a1f4b0de";

/// What stack to start.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Where it keeps everything.
    pub directory: PathBuf,
    /// Whether it ends with its owner.
    pub lifetime: Lifetime,
    /// Jobs that its worker runs at once.
    pub slots: u32,
    /// Files with the templates and environments that it has.
    pub definitions: Vec<PathBuf>,
    /// Which registries the setup of its environments may reach.
    pub registries: Reachable,
    /// The certificate authorities that its guests trust, and that it trusts itself when it fetches a source.
    pub ca_bundle: PathBuf,
}

/// A running stack. Dropping it kills all of it.
#[derive(Debug)]
pub struct Stack {
    // In the order in which they are dropped: who uses before what is used.
    /// Runs jobs.
    pub worker: Process,
    /// Bakes snapshots.
    pub bakery: Process,
    /// Messages and objects.
    pub servers: Servers,
    /// How its services were started.
    pub services: Services,
    lock: File,
}

/// The services of a stack, and how to start them.
#[derive(Debug, Clone)]
pub struct Services {
    /// `bakery serve`.
    pub bakery: Service,
    /// The worker.
    pub worker: Service,
}

impl Stack {
    /// Starts one, in phases.
    pub async fn start(
        options: &StackOptions,
        state: &State,
        progress: &mut Progress,
    ) -> Result<Self> {
        let (lock, programs) = (acquire(&options.directory)?, Programs::find()?);
        let tools = progress
            .phase("nats-server and SeaweedFS are installed", async {
                Tools::install(state)
            })
            .await?;
        let servers = progress
            .phase(
                "nats-server and SeaweedFS are started",
                Servers::start(&tools, &options.directory, options.lifetime),
            )
            .await?;
        let registries = progress
            .phase("registries are found", async {
                options.registries.find(state, &programs)
            })
            .await?;
        let services = Services::configure(options, &programs, &servers, &registries)?;
        progress
            .phase(
                "streams, buckets and definitions are made",
                services.provision(&options.definitions),
            )
            .await?;
        let (bakery, worker) = progress
            .phase(
                "bakery and worker are started",
                services.start(options.lifetime),
            )
            .await?;
        Ok(Self {
            worker,
            bakery,
            servers,
            services,
            lock,
        })
    }

    /// The variables that a client needs.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.services.worker.environment.clone()
    }

    /// A connection to its NATS server.
    pub async fn connect(&self) -> Result<jetstream::Context> {
        let url = self.servers.nats.url();
        let client = async_nats::connect(url).await;
        Ok(jetstream::new(
            client.with_context(|| format!("connect to {url}"))?,
        ))
    }

    /// Stops all of it, users before what they use.
    pub async fn stop(self) -> Result<()> {
        let (worker, bakery) = tokio::join!(self.worker.stop(GRACE), self.bakery.stop(GRACE));
        self.servers.stop().await?;
        for (name, status) in [("worker", worker?), ("bakery", bakery?)] {
            if !status.success() {
                bail!("{name} was asked to end, and ended with {status}");
            }
        }
        Ok(())
    }

    /// Kills the bakery at once, as a power cut would.
    pub async fn kill_bakery(&mut self) -> Result<()> {
        self.bakery.signal(Signal::SIGKILL)?;
        wait::until("the bakery's end", GRACE, async || self.bakery.ended()).await?;
        Ok(())
    }

    /// Starts the bakery again after it has ended.
    pub async fn start_bakery(&mut self) -> Result<()> {
        self.bakery = self.services.bakery.start(Lifetime::Owner).await?;
        Ok(())
    }

    /// Leaves all of it running, with a record in its directory. It should have been started detached.
    pub fn detach(self, directory: &Path) -> Result<Record> {
        let environment = self.environment();
        let [nats, s3] = self.servers.detach()?;
        let record = Record {
            killed: vec![s3.name.clone()],
            processes: vec![self.worker.detach()?, self.bakery.detach()?, nats, s3],
            environment,
        };
        record.write(directory)?;
        drop(self.lock);
        Ok(record)
    }
}

impl Services {
    /// Writes their configuration.
    pub fn configure(
        options: &StackOptions,
        programs: &Programs,
        servers: &Servers,
        registries: &BTreeMap<String, Registry>,
    ) -> Result<Self> {
        let directory = &options.directory;
        let shared = Shared::of(options, servers, registries);
        let services = Self {
            bakery: service(
                "bakery",
                &programs.bakery,
                vec!["serve".to_owned()],
                directory,
                servers,
            ),
            worker: service("worker", &programs.worker, Vec::new(), directory, servers),
        };
        let bakery = BakeryConfig {
            state: directory.join("bakery"),
            agent: programs.agent.clone(),
            canaries: vec![CANARY.to_owned()],
            shared: shared.clone(),
        };
        config::write(&services.bakery.config, &bakery)?;
        let worker = WorkerConfig {
            name: "w1".to_owned(),
            state: directory.join("worker"),
            slots: options.slots,
            trust: vec!["trusted".to_owned(), "untrusted".to_owned()],
            untrusted_under_tcg: true,
            shared,
        };
        config::write(&services.worker.config, &worker)?;
        Ok(services)
    }

    /// Makes streams and buckets, and stores definitions.
    pub async fn provision(&self, definitions: &[PathBuf]) -> Result<()> {
        self.bakery.run(&["init"]).await?;
        self.apply(definitions).await
    }

    /// Stores definitions.
    pub async fn apply(&self, definitions: &[PathBuf]) -> Result<()> {
        let mut apply = vec!["apply", "--tenant", TENANT];
        for definition in definitions {
            apply.push(
                definition
                    .to_str()
                    .context("the path of a definition is UTF-8")?,
            );
        }
        self.bakery.run(&apply).await
    }

    /// Has the bakery that serves bake an environment, with the inputs that a project's tree has.
    pub async fn bake(&self, environment: &str, project: &Project) -> Result<()> {
        let directory = project.path().to_str().context("a path in UTF-8")?;
        let arguments = ["bake", environment, "--dir", directory];
        self.bakery.run(&arguments).await
    }

    /// Starts both, and waits until they serve.
    pub async fn start(&self, lifetime: Lifetime) -> Result<(Process, Process)> {
        tokio::try_join!(self.bakery.start(lifetime), self.worker.start(lifetime))
    }
}

/// A service whose files lie in `directory`.
fn service(
    name: &'static str,
    program: &Path,
    arguments: Vec<String>,
    directory: &Path,
    servers: &Servers,
) -> Service {
    Service {
        name,
        program: program.to_owned(),
        arguments,
        config: directory.join(format!("{name}.toml")),
        directory: directory.to_owned(),
        environment: environment(servers),
    }
}

/// The variables through which a client finds the servers, and whose jobs it submits.
fn environment(servers: &Servers) -> Vec<(String, String)> {
    let tenant = ("SOURDOUGH_TENANT".to_owned(), TENANT.to_owned());
    let mut environment = servers.environment();
    environment.push(tenant);
    environment
}

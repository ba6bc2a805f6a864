//! A fleet on this machine: nats-server with its streams on disk, `SeaweedFS`, a bakery that keeps the queue in order, and as many workers
//! as are asked for.
//!
//! ```text
//! <directory>/              emptied at the start, and at the end if all went well
//!   nats/ s3/ bakery/ bakery.toml bakery.log
//!   <worker>/worker.toml    what it is told
//!   <worker>/worker.log     of its last start
//!   <worker>/worker/        its state
//! ```
//!
//! What always holds: a fleet that was stopped leaves no process, and one that is finished no file; servers that are started again have
//! their streams, objects and addresses.

mod environments;
mod memory_disk;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt as _;
use schemas::guest::CA_BUNDLE;
use schemas::names::{self, bucket, stream};
use schemas::{Token, WorkerState};

use environments::Environments;
pub use memory_disk::in_memory;

use crate::launch::{Lifetime, ServerOptions};
use crate::left;
use crate::nats::NatsServer;
use crate::process::Process;
use crate::programs::Programs;
use crate::queue::Queue;
use crate::s3::S3Server;
use crate::stack::{GRACE, Reachable, Servers, Service, Services, StackOptions, acquire};
use crate::state::State;
use crate::tools::Tools;
use crate::wait;

/// 1 min for what workers do after the last result, orphans of a killed fake worker included: their steps take seconds.
const CLEAN_DEADLINE: Duration = Duration::from_mins(1);

/// 512 MiB of disk for a slot: the small machines have 256, and fake guests write nothing. By default a worker leaves room for the disks
/// of real builds, and with many slots would take fewer jobs than it has slots.
const SLOT_DISK_MIB: u32 = 512;

/// What the workers of a fleet run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guests {
    /// Directories, with environments of every fate.
    Fake,
    /// Small virtual machines, all of them steady: their template is baked for the first job.
    Real,
}

/// A running fleet. Dropping it kills it and leaves its files, to be read. Its workers belong to whoever starts them.
#[derive(Debug)]
pub struct Fleet {
    // In the order in which they are dropped: who uses before what is used.
    bakery: Process,
    /// Messages and objects.
    pub servers: Servers,
    /// A publisher for the tenant of a stack; its jobs' environments are there.
    pub queue: Queue,
    environments: Environments,
    services: Services,
    tools: Tools,
    directory: PathBuf,
    _lock: File,
}

impl Fleet {
    /// Starts servers and a bakery, and makes the environments of one tenant.
    pub async fn start(state: &State, name: &str, guests: Guests) -> Result<Self> {
        Self::start_with(state, name, guests, ServerOptions::default()).await
    }

    /// The same, with servers that are set up otherwise.
    pub async fn start_with(
        state: &State,
        name: &str,
        guests: Guests,
        options: ServerOptions,
    ) -> Result<Self> {
        let directory = state.path().join("fleet").join(name);
        let (lock, programs) = (acquire(&directory)?, Programs::find()?);
        empty(&directory)?;
        let tools = Tools::install(state)?;
        let servers = Servers::start_with(&tools, &directory, options).await?;
        let services = configure(&directory, &programs, &servers, guests)?;
        services.bakery.run(&["init"]).await?;
        let queue = Queue::open(&servers).await?;
        let environments = Environments::of(guests, &servers, &queue).await?;
        let bakery = services.bakery.start(Lifetime::Owner).await?;
        let fleet = Self {
            bakery,
            servers,
            queue,
            environments,
            services,
            tools,
            directory,
            _lock: lock,
        };
        fleet.define(&fleet.queue.tenant).await?;
        Ok(fleet)
    }

    /// A publisher for another tenant, whose source and environments are made.
    pub async fn tenant(&self, name: &str) -> Result<Queue> {
        let tenant = Token::parse(name).context("a tenant's name is a token")?;
        self.define(&tenant).await?;
        Ok(self.queue.of_tenant(&tenant))
    }

    /// The same, but the snapshots of its environments are not there before [`Fleet::bake`]. With fake guests only.
    pub async fn tenant_to_be(&self, name: &str) -> Result<Queue> {
        let tenant = Token::parse(name).context("a tenant's name is a token")?;
        self.promise(&tenant).await?;
        Ok(self.queue.of_tenant(&tenant))
    }

    /// A worker to start, with a directory of its own. `change` has the last word about its configuration.
    pub fn worker(
        &self,
        name: &str,
        pool: &Token,
        slots: u32,
        change: impl FnOnce(&mut toml::Table),
    ) -> Result<Service> {
        let directory = self.directory.join(name);
        self.services
            .worker
            .sibling("worker", &directory, |config| {
                config.insert("name".to_owned(), name.into());
                config.insert("pool".to_owned(), pool.as_str().into());
                config.insert("slots".to_owned(), slots.into());
                config.insert("slot_disk_mib".to_owned(), SLOT_DISK_MIB.into());
                change(config);
            })
    }

    /// Kills nats-server at once and starts it again with what it had stored. `down` comes between.
    pub async fn restart_nats(&mut self, down: impl Future<Output = ()>) -> Result<()> {
        let options = ServerOptions {
            port: Some(self.servers.nats.port()?),
            ..ServerOptions::default()
        };
        self.servers.nats.kill_in_place()?;
        down.await;
        let directory = self.directory.join("nats");
        self.servers.nats = NatsServer::start(&self.tools, &directory, options).await?;
        Ok(())
    }

    /// Kills S3 at once and starts it again with what it had stored. `down` comes between.
    pub async fn restart_s3(&mut self, down: impl Future<Output = ()>) -> Result<()> {
        let s3 = &mut self.servers.s3;
        let (port, credentials) = (s3.port(), s3.credentials().clone());
        s3.kill_in_place()?;
        down.await;
        let directory = self.directory.join("s3");
        *s3 = S3Server::start_again(&self.tools, &directory, port, credentials).await?;
        Ok(())
    }

    /// What a worker says of itself.
    pub async fn said_by(&self, worker: &str) -> Result<Option<WorkerState>> {
        let workers = self.queue.jetstream().get_key_value(bucket::WORKERS);
        let workers = workers.await.context("open the list of workers")?;
        let said = workers.get(worker).await.context("ask for a worker")?;
        let said = said.map(|said| WorkerState::parse(&said)).transpose();
        said.context("read what a worker says")
    }

    /// How many results are stored for a job.
    pub async fn results_of(&self, queue: &Queue, job_id: &str) -> Result<usize> {
        let job_id = Token::parse(job_id).context("read a job's id")?;
        let subject = names::report_subject(&queue.tenant, &job_id);
        count(queue, stream::RESULTS, &subject).await
    }

    /// How many dead letters there are for a job.
    pub async fn letters_of(&self, queue: &Queue, job_id: &str) -> Result<usize> {
        let job_id = Token::parse(job_id).context("read a job's id")?;
        let subject = names::dead_subject(&queue.tenant, &job_id);
        count(queue, stream::DEAD, &subject).await
    }

    /// How many jobs of a publisher nobody has acknowledged.
    pub async fn waiting(&self, queue: &Queue) -> Result<usize> {
        count(queue, stream::JOBS, &queue.subject().to_string()).await
    }

    /// Waits until no job of these workers has left anything behind.
    pub async fn is_clean(&self, workers: &[&Service]) -> Result<()> {
        let states: Vec<_> = workers.iter().map(|worker| state_of(worker)).collect();
        let mut left = Vec::new();
        let clean = wait::until(
            "nothing to be left of any job",
            CLEAN_DEADLINE,
            async || {
                left = left::of_jobs(&self.directory, &states)?;
                Ok(left.is_empty().then_some(()))
            },
        );
        clean.await.with_context(|| format!("{left:#?}"))
    }

    /// Ends all of it and removes what it kept: nobody has a question any more.
    pub async fn finish(self) -> Result<()> {
        let directory = self.directory.clone();
        self.stop().await?;
        empty(&directory)
    }

    /// Ends the bakery and the servers; fails where one of them ends badly, or a process is left. Their files stay.
    pub async fn stop(mut self) -> Result<()> {
        let status = self.bakery.stop(GRACE).await?;
        ensure!(status.success(), "bakery ended with {status}");
        self.servers.nats.kill_in_place()?;
        self.servers.s3.kill_in_place()?;
        let left = left::processes_that_name(&self.directory);
        ensure!(left.is_empty(), "still running: {left:?}");
        Ok(())
    }
}

/// How many messages of a subject a stream has.
async fn count(queue: &Queue, stream: &str, subject: &str) -> Result<usize> {
    let context = || format!("count {subject} in {stream}");
    let stream = queue.jetstream().get_stream_no_info(stream).await;
    let stream = stream.with_context(context)?;
    let counts = stream.info_with_subjects(subject).await;
    let counts = counts.with_context(context)?.try_collect().await;
    let counts: Vec<_> = counts.with_context(context)?;
    Ok(counts.iter().map(|(_, count)| count).sum())
}

/// The state directory of a worker, as [`Fleet::worker`] lays it out.
fn state_of(worker: &Service) -> PathBuf {
    worker.directory.join(worker.name)
}

/// Removes everything in a directory but the lock.
fn empty(directory: &Path) -> Result<()> {
    let context = || format!("empty {}", directory.display());
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else if path.ends_with("lock") {
            Ok(())
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(context)?;
    }
    Ok(())
}

/// Writes what bakery and workers are told.
fn configure(
    directory: &Path,
    programs: &Programs,
    servers: &Servers,
    guests: Guests,
) -> Result<Services> {
    let options = StackOptions {
        directory: directory.to_owned(),
        lifetime: Lifetime::Owner,
        slots: 1,
        definitions: Vec::new(),
        registries: Reachable::Npm,
        ca_bundle: CA_BUNDLE.into(),
    };
    // No guest has a way out, so no registry is looked for.
    let mut services = Services::configure(&options, programs, servers, &BTreeMap::new())?;
    if guests == Guests::Fake {
        services.worker.program.clone_from(&programs.fake_worker);
    }
    Ok(services)
}

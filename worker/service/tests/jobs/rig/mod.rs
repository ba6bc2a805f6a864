//! A worker in this process, with a fake driver, between a real nats-server and an S3 server in this process; and a bakery that
//! bakes when the test says so.

mod bakery;
mod gate;
mod log;
mod outside;
mod publisher;
mod seen;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{self, Context, kv};
use bus::streams::{job_consumer, provision};
use bus::testing::S3Server;
use schemas::names::{self, bucket, stream};
use schemas::{Environment, HostClass, Token};
use store::{CacheConfig, Manifest, Store};
use tempfile::TempDir;
use vm::Driver as _;
use vm::fake::FakeDriver;

pub(crate) use gate::Gate;
pub(crate) use log::Chunk;
pub(crate) use seen::{given_back, heard, tried};
use workers::Worker;
pub(crate) use workers::handled;

/// 1 min: what no test takes, a busy machine included.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The worker that every test begins with.
pub(crate) const FIRST: &str = "first";

/// The worker, and everything around it.
pub(crate) struct Rig {
    /// What tells this test's names from another's, on a server that they share.
    tag: String,
    setup: Setup,
    directory: TempDir,
    s3: S3Server,
    client: async_nats::Client,
    jetstream: Context,
    driver: Arc<FakeDriver>,
    class: HostClass,
    store: Store,
    snapshots: kv::Store,
    alive: kv::Store,
    jobs: kv::Store,
    consumer: Box<Consumer<pull::Config>>,
    template: Manifest,
    environment: Environment,
    archive: Vec<u8>,
    /// Those that run; most tests have one.
    workers: Vec<Worker>,
}

/// How a test's workers are set up, and how long the server waits for a sign of life of theirs.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Whether the first worker is there from the beginning.
    pub(crate) with_worker: bool,
    /// Seconds that running jobs get when a worker is told to end.
    pub(crate) drain_s: u64,
    /// Processors of the largest guest that a slot takes.
    pub(crate) slot_vcpu: u32,
    /// Its memory.
    pub(crate) slot_memory_mib: u32,
    /// Its disk.
    pub(crate) slot_disk_mib: u32,
    /// Jobs at a time.
    pub(crate) slots: u32,
    /// Jobs that wait for a bake at a time.
    pub(crate) max_parked: u32,
    /// Before a job is delivered again; none for what the service has.
    pub(crate) ack_wait: Option<Duration>,
}

impl Rig {
    /// Starts one with a template and an environment without a snapshot; none where there is no server.
    pub(crate) async fn start(tag: &str, slots: u32) -> Result<Option<Self>> {
        let setup = Setup {
            slots,
            ..Setup::default()
        };
        Self::start_with(tag, setup).await
    }

    /// The same, with a worker that is set up otherwise.
    pub(crate) async fn start_with(tag: &str, setup: Setup) -> Result<Option<Self>> {
        // In a box, as all that is made here is large.
        Box::pin(Self::made(tag, setup)).await
    }

    async fn made(tag: &str, setup: Setup) -> Result<Option<Self>> {
        let Ok(url) = std::env::var("NATS_URL") else {
            eprintln!("skipped: no NATS_URL");
            return Ok(None);
        };
        let client = async_nats::connect(url).await?;
        let jetstream = jetstream::new(client.clone());
        provision(&jetstream, 1).await?;
        let tag = format!("{tag}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let jobs = jetstream.get_stream(stream::JOBS).await?;
        let subject = format!("build.job.{tag}.trusted.5.{tag}");
        let mut consumer = job_consumer(&subject.parse()?);
        consumer.ack_wait = setup.ack_wait.unwrap_or(consumer.ack_wait);
        let consumer = Box::new(jobs.create_consumer(consumer).await?);
        let (s3, directory) = (S3Server::start().await, tempfile::tempdir()?);
        let snapshots = jetstream.get_key_value(bucket::SNAPSHOTS).await?;
        let cache = CacheConfig {
            directory: directory.path().join("cache"),
            max_bytes: 1 << 30,
        };
        let store = Store::open(s3.objects.clone(), snapshots.clone(), cache).await?;
        let driver = Arc::new(FakeDriver::default());
        let profile = driver.profile();
        let class = HostClass::new(
            &profile.driver,
            &profile.vmm_version,
            &profile.accelerator,
            &profile.cpu_model,
        )?;
        let definition = serde_json::json!({
            "name": "widget", "template": format!("base-{tag}"), "inputs": ["lock"],
            "setup": [{"name": "deps", "sh": "echo set up; cat lock > installed"}]
        });
        let mut rig = Self {
            template: bakery::template(&driver, &class, &store, &tag, directory.path()).await?,
            environment: Environment::parse(definition.to_string().as_bytes())?,
            archive: publisher::archive()?,
            alive: jetstream.get_key_value(bucket::WORKERS).await?,
            jobs: jetstream.get_key_value(bucket::JOBS).await?,
            consumer,
            tag,
            setup,
            directory,
            s3,
            client,
            jetstream,
            driver,
            class,
            store,
            snapshots,
            workers: Vec::new(),
        };
        rig.remember_template().await?;
        rig.define(&serde_json::to_vec(&rig.environment)?).await?;
        rig.store_source().await?;
        if setup.with_worker {
            rig.start_worker(FIRST).await?;
        }
        Ok(Some(rig))
    }

    /// The template's name.
    pub(crate) fn template(&self) -> &Token {
        &self.environment.template
    }

    /// The bucket in which workers say what they are.
    pub(crate) fn alive(&self) -> kv::Store {
        self.alive.clone()
    }

    /// The name that a worker of this test has in messages.
    pub(crate) fn worker_name(&self, name: &str) -> String {
        format!("{}-{name}", self.tag)
    }

    /// A directory of this test.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The server's streams and buckets.
    pub(crate) fn jetstream(&self) -> &Context {
        &self.jetstream
    }

    /// Whose jobs are published.
    pub(crate) fn tenant(&self) -> Token {
        self.tag.parse().expect("a tag is a token")
    }

    /// Stores a definition of the environment.
    pub(crate) async fn define(&self, definition: &[u8]) -> Result<()> {
        let environments = self.jetstream.get_key_value(bucket::ENVIRONMENTS).await?;
        let key = names::environment_key(&self.tenant(), &self.environment.name);
        environments.put(key, definition.to_vec().into()).await?;
        Ok(())
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            with_worker: true,
            drain_s: 30,
            slot_vcpu: 2,
            slot_memory_mib: 1024,
            slot_disk_mib: 4096,
            slots: 1,
            max_parked: 64,
            ack_wait: None,
        }
    }
}

//! What every job of this worker uses: connections, buckets, the driver.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::Client;
use async_nats::jetstream::{self, kv};
use bus::lease::Leases;
use bus::objects::Objects;
use bus::retry::Policy;
use schemas::HostClass;
use schemas::names::bucket;
use source::{Sources, SourcesParts};
use store::Store;
use tokio::sync::watch;
use tracing::info;
use vm::Driver;

use crate::breaker::Health;
use crate::build;
use crate::cancels::Cancels;
use crate::capacity::{Capacity, Host};
use crate::config::Config;
use crate::presence::Presence;
use crate::queue::caps::Caps;
use crate::queue::tenants::Tenants;
use crate::resolve::Templates;
use crate::scratch::Scratch;
use crate::state_dir::StateDir;

/// 2 min that a job waits for S3 while it reads its source or uploads: a server restarts within it, and the build is not lost.
const WAIT_FOR_S3: Policy = Policy {
    give_up_after: Some(Duration::from_mins(2)),
    longest_wait: Duration::from_secs(5),
    ..Policy::FOREVER
};

/// The parts that jobs share; clones are cheap.
#[derive(Clone)]
pub struct Services {
    /// What the operator said.
    pub config: Arc<Config>,
    /// Its own directory.
    pub state: Arc<StateDir>,
    /// NATS.
    pub client: Client,
    /// Its streams and buckets.
    pub jetstream: jetstream::Context,
    /// S3.
    pub objects: Objects,
    /// Snapshots.
    pub store: Store,
    /// What leads to them, and says why one is not there.
    pub snapshots: kv::Store,
    /// Manifests of templates, those that were used last.
    pub templates: Templates,
    /// Sources, from wherever they lie.
    pub sources: Sources,
    /// Definitions of environments.
    pub environments: kv::Store,
    /// Records of jobs.
    pub jobs: kv::Store,
    /// Workers that are alive.
    pub workers: kv::Store,
    /// Who holds which job.
    pub leases: Leases,
    /// How many jobs of a tenant run at a time.
    pub caps: Caps,
    /// Jobs that are to end.
    pub cancels: Cancels,
    /// Whether this host is fit to run jobs.
    pub health: Health,
    /// Whether there is room for one more job's disk.
    pub scratch: Scratch,
    /// Jobs that run at a time.
    pub slots: u32,
    /// What starts VMs.
    pub driver: Arc<dyn Driver>,
    /// Where snapshots must have been made to be forked here.
    pub class: HostClass,
    /// What this worker has in hand.
    pub presence: Presence,
    /// What a VM may live beyond the limits of its job's own: [`build::life_beyond_limits`].
    pub life_beyond_limits: Duration,
    /// Turns true when no more jobs are taken, and parked ones are given back.
    pub draining: watch::Receiver<bool>,
    /// Turns true when running jobs are to be given back.
    pub give_back: watch::Receiver<bool>,
}

/// What tells a worker to end.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Turns true when no more jobs are taken, and parked ones are given back.
    pub draining: watch::Receiver<bool>,
    /// Turns true when running jobs are to be given back.
    pub give_back: watch::Receiver<bool>,
}

/// The servers, once they answer.
#[derive(Clone)]
pub struct Connections {
    /// NATS.
    pub client: Client,
    /// Its streams and buckets.
    pub jetstream: jetstream::Context,
    /// S3.
    pub objects: Objects,
}

impl Connections {
    /// Connects to both; waits, and says so, for what is away.
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let client = bus::nats::connect(&config.nats, &format!("worker {}", config.name)).await?;
        let objects = Objects::connect(&config.objects).await?;
        objects.wait_ready().await?;
        let objects = objects.patient(WAIT_FOR_S3);
        Ok(Self {
            jetstream: jetstream::new(client.clone()),
            client,
            objects,
        })
    }
}

impl Services {
    /// Connects to everything; waits, and says so, for what is away.
    pub async fn connect(
        config: Config,
        driver: Arc<dyn Driver>,
        ending: Ending,
    ) -> anyhow::Result<Self> {
        let connections = Connections::open(&config).await?;
        Box::pin(Self::assemble(config, driver, connections, ending)).await
    }

    /// The same over `connections`.
    pub async fn assemble(
        config: Config,
        driver: Arc<dyn Driver>,
        connections: Connections,
        ending: Ending,
    ) -> anyhow::Result<Self> {
        let state = Arc::new(StateDir::open(&config.state)?);
        let class = class(driver.as_ref())?;
        let buckets = Box::pin(Buckets::open(&connections.jetstream)).await?;
        let (objects, cache) = (connections.objects.clone(), config.cache(state.cache()));
        let store = Store::open(objects.clone(), buckets.snapshots.clone(), cache).await?;
        let sources = Sources::new(SourcesParts {
            objects,
            snapshots: Box::new(buckets.snapshots.clone()),
            tenants: Box::new(buckets.tenants.clone()),
            store: store.clone(),
            driver: Arc::clone(&driver),
            class: class.clone(),
            slots: state.slots(),
            config: config.sources(),
        });
        let scratch = Scratch::new(config.state.clone(), config.slot_disk_bytes());
        let slots = slots(&config, &state, &scratch)?;
        Ok(Self {
            sources,
            caps: buckets.caps(&connections.client, &config),
            leases: buckets.leases,
            cancels: Cancels::begin(buckets.cancels),
            health: Health::default(),
            presence: Presence::new(slots, config.max_parked).on(scratch.clone()),
            scratch,
            slots,
            environments: buckets.environments,
            jobs: buckets.jobs,
            workers: buckets.workers,
            snapshots: buckets.snapshots,
            config: Arc::new(config),
            state,
            client: connections.client,
            jetstream: connections.jetstream,
            objects: connections.objects,
            store,
            templates: Templates::default(),
            driver,
            class,
            draining: ending.draining,
            give_back: ending.give_back,
            life_beyond_limits: build::life_beyond_limits(),
        })
    }
}

/// The buckets of NATS that jobs need.
struct Buckets {
    snapshots: kv::Store,
    environments: kv::Store,
    jobs: kv::Store,
    workers: kv::Store,
    tenants: kv::Store,
    cancels: kv::Store,
    leases: Leases,
}

impl Buckets {
    /// Opens them; waits for `bakery init` to have made them.
    async fn open(jetstream: &jetstream::Context) -> anyhow::Result<Self> {
        Ok(Self {
            snapshots: open(jetstream, bucket::SNAPSHOTS).await?,
            environments: open(jetstream, bucket::ENVIRONMENTS).await?,
            jobs: open(jetstream, bucket::JOBS).await?,
            workers: open(jetstream, bucket::WORKERS).await?,
            tenants: open(jetstream, bucket::TENANTS).await?,
            cancels: open(jetstream, bucket::CANCELS).await?,
            leases: leases(jetstream).await?,
        })
    }

    fn caps(&self, client: &Client, config: &Config) -> Caps {
        let tenants = Tenants::begin(self.tenants.clone());
        Caps::begin(client, self.leases.clone(), tenants, config.name.clone())
    }
}

/// How many jobs run here at a time.
fn slots(config: &Config, state: &StateDir, scratch: &Scratch) -> anyhow::Result<u32> {
    let free = scratch.free_bytes().context("look at the scratch space")?;
    let cache = config.cache(state.cache());
    let host = Host::measure(free, &cache.directory, cache.max_bytes);
    let host = host.context("look at what this host has")?;
    let Capacity { slots, bound } = Capacity::of(config, &host);
    info!(slots, %bound, ?host, "slots");
    Ok(slots)
}

/// Where snapshots must have been made to be forked by that driver.
fn class(driver: &dyn Driver) -> anyhow::Result<HostClass> {
    let profile = driver.profile();
    let class = HostClass::new(
        &profile.driver,
        &profile.vmm_version,
        &profile.accelerator,
        &profile.cpu_model,
    );
    class.context("make a host class of the driver's profile")
}

/// Opens the bucket of leases; waits for `bakery init` to have made it.
async fn leases(jetstream: &jetstream::Context) -> anyhow::Result<Leases> {
    let what = "open the bucket of leases (made by `bakery init`)";
    let opened = bus::retry::with(bus::retry::Policy::FOREVER, what, || async {
        Leases::open(jetstream)
            .await
            .map_err(bus::retry::Failure::Transient)
    });
    Ok(opened.await?)
}

/// Opens a bucket; waits for `bakery init` to have made it.
async fn open(jetstream: &jetstream::Context, name: &str) -> anyhow::Result<kv::Store> {
    let what = format!("open the bucket {name} (made by `bakery init`)");
    let opened = bus::retry::with(bus::retry::Policy::FOREVER, &what, || async {
        jetstream
            .get_key_value(name)
            .await
            .map_err(bus::retry::Failure::Transient)
    });
    Ok(opened.await?)
}

//! `bakery serve`: takes the requests for its host class, bakes, and says what came of it; takes triggers; keeps snapshots what their
//! definitions say.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`queue`] | takes messages and keeps them alive |
//! | [`outcome`], [`baking`] | requests: what is baked, and what is told of it |
//! | [`triggers`] | turns a changed source into requests |
//! | [`keeper`] | bakes again what changed or is too old |
//! | [`collector`] | takes away what nobody needs |
//! | [`crate::janitor`] | keeps the queue of jobs in order |
//!
//! | what happens | event | the message |
//! | --- | --- | --- |
//! | published, or found | `published` (reason `found`) | acknowledged |
//! | the environment's or the request's fault, or nothing that time mends | `failed` | acknowledged |
//! | the host's fault | `retrying` | given back for 10 s |
//! | the host's fault, for the fifth time | `failed` | acknowledged |
//! | the event that ends it cannot be stored | none | given back for 10 s |
//! | the bakery is asked to end | `retrying` | given back for 1 s |
//! | the bakery dies | none | comes again after 30 s |
//!
//! Several requests are held at a time, so that one that waits for another bakery's bake holds up no other; one guest is made at a time.
//!
//! What always holds: the event is stored before the message is acknowledged; while a bake runs its message is kept alive;
//! when this returns no VM is left.

mod baking;
mod collector;
mod keeper;
mod outcome;
mod queue;
mod triggers;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use async_nats::jetstream::{self, kv};
use async_trait::async_trait;
use bus::lease::Leases;
use bus::objects::Objects;
use bus::{nats, streams};
use schemas::Token;
use schemas::names::{bucket, stream};
use source::{Sources, SourcesParts};
use store::{CacheConfig, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;
use vm::Driver;

use self::keeper::Keeper;
use self::outcome::Outcome;
use self::queue::{Handler, Queue};
use self::triggers::Triggers;
use crate::bakery::{Bakery, MakeInitramfs, Parts, host_class};
use crate::config::Config;
use crate::definitions::Definitions;
use crate::election::Election;
use crate::history::History;
use crate::janitor::Janitor;

/// 8 requests at a time: those that wait for another bakery cost a source's scratch files each.
const REQUESTS_AT_ONCE: usize = 8;

/// 2 triggers at a time: each may start a VM to fetch a source in.
const TRIGGERS_AT_ONCE: usize = 2;

/// Serves until `shutdown`.
pub async fn run(
    config: Arc<Config>,
    driver: Arc<dyn Driver>,
    make_initramfs: MakeInitramfs,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let _lock = take_over(&config.state)?;
    let starting = Box::pin(Server::start(config, driver, make_initramfs, &shutdown));
    let Some(server) = shutdown.run_until_cancelled(starting).await else {
        return Ok(());
    };
    let server = Arc::new(server?);
    info!(class = %server.bakery.class(), "bakery ready");
    let janitor = server.janitor().await?;
    let mut parts = JoinSet::new();
    let (requests, triggers) = (Requests(server.clone()), Triggers(server.clone()));
    let end = || shutdown.clone();
    parts.spawn(server.requests().serve(Arc::new(requests), end()));
    parts.spawn(server.triggers().serve(Arc::new(triggers), end()));
    parts.spawn(Keeper::new(server.clone()).keep(end()));
    parts.spawn(collector::serve(server.clone(), end()));
    parts.spawn(janitor.keep(end()));
    while let Some(ended) = parts.join_next().await {
        // One of them ends by itself only where it panicked; the others must not go on without it.
        shutdown.cancel();
        ended.context("a part of the bakery panicked")?;
    }
    // The last message may just have been given back.
    server.client.flush().await.context("tell NATS the last")?;
    server.client.drain().await.context("leave NATS")?;
    info!("bakery ended");
    Ok(())
}

/// A bakery with its connections.
struct Server {
    bakery: Bakery,
    objects: Objects,
    sources: Sources,
    definitions: Definitions,
    history: History,
    workers: kv::Store,
    leases: Leases,
    name: Token,
    config: Arc<Config>,
    client: async_nats::Client,
    jetstream: jetstream::Context,
}

impl Server {
    /// Waits for NATS and S3, and opens what lies there.
    async fn start(
        config: Arc<Config>,
        driver: Arc<dyn Driver>,
        make_initramfs: MakeInitramfs,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let client = nats::connect(&config.nats, "bakery").await?;
        let jetstream = jetstream::new(client.clone());
        let objects = Objects::connect(&config.objects).await?;
        objects.wait_ready().await?;
        let snapshots = open(&jetstream, bucket::SNAPSHOTS).await?;
        let cache = CacheConfig {
            directory: config.state.join("cache"),
            max_bytes: config.cache_max_bytes,
        };
        let store = Store::open(objects.clone(), snapshots.clone(), cache).await?;
        let store = store.with_grace(config.gc_grace);
        let sources = Sources::new(SourcesParts {
            objects: objects.clone(),
            snapshots: Box::new(snapshots.clone()),
            tenants: Box::new(open(&jetstream, bucket::TENANTS).await?),
            store: store.clone(),
            driver: driver.clone(),
            class: host_class(driver.profile())?,
            slots: config.state.join("slots"),
            config: config.sources.clone(),
        });
        let leases = Leases::open(&jetstream).await;
        let leases = leases.with_context(|| not_made(bucket::LEASES))?;
        let name = name();
        let parts = Parts {
            config: config.clone(),
            driver,
            make_initramfs,
            objects: objects.clone(),
            store,
            sources: sources.clone(),
        };
        let history = History::new(snapshots);
        let election = Election::among(leases.clone(), name.clone(), shutdown.clone());
        let server = Self {
            bakery: Bakery::new(parts, election, Some(history.clone()))?,
            objects,
            sources,
            definitions: Definitions::open(&jetstream).await?,
            history,
            workers: open(&jetstream, bucket::WORKERS).await?,
            leases,
            name,
            config,
            client,
            jetstream,
        };
        std::fs::create_dir_all(server.work()).context("make the work directory")?;
        Ok(server)
    }

    fn requests(&self) -> Queue {
        Queue {
            jetstream: self.jetstream.clone(),
            stream: stream::BAKE_REQUESTS,
            consumer: streams::bake_consumer(self.bakery.class()),
            at_once: REQUESTS_AT_ONCE,
        }
    }

    fn triggers(&self) -> Queue {
        Queue {
            jetstream: self.jetstream.clone(),
            stream: stream::BAKE_TRIGGERS,
            consumer: streams::trigger_consumer(),
            at_once: TRIGGERS_AT_ONCE,
        }
    }

    async fn janitor(&self) -> anyhow::Result<Janitor> {
        Ok(Janitor {
            client: self.client.clone(),
            jetstream: self.jetstream.clone(),
            leases: self.leases.clone(),
            records: open(&self.jetstream, bucket::JOBS).await?,
            cancels: open(&self.jetstream, bucket::CANCELS).await?,
            name: self.name.clone(),
        })
    }

    /// Where sources lie while they are read.
    fn work(&self) -> PathBuf {
        self.config.state.join("work")
    }
}

/// Bakes what requests ask for.
struct Requests(Arc<Server>);

#[async_trait]
impl Handler for Requests {
    async fn handle(&self, message: &jetstream::Message) -> Outcome {
        outcome::handle(&self.0, message).await
    }

    async fn abandon(&self, message: &jetstream::Message) -> Outcome {
        outcome::abandon(&self.0, message).await
    }
}

async fn open(jetstream: &jetstream::Context, bucket: &str) -> anyhow::Result<kv::Store> {
    let opened = jetstream.get_key_value(bucket).await;
    opened.with_context(|| not_made(bucket))
}

fn not_made(bucket: &str) -> String {
    format!("open the bucket {bucket}: was `bakery init` run on this server?")
}

/// By what people tell the holders of leases apart, and who ended a job in the queue: one name for each start of a bakery.
fn name() -> Token {
    Uuid::now_v7().into()
}

/// Makes the state directory this process's own, and removes what a dead bakery left in it.
fn take_over(state: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(state).with_context(|| format!("create {}", state.display()))?;
    let path = state.join("bakery.lock");
    let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!(
                "another bakery uses the state directory {}",
                state.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("lock {}", path.display()));
        }
    }
    for left in ["work", "slots"] {
        let path = state.join(left);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("clear {}", path.display()))?;
        }
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_one_bakerys_and_is_cleared_of_what_a_dead_one_left() {
        let state = tempfile::tempdir().unwrap();
        let left = state.path().join("slots/vm-a");
        std::fs::create_dir_all(&left).unwrap();
        let lock = take_over(state.path()).unwrap();
        assert!(!left.exists());
        let refused = take_over(state.path()).unwrap_err().to_string();
        assert!(refused.starts_with("another bakery uses"), "{refused}");
        drop(lock);
        take_over(state.path()).unwrap();
    }
}

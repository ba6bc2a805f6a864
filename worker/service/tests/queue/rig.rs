//! A pool of its own on a real nats-server, its tenants, and queues of workers that serve it.

use std::sync::atomic::Ordering;

use anyhow::Result;
use async_nats::jetstream::{self, Context};
use bus::lease::Leases;
use bus::streams::{job_consumer, provision};
use schemas::names::{bucket, cap_lease, stream};
use schemas::{JobSubject, Priority, Token, Trust};
use tempfile::TempDir;
use worker::breaker::{Health, Trial};
use worker::fitness::Fitness;
use worker::presence::{Presence, Slot};
use worker::queue::caps::Caps;
use worker::queue::tenants::Tenants;
use worker::queue::{Queue, QueueParts, Taken};
use worker::scratch::Scratch;

/// A pool that no other test has.
pub(crate) struct Rig {
    tag: String,
    jetstream: Context,
    directory: TempDir,
}

/// The queue of one worker, and what it asks before it pulls.
pub(crate) struct Worker {
    pub(crate) queue: Queue,
    pub(crate) health: Health,
    presence: Presence,
    client: async_nats::Client,
}

/// A job that runs.
pub(crate) struct Job {
    pub(crate) subject: JobSubject,
    taken: Taken,
    _slot: Slot,
    _trial: Option<Trial>,
}

impl Rig {
    /// None where there is no server.
    pub(crate) async fn start(tag: &str) -> Result<Option<Self>> {
        let Ok(url) = std::env::var("NATS_URL") else {
            eprintln!("skipped: no NATS_URL");
            return Ok(None);
        };
        let jetstream = jetstream::new(async_nats::connect(url).await?);
        provision(&jetstream, 1).await?;
        Ok(Some(Self {
            tag: format!("{tag}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]),
            jetstream,
            directory: tempfile::tempdir()?,
        }))
    }

    /// A tenant that no other test has.
    pub(crate) fn tenant(&self, name: &str) -> Token {
        let name = format!("{}-{name}", self.tag);
        name.parse().expect("words make a token")
    }

    /// The jobs of a tenant of this pool.
    pub(crate) fn subject(&self, tenant: &str, priority: u8) -> JobSubject {
        JobSubject {
            pool: self.tag.parse().expect("a tag is a token"),
            trust: Trust::Trusted,
            priority: Priority::new(priority).expect("one digit"),
            tenant: self.tenant(tenant),
        }
    }

    /// What the janitor makes.
    pub(crate) async fn consumer(&self, subject: &JobSubject) -> Result<()> {
        let jobs = self.jetstream.get_stream(stream::JOBS).await?;
        jobs.create_consumer(job_consumer(subject)).await?;
        Ok(())
    }

    /// Puts so many jobs there, which are none for any other part.
    pub(crate) async fn publish(&self, subject: &JobSubject, jobs: usize) -> Result<()> {
        let mut stored = Vec::new();
        for _ in 0..jobs {
            let published = self.jetstream.publish(subject.to_string(), "job".into());
            stored.push(published.await?);
        }
        for stored in stored {
            stored.await?;
        }
        Ok(())
    }

    /// What the operator says of a tenant.
    pub(crate) async fn allow(&self, tenant: &str, concurrency: u32) -> Result<()> {
        let tenants = self.jetstream.get_key_value(bucket::TENANTS).await?;
        let name = self.tenant(tenant);
        let tenant = serde_json::json!({"name": name, "concurrency": concurrency});
        tenants
            .put(name.as_str(), tenant.to_string().into())
            .await?;
        Ok(())
    }

    /// The worker that has a tenant's first place.
    pub(crate) async fn holder_of_place(&self, tenant: &str) -> Result<Option<String>> {
        let leases = self.jetstream.get_key_value(bucket::LEASES).await?;
        let holder = leases.get(cap_lease(&self.tenant(tenant), 0)).await?;
        Ok(holder.map(|holder| String::from_utf8_lossy(&holder).into_owned()))
    }

    /// Takes a tenant's first place away from whoever has it.
    pub(crate) async fn free_place(&self, tenant: &str) -> Result<()> {
        let leases = self.jetstream.get_key_value(bucket::LEASES).await?;
        leases.delete(cap_lease(&self.tenant(tenant), 0)).await?;
        Ok(())
    }

    /// A worker with so many slots.
    pub(crate) async fn worker(&self, name: &str, slots: u32) -> Result<Worker> {
        self.worker_that_needs(name, slots, 1).await
    }

    /// One that pulls only with so much scratch space.
    pub(crate) async fn worker_that_needs(
        &self,
        name: &str,
        slots: u32,
        scratch_bytes: u64,
    ) -> Result<Worker> {
        let url = std::env::var("NATS_URL")?;
        let client = async_nats::connect(url).await?;
        let jetstream = jetstream::new(client.clone());
        let leases = Leases::open(&jetstream).await?;
        let tenants = Tenants::begin(jetstream.get_key_value(bucket::TENANTS).await?);
        let scratch = Scratch::new(self.directory.path().to_owned(), scratch_bytes);
        let presence = Presence::new(slots, 0).on(scratch.clone());
        let health = Health::default();
        let queue = Queue::new(QueueParts {
            pool: self.tag.parse()?,
            trust: vec![Trust::Trusted],
            snapshots: format!("$KV.{}.key.*", bucket::SNAPSHOTS),
            caps: Caps::begin(&client, leases, tenants, name.parse()?),
            presence: presence.clone(),
            fitness: Fitness::new(health.clone(), scratch),
            client: client.clone(),
            jetstream,
        });
        Ok(Worker {
            queue,
            health,
            presence,
            client,
        })
    }
}

impl Worker {
    /// The next job.
    pub(crate) async fn next(&mut self) -> Result<Job> {
        let (taken, permit) = self.queue.next().await;
        Ok(Job {
            subject: taken.message.subject.parse()?,
            taken,
            _slot: self.presence.fill(permit),
            _trial: self.health.try_out(),
        })
    }

    /// Messages that this worker sent to the server.
    pub(crate) fn sent(&self) -> u64 {
        self.client
            .statistics()
            .out_messages
            .load(Ordering::Relaxed)
    }
}

impl Job {
    /// Whether it has a place of its tenant's.
    pub(crate) fn has_place(&self) -> bool {
        self.taken.cap.is_some()
    }

    /// What a heartbeat does for its place.
    pub(crate) async fn renew_place(&mut self) -> Result<()> {
        if let Some(cap) = &mut self.taken.cap {
            cap.renew().await?;
        }
        Ok(())
    }

    /// Ends it: its message goes, then its place, then its slot.
    pub(crate) async fn end(self) -> Result<()> {
        let acked = self.taken.message.ack().await;
        acked.map_err(anyhow::Error::from_boxed)?;
        if let Some(cap) = self.taken.cap {
            cap.release().await;
        }
        Ok(())
    }
}

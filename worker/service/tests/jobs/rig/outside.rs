//! What others do to a job while workers have it: cancel it, take its lease, limit its tenant, withhold its objects.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use async_nats::jetstream::{Message, kv};
use bus::jobs::Record;
use futures_util::StreamExt as _;
use schemas::names::{self, bucket};
use schemas::{Tenant, Token};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{PATIENCE, Rig};

impl Rig {
    /// Asks for the end of a job.
    pub(crate) async fn cancel(&self, job: &Token) -> Result<()> {
        let cancels = self.jetstream.get_key_value(bucket::CANCELS).await?;
        let key = names::cancel_key(&self.tenant(), job);
        cancels.put(key, "please".into()).await?;
        Ok(())
    }

    /// Takes the request back, as its time to live does.
    pub(crate) async fn forget_cancel(&self, job: &Token) -> Result<()> {
        let cancels = self.jetstream.get_key_value(bucket::CANCELS).await?;
        let key = names::cancel_key(&self.tenant(), job);
        Ok(cancels.delete(key).await?)
    }

    /// Takes the job's lease away from whoever has it.
    pub(crate) async fn take_lease(&self, job: &Token) -> Result<()> {
        let key = names::job_lease(&self.tenant(), job);
        self.leases().await?.put(key, "another".into()).await?;
        Ok(())
    }

    /// Frees the job.
    pub(crate) async fn free_lease(&self, job: &Token) -> Result<()> {
        let key = names::job_lease(&self.tenant(), job);
        Ok(self.leases().await?.delete(key).await?)
    }

    /// Whether somebody has the job.
    pub(crate) async fn is_leased(&self, job: &Token) -> Result<bool> {
        let key = names::job_lease(&self.tenant(), job);
        Ok(self.leases().await?.get(key).await?.is_some())
    }

    /// Waits until nobody has the job.
    pub(crate) async fn lease_gone(&self, job: &Token) -> Result<()> {
        let key = names::job_lease(&self.tenant(), job);
        let leases = self.leases().await?;
        let gone = timeout(PATIENCE, bus::watch::gone(&leases, &key));
        gone.await.context("somebody has it")
    }

    async fn leases(&self) -> Result<kv::Store> {
        Ok(self.jetstream.get_key_value(bucket::LEASES).await?)
    }

    /// Limits what the tenant may ask for.
    pub(crate) async fn limit(&self, limits: schemas::tenant::Limits) -> Result<()> {
        let tenant = Tenant {
            limits,
            ..Tenant::unknown(self.tenant())
        };
        self.allow(&tenant).await
    }

    async fn allow(&self, tenant: &Tenant) -> Result<()> {
        let tenants = self.jetstream.get_key_value(bucket::TENANTS).await?;
        let body = serde_json::to_vec(tenant)?;
        tenants.put(tenant.name.as_str(), body.into()).await?;
        Ok(())
    }

    /// Records attempts of a worker that was never heard of again, at a job that is not yet published.
    pub(crate) async fn lose_attempts(&self, job: &Token, body: &str, count: usize) -> Result<()> {
        for _ in 0..count {
            let tenant = self.tenant();
            let record = Record::open(&self.jobs, &tenant, job, body.as_bytes());
            let mut record = record.await?;
            record.mark_lost().await?;
            record.begin(&"gone".parse()?).await?;
        }
        Ok(())
    }

    /// Takes a job off the queue, as a worker does.
    pub(crate) async fn delivered(&self) -> Result<Message> {
        let mut messages = self.consumer.messages().await?;
        let delivered = timeout(PATIENCE, messages.next()).await;
        let delivered = delivered.context("nothing is delivered")?;
        Ok(delivered.context("the consumer ends")??)
    }

    /// Answers no request of that kind to the object store from now on; the first of them is told of.
    pub(crate) fn silence_objects(&self, operation: &'static str) -> Arc<Notify> {
        let asked = Arc::new(Notify::new());
        let told = Arc::clone(&asked);
        self.s3.intercept(move |asks: String, _key| {
            let told = Arc::clone(&told);
            async move {
                if asks == operation {
                    told.notify_one();
                    std::future::pending::<()>().await;
                }
                true
            }
        });
        asked
    }

    /// What the object store is asked from now on: each operation, and the object's key.
    pub(crate) fn asked_of_objects(&self) -> Arc<Mutex<Vec<(String, String)>>> {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        self.s3.intercept(move |asks, key| {
            let mut told = told.lock().expect("nobody panics with it");
            told.push((asks, key));
            std::future::ready(true)
        });
        asked
    }

    /// Allows the tenant one job at a time.
    pub(crate) async fn cap(&self) -> Result<()> {
        let tenant = Tenant {
            concurrency: Some(1),
            ..Tenant::unknown(self.tenant())
        };
        self.allow(&tenant).await
    }

    /// Waits until the tenant's one place is taken.
    pub(crate) async fn place_taken(&self) -> Result<()> {
        let leases = self.leases().await?;
        let mut seen = leases.watch_with_history(self.place()).await?;
        let taken = async {
            while let Some(entry) = seen.next().await {
                if entry?.operation == kv::Operation::Put {
                    return Ok(());
                }
            }
            anyhow::bail!("the watch ended")
        };
        timeout(PATIENCE, taken).await.context("nobody has it")?
    }

    /// Waits until the tenant's one place is free.
    pub(crate) async fn place_gone(&self) -> Result<()> {
        let (leases, place) = (self.leases().await?, self.place());
        let gone = timeout(PATIENCE, bus::watch::gone(&leases, &place));
        gone.await.context("somebody has it")
    }

    fn place(&self) -> String {
        names::cap_lease(&self.tenant(), 0)
    }

    /// The next VM does not start.
    pub(crate) fn fail_next_fork(&self) {
        self.driver.fail_next_fork();
    }
}

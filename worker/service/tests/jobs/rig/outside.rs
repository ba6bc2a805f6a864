//! What others do to a job while workers have it: cancel it, take its lease, limit its tenant, refuse its objects.

use anyhow::{Context as _, Result};
use async_nats::jetstream::{Message, kv};
use bus::jobs::Record;
use futures_util::StreamExt as _;
use schemas::names::{self, bucket};
use schemas::{Tenant, Token};
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
        let tenants = self.jetstream.get_key_value(bucket::TENANTS).await?;
        let tenant = Tenant {
            limits,
            ..Tenant::unknown(self.tenant())
        };
        let body = serde_json::to_vec(&tenant)?;
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

    /// Answers no request for an object from now on.
    pub(crate) fn silence_objects(&self) {
        let silent = |operation: String, _key| async move {
            if operation == "GetObject" {
                std::future::pending::<()>().await;
            }
            true
        };
        self.s3.intercept(silent);
    }

    /// The next VM does not start.
    pub(crate) fn fail_next_fork(&self) {
        self.driver.fail_next_fork();
    }
}

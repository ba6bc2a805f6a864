//! What is seen of workers from outside: results, records, logs, what they say of themselves, what they answer to the server.

use anyhow::{Context as _, Result};
use async_nats::Subscriber;
use async_nats::jetstream::kv;
use futures_util::StreamExt as _;
use schemas::result::LogRef;
use schemas::{JobResult, Token, WorkerState};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::{FIRST, PATIENCE, Rig};

impl Rig {
    /// The job's result, once it has one.
    pub(crate) async fn result(&self, job: &Token) -> Result<JobResult> {
        let tenant = self.tenant();
        let waiting = bus::results::wait(&self.client, &self.jetstream, &tenant, job);
        Ok(timeout(PATIENCE, waiting).await.context("no result")??)
    }

    /// Attempts that are recorded for a job.
    pub(crate) async fn attempts(&self, job: &Token) -> Result<usize> {
        let key = format!("job.{}.{job}", self.tenant());
        let record = self.jobs.get(key).await?.context("a record")?;
        let record: serde_json::Value = serde_json::from_slice(&record)?;
        Ok(record["attempts"].as_array().context("a list")?.len())
    }

    /// What the first worker says of itself, once it says that.
    pub(crate) async fn state_where(
        &self,
        wanted: impl Fn(&WorkerState) -> bool,
    ) -> Result<WorkerState> {
        self.state_of(FIRST, wanted).await
    }

    /// What a worker says of itself, once it says that.
    pub(crate) async fn state_of(
        &self,
        name: &str,
        wanted: impl Fn(&WorkerState) -> bool,
    ) -> Result<WorkerState> {
        let name = self.worker_name(name);
        let mut said = self.alive.watch_with_history(name).await?;
        let heard = async {
            while let Some(entry) = said.next().await {
                let entry = entry?;
                if entry.operation == kv::Operation::Put {
                    let state = WorkerState::parse(&entry.value)?;
                    if wanted(&state) {
                        return Ok(state);
                    }
                }
            }
            anyhow::bail!("the watch ended")
        };
        timeout(PATIENCE, heard).await.context("never said")?
    }

    /// A stored log.
    pub(crate) async fn log(&self, log: Option<&LogRef>) -> Result<String> {
        let uri = &log.context("a log")?.uri;
        let mut text = String::new();
        let mut object = self.s3.objects.get(uri.bucket(), uri.key()).await?;
        object.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// What workers answer to deliveries from now on: `+WPI` for a sign of life, `-NAK …` for a job that is given back.
    pub(crate) async fn answers(&self) -> Result<Subscriber> {
        let info = self.consumer.cached_info();
        let subject = format!("$JS.ACK.{}.{}.>", info.stream_name, info.name);
        let answers = self.client.subscribe(subject).await?;
        // Flushed, so that the server knows of it before what the test does next.
        self.client.flush().await?;
        Ok(answers)
    }

    /// How often jobs were delivered.
    pub(crate) async fn deliveries(&mut self) -> Result<u64> {
        Ok(self.consumer.info().await?.delivered.consumer_sequence)
    }
}

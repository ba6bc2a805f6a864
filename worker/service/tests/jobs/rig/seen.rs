//! What is seen of workers from outside: results, records, logs, what they say of themselves, what they answer to the server.

use anyhow::{Context as _, Result, ensure};
use async_nats::Subscriber;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::kv;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use schemas::dead::DeadLetter;
use schemas::event::{Event, EventKind};
use schemas::names::{self, stream};
use schemas::reason::Reason;
use schemas::record::JobRecord;
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

    /// The result of a job that succeeds, once it has it.
    pub(crate) async fn completed(&self, job: &Token) -> Result<JobResult> {
        let result = self.result(job).await?;
        ensure!(
            result.reason.known() == Some(&Reason::Completed),
            "{result:?}"
        );
        Ok(result)
    }

    /// Attempts that are recorded for a job.
    pub(crate) async fn attempts(&self, job: &Token) -> Result<usize> {
        Ok(self.record(job).await?.attempts.len())
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

    /// What is recorded of a job.
    pub(crate) async fn record(&self, job: &Token) -> Result<JobRecord> {
        let record = bus::jobs::fetch(&self.jobs, &self.tenant(), job).await?;
        record.context("a record")
    }

    /// The job's result, if it has one now.
    pub(crate) async fn result_now(&self, job: &Token) -> Result<Option<JobResult>> {
        Ok(bus::results::fetch(&self.jetstream, &self.tenant(), job).await?)
    }

    /// Waits until it is said of the job that this happened.
    pub(crate) async fn event(&self, job: &Token, kind: EventKind) -> Result<Event> {
        let subject = names::event_subject(&self.tenant(), job);
        let mut events = self.followed(stream::EVENTS, subject).await?;
        let heard = async {
            while let Some(message) = events.next().await {
                let event = Event::parse(&message?.payload)?;
                if event.kind.known() == Some(&kind) {
                    return Ok(event);
                }
            }
            anyhow::bail!("the events end")
        };
        let heard = timeout(PATIENCE, heard).await;
        heard.with_context(|| format!("no event {kind}"))?
    }

    /// The dead letter of a job.
    pub(crate) async fn dead_letter(&self, job: &Token) -> Result<DeadLetter> {
        let letters = self.jetstream.get_stream(stream::DEAD).await?;
        let subject = names::dead_subject(&self.tenant(), job);
        let letter = letters.direct_get_last_for_subject(subject).await?;
        Ok(DeadLetter::parse(&letter.payload)?)
    }

    /// The messages of one subject, from the first on.
    pub(super) async fn followed(&self, name: &str, subject: String) -> Result<Ordered> {
        let stream = self.jetstream.get_stream(name).await?;
        let from_the_first = OrderedConfig {
            filter_subject: subject,
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(from_the_first).await?;
        Ok(consumer.messages().await?)
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

    /// Every try to report a result for the job from now on, also those that the stream refuses.
    pub(crate) async fn tries(&self, job: &Token) -> Result<Subscriber> {
        let subject = names::report_subject(&self.tenant(), job);
        let tries = self.client.subscribe(subject).await?;
        self.client.flush().await?;
        Ok(tries)
    }

    /// Waits until every job is acknowledged.
    pub(crate) async fn acknowledged(&self) -> Result<()> {
        let jobs = self.jetstream.get_stream(stream::JOBS).await?;
        let subject = self.consumer.cached_info().config.filter_subject.clone();
        let gone = async {
            while jobs
                .info_with_subjects(&subject)
                .await?
                .try_next()
                .await?
                .is_some()
            {
                tokio::task::yield_now().await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, gone).await.context("a job is left")?
    }

    /// How often jobs were delivered.
    pub(crate) async fn deliveries(&mut self) -> Result<u64> {
        Ok(self.consumer.info().await?.delivered.consumer_sequence)
    }
}

/// The next answer to a delivery.
pub(crate) async fn heard(answers: &mut Subscriber) -> Result<String> {
    let answer = timeout(PATIENCE, answers.next()).await;
    let answer = answer.context("no answer")?.context("no answers")?;
    Ok(String::from_utf8_lossy(&answer.payload).into_owned())
}

/// Waits until a job is given back.
pub(crate) async fn given_back(answers: &mut Subscriber) -> Result<()> {
    while !heard(answers).await?.starts_with("-NAK") {}
    Ok(())
}

/// How many messages were heard so far. Nothing is on its way any more after a round trip of the connection that they come by.
pub(crate) fn tried(tries: &mut Subscriber) -> usize {
    std::iter::from_fn(|| tries.next().now_or_never().flatten()).count()
}

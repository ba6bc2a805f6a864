//! What a publisher hears of one job: events, its live log, results, and every try to store one.
//!
//! What always holds: the server knows of a subscription before the call that made it returns, so nothing of a job that is published
//! afterwards is missed.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_nats::{Client, HeaderValue, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use schemas::Token;
use schemas::event::{Event, EventKind};
use schemas::log::ChunkHeader;
use schemas::names::{event_subject, log_subject, report_subject, result_subject};
use serde_json::Value;

use crate::queue::{Queue, job_id};

/// 10 min for a job of a test: the first of an environment waits for two bakes under emulation.
const HEARD_WITHIN: Duration = Duration::from_mins(10);

/// The events of one job.
#[derive(Debug)]
pub struct Events {
    job_id: Token,
    events: Subscriber,
}

/// One piece of a live log.
#[derive(Debug)]
pub struct Chunk {
    /// Where it belongs.
    pub header: ChunkHeader,
    /// What was written.
    pub bytes: bytes::Bytes,
}

/// The live log of one job.
#[derive(Debug)]
pub struct LiveLog {
    chunks: Subscriber,
}

/// Every try to store a result for one job: the stream refuses all but the first, and says nothing of the others.
#[derive(Debug)]
pub struct Reports {
    client: Client,
    tries: Subscriber,
}

impl Queue {
    /// Every result of a job that is stored from now on.
    pub async fn hear_results(&self, job_id: &str) -> Result<Subscriber> {
        self.hear(result_subject, job_id).await
    }

    /// Every try to store a result of a job from now on.
    pub async fn hear_reports(&self, job_id: &str) -> Result<Reports> {
        Ok(Reports {
            tries: self.hear(report_subject, job_id).await?,
            client: self.client().clone(),
        })
    }

    /// Waits for the next event of this kind that a job has.
    pub async fn event(&self, job: &Value, kind: EventKind) -> Result<Event> {
        self.events(job).await?.next(kind).await
    }

    /// The events of a job, from now on.
    pub async fn events(&self, job: &Value) -> Result<Events> {
        let job_id = job_id(job)?;
        Ok(Events {
            events: self.hear(event_subject, job_id).await?,
            job_id: Token::parse(job_id).context("read a job's id")?,
        })
    }

    /// The live log of a job, from now on.
    pub async fn follow(&self, job_id: &str) -> Result<LiveLog> {
        let chunks = self.hear(log_subject, job_id).await?;
        Ok(LiveLog { chunks })
    }

    async fn hear(
        &self,
        subject: impl Fn(&Token, &Token) -> String,
        job_id: &str,
    ) -> Result<Subscriber> {
        let job_id = Token::parse(job_id).context("read a job's id")?;
        let subject = subject(&self.tenant, &job_id);
        subscribe(self.client(), subject).await
    }
}

impl Events {
    /// Waits for the next event of this kind.
    pub async fn next(&mut self, kind: EventKind) -> Result<Event> {
        let next = async {
            while let Some(message) = self.events.next().await {
                let event = Event::parse(&message.payload).context("read an event")?;
                if event.kind.known() == Some(&kind) {
                    return Ok(event);
                }
            }
            bail!("the connection is closed")
        };
        let event = tokio::time::timeout(HEARD_WITHIN, next).await;
        event.with_context(|| format!("job {} has no event {kind}", self.job_id))?
    }
}

impl LiveLog {
    /// The next piece.
    pub async fn next(&mut self) -> Result<Chunk> {
        let message = self
            .chunks
            .next()
            .await
            .context("the connection is closed")?;
        let headers = message.headers.context("a chunk has headers")?;
        let header = ChunkHeader::read(|name| headers.get(name).map(HeaderValue::as_str));
        Ok(Chunk {
            header: header.context("read the headers of a chunk")?,
            bytes: message.payload,
        })
    }
}

impl Reports {
    /// Waits for the next try.
    pub async fn next(&mut self) -> Result<()> {
        let next = tokio::time::timeout(HEARD_WITHIN, self.tries.next()).await;
        let next = next.context("nothing is reported")?;
        next.map(drop).context("the connection is closed")
    }

    /// How many tries that reached the server by now were not counted before.
    pub async fn count(&mut self) -> Result<usize> {
        // What comes to one connection comes in the order in which the server had it: a word of our own is the last.
        let subject = self.client.new_inbox();
        let mut last = subscribe(&self.client, subject.clone()).await?;
        self.client.publish(subject, "".into()).await?;
        last.next().await.context("the connection is closed")?;
        let mut count = 0;
        while let Some(Some(_)) = self.tries.next().now_or_never() {
            count += 1;
        }
        Ok(count)
    }
}

/// Subscribes, and flushes, so that the server knows of it before anything that is published afterwards.
async fn subscribe(client: &Client, subject: String) -> Result<Subscriber> {
    let context = || format!("subscribe to {subject}");
    let subscriber = client.subscribe(subject.clone()).await;
    let subscriber = subscriber.with_context(context)?;
    client.flush().await.with_context(context)?;
    Ok(subscriber)
}

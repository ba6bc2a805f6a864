//! A job's events: what a person who waits is told, and nothing that anything depends on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Client;
use jiff::Timestamp;
use schemas::event::{Event, EventKind};
use schemas::names::event_subject;
use schemas::{Open, Token};
use tokio::time::timeout;
use tracing::warn;

/// 1 s for an event to be on its way: it waits where the connection is away and many others wait as well.
const SAY_WITHIN: Duration = Duration::from_secs(1);

/// Publishes the events of one attempt. They are not waited for: a server that is away costs events, not builds.
#[derive(Debug)]
pub struct Events {
    client: Client,
    subject: String,
    job_id: Token,
    attempt: u32,
    seq: AtomicU64,
}

impl Events {
    /// For one attempt at a job.
    pub fn new(client: &Client, tenant: &Token, job_id: &Token, attempt: u32) -> Self {
        let subject = event_subject(tenant, job_id);
        Self {
            client: client.clone(),
            subject,
            job_id: job_id.clone(),
            attempt,
            seq: AtomicU64::new(1),
        }
    }

    /// Says that `kind` happened.
    pub async fn say(&self, kind: EventKind, step: Option<&Token>, message: Option<String>) {
        let event = Event {
            schema: schemas::event::EventSchema,
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            seq: self.seq.fetch_add(1, Ordering::Relaxed),
            time: Timestamp::now(),
            kind: Open::Known(kind),
            step: step.cloned(),
            message,
        };
        let body = serde_json::to_vec(&event).expect("an event of plain fields is JSON");
        let published = self.client.publish(self.subject.clone(), body.into());
        match timeout(SAY_WITHIN, published).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(job = %self.job_id, %error, "event not published"),
            Err(_) => {
                warn!(job = %self.job_id, "event not published: the connection takes no more");
            }
        }
    }
}

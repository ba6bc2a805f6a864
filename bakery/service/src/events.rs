//! News as events on `bake.event.<tenant>.<environment>`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishError;
use async_trait::async_trait;
use bus::retry::{self, Failure, Policy};
use bus::telemetry::Causes;
use bytes::Bytes;
use jiff::Timestamp;
use schemas::bake::{BakeEvent, BakeEventSchema};
use schemas::{HostClass, Token, Trust, names};
use tracing::error;

use crate::news::{News, Reporter};

/// 1 min: a server that is started again is back sooner, and a bake need not wait longer for being heard.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

/// Publishes the news of one delivery of a request: what is delivered again counts from 1 again.
pub struct Events {
    jetstream: Context,
    subject: String,
    request_id: Token,
    author: Author,
    told: AtomicU64,
}

/// Who tells, and of whose source.
#[derive(Debug, Clone)]
pub struct Author {
    /// The class that the bakery bakes for.
    pub class: HostClass,
    /// How far the author of the source is trusted.
    pub trust: Trust,
}

impl Events {
    /// For one delivery of the bake `request_id` of the tenant's environment.
    pub fn new(
        jetstream: Context,
        tenant: &Token,
        environment: &Token,
        request_id: Token,
        author: Author,
    ) -> Self {
        Self {
            jetstream,
            subject: names::bake_event_subject(tenant, environment),
            request_id,
            author,
            told: AtomicU64::new(0),
        }
    }

    fn event(&self, news: News) -> BakeEvent {
        BakeEvent {
            schema: BakeEventSchema,
            request_id: self.request_id.clone(),
            key: news.key,
            class: self.author.class.clone(),
            trust: self.author.trust,
            kind: news.kind.into(),
            reason: news.reason,
            message: Some(news.message),
            step: news.step,
            output: news.output,
            log: news.log,
            seq: self.told.fetch_add(1, Ordering::Relaxed) + 1,
            time: Timestamp::now(),
        }
    }

    /// Tells it, and does not let go until it is stored. For the last news of a delivery, without which its message must not be
    /// acknowledged.
    ///
    /// # Errors
    ///
    /// The server did not store it within a minute.
    pub async fn tell_surely(&self, news: News) -> Result<(), PublishError> {
        let event = self.event(news);
        let body = serde_json::to_vec(&event).expect("an event is JSON: it has no maps");
        let body = Bytes::from(body);
        let policy = Policy::up_to(GIVE_UP_AFTER);
        let told = retry::with(policy, "publish a bake event", || {
            let publishing = self.publish(body.clone());
            async { publishing.await.map_err(Failure::Transient) }
        });
        told.await.inspect_err(|error| {
            error!(request = %self.request_id, error = %Causes(error), "bake event lost");
        })
    }

    async fn publish(&self, body: Bytes) -> Result<(), PublishError> {
        let subject = self.subject.clone();
        self.jetstream.publish(subject, body).await?.await?;
        Ok(())
    }
}

#[async_trait]
impl Reporter for Events {
    async fn tell(&self, news: News) {
        // It is in the log, and no message depends on it.
        let _lost = self.tell_surely(news).await;
    }
}

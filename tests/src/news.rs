//! The events of an environment's bakes, as anybody hears them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_nats::Subscriber;
use futures_util::{FutureExt as _, StreamExt as _};
use schemas::Token;
use schemas::bake::{BakeEvent, BakeEventKind};
use schemas::names::bake_event_subject;

use crate::queue::Queue;

/// 10 min for the next event: between two of them may lie the bake of a template.
const NEXT_DEADLINE: Duration = Duration::from_mins(10);

/// Everything that is said of the bakes of one environment from when it was asked for.
#[derive(Debug)]
pub struct BakeNews {
    subscriber: Subscriber,
    heard: Vec<BakeEvent>,
}

impl BakeNews {
    /// Listens to the bakes of an environment of the queue's tenant.
    pub async fn of(queue: &Queue, environment: &str) -> Result<Self> {
        let environment = Token::parse(environment).context("read a name")?;
        let subject = bake_event_subject(&queue.tenant, &environment);
        let subscriber = queue.client().subscribe(subject).await;
        let subscriber = subscriber.context("subscribe to bakes")?;
        queue.client().flush().await.context("subscribe to bakes")?;
        Ok(Self {
            subscriber,
            heard: Vec::new(),
        })
    }

    /// Waits for the next event of this kind; a failure that was not asked for is an error.
    pub async fn until(&mut self, kind: BakeEventKind) -> Result<BakeEvent> {
        let sought = |event: &BakeEvent| event.kind.known() == Some(&kind);
        self.next_that(sought).await
    }

    /// Waits for the next event that `is_sought`; a failure is an error where it is not.
    pub async fn next_that(&mut self, is_sought: impl Fn(&BakeEvent) -> bool) -> Result<BakeEvent> {
        loop {
            let message = tokio::time::timeout(NEXT_DEADLINE, self.subscriber.next()).await;
            let message = message.context("nothing more is said of the bake")?;
            let event = self.read(&message.context("the connection is closed")?.payload)?;
            if is_sought(&event) {
                return Ok(event);
            }
            if event.kind.known() == Some(&BakeEventKind::Failed) {
                bail!("the bake failed: {}", event.message.unwrap_or_default());
            }
        }
    }

    /// Every event so far of which the server has told us.
    pub async fn so_far(&mut self, queue: &Queue) -> Result<&[BakeEvent]> {
        // Whatever the server sent before its answer to this has arrived.
        queue.client().flush().await.context("hear of bakes")?;
        while let Some(Some(message)) = self.subscriber.next().now_or_never() {
            self.read(&message.payload)?;
        }
        Ok(&self.heard)
    }

    /// How many events of a kind there were so far.
    pub async fn count(&mut self, queue: &Queue, kind: BakeEventKind) -> Result<usize> {
        let heard = self.so_far(queue).await?.iter();
        let of_kind = heard.filter(|event| event.kind.known() == Some(&kind));
        Ok(of_kind.count())
    }

    fn read(&mut self, payload: &[u8]) -> Result<BakeEvent> {
        let event = BakeEvent::parse(payload).context("read the event of a bake")?;
        self.heard.push(event.clone());
        Ok(event)
    }
}

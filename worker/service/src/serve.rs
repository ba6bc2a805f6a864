//! The loop that takes jobs: one pull for each free slot, until the worker is told to end.
//!
//! What always holds: nothing is pulled that cannot be run at once; between pulls the worker waits to be woken by a publish,
//! with a timer behind it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::Subscriber;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use bus::streams::job_consumer;
use futures_util::StreamExt;
use schemas::names::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::{error, info, warn};

use crate::claim;
use crate::services::Services;

/// Longest wait between two looks at the queue: jobs that are given back wake nobody.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long one pull waits for the job whose publish woke it: the stream may store it a moment later.
const PULL_WAITS: Duration = Duration::from_millis(100);

/// How long the worker's last words may take to leave.
const FLUSH_FOR: Duration = Duration::from_secs(5);

/// Takes jobs until `draining` turns true, then waits for those that run; `give_back` ends that wait.
pub async fn serve(
    services: &Services,
    mut draining: watch::Receiver<bool>,
    give_back: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let queue = tokio::select! {
        queue = Queue::open(services) => queue?,
        // Told to end while it waited for `bakery init`.
        _ = draining.wait_for(|draining| *draining) => return Ok(()),
    };
    let slots = Arc::new(Semaphore::new(services.config.slots as usize));
    let mut running = JoinSet::new();
    info!(pool = %services.config.pool, class = %services.class, slots = services.config.slots, "ready");
    loop {
        let taken = tokio::select! {
            taken = next(services, &queue, &slots) => taken,
            _ = draining.wait_for(|draining| *draining) => break,
        };
        let (message, slot) = taken;
        let services = services.clone();
        running.spawn(async move {
            claim::handle(services, message).await;
            drop(slot);
        });
        while let Some(ended) = running.try_join_next() {
            report_panic(ended);
        }
    }
    drain(services, running, give_back).await;
    Ok(())
}

/// The consumers that this worker pulls from.
struct Queue {
    consumers: Vec<PullConsumer>,
}

impl Queue {
    /// Finds the consumers; waits for `bakery init` to have made them.
    async fn open(services: &Services) -> anyhow::Result<Self> {
        let jetstream = &services.jetstream;
        let mut consumers = Vec::new();
        for trust in services.config.accepted() {
            let name = job_consumer(&services.config.pool, trust)
                .durable_name
                .context("a job consumer is durable")?;
            let what = format!("find the consumer {name} (made by `bakery init`)");
            let found = bus::retry::with(bus::retry::Policy::FOREVER, &what, || async {
                let consumer = jetstream
                    .get_consumer_from_stream::<pull::Config, _, _>(&name, stream::JOBS)
                    .await;
                consumer.map_err(bus::retry::Failure::Transient)
            });
            consumers.push(found.await?);
        }
        Ok(Self { consumers })
    }

    /// One job, if there is one.
    async fn take(&self) -> Option<Message> {
        for consumer in &self.consumers {
            let pulled = consumer
                .fetch()
                .max_messages(1)
                .expires(PULL_WAITS)
                .messages()
                .await;
            let mut pulled = match pulled {
                Ok(pulled) => pulled,
                Err(error) => {
                    warn!(%error, "no look at the queue");
                    continue;
                }
            };
            while let Some(message) = pulled.next().await {
                match message {
                    Ok(message) => return Some(message),
                    Err(error) => warn!(%error, "no look at the queue"),
                }
            }
        }
        None
    }
}

/// Waits for a free slot, then for a job to fill it.
async fn next(
    services: &Services,
    queue: &Queue,
    slots: &Arc<Semaphore>,
) -> (Message, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("nothing closes the slots");
    if let Some(message) = queue.take().await {
        return (message, slot);
    }
    // Only an idle worker listens: a busy one would collect the bodies of all jobs that it cannot take.
    let mut wake = wake(services).await;
    loop {
        // Once more after subscribing, so that no publish falls between the two.
        if let Some(message) = queue.take().await {
            return (message, slot);
        }
        tokio::select! {
            () = woken(wake.as_mut()) => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// A subscription that every publish of a job for this pool wakes; none while the server is away, and then the timer counts.
async fn wake(services: &Services) -> Option<Subscriber> {
    let subject = format!("build.job.{}.>", services.config.pool);
    match services.client.subscribe(subject).await {
        Ok(subscriber) => Some(subscriber),
        Err(error) => {
            warn!(%error, "not woken by publishes");
            None
        }
    }
}

async fn woken(wake: Option<&mut Subscriber>) {
    let heard = match wake {
        Some(wake) => wake.next().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending::<()>().await;
    }
}

/// A job whose task panicked is a mistake of ours; its message comes back when its time is over.
fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "the task of a job panicked");
    }
}

async fn drain(services: &Services, mut running: JoinSet<()>, give_back: &watch::Sender<bool>) {
    info!(jobs = running.len(), limit = ?services.config.drain(), "draining");
    let all = async {
        while let Some(ended) = running.join_next().await {
            report_panic(ended);
        }
    };
    if tokio::time::timeout(services.config.drain(), all)
        .await
        .is_err()
    {
        give_back.send_replace(true);
    }
    while running.join_next().await.is_some() {}
    let flushed = tokio::time::timeout(FLUSH_FOR, services.client.flush()).await;
    if !matches!(flushed, Ok(Ok(()))) {
        warn!("not everything that was said reached NATS");
    }
}

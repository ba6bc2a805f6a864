//! The loop that takes jobs: one pull for each free slot, until the worker is told to end.
//!
//! What always holds: nothing is pulled that cannot be run at once; between pulls the worker waits to be woken by a publish or
//! by a new snapshot, with a timer behind it, and holds no slot meanwhile: a parked job whose bake ends may have it.

use std::time::Duration;

use async_nats::Subscriber;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use futures_util::StreamExt;
use schemas::JobSubject;
use schemas::names::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::queue::Taken;
use crate::services::Services;
use crate::{alive, claim};

/// Longest wait between two looks at the queue: jobs that are given back wake nobody.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long one pull waits for the job whose publish woke it: the stream may store it a moment later.
const PULL_WAITS: Duration = Duration::from_millis(100);

/// How long the worker's last words may take to leave.
const FLUSH_FOR: Duration = Duration::from_secs(5);

/// How often, and for how long, the queue is looked at after a bake: the jobs that waited for it run where they are parked, or
/// come back after [`crate::lifecycle::Why::NoSlot`]'s 100 ms, and that wakes nobody. The first look is late enough for a parked job to have the
/// slot first.
const AFTER_BAKE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Takes jobs until the worker drains, then waits for those that run; `give_back` ends that wait.
pub async fn serve(services: &Services, give_back: &watch::Sender<bool>) -> anyhow::Result<()> {
    let mut draining = services.draining.clone();
    let queue = tokio::select! {
        queue = Queue::open(services) => queue?,
        // Told to end while it waited for `bakery init`.
        _ = draining.wait_for(|draining| *draining) => return Ok(()),
    };
    let (end, ended) = watch::channel(false);
    let telling = tokio::spawn(alive::tell(services.clone(), ended));
    let mut running = JoinSet::new();
    info!(pool = %services.config.pool, class = %services.class, slots = services.config.slots, "ready");
    loop {
        let taken = tokio::select! {
            taken = next(services, &queue) => taken,
            _ = draining.wait_for(|draining| *draining) => break,
        };
        let (message, permit) = taken;
        let slot = services.presence.fill(permit);
        running.spawn(claim::handle(
            services.clone(),
            Taken { message, cap: None },
            slot,
        ));
        while let Some(ended) = running.try_join_next() {
            report_panic(ended);
        }
    }
    drain(services, running, give_back).await;
    end.send_replace(true);
    // A task that panicked has said nothing wrong: the word goes when its time is over.
    let _told = telling.await;
    flush(services).await;
    Ok(())
}

/// The consumers that this worker pulls from.
struct Queue {
    consumers: Vec<PullConsumer>,
}

impl Queue {
    /// Finds the consumers of this worker's pool and trust.
    async fn open(services: &Services) -> anyhow::Result<Self> {
        let jobs = services.jetstream.get_stream_no_info(stream::JOBS).await?;
        let mut names = jobs.consumer_names();
        let mut consumers = Vec::new();
        let config = &services.config;
        while let Some(name) = names.next().await {
            let name = name?;
            let ours = JobSubject::of_consumer(&name).is_some_and(|subject| {
                subject.pool == config.pool && config.accepted().contains(&subject.trust)
            });
            if ours {
                consumers.push(
                    jobs.get_consumer::<pull::Config>(&name)
                        .await
                        .map_err(anyhow::Error::from_boxed)?,
                );
            }
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

/// Waits for a free slot and a job to fill it.
async fn next(services: &Services, queue: &Queue) -> (Message, OwnedSemaphorePermit) {
    let presence = &services.presence;
    let mut wake: Option<Wake> = None;
    loop {
        let permit = match presence.try_permit() {
            Some(permit) => permit,
            None => {
                // Only an idle worker listens: a busy one would collect the bodies of all jobs that it cannot take.
                wake = None;
                presence.permit().await
            }
        };
        if let Some(message) = queue.take().await {
            return (message, permit);
        }
        drop(permit);
        match &mut wake {
            Some(wake) => wake.woken().await,
            // Once more after subscribing, so that no publish falls between the two.
            None => wake = Some(Wake::listen(services).await),
        }
    }
}

/// What makes an idle worker look at the queue.
struct Wake {
    /// Every publish of a job for this pool; none while the server is away, and then the timer counts.
    jobs: Option<Subscriber>,
    /// Every new snapshot.
    snapshots: Option<Subscriber>,
    /// Until when it is looked often.
    often_until: Option<Instant>,
}

impl Wake {
    async fn listen(services: &Services) -> Self {
        let jobs = format!("build.job.{}.>", services.config.pool);
        let snapshots = format!("{}key.*", services.snapshots.prefix);
        Self {
            jobs: subscribed(services, jobs).await,
            snapshots: subscribed(services, snapshots).await,
            often_until: None,
        }
    }

    async fn woken(&mut self) {
        let now = Instant::now();
        let (often, for_so_long) = AFTER_BAKE;
        self.often_until = self.often_until.filter(|until| *until > now);
        let wait = self.often_until.map_or(LOOK_EVERY, |_| often);
        let mut look_at = now + wait;
        loop {
            tokio::select! {
                () = heard(self.jobs.as_mut()) => return,
                () = heard(self.snapshots.as_mut()) => {
                    let now = Instant::now();
                    self.often_until = Some(now + for_so_long);
                    look_at = look_at.min(now + often);
                }
                () = sleep_until(look_at) => return,
            }
        }
    }
}

async fn subscribed(services: &Services, subject: String) -> Option<Subscriber> {
    match services.client.subscribe(subject.clone()).await {
        Ok(subscriber) => Some(subscriber),
        Err(error) => {
            warn!(subject, %error, "not woken");
            None
        }
    }
}

async fn heard(wake: Option<&mut Subscriber>) {
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
}

async fn flush(services: &Services) {
    let flushed = tokio::time::timeout(FLUSH_FOR, services.client.flush()).await;
    if !matches!(flushed, Ok(Ok(()))) {
        warn!("not everything that was said reached NATS");
    }
}

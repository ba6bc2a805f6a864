//! The loop that takes jobs and hands each to a task of its own, until the worker is told to end.
//!
//! What always holds: whatever was pulled is run or given back, also when the worker ends.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{error, info, warn};

use crate::breaker::Trial;
use crate::fitness::Fitness;
use crate::presence::Slot;
use crate::queue::{Queue, QueueParts, Taken};
use crate::services::Services;
use crate::{alive, claim};

/// How long the worker's last words may take to leave.
const FLUSH_FOR: Duration = Duration::from_secs(5);

/// Takes jobs until the worker drains, then waits for those that run; `give_back` ends that wait.
pub async fn serve(services: &Services, give_back: &watch::Sender<bool>) -> anyhow::Result<()> {
    let mut draining = services.draining.clone();
    let mut queue = queue(services);
    let (end, ended) = watch::channel(false);
    let telling = tokio::spawn(alive::tell(services.clone(), ended));
    let mut running = JoinSet::new();
    info!(pool = %services.config.pool, class = %services.class, slots = services.slots, "ready");
    loop {
        let (taken, permit) = tokio::select! {
            taken = queue.next() => taken,
            _ = draining.wait_for(|draining| *draining) => break,
        };
        let slot = services.presence.fill(permit);
        let trial = services.health.try_out();
        running.spawn(handle(services.clone(), taken, slot, trial));
        while let Some(ended) = running.try_join_next() {
            report_panic(ended);
        }
    }
    queue.close().await;
    drain(services, running, give_back).await;
    end.send_replace(true);
    // A task that panicked has said nothing wrong: the word goes when its time is over.
    let _told = telling.await;
    flush(services).await;
    Ok(())
}

/// The queue of this worker's pool and trust.
fn queue(services: &Services) -> Queue {
    let config = &services.config;
    Queue::new(QueueParts {
        client: services.client.clone(),
        jetstream: services.jetstream.clone(),
        pool: config.pool.clone(),
        trust: config.accepted(),
        snapshots: format!("{}key.*", services.snapshots.prefix),
        caps: services.caps.clone(),
        presence: services.presence.clone(),
        fitness: Fitness::new(services.health.clone(), services.scratch.clone()),
    })
}

/// Brings one job to its end, or parks it.
async fn handle(services: Services, taken: Taken, slot: Slot, _trial: Option<Trial>) {
    claim::handle(services, taken, slot).await;
}

/// A job whose task panicked is a mistake of ours; its message comes back when its time is over.
fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "the task of a job panicked");
    }
}

async fn drain(services: &Services, mut running: JoinSet<()>, give_back: &watch::Sender<bool>) {
    info!(jobs = running.len(), limit = ?services.config.drain(), "draining");
    let in_time = tokio::time::timeout(services.config.drain(), ended(&mut running));
    if in_time.await.is_err() {
        give_back.send_replace(true);
    }
    ended(&mut running).await;
}

/// Waits for all jobs to end.
async fn ended(running: &mut JoinSet<()>) {
    while let Some(ended) = running.join_next().await {
        report_panic(ended);
    }
}

async fn flush(services: &Services) {
    let flushed = tokio::time::timeout(FLUSH_FOR, services.client.flush()).await;
    if !matches!(flushed, Ok(Ok(()))) {
        warn!("not everything that was said reached NATS");
    }
}

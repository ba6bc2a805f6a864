//! What this worker says of itself in the bucket `build-workers`: every 10 s, at each change, and no more once it has ended. Jobs that
//! come and go by the hundred are told together.

use std::time::Duration;

use jiff::Timestamp;
use schemas::Open;
use schemas::worker::{WorkerCondition, WorkerSchema, WorkerState};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tracing::warn;

use crate::presence::Counts;
use crate::services::Services;

/// 10 s: three fit into the 30 s that the bucket keeps a value.
const EVERY: Duration = Duration::from_secs(10);

/// 100 ms between two words of which the second says only how many jobs there are: nobody reads faster, and a worker may take hundreds a
/// second.
const COUNTS_WAIT: Duration = Duration::from_millis(100);

/// 5 s for the last word: a server that is away forgets the worker by itself.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Says it until `ended` turns true, then takes the word back. A server that is away costs nothing but the word.
pub async fn tell(services: Services, mut ended: watch::Receiver<bool>) {
    let (workers, name) = (services.workers.clone(), services.config.name.as_str());
    let mut changes = services.presence.changes();
    let mut draining = services.draining.clone();
    let (mut health, mut scratch) = (services.health.reasons(), services.scratch.reasons());
    let (mut uses, mut counts_at) = (0, Instant::now());
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Neither sender goes before this task does: `services` and `serve` hold them.
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => break,
            _ = every.tick() => {}
            () = changed(&mut changes, uses, counts_at) => {}
            Ok(()) = draining.changed() => {}
            Ok(()) = health.changed() => {}
            Ok(()) = scratch.changed() => {}
        }
        let counts = changes.borrow_and_update().clone();
        (uses, counts_at) = (counts.uses, Instant::now() + COUNTS_WAIT);
        let draining = *draining.borrow_and_update();
        let reasons = [&mut health, &mut scratch];
        let reason = reasons.map(|reason| reason.borrow_and_update().clone());
        let condition = condition(draining, reason);
        let said = state(&services, &counts, condition);
        let body = serde_json::to_vec(&said).expect("a state of plain fields is JSON");
        match workers.put(name, body.into()).await {
            Ok(_revision) => services.presence.told(counts.uses),
            Err(error) => warn!(%error, "this worker's state was not written"),
        }
    }
    let taken_back = timeout(LAST_WORD, workers.delete(name));
    if !matches!(taken_back.await, Ok(Ok(()))) {
        warn!("this worker's state was not taken back: it goes when its time is over");
    }
}

/// Waits for a change: of the counts until `counts_at` at least, but not longer than until a snapshot comes into use, for which jobs wait.
async fn changed(changes: &mut watch::Receiver<Counts>, uses: u64, counts_at: Instant) {
    if changes.changed().await.is_err() {
        // Nobody changes anything any more.
        std::future::pending::<()>().await;
    }
    let used = changes.wait_for(|counts| counts.uses != uses);
    let _used = timeout_at(counts_at, used).await;
}

/// Whether it takes jobs, and why not. A worker that ends needs no reason; one that is paused may have two.
fn condition(draining: bool, reasons: [Option<String>; 2]) -> (WorkerCondition, Option<String>) {
    if draining {
        return (WorkerCondition::Draining, None);
    }
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    if reasons.is_empty() {
        (WorkerCondition::Ready, None)
    } else {
        (WorkerCondition::Paused, Some(reasons.join("; ")))
    }
}

fn state(
    services: &Services,
    counts: &Counts,
    (condition, reason): (WorkerCondition, Option<String>),
) -> WorkerState {
    let config = &services.config;
    WorkerState {
        schema: WorkerSchema,
        name: config.name.clone(),
        pool: config.pool.clone(),
        trust: config.accepted(),
        class: services.class.clone(),
        slots: services.slots,
        slot_vcpu: config.slot_vcpu,
        slot_memory_mib: config.slot_memory_mib,
        running: counts.running,
        parked: counts.parked,
        snapshots: counts.snapshots.keys().copied().collect(),
        state: Open::Known(condition),
        reason,
        time: Timestamp::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_takes_no_jobs_says_why() {
        let why = |text: &str| Some(text.to_owned());
        assert_eq!(
            condition(false, [None, None]),
            (WorkerCondition::Ready, None)
        );
        assert_eq!(
            condition(false, [why("health"), why("scratch")]),
            (WorkerCondition::Paused, why("health; scratch"))
        );
        assert_eq!(
            condition(true, [None, why("scratch")]),
            (WorkerCondition::Draining, None)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn counts_are_told_together_and_a_snapshot_in_use_at_once() {
        let (counts, mut changes) = watch::channel(Counts::default());
        let counts_at = Instant::now() + COUNTS_WAIT;
        counts.send_modify(|counts| counts.running += 1);
        changed(&mut changes, 0, counts_at).await;
        assert_eq!(Instant::now(), counts_at);
        let counts_at = Instant::now() + COUNTS_WAIT;
        counts.send_modify(|counts| counts.uses += 1);
        changed(&mut changes, 0, counts_at).await;
        assert!(Instant::now() < counts_at);
    }
}

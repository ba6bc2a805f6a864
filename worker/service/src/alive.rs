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

/// 5 s for a word, the last included: a server that is away forgets the worker by itself.
const WORD_WITHIN: Duration = Duration::from_secs(5);

/// Says it until `ended` turns true, then takes the word back. A server that is away costs nothing but the word.
pub async fn tell(services: Services, mut ended: watch::Receiver<bool>) {
    let mut news = News::of(&services);
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => break,
            _ = every.tick() => {}
            () = news.come() => {}
        }
        let (counts, condition) = news.take_in();
        say(&services, &counts, condition).await;
    }
    take_back(&services).await;
}

/// What a word is made of, and what of it was said. No sender goes before this does: the services and [`crate::serve`] hold them.
struct News {
    counts: watch::Receiver<Counts>,
    draining: watch::Receiver<bool>,
    health: watch::Receiver<Option<String>>,
    scratch: watch::Receiver<Option<String>>,
    /// The [`Counts::uses`] of the last word.
    uses: u64,
    /// Before then, counts alone are no news.
    counts_at: Instant,
}

impl News {
    fn of(services: &Services) -> Self {
        Self {
            counts: services.presence.changes(),
            draining: services.draining.clone(),
            health: services.health.reasons(),
            scratch: services.scratch.reasons(),
            uses: 0,
            counts_at: Instant::now(),
        }
    }

    /// Waits for some. A caller that stops waiting may miss a change of the counts until the next.
    async fn come(&mut self) {
        tokio::select! {
            () = changed(&mut self.counts, self.uses, self.counts_at) => {}
            Ok(()) = self.draining.changed() => {}
            Ok(()) = self.health.changed() => {}
            Ok(()) = self.scratch.changed() => {}
        }
    }

    /// All of it, as it is to be said now.
    fn take_in(&mut self) -> (Counts, Condition) {
        let counts = self.counts.borrow_and_update().clone();
        (self.uses, self.counts_at) = (counts.uses, Instant::now() + COUNTS_WAIT);
        let draining = *self.draining.borrow_and_update();
        let reasons = [&mut self.health, &mut self.scratch];
        let reasons = reasons.map(|reason| reason.borrow_and_update().clone());
        (counts, condition(draining, reasons))
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

async fn say(services: &Services, counts: &Counts, condition: Condition) {
    let said = state(services, counts, condition);
    let body = serde_json::to_vec(&said).expect("a state of plain fields is JSON");
    let name = services.config.name.as_str();
    let put = services.workers.put(name, body.into());
    match timeout(WORD_WITHIN, put).await {
        Ok(Ok(_revision)) => services.presence.told(counts.uses),
        Ok(Err(error)) => warn!(%error, "this worker's state was not written"),
        Err(_) => warn!("this worker's state was not written: the server is away"),
    }
}

async fn take_back(services: &Services) {
    let taken_back = services.workers.delete(services.config.name.as_str());
    if !matches!(timeout(WORD_WITHIN, taken_back).await, Ok(Ok(()))) {
        warn!("this worker's state was not taken back: it goes when its time is over");
    }
}

/// Whether a worker takes jobs, and why not.
type Condition = (WorkerCondition, Option<String>);

/// A worker that ends needs no reason; one that is paused may have two.
fn condition(draining: bool, reasons: [Option<String>; 2]) -> Condition {
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

fn state(services: &Services, counts: &Counts, (condition, reason): Condition) -> WorkerState {
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

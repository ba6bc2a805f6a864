//! Workers that are told to end while they run a job: real signals to real processes.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::fleet::Fleet;
use e2e::launch::Lifetime;
use e2e::process::Process;
use e2e::queue::Queue;
use e2e::stack::{GRACE, Service};
use e2e::wait;
use nix::sys::signal::Signal;
use schemas::event::EventKind;
use schemas::record::AttemptEndKind;
use schemas::worker::WorkerCondition;
use schemas::{JobResult, Reason};
use serde_json::{Value, json};

use crate::support::{ends_with, job, past, pool, settles};

/// 30 s for a worker to say that it drains, which it does at once.
const SAID_WITHIN: Duration = Duration::from_secs(30);

pub(crate) async fn a_worker_that_is_told_to_end_finishes_its_job_and_takes_no_other(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("drained");
    let queue = fleet.queue.in_pool(&pool);
    let [first, second] =
        ["drained-1", "drained-2"].map(|name| fleet.worker(name, &pool, 1, |_| ()));
    let (first, second) = (first?, second?);
    let draining = first.start(Lifetime::Owner).await?;
    let (running, waiting) = (job(&queue, "sleep 2")?, job(&queue, "true")?);
    runs(&queue, &running).await?;
    queue.publish(waiting.to_string()).await?;
    ends_in_order(draining).await?;
    let result = ends_with(fleet, &queue, &running, Reason::Completed).await?;
    ensure!(ran_on(&result) == ("drained-1", 1), "{result:?}");
    let helper = second.start(Lifetime::Owner).await?;
    let result = ends_with(fleet, &queue, &waiting, Reason::Completed).await?;
    ensure!(ran_on(&result) == ("drained-2", 1), "{result:?}");
    settles(fleet, &queue, vec![(&second, helper)]).await?;
    fleet.is_clean(&[&first]).await
}

pub(crate) async fn a_job_that_is_longer_than_the_drain_is_given_back_and_keeps_its_attempts(
    fleet: &Fleet,
) -> Result<()> {
    let (name, drain_s) = ("drain-short", 1);
    given_back(fleet, name, drain_s, async |draining| {
        ends_in_order(draining).await
    })
    .await
}

pub(crate) async fn a_second_signal_gives_the_job_back_at_once(fleet: &Fleet) -> Result<()> {
    // Longer than all that waits for it.
    let (name, drain_s) = ("drain-twice", 600);
    given_back(fleet, name, drain_s, async |draining| {
        draining.signal(Signal::SIGTERM)?;
        // Two signals at one time are one.
        wait::until("the worker to drain", SAID_WITHIN, async || {
            let said = fleet.said_by("drain-twice-1").await?;
            let state = said.and_then(|said| said.state.known().copied());
            Ok((state == Some(WorkerCondition::Draining)).then_some(()))
        })
        .await?;
        ends_in_order(draining).await
    })
    .await
}

pub(crate) async fn a_worker_that_is_told_to_end_waits_for_no_bake(fleet: &Fleet) -> Result<()> {
    let pool = pool("drain-parked");
    let queue = fleet.tenant_to_be("drain-parked").await?.in_pool(&pool);
    let [first, second] =
        ["drain-parked-1", "drain-parked-2"].map(|name| fleet.worker(name, &pool, 1, |_| ()));
    let (first, second) = (first?, second?);
    let draining = first.start(Lifetime::Owner).await?;
    let job = job(&queue, "true")?;
    let mut events = queue.events(&job).await?;
    queue.publish(job.to_string()).await?;
    events.next(EventKind::Parked).await?;
    let helper = second.start(Lifetime::Owner).await?;
    ends_in_order(draining).await?;
    // Nothing is baked before: it was given back, and waits elsewhere.
    events.next(EventKind::Parked).await?;
    fleet.bake(&queue.tenant).await?;
    let result = ends_with(fleet, &queue, &job, Reason::Completed).await?;
    ensure!(ran_on(&result) == ("drain-parked-2", 1), "{result:?}");
    settles(fleet, &queue, vec![(&second, helper)]).await?;
    fleet.is_clean(&[&first]).await
}

/// Has a worker end in the middle of a job, which has one attempt only; another must take it at once, and finish it.
async fn given_back(
    fleet: &Fleet,
    name: &'static str,
    drain_s: i64,
    end: impl AsyncFnOnce(Process) -> Result<()>,
) -> Result<()> {
    let pool = pool(name);
    let queue = fleet.queue.in_pool(&pool);
    let names = [format!("{name}-1"), format!("{name}-2")];
    let workers = names.each_ref().map(|name| -> Result<Service> {
        fleet.worker(name, &pool, 1, |config| {
            config.insert("drain_s".to_owned(), drain_s.into());
        })
    });
    let [first, second] = workers;
    let (first, second) = (first?, second?);
    let draining = first.start(Lifetime::Owner).await?;
    // Longer than it takes to give it back.
    let mut job = job(&queue, "sleep 12")?;
    job["retry"] = json!({"max_attempts": 1});
    runs(&queue, &job).await?;
    let helper = second.start(Lifetime::Owner).await?;
    end(draining).await?;
    let result = ends_with(fleet, &queue, &job, Reason::Completed).await?;
    ensure!(ran_on(&result) == (names[1].as_str(), 2), "{result:?}");
    let returned = [Some(AttemptEndKind::Returned)];
    ensure!(past(&result) == returned, "{result:?}");
    settles(fleet, &queue, vec![(&second, helper)]).await?;
    fleet.is_clean(&[&first]).await
}

/// Publishes a job and waits until its step runs.
async fn runs(queue: &Queue, job: &Value) -> Result<()> {
    let mut events = queue.events(job).await?;
    queue.publish(job.to_string()).await?;
    events.next(EventKind::StepStarted).await.map(drop)
}

/// Tells a worker to end; it must, and well.
async fn ends_in_order(worker: Process) -> Result<()> {
    let log = worker.log().to_owned();
    let status = worker.stop(GRACE).await?;
    ensure!(status.success(), "{status}: {}", log.display());
    Ok(())
}

/// Where a job ran, and in which attempt.
fn ran_on(result: &JobResult) -> (&str, u32) {
    (result.worker.as_str(), result.attempt)
}

//! One job in the hands of two workers: the lease says whose it is.

use anyhow::{Context as _, Result, ensure};
use e2e::fleet::Fleet;
use e2e::launch::Lifetime;
use e2e::queue::{self, Queue};
use nix::sys::signal::Signal;
use schemas::Reason;
use schemas::event::EventKind;
use schemas::names::stream;

use crate::support::{ends_with, is_reported_once, job, pool, settles};

pub(crate) async fn a_worker_that_is_frozen_past_its_lease_publishes_no_second_result(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("frozen");
    let queue = fleet.queue.in_pool(&pool);
    let [first, second] = ["frozen-1", "frozen-2"].map(|name| fleet.worker(name, &pool, 1, |_| ()));
    let (first, second) = (first?, second?);
    let frozen = first.start(Lifetime::Owner).await?;
    // It has ended long before the worker is thawed, as a build in a VM would that nobody supervises.
    let job = job(&queue, "sleep 3")?;
    let mut events = queue.events(&job).await?;
    let mut reports = queue.hear_reports(queue::job_id(&job)?).await?;
    queue.publish(job.to_string()).await?;
    events.next(EventKind::StepStarted).await?;
    frozen.signal(Signal::SIGSTOP)?;
    let other = second.start(Lifetime::Owner).await?;
    let result = ends_with(fleet, &queue, &job, Reason::Completed).await?;
    ensure!(
        result.worker.as_str() == "frozen-2" && result.attempt == 2,
        "{result:?}"
    );
    settles(fleet, &queue, vec![(&second, other)]).await?;
    frozen.signal(Signal::SIGCONT)?;
    // It takes jobs again, which shows that it is done with the one that it lost.
    let next = self::job(&queue, "true")?;
    queue.publish(next.to_string()).await?;
    let served = ends_with(fleet, &queue, &next, Reason::Completed).await?;
    ensure!(served.worker.as_str() == "frozen-1", "{served:?}");
    settles(fleet, &queue, vec![(&first, frozen)]).await?;
    is_reported_once(&mut reports).await
}

pub(crate) async fn a_message_that_comes_to_a_second_worker_meets_the_lease_of_the_first(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("redelivered");
    let queue = fleet.queue.in_pool(&pool);
    let [first, second] = ["again-1", "again-2"].map(|name| fleet.worker(name, &pool, 1, |_| ()));
    let (first, second) = (first?, second?);
    let holder = first.start(Lifetime::Owner).await?;
    let job = job(&queue, "sleep 4")?;
    let mut events = queue.events(&job).await?;
    let mut reports = queue.hear_reports(queue::job_id(&job)?).await?;
    queue.publish(job.to_string()).await?;
    events.next(EventKind::StepStarted).await?;
    let other = second.start(Lifetime::Owner).await?;
    deliver_again(&queue).await?;
    let result = ends_with(fleet, &queue, &job, Reason::Completed).await?;
    ensure!(
        result.worker.as_str() == "again-1" && result.attempt == 1,
        "{result:?}"
    );
    let workers = vec![(&first, holder), (&second, other)];
    settles(fleet, &queue, workers).await?;
    is_reported_once(&mut reports).await
}

/// Has the server deliver the one job of a queue again, though a worker has it: any acknowledgement acts on the current delivery.
async fn deliver_again(queue: &Queue) -> Result<()> {
    let jobs = queue.jetstream().get_stream(stream::JOBS).await?;
    let name = queue.subject().consumer();
    let info = jobs
        .consumer_info(&name)
        .await
        .context("look at a consumer")?;
    let delivered = info.delivered;
    // Its tokens: deliveries, sequence in the stream, sequence of the delivery, time, messages that wait.
    let ack = format!(
        "$JS.ACK.{}.{name}.1.{}.{}.0.0",
        stream::JOBS,
        delivered.stream_sequence,
        delivered.consumer_sequence
    );
    queue.client().publish(ack, "-NAK".into()).await?;
    queue.client().flush().await?;
    Ok(())
}

pub(crate) async fn one_job_that_is_published_twice_has_one_result(fleet: &Fleet) -> Result<()> {
    let pool = pool("twice");
    let queue = fleet.queue.in_pool(&pool);
    let [first, second] = ["twice-1", "twice-2"].map(|name| fleet.worker(name, &pool, 1, |_| ()));
    let (first, second) = (first?, second?);
    let workers = vec![
        (&first, first.start(Lifetime::Owner).await?),
        (&second, second.start(Lifetime::Owner).await?),
    ];
    let job = job(&queue, "sleep 1")?;
    let mut reports = queue.hear_reports(queue::job_id(&job)?).await?;
    tokio::try_join!(
        queue.publish(job.to_string()),
        queue.publish(job.to_string())
    )?;
    let result = ends_with(fleet, &queue, &job, Reason::Completed).await?;
    ensure!(result.attempt == 1, "attempt {}", result.attempt);
    settles(fleet, &queue, workers).await?;
    is_reported_once(&mut reports).await
}

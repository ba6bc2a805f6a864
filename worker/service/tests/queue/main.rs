//! Whose job a worker takes, and when, on a real nats-server. No job is run: the queue is asked directly.
//!
//! Needs `NATS_URL`, as `dev with` gives it; without, each test says that it was skipped.

mod places;
mod rig;

use std::time::Duration;

use anyhow::{Result, ensure};
use rig::Rig;
use tokio::time::{Instant, timeout};

/// 20 s: what no test takes, a busy machine included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// 5 s between two looks of an idle worker at the queue, whatever it hears.
const TIMER: Duration = Duration::from_secs(5);

/// What came of a wake-up comes before the timer would have brought it.
pub(crate) const BEFORE_THE_TIMER: Duration = Duration::from_secs(4);

/// 500 ms in which what must not happen would have happened.
pub(crate) const A_WHILE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_tenant_delays_another_by_no_more_than_a_job_for_each_slot() -> Result<()> {
    const SLOTS: u32 = 4;
    let Some(rig) = Rig::start("flood").await? else {
        return Ok(());
    };
    let (flood, quiet) = (rig.subject("flood", 5), rig.subject("quiet", 5));
    for subject in [&flood, &quiet] {
        rig.consumer(subject).await?;
    }
    rig.publish(&flood, 500).await?;
    let mut worker = rig.worker("worker", SLOTS).await?;
    let mut running = Vec::new();
    for _ in 0..SLOTS {
        running.push(timeout(PATIENCE, worker.next()).await??);
    }
    ensure!(running.iter().all(|job| job.subject == flood));
    rig.publish(&quiet, 1).await?;
    // The jobs take longer than a busy worker goes without a look at the queue, even where the server is slow.
    ensure!(timeout(A_WHILE, worker.next()).await.is_err());
    // What comes instead runs on: on its freed slot, the flood's next pull could overtake that of the other tenant, which was sent first.
    let mut others = Vec::new();
    for job in running {
        job.end().await?;
        let next = timeout(PATIENCE, worker.next()).await??;
        if next.subject == quiet {
            return Ok(());
        }
        others.push(next);
    }
    anyhow::bail!("{} jobs of the flood ran first", others.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn priorities_are_served_by_weight_and_the_last_is_not_starved() -> Result<()> {
    let Some(rig) = Rig::start("priorities").await? else {
        return Ok(());
    };
    let (first, last) = (rig.subject("a", 0), rig.subject("a", 9));
    for subject in [&first, &last] {
        rig.consumer(subject).await?;
        rig.publish(subject, 60).await?;
    }
    let mut worker = rig.worker("worker", 1).await?;
    let mut of_last = 0;
    for _ in 0..55 {
        let job = timeout(PATIENCE, worker.next()).await??;
        of_last += usize::from(job.subject == last);
        job.end().await?;
    }
    ensure!((4..=6).contains(&of_last), "{of_last} of 55, and not 5");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_consumer_is_made_later_is_found_soon_after() -> Result<()> {
    let Some(rig) = Rig::start("later").await? else {
        return Ok(());
    };
    let mut worker = rig.worker("worker", 1).await?;
    let subject = rig.subject("new", 5);
    rig.publish(&subject, 1).await?;
    ensure!(timeout(A_WHILE, worker.next()).await.is_err());
    rig.consumer(&subject).await?;
    let job = timeout(BEFORE_THE_TIMER, worker.next()).await??;
    ensure!(job.subject == subject);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_hears_a_publish_and_is_else_asleep() -> Result<()> {
    const JOBS: u32 = 50;
    let Some(rig) = Rig::start("idle").await? else {
        return Ok(());
    };
    let begun = Instant::now();
    let mut worker = rig.worker("worker", 2).await?;
    ensure!(timeout(A_WHILE, worker.next()).await.is_err());
    let sent = worker.sent();
    ensure!(timeout(3 * A_WHILE, worker.next()).await.is_err());
    let (sent, looks) = (worker.sent() - sent, timers_in(begun.elapsed()));
    // One more is the second listing of a worker that begins to listen, where the machine was slow.
    ensure!(sent <= looks + 1, "{sent} messages for {looks} looks");
    // A tenant that nobody has seen before.
    let subject = rig.subject("new", 3);
    rig.consumer(&subject).await?;
    let begun = Instant::now();
    for _ in 0..JOBS {
        let (published, job) =
            tokio::join!(rig.publish(&subject, 1), timeout(PATIENCE, worker.next()));
        published?;
        job??.end().await?;
    }
    let took = begun.elapsed();
    eprintln!("publish to taken and ended: {:?}", took / JOBS);
    // If only the timer told of them.
    ensure!(took < JOBS * TIMER / 2, "{took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_are_each_taken_once() -> Result<()> {
    const JOBS: u32 = 2000;
    let Some(rig) = Rig::start("many").await? else {
        return Ok(());
    };
    let subject = rig.subject("a", 5);
    rig.consumer(&subject).await?;
    rig.publish(&subject, JOBS as usize).await?;
    let mut worker = rig.worker("worker", 64).await?;
    let begun = Instant::now();
    for _ in 0..JOBS {
        timeout(PATIENCE, worker.next()).await??.end().await?;
    }
    let rate = f64::from(JOBS) / begun.elapsed().as_secs_f64();
    eprintln!("{rate:.0} jobs a second");
    ensure!(timeout(A_WHILE, worker.next()).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pulled_and_not_given_out_comes_back_when_the_queue_closes() -> Result<()> {
    let Some(rig) = Rig::start("close").await? else {
        return Ok(());
    };
    let subject = rig.subject("a", 5);
    rig.consumer(&subject).await?;
    rig.publish(&subject, 2).await?;
    let mut worker = rig.worker("worker", 4).await?;
    // The second is on its way, or is not.
    timeout(PATIENCE, worker.next()).await??.end().await?;
    worker.queue.close().await;
    let mut next = rig.worker("next", 1).await?;
    // Before the time of its delivery is over, which is 30 s.
    timeout(PATIENCE, next.next()).await??.end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_scratch_space_takes_nothing() -> Result<()> {
    let Some(rig) = Rig::start("full").await? else {
        return Ok(());
    };
    let subject = rig.subject("a", 5);
    rig.consumer(&subject).await?;
    rig.publish(&subject, 1).await?;
    let mut full = rig.worker_that_needs("full", 2, u64::MAX).await?;
    ensure!(timeout(A_WHILE, full.next()).await.is_err());
    Ok(())
}

/// In one thread, where the clock can be turned: the pause is over at once.
#[tokio::test]
async fn a_host_in_trouble_takes_nothing_and_then_one_job_alone() -> Result<()> {
    let Some(rig) = Rig::start("trouble").await? else {
        return Ok(());
    };
    let subject = rig.subject("a", 5);
    rig.consumer(&subject).await?;
    rig.publish(&subject, 3).await?;
    let mut worker = rig.worker("worker", 2).await?;
    for _ in 0..3 {
        worker.health.host_failed("fork: no space");
    }
    ensure!(
        timeout(A_WHILE, worker.next()).await.is_err(),
        "it is paused"
    );
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(30)).await;
    tokio::time::resume();
    let tried = timeout(PATIENCE, worker.next()).await??;
    ensure!(
        timeout(A_WHILE, worker.next()).await.is_err(),
        "the second slot stays empty"
    );
    worker.health.guest_ran();
    let second = timeout(PATIENCE, worker.next()).await??;
    for job in [tried, second] {
        job.end().await?;
    }
    timeout(PATIENCE, worker.next()).await??.end().await
}

/// How often the timer of a worker that began so long ago may have gone off: never, on a machine that keeps up.
pub(crate) fn timers_in(time: Duration) -> u64 {
    time.as_secs() / TIMER.as_secs()
}

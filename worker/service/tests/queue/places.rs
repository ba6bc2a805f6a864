//! Tenants that may have so many jobs at a time, over all workers.

use anyhow::{Result, ensure};
use tokio::time::{Instant, timeout};

use crate::rig::Rig;
use crate::{A_WHILE, BEFORE_THE_TIMER, PATIENCE, timers_in};

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_at_its_cap_waits_until_a_place_is_given_back_by_any_worker() -> Result<()> {
    let Some(rig) = Rig::start("cap").await? else {
        return Ok(());
    };
    rig.allow("capped", 1).await?;
    let (capped, free) = (rig.subject("capped", 5), rig.subject("free", 5));
    for subject in [&capped, &free] {
        rig.consumer(subject).await?;
    }
    rig.publish(&capped, 2).await?;
    let mut first = rig.worker("first", 4).await?;
    let mut second = rig.worker("second", 4).await?;
    let running = timeout(PATIENCE, first.next()).await??;
    ensure!(running.subject == capped && running.has_place());
    ensure!(timeout(A_WHILE, first.next()).await.is_err());
    ensure!(timeout(A_WHILE, second.next()).await.is_err());
    // Others are not held up by it.
    rig.publish(&free, 1).await?;
    let other = timeout(PATIENCE, second.next()).await??;
    ensure!(other.subject == free && !other.has_place());
    // Not when the place's time is over, nor by the timer.
    let (ended, next) = tokio::join!(running.end(), timeout(BEFORE_THE_TIMER, second.next()));
    ended?;
    ensure!(next??.has_place());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_that_is_raised_holds_at_once() -> Result<()> {
    let Some(rig) = Rig::start("raised").await? else {
        return Ok(());
    };
    rig.allow("capped", 1).await?;
    let capped = rig.subject("capped", 5);
    rig.consumer(&capped).await?;
    rig.publish(&capped, 3).await?;
    let mut worker = rig.worker("worker", 4).await?;
    let _first = timeout(PATIENCE, worker.next()).await??;
    ensure!(timeout(A_WHILE, worker.next()).await.is_err());
    rig.allow("capped", 2).await?;
    let _second = timeout(BEFORE_THE_TIMER, worker.next()).await??;
    ensure!(timeout(A_WHILE, worker.next()).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_lost_its_place_goes_on_and_has_the_next_that_is_free() -> Result<()> {
    let Some(rig) = Rig::start("lost").await? else {
        return Ok(());
    };
    rig.allow("capped", 1).await?;
    let capped = rig.subject("capped", 5);
    rig.consumer(&capped).await?;
    rig.publish(&capped, 2).await?;
    let (mut first, mut second) = (
        rig.worker("first", 1).await?,
        rig.worker("second", 1).await?,
    );
    let mut running = timeout(PATIENCE, first.next()).await??;
    rig.free_place("capped").await?;
    let other = timeout(PATIENCE, second.next()).await??;
    ensure!(rig.holder_of_place("capped").await?.as_deref() == Some("second"));
    running.renew_place().await?;
    ensure!(rig.holder_of_place("capped").await?.as_deref() == Some("second"));
    other.end().await?;
    let again = async {
        while rig.holder_of_place("capped").await?.as_deref() != Some("first") {
            running.renew_place().await?;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, again).await??;
    running.end().await?;
    ensure!(rig.holder_of_place("capped").await?.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_find_nothing_do_not_wake_each_other_for_ever() -> Result<()> {
    let Some(rig) = Rig::start("nothing").await? else {
        return Ok(());
    };
    rig.allow("capped", 2).await?;
    let capped = rig.subject("capped", 5);
    rig.consumer(&capped).await?;
    rig.publish(&capped, 1).await?;
    let begun = Instant::now();
    let mut first = rig.worker("first", 4).await?;
    let mut second = rig.worker("second", 4).await?;
    let mut third = rig.worker("third", 4).await?;
    // It stays in the stream while it runs, so the others look for more.
    let _running = timeout(PATIENCE, first.next()).await??;
    let (second_sees, third_sees) = tokio::join!(
        timeout(2 * A_WHILE, second.next()),
        timeout(2 * A_WHILE, third.next())
    );
    ensure!(second_sees.is_err() && third_sees.is_err());
    let before = second.sent() + third.sent();
    let (second_sees, third_sees) = tokio::join!(
        timeout(3 * A_WHILE, second.next()),
        timeout(3 * A_WHILE, third.next())
    );
    ensure!(second_sees.is_err() && third_sees.is_err());
    let sent = second.sent() + third.sent() - before;
    let looks = 2 * (1 + timers_in(begun.elapsed()));
    ensure!(sent < 10 * looks, "{sent} messages for {looks} looks");
    Ok(())
}

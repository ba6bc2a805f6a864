//! A job after another of the same source and environment.

use anyhow::{Result, ensure};

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_has_read_a_moment_ago_the_next_does_not_ask_for() -> Result<()> {
    let Some(rig) = Rig::start("repeats", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let asked = rig.asked_of_objects();
    let take = || std::mem::take(&mut *asked.lock().expect("nobody panics with it"));
    let job = rig.submit(&[]).await?;
    rig.completed(&job).await?;
    let by_first = take();
    let reads = |folder| {
        let reads = by_first.iter().filter(|(asks, _)| asks == "GetObject");
        reads.filter(|(_, key)| key.starts_with(folder)).count()
    };
    let (source, manifests) = (reads(rig.tenant().as_str()), reads("manifest/"));
    // The template's, and the environment's with its snapshot.
    ensure!((source, manifests) == (1, 2), "{by_first:?}");
    let job = rig.submit(&[]).await?;
    rig.completed(&job).await?;
    let by_second = take();
    ensure!(by_second.is_empty(), "{by_second:?}");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_was_read_and_is_gone_is_asked_for_again() -> Result<()> {
    let Some(rig) = Rig::start("gone", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let job = rig.submit(&[]).await?;
    rig.completed(&job).await?;
    rig.forget_template().await?;
    let job = rig.submit(&[]).await?;
    rig.requested(None).await?;
    rig.remember_template().await?;
    rig.completed(&job).await?;
    rig.end().await
}

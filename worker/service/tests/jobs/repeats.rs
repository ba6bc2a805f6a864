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
    let job = rig.submit(&[]).await?;
    rig.completed(&job).await?;
    let by_first = std::mem::take(&mut *asked.lock().expect("nobody panics with it"));
    let reads = by_first.iter().filter(|asks| *asks == "GetObject").count();
    ensure!(reads >= 2, "a source and a manifest: {by_first:?}");
    let job = rig.submit(&[]).await?;
    rig.completed(&job).await?;
    let by_second = std::mem::take(&mut *asked.lock().expect("nobody panics with it"));
    ensure!(by_second.is_empty(), "{by_second:?}");
    rig.end().await
}

//! Workers that are told to end while a job runs.

use anyhow::{Context as _, Result, ensure};
use schemas::event::EventKind;
use schemas::record::AttemptEndKind;

use crate::rig::{FIRST, Gate, Rig, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_end_in_time_is_given_back_and_that_is_no_attempt() -> Result<()> {
    let setup = Setup {
        drain_s: 1,
        ..Setup::default()
    };
    let Some(rig) = Rig::start_with("late", setup).await? else {
        return Ok(());
    };
    Box::pin(is_given_back(rig, false)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_twice_gives_its_job_back_at_once() -> Result<()> {
    let setup = Setup {
        drain_s: 3600,
        ..Setup::default()
    };
    let Some(rig) = Rig::start_with("told-twice", setup).await? else {
        return Ok(());
    };
    Box::pin(is_given_back(rig, true)).await
}

async fn is_given_back(mut rig: Rig, twice: bool) -> Result<()> {
    rig.bake().await?;
    let gate = Gate::new(&rig, "gate")?;
    let steps = gate.steps();
    let once = ("retry", r#"{"max_attempts": 1}"#);
    let job = rig.submit(&[("steps", &steps), once]).await?;
    rig.written(&job, "waits").await?;
    rig.tell_to_end(FIRST, twice)?;
    rig.event(&job, EventKind::Returned).await?;
    let words = rig.last_words(&job, 1).await?;
    ensure!(words == "given back: the worker ends\n", "{words}");
    rig.start_worker("second").await?;
    let second = |chunk: &crate::rig::Chunk| chunk.header.attempt == 2;
    rig.chunk(&job, second).await?;
    gate.open().await?;
    let result = rig.completed(&job).await?;
    ensure!(result.worker.as_str() == rig.worker_name("second"));
    let end = result.past_attempts[0].end.as_ref().context("it ended")?;
    ensure!(end.kind.known() == Some(&AttemptEndKind::Returned));
    ensure!(rig.record(&job).await?.counted() == 1, "the first is not");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_in_time_is_brought_to_its_end() -> Result<()> {
    let Some(rig) = Rig::start("intime", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let gate = Gate::new(&rig, "gate")?;
    let job = rig.submit(&[("steps", &gate.steps())]).await?;
    rig.written(&job, "waits").await?;
    rig.tell_to_end(FIRST, false)?;
    gate.open().await?;
    rig.completed(&job).await?;
    ensure!(rig.attempts(&job).await? == 1);
    rig.end().await
}

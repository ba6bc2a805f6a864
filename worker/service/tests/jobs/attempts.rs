//! Attempts that the host failed, and what is said of them: in the record, in the log, in the result, in the dead letter.

use anyhow::{Context as _, Result, ensure};
use schemas::event::EventKind;
use schemas::reason::{Reason, Status};
use schemas::record::{Attempt, AttemptEndKind};

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_fails_is_tried_again_and_the_result_tells_of_it() -> Result<()> {
    let Some(rig) = Rig::start("again", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    rig.fail_next_fork();
    let job = rig.submit(&[]).await?;
    let retrying = rig.event(&job, EventKind::Retrying).await?;
    ensure!(retrying.attempt == 1, "{retrying:?}");
    let result = rig.result(&job).await?;
    ensure!(
        (result.status, result.attempt) == (Status::Success, 2),
        "{result:?}"
    );
    let [past] = &result.past_attempts[..] else {
        anyhow::bail!("{result:?}");
    };
    failed(past)?;
    let words = rig.last_words(&job, 1).await?;
    ensure!(words.contains("refused, as the test asked"), "{words}");
    ensure!(rig.last_words(&job, 2).await?.is_empty());
    rig.end().await
}

fn failed(attempt: &Attempt) -> Result<()> {
    let end = attempt.end.as_ref().context("it ended")?;
    ensure!(end.kind.known() == Some(&AttemptEndKind::Failed), "{end:?}");
    let reason = end.reason.as_ref().and_then(|reason| reason.known());
    ensure!(reason == Some(&Reason::HostFailed), "{end:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_attempt_that_the_host_fails_is_the_result_and_leaves_a_dead_letter() -> Result<()>
{
    let Some(rig) = Rig::start("buried", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    rig.fail_next_fork();
    rig.fail_next_fork();
    let (job, body) = rig.job(&[("retry", r#"{"max_attempts": 2}"#)])?;
    rig.publish(body.clone()).await?;
    let result = rig.result(&job).await?;
    ensure!(
        result.reason.known() == Some(&Reason::HostFailed),
        "{result:?}"
    );
    ensure!((result.attempt, result.past_attempts.len()) == (2, 1));
    let letter = rig.dead_letter(&job).await?;
    ensure!(letter.body == body, "byte for byte");
    ensure!(letter.message == result.message, "{letter:?}");
    ensure!(letter.attempts.len() == 2, "{letter:?}");
    failed(&letter.attempts[0])?;
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_workers_runs_out_of_attempts() -> Result<()> {
    let Some(rig) = Rig::start("deadly", 1).await? else {
        return Ok(());
    };
    let (job, body) = rig.job(&[("retry", r#"{"max_attempts": 3}"#)])?;
    rig.lose_attempts(&job, &body, 3).await?;
    rig.publish(body).await?;
    let result = rig.result(&job).await?;
    ensure!(
        result.reason.known() == Some(&Reason::MaxAttempts),
        "{result:?}"
    );
    ensure!((result.attempt, result.past_attempts.len()) == (3, 3));
    for past in &result.past_attempts {
        let end = past.end.as_ref().context("it ended")?;
        ensure!(end.kind.known() == Some(&AttemptEndKind::Lost), "{end:?}");
    }
    let letter = rig.dead_letter(&job).await?;
    ensure!(letter.attempts == result.past_attempts, "{letter:?}");
    let words = rig.last_words(&job, 3).await?;
    ensure!(words == "the worker gone was lost\n", "{words}");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_chunk_of_a_log_is_marked_before_the_result_is_there() -> Result<()> {
    let Some(rig) = Rig::start("whole", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let steps = r#"[{"name": "say", "sh": "echo one; echo two"}]"#;
    let job = rig.submit(&[("steps", steps)]).await?;
    let result = rig.result(&job).await?;
    let end = rig.chunk(&job, |chunk| chunk.header.eof).await?;
    ensure!(end.text.is_empty() && end.is_end_of(1), "{end:?}");
    let finished = result.timing.finished_at.context("it is finished")?;
    ensure!(end.header.time <= finished, "{end:?}");
    let log = result.log.context("it has a log")?;
    ensure!(log.chunks_lost == 0, "{log:?}");
    ensure!(rig.log(Some(&log)).await? == "one\ntwo\n");
    rig.end().await
}

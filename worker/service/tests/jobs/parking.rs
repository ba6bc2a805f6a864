//! Jobs that wait for a bake.

use std::time::Duration;

use anyhow::{Result, ensure};
use schemas::reason::Reason;
use schemas::worker::WorkerCondition;
use tokio::time::{Instant, timeout};

use crate::rig::{PATIENCE, Rig};

/// 1 s after the pointer's move, every waiting job of an idle worker should run; a busy machine gets as much again.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn eight_jobs_that_miss_park_without_slots_and_run_when_the_snapshot_appears() -> Result<()> {
    let Some(rig) = Rig::start("eight", 2).await? else {
        return Ok(());
    };
    let mut jobs = Vec::new();
    for _ in 0..8 {
        jobs.push(rig.submit(&[]).await?);
    }
    let state = rig.state_where(|state| state.parked == 8).await?;
    ensure!(state.running == 0, "a parked job holds no slot");
    rig.requested(Some(rig.key())).await?;
    let requests = rig.bake_requests().await?;
    ensure!(requests.len() == 1, "one bake for eight jobs: {requests:?}");
    ensure!(rig.attempts(&jobs[0]).await? == 0, "no attempt is recorded");
    rig.bake().await?;
    let appeared = Instant::now();
    timeout(SOON, rig.state_where(|state| state.running > 0)).await??;
    for job in &jobs {
        let result = rig.completed(job).await?;
        ensure!(result.attempt == 1, "{result:?}");
    }
    ensure!(appeared.elapsed() < PATIENCE);
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bake_that_fails_ends_every_job_that_waits_and_the_next_at_once() -> Result<()> {
    let Some(rig) = Rig::start("failing", 1).await? else {
        return Ok(());
    };
    let jobs = [rig.submit(&[]).await?, rig.submit(&[]).await?];
    rig.state_where(|state| state.parked == 2).await?;
    rig.fail_bake("step_failed").await?;
    let late = rig.submit(&[]).await?;
    for job in jobs.iter().chain([&late]) {
        let result = rig.result(job).await?;
        ensure!(
            result.reason.known() == Some(&Reason::BakeFailed),
            "{result:?}"
        );
        ensure!(result.message.contains("setup step deps exited with 1"));
        ensure!(result.log.is_some(), "the bake's log is the job's");
    }
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bake_that_its_host_failed_is_an_attempt_that_is_tried_again() -> Result<()> {
    let Some(rig) = Rig::start("hostfailed", 1).await? else {
        return Ok(());
    };
    let job = rig.submit(&[]).await?;
    rig.state_where(|state| state.parked == 1).await?;
    rig.fail_bake("host_failed").await?;
    rig.state_where(|state| state.parked == 0).await?;
    ensure!(rig.attempts(&job).await? == 1, "it counts");
    rig.bake().await?;
    let result = rig.completed(&job).await?;
    ensure!(result.attempt == 2, "{result:?}");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_cannot_be_read_is_told_with_its_field() -> Result<()> {
    let Some(rig) = Rig::start("unreadable", 1).await? else {
        return Ok(());
    };
    rig.define(br#"{"name": "widget", "template": "base", "setup": 5}"#)
        .await?;
    let job = rig.submit(&[]).await?;
    let result = rig.result(&job).await?;
    ensure!(
        result.reason.known() == Some(&Reason::UnknownEnvironment),
        "{result:?}"
    );
    ensure!(result.message.contains("setup"), "{}", result.message);
    ensure!(rig.attempts(&job).await? == 1, "it is not tried again");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_no_longer_than_it_says() -> Result<()> {
    let Some(rig) = Rig::start("expired", 1).await? else {
        return Ok(());
    };
    let job = rig.submit(&[("timeouts", r#"{"queue_s": 2}"#)]).await?;
    let result = rig.result(&job).await?;
    ensure!(
        result.reason.known() == Some(&Reason::QueueExpired),
        "{result:?}"
    );
    ensure!(
        result.message.contains(&rig.key().to_string()),
        "{}",
        result.message
    );
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_gives_parked_jobs_back_and_loses_none() -> Result<()> {
    let Some(rig) = Rig::start("drained", 1).await? else {
        return Ok(());
    };
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(rig.submit(&[]).await?);
    }
    rig.state_where(|state| state.parked == 3).await?;
    let rig = rig.replaced().await?;
    rig.state_where(|state| state.parked == 3).await?;
    rig.bake().await?;
    for job in &jobs {
        let result = rig.completed(job).await?;
        ensure!(result.attempt == 1, "parking is no attempt: {result:?}");
    }
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_a_template_waits_for_it_and_then_for_its_key() -> Result<()> {
    let Some(rig) = Rig::start("template", 1).await? else {
        return Ok(());
    };
    rig.forget_template().await?;
    let job = rig.submit(&[]).await?;
    rig.state_where(|state| state.parked == 1).await?;
    rig.requested(None).await?;
    rig.remember_template().await?;
    rig.requested(Some(rig.key())).await?;
    rig.bake().await?;
    rig.completed(&job).await?;
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_runs_the_setup_in_the_jobs_own_fork() -> Result<()> {
    let Some(rig) = Rig::start("cold", 1).await? else {
        return Ok(());
    };
    let job = rig.submit(&[("on_missing", r#""cold""#)]).await?;
    let result = rig.completed(&job).await?;
    let used = result.environment.expect("it ran");
    ensure!(used.start == schemas::result::Start::Cold);
    ensure!(used.key.0 == rig.key(), "the key is the environment's");
    ensure!(
        rig.log(result.log.as_ref()).await?.contains("set up"),
        "the setup's output is in the log"
    );
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_that_fails_cold_is_the_jobs_failure_with_its_output() -> Result<()> {
    let Some(rig) = Rig::start("coldfail", 1).await? else {
        return Ok(());
    };
    let inline = r#"{"name": "broken", "template": "base", "inputs": ["lock"],
        "setup": [{"name": "deps", "sh": "echo no such package; exit 3"}]}"#;
    let inline = inline.replace("\"base\"", &format!("\"{}\"", rig.template()));
    let job = rig
        .submit(&[("on_missing", r#""cold""#), ("environment", &inline)])
        .await?;
    let result = rig.result(&job).await?;
    ensure!(
        result.reason.known() == Some(&Reason::BakeFailed),
        "{result:?}"
    );
    ensure!(
        result.message.contains("setup step deps exited with 3"),
        "{}",
        result.message
    );
    ensure!(
        result.message.contains("no such package"),
        "{}",
        result.message
    );
    ensure!(
        rig.log(result.log.as_ref())
            .await?
            .contains("no such package")
    );
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_says_fail_is_told_once_and_nobody_bakes() -> Result<()> {
    let Some(rig) = Rig::start("fail", 1).await? else {
        return Ok(());
    };
    let job = rig.submit(&[("on_missing", r#""fail""#)]).await?;
    let result = rig.result(&job).await?;
    ensure!(
        result.reason.known() == Some(&Reason::SnapshotUnavailable),
        "{result:?}"
    );
    ensure!(rig.attempts(&job).await? == 1, "it is not tried again");
    ensure!(rig.bake_requests().await?.is_empty());
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_says_what_it_is_and_takes_it_back() -> Result<()> {
    let Some(rig) = Rig::start("alive", 3).await? else {
        return Ok(());
    };
    let state = rig.state_where(|_| true).await?;
    ensure!((state.slots, state.running) == (3, 0));
    ensure!(state.state.known() == Some(&WorkerCondition::Ready));
    let workers = rig.alive();
    let name = state.name.clone();
    rig.end().await?;
    ensure!(workers.get(name.as_str()).await?.is_none());
    Ok(())
}

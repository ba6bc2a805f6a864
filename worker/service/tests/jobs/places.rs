//! Parked jobs and the places they take: one that waits for long, one too many, and one whose worker is busy when its snapshot
//! is there.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::rig::{FIRST, Gate, Rig, Setup, given_back, heard};

/// 15 s: longer than the 10 s between two signs of life, and shorter than two of them.
const ACK_WAIT: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_job_outlives_the_servers_patience_and_is_not_delivered_again() -> Result<()> {
    let setup = Setup {
        ack_wait: Some(ACK_WAIT),
        ..Setup::default()
    };
    let Some(mut rig) = Rig::start_with("patient", setup).await? else {
        return Ok(());
    };
    let mut answers = rig.answers().await?;
    let job = rig.submit(&[]).await?;
    rig.state_where(|state| state.parked == 1).await?;
    let parked = Instant::now();
    while parked.elapsed() <= ACK_WAIT {
        let answer = heard(&mut answers).await?;
        ensure!(answer == "+WPI", "{answer}");
    }
    ensure!(rig.deliveries().await? == 1, "it was delivered again");
    rig.bake().await?;
    let result = rig.completed(&job).await?;
    ensure!(result.attempt == 1, "{result:?}");
    ensure!(rig.deliveries().await? == 1, "it was delivered again");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_finds_no_place_to_wait_is_given_back_without_an_attempt() -> Result<()> {
    let setup = Setup {
        slots: 2,
        max_parked: 1,
        ..Setup::default()
    };
    let Some(rig) = Rig::start_with("full", setup).await? else {
        return Ok(());
    };
    let first = rig.submit(&[]).await?;
    rig.state_where(|state| state.parked == 1).await?;
    let mut answers = rig.answers().await?;
    let second = rig.submit(&[]).await?;
    given_back(&mut answers).await?;
    ensure!(rig.attempts(&second).await? == 0, "no attempt is recorded");
    let state = rig.state_where(|state| state.running == 0).await?;
    ensure!(state.parked == 1, "the first waits on: {state:?}");
    rig.bake().await?;
    for job in [&first, &second] {
        let result = rig.completed(job).await?;
        ensure!(result.attempt == 1, "{result:?}");
    }
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_takes_the_job_that_a_busy_one_has_parked() -> Result<()> {
    let Some(mut rig) = Rig::start("busy", 1).await? else {
        return Ok(());
    };
    let parked = rig.submit(&[]).await?;
    rig.state_where(|state| state.parked == 1).await?;
    let gate = Gate::new(&rig, "gate")?;
    let steps = serde_json::json!([{"name": "wait", "run": ["cat", gate.path()]}]).to_string();
    let holds = [("on_missing", r#""cold""#), ("steps", &steps)];
    let busy = rig.submit(&holds).await?;
    rig.state_where(|state| (state.running, state.parked) == (1, 1))
        .await?;
    rig.start_worker("second").await?;
    rig.state_of("second", |state| state.running == 0).await?;
    let mut answers = rig.answers().await?;
    rig.bake().await?;
    given_back(&mut answers).await?;
    let result = rig.completed(&parked).await?;
    ensure!(result.attempt == 1, "parking is no attempt: {result:?}");
    let second = rig.worker_name("second");
    ensure!(result.worker.as_str() == second, "{result:?}");
    gate.open().await?;
    let result = rig.completed(&busy).await?;
    ensure!(result.worker.as_str() == rig.worker_name(FIRST));
    rig.end().await
}

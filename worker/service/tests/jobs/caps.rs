//! Jobs of a tenant that may have one at a time, and that wait for a bake.

use anyhow::{Result, ensure};

use crate::rig::{Gate, Rig, given_back};

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_job_gives_its_tenants_place_away_and_takes_it_again_to_run() -> Result<()> {
    let Some(rig) = Rig::start("place", 2).await? else {
        return Ok(());
    };
    rig.cap().await?;
    let gate = Gate::new(&rig, "gate")?;
    let job = rig.submit(&[("steps", &gate.steps())]).await?;
    rig.state_where(|state| state.parked == 1).await?;
    rig.place_gone().await?;
    rig.bake().await?;
    rig.written(&job, "waits").await?;
    rig.place_taken().await?;
    gate.open().await?;
    let result = rig.completed(&job).await?;
    ensure!(result.attempt == 1, "parking is no attempt: {result:?}");
    rig.place_gone().await?;
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_job_whose_tenant_has_no_place_left_is_given_back_and_runs_later() -> Result<()> {
    let Some(rig) = Rig::start("noplace", 2).await? else {
        return Ok(());
    };
    rig.cap().await?;
    let parked = rig.submit(&[]).await?;
    rig.state_where(|state| state.parked == 1).await?;
    let gate = Gate::new(&rig, "gate")?;
    let cold = [("on_missing", r#""cold""#), ("steps", &gate.steps())];
    let busy = rig.submit(&cold).await?;
    rig.written(&busy, "waits").await?;
    let mut answers = rig.answers().await?;
    rig.bake().await?;
    given_back(&mut answers).await?;
    ensure!(rig.attempts(&parked).await? == 0, "it does not run");
    gate.open().await?;
    for job in [&busy, &parked] {
        let result = rig.completed(job).await?;
        ensure!(result.attempt == 1, "parking is no attempt: {result:?}");
    }
    rig.end().await
}

//! Jobs that are cancelled: before anybody has them, while they are parked, fetched, set up, run, collected; and when they come again.

use anyhow::{Context as _, Result, ensure};
use schemas::JobResult;
use schemas::event::EventKind;
use schemas::reason::{Reason, Status};
use schemas::result::Termination;
use tokio::time::timeout;

use crate::rig::{Gate, PATIENCE, Rig};

fn cancelled(result: &JobResult) -> Result<()> {
    ensure!(
        result.reason.known() == Some(&Reason::Cancelled),
        "{result:?}"
    );
    ensure!(result.status == Status::Cancellation, "{result:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_before_it_is_there_never_runs() -> Result<()> {
    let Some(rig) = Rig::start("early", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let (job, body) = rig.job(&[])?;
    rig.cancel(&job).await?;
    rig.publish(body).await?;
    let result = rig.result(&job).await?;
    cancelled(&result)?;
    ensure!(rig.attempts(&job).await? == 0, "it was not attempted");
    ensure!(result.steps[0].termination == Termination::NotRun);
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_job_that_is_cancelled_ends_at_once() -> Result<()> {
    let Some(rig) = Rig::start("parked", 1).await? else {
        return Ok(());
    };
    let job = rig.submit(&[]).await?;
    rig.state_where(|state| state.parked == 1).await?;
    rig.cancel(&job).await?;
    cancelled(&rig.result(&job).await?)?;
    rig.state_where(|state| state.parked == 0).await?;
    ensure!(rig.attempts(&job).await? == 0, "it was not attempted");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_source_is_fetched_is_cancelled_in_the_middle() -> Result<()> {
    let Some(rig) = Rig::start("fetching", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let asked = rig.silence_objects("GetObject");
    let job = rig.submit(&[]).await?;
    timeout(PATIENCE, asked.notified()).await?;
    rig.cancel(&job).await?;
    cancelled(&rig.result(&job).await?)?;
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_asked_to_end_and_what_it_says_then_is_in_the_log() -> Result<()> {
    let Some(rig) = Rig::start("during", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let gate = Gate::new(&rig, "gate")?;
    let script = format!("trap 'echo asked' TERM; echo waits; cat {}", gate.path());
    let steps = serde_json::json!([
        {"name": "wait", "sh": script},
        {"name": "never", "run": ["true"]}
    ]);
    let job = rig.submit(&[("steps", &steps.to_string())]).await?;
    rig.written(&job, "waits").await?;
    rig.cancel(&job).await?;
    let cancelling = rig.event(&job, EventKind::Cancelling).await?;
    ensure!(cancelling.step.context("a step")?.as_str() == "wait");
    let result = rig.result(&job).await?;
    cancelled(&result)?;
    let ends = result.steps.iter().map(|step| step.termination);
    let expected = [Termination::Cancelled, Termination::NotRun];
    ensure!(ends.eq(expected), "{result:?}");
    let log = rig.log(result.log.as_ref()).await?;
    // The shell may say on its other stream that what it waited for was terminated, before or after.
    let lines: Vec<_> = log.lines().collect();
    ensure!(lines[0] == "waits" && lines.contains(&"asked"), "{log}");
    ensure!(rig.attempts(&job).await? == 1, "it is not tried again");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_does_not_end_when_it_is_asked_is_killed_after_its_grace() -> Result<()> {
    let Some(rig) = Rig::start("deaf", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let gate = Gate::new(&rig, "gate")?;
    let script = format!("trap '' TERM; echo waits; cat {}", gate.path());
    let steps = serde_json::json!([{"name": "wait", "sh": script}]).to_string();
    let timeouts = r#"{"kill_grace_s": 1}"#;
    let job = rig
        .submit(&[("steps", &steps), ("timeouts", timeouts)])
        .await?;
    rig.written(&job, "waits").await?;
    rig.cancel(&job).await?;
    let result = rig.result(&job).await?;
    cancelled(&result)?;
    ensure!(result.steps[0].termination == Termination::Cancelled);
    ensure!(result.steps[0].duration_ms >= 1000, "{result:?}");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_in_the_middle_of_its_setup_and_what_that_wrote_is_in_the_log()
-> Result<()> {
    let Some(rig) = Rig::start("forking", 1).await? else {
        return Ok(());
    };
    let gate = Gate::new(&rig, "gate")?;
    let waits = format!("echo waits; cat {}", gate.path());
    let inline = serde_json::json!({
        "name": "slow", "template": rig.template(), "inputs": ["lock"],
        "setup": [{"name": "deps", "sh": waits}]
    });
    let inline = inline.to_string();
    let cold = [("on_missing", r#""cold""#), ("environment", &*inline)];
    let job = rig.submit(&cold).await?;
    rig.written(&job, "waits").await?;
    rig.cancel(&job).await?;
    rig.event(&job, EventKind::Cancelling).await?;
    let result = rig.result(&job).await?;
    cancelled(&result)?;
    ensure!(result.steps[0].termination == Termination::NotRun);
    ensure!(rig.log(result.log.as_ref()).await? == "waits\n");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_artifacts_are_read_out_is_cancelled_in_the_middle() -> Result<()> {
    let Some(rig) = Rig::start("collecting", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    // Only an artifact is looked for before it is stored.
    let asked = rig.silence_objects("HeadObject");
    let artifacts = r#"[{"name": "lock", "paths": ["lock"]}]"#;
    let job = rig.submit(&[("artifacts", artifacts)]).await?;
    timeout(PATIENCE, asked.notified()).await?;
    rig.cancel(&job).await?;
    let result = rig.result(&job).await?;
    cancelled(&result)?;
    ensure!(result.steps[0].termination == Termination::Exited { code: 0 });
    ensure!(result.artifacts.is_empty(), "{result:?}");
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_that_is_published_again_stays_cancelled() -> Result<()> {
    let Some(rig) = Rig::start("resubmitted", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let (job, body) = rig.job(&[])?;
    rig.cancel(&job).await?;
    rig.publish(body.clone()).await?;
    let first = rig.result(&job).await?;
    cancelled(&first)?;
    rig.acknowledged().await?;
    // What counts then is the result.
    rig.forget_cancel(&job).await?;
    rig.publish(body).await?;
    rig.acknowledged().await?;
    ensure!(rig.result(&job).await? == first);
    ensure!(rig.attempts(&job).await? == 0, "it was not attempted");
    rig.end().await
}

//! Whose job it is: one delivered twice, one whose lease was lost, one whose id another body has.

use anyhow::{Result, ensure};
use futures_util::FutureExt as _;
use schemas::Token;
use schemas::reason::Reason;
use schemas::record::AttemptEndKind;
use worker::queue::Taken;

use crate::rig::{FIRST, Gate, Rig, Setup, given_back, handled, heard, tried};

/// 12 s: longer than the 10 s between two signs of life.
const ACK_WAIT: std::time::Duration = std::time::Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_are_handed_the_same_message_give_one_result_and_one_attempt() -> Result<()>
{
    let setup = Setup {
        with_worker: false,
        ..Setup::default()
    };
    let Some(rig) = Rig::start_with("twice", setup).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let gate = Gate::new(&rig, "gate")?;
    let job = rig.submit(&[("steps", &gate.steps())]).await?;
    let (message, mut answers) = (rig.delivered().await?, rig.answers().await?);
    let mut tries = rig.tries(&job).await?;
    let (first, second) = (rig.idle("a").await?, rig.idle("b").await?);
    let taken = || Taken {
        message: message.clone(),
        cap: None,
    };
    let running = tokio::spawn(handled(first, taken()));
    rig.written(&job, "waits").await?;
    Box::pin(handled(second.clone(), taken())).await;
    given_back(&mut answers).await?;
    ensure!(rig.result_now(&job).await?.is_none());
    gate.open().await?;
    running.await?;
    let result = rig.result(&job).await?;
    ensure!(result.worker.as_str() == rig.worker_name("a"), "{result:?}");
    // And once more, when it has its result.
    Box::pin(handled(second, taken())).await;
    ensure!(rig.attempts(&job).await? == 1);
    ensure!(!rig.is_leased(&job).await?, "who is done holds nothing");
    ensure!(tried(&mut tries) == 1, "the second reported as well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_loses_its_lease_kills_the_vm_and_says_nothing_more() -> Result<()> {
    let setup = Setup {
        ack_wait: Some(ACK_WAIT),
        ..Setup::default()
    };
    let Some(rig) = Rig::start_with("lost", setup).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let pid = rig.directory().join("pid");
    let gate = Gate::new(&rig, "gate")?;
    // Only the first attempt waits.
    let script = format!(
        "test -e {0} && exit 0; echo $$ > {0}; echo waits; cat {1}",
        pid.display(),
        gate.path()
    );
    let steps = serde_json::json!([{"name": "wait", "sh": script}]).to_string();
    let job = rig.submit(&[("steps", &steps)]).await?;
    rig.written(&job, "waits").await?;
    let (mut answers, mut tries) = (rig.answers().await?, rig.tries(&job).await?);
    rig.take_lease(&job).await?;
    rig.state_where(|state| state.running == 0).await?;
    let step = std::fs::read_to_string(&pid)?;
    ensure!(
        !std::path::Path::new("/proc").join(step.trim()).exists(),
        "the step has ended with the VM"
    );
    ensure!(rig.result_now(&job).await?.is_none());
    let before = rig.record(&job).await?;
    ensure!(before.attempts[0].end.is_none(), "nor is anything recorded");
    while let Some(answer) = heard(&mut answers).now_or_never() {
        ensure!(answer? == "+WPI", "nothing is said of the message");
    }
    ensure!(tried(&mut tries) == 0, "nor is it tried to report anything");
    rig.free_lease(&job).await?;
    taken_over(&rig, &job).await?;
    rig.end().await
}

/// Whoever gets the job next finds that the last attempt was lost.
async fn taken_over(rig: &Rig, job: &Token) -> Result<()> {
    let result = rig.completed(job).await?;
    ensure!(result.attempt == 2, "{result:?}");
    let past = result.past_attempts[0].end.as_ref();
    let kind = past.and_then(|end| end.kind.known());
    ensure!(kind == Some(&AttemptEndKind::Lost), "{past:?}");
    let words = rig.last_words(job, 1).await?;
    let lost = format!("the worker {} was lost\n", rig.worker_name(FIRST));
    ensure!(words == lost, "{words}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_body_is_the_same_job_and_another_body_with_its_id_is_refused() -> Result<()> {
    let Some(rig) = Rig::start("sameid", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let (job, body) = rig.job(&[])?;
    rig.publish(body.clone()).await?;
    let first = rig.result(&job).await?;
    rig.publish(body.clone()).await?;
    let other = rig.publish(format!(" {body}")).await?;
    let refused = rig.result(&format!("invalid-{other}").parse()?).await?;
    ensure!(
        refused.reason.known() == Some(&Reason::IdConflict),
        "{refused:?}"
    );
    let quoted = r#"the body begins with " {\"environment\""#;
    ensure!(refused.message.contains(quoted), "{}", refused.message);
    rig.acknowledged().await?;
    ensure!(rig.result(&job).await? == first, "the first is untouched");
    ensure!(rig.attempts(&job).await? == 1, "it ran once");
    rig.end().await
}

//! VMMs and workers that end without a word, with real VMs: nobody builds twice for one result, and no VM outlives its worker.

use anyhow::{Context as _, Result, ensure};
use e2e::launch::Lifetime;
use e2e::left::processes_that_name;
use e2e::queue;
use e2e::stack::GRACE;
use e2e::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use schemas::event::EventKind;
use schemas::record::AttemptEndKind;
use schemas::{JobResult, Reason};
use serde_json::Value;
use std::time::Duration;

use crate::stack::Cases;

/// 10 s for the end of a VMM whose worker has ended: the kernel sees to it.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Long enough for something to happen meanwhile.
const SCRIPT: &str = "sleep 3";

pub(crate) async fn a_vmm_that_is_killed_is_the_hosts_trouble_and_tried_again(
    cases: &mut Cases,
) -> Result<()> {
    let job = reaches_its_step(cases).await?;
    for vmm in processes_that_name(&cases.directory.join("worker/slots")) {
        kill(Pid::from_raw(i32::try_from(vmm)?), Signal::SIGKILL)?;
    }
    let result = completes(cases, &job).await?;
    let end = &result.past_attempts.first().context("a first attempt")?.end;
    let end = end.as_ref().context("it has ended")?;
    ensure!(end.kind.known() == Some(&AttemptEndKind::Failed), "{end:?}");
    let reason = end.reason.as_ref().and_then(|reason| reason.known());
    ensure!(reason == Some(&Reason::VmmDied), "{end:?}");
    cases.is_settled().await
}

pub(crate) async fn a_worker_that_is_killed_takes_its_vm_along_and_the_next_builds_again(
    cases: &mut Cases,
) -> Result<()> {
    let job = reaches_its_step(cases).await?;
    let slots = cases.directory.join("worker/slots");
    let stack = cases.stack_mut()?;
    stack.worker.kill_in_place()?;
    wait::until("the VM to be gone", GONE_WITHIN, async || {
        Ok(processes_that_name(&slots).is_empty().then_some(()))
    })
    .await?;
    stack.worker = stack.services.worker.start(Lifetime::Owner).await?;
    completes(cases, &job).await?;
    cases.is_settled().await
}

pub(crate) async fn a_worker_that_is_frozen_past_its_lease_kills_its_vm_when_it_is_thawed(
    cases: &mut Cases,
) -> Result<()> {
    let directory = cases.directory.join("second-worker");
    let second = cases.stack()?.services.worker.clone();
    let second = second.sibling("worker", &directory, |config| {
        config["name"] = "w2".into();
    })?;
    let job = reaches_its_step(cases).await?;
    let mut reports = cases.queue.hear_reports(queue::job_id(&job)?).await?;
    cases.stack()?.worker.signal(Signal::SIGSTOP)?;
    let other = second.start(Lifetime::Owner).await?;
    let result = completes(cases, &job).await;
    cases.stack()?.worker.signal(Signal::SIGCONT)?;
    ensure!(result?.worker.as_str() == "w2");
    let status = other.stop(GRACE).await?;
    ensure!(status.success(), "{status}");
    std::fs::remove_dir_all(&directory).context("remove a worker's state")?;
    // Its VM too, which built on while nobody watched it.
    cases.is_settled().await?;
    cases
        .ends_with(&cases.job("true"), Reason::Completed)
        .await?;
    let count = reports.count().await?;
    ensure!(count == 1, "{count} results were reported");
    Ok(())
}

/// Publishes a job, and gives it when its step runs.
async fn reaches_its_step(cases: &Cases) -> Result<Value> {
    let job = cases.job(SCRIPT);
    let mut events = cases.queue.events(&job).await?;
    cases.queue.publish(job.to_string()).await?;
    events.next(EventKind::StepStarted).await?;
    Ok(job)
}

/// Waits for the result of a job whose first attempt came to nothing.
async fn completes(cases: &Cases, job: &Value) -> Result<JobResult> {
    let result = cases.queue.result(queue::job_id(job)?).await?;
    ensure!(
        result.reason.known() == Some(&Reason::Completed),
        "{}: {}",
        result.reason,
        result.message
    );
    ensure!(result.attempt == 2, "attempt {}", result.attempt);
    Ok(result)
}

//! How a build can end, and that the worker takes the next one all the same.

use anyhow::{Context as _, Result, ensure};
use schemas::result::{StepStatus, Termination};
use schemas::{Reason, Sha256Digest};
use serde_json::json;

use crate::stack::Cases;

/// What the noisy step writes: a block of numbers, 200 times. 8 bytes a line.
const LINES_OF_A_BLOCK: usize = 131_072;

pub(crate) async fn a_step_that_exits_with_3_is_a_failure_with_that_code(
    cases: &mut Cases,
) -> Result<()> {
    let job = cases.job("echo before; exit 3");
    let result = cases.ends_with(&job, Reason::StepExitNonzero).await?;
    ensure!(result.exit_code == Some(3), "{:?}", result.exit_code);
    ensure!(
        result
            .failed_step
            .as_ref()
            .is_some_and(|step| step.as_str() == "build")
    );
    ensure!(result.steps[0].termination == Termination::Exited { code: 3 });
    ensure!(cases.log(&result).await? == "before\n");
    cases.output_of("true").await.map(drop)
}

pub(crate) async fn a_step_that_a_signal_ends_is_a_failure_without_a_code(
    cases: &mut Cases,
) -> Result<()> {
    let job = cases.job("kill -SEGV $$");
    let result = cases.ends_with(&job, Reason::StepSignalled).await?;
    ensure!(result.exit_code.is_none(), "{:?}", result.exit_code);
    ensure!(result.steps[0].termination == Termination::Signalled { signal: 11 });
    cases.output_of("true").await.map(drop)
}

pub(crate) async fn a_step_that_runs_past_its_timeout_is_killed(cases: &mut Cases) -> Result<()> {
    let mut job = cases.job("sleep 600 & trap '' TERM; echo started; while :; do sleep 600; done");
    job["steps"][0]["timeout_s"] = json!(5);
    job["timeouts"] = json!({"kill_grace_s": 1});
    let result = cases.ends_with(&job, Reason::StepTimeout).await?;
    ensure!(result.exit_code.is_none(), "{:?}", result.exit_code);
    ensure!(result.steps[0].termination == Termination::TimedOut);
    ensure!(result.steps[0].status == StepStatus::Timeout);
    ensure!(cases.log(&result).await? == "started\n");
    cases.output_of("true").await.map(drop)
}

pub(crate) async fn after_a_step_that_fails_no_other_runs(cases: &mut Cases) -> Result<()> {
    let mut job = cases.job("");
    job["steps"] = json!([
        {"name": "first", "run": ["echo", "first"]},
        {"name": "second", "run": ["false"]},
        {"name": "third", "run": ["echo", "third"]},
    ]);
    let result = cases.ends_with(&job, Reason::StepExitNonzero).await?;
    let statuses: Vec<_> = result.steps.iter().map(|step| step.status).collect();
    ensure!(
        statuses == [StepStatus::Success, StepStatus::Failure, StepStatus::Skip],
        "{statuses:?}"
    );
    ensure!(cases.log(&result).await? == "first\n");
    Ok(())
}

pub(crate) async fn output_beyond_the_cap_is_cut_and_the_rest_is_whole(
    cases: &mut Cases,
) -> Result<()> {
    let job = cases.job(&format!(
        "seq -f '%07.0f' 1 {LINES_OF_A_BLOCK} > block; for _ in $(seq 200); do cat block; done"
    ));
    let result = cases.ends_with(&job, Reason::Completed).await?;
    let log = result.log.as_ref().context("there was output")?;
    ensure!(log.truncated, "200 MB are more than the cap");
    let bytes = cases.queue.object(&log.uri).await?;
    ensure!(
        bytes.len() as u64 == log.size_bytes,
        "{} bytes of {}",
        bytes.len(),
        log.size_bytes
    );
    ensure!(Sha256Digest::of(&bytes) == log.digest.sha256);
    let lines = (1..=LINES_OF_A_BLOCK).map(|number| format!("{number:07}\n"));
    let block = lines.collect::<Vec<_>>().concat();
    let expected = block.bytes().cycle();
    let same = bytes
        .iter()
        .zip(expected)
        .take_while(|(found, expected)| *found == expected);
    // What is said about the cut may stand at the end, and nowhere else.
    let other = bytes.len() - same.count();
    ensure!(
        other < 1024,
        "{other} bytes of {} are not the step's",
        bytes.len()
    );
    cases.output_of("true").await.map(drop)
}

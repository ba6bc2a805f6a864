//! `sourdough logs`.

use std::process::Stdio;

use anyhow::{Result, ensure};
use schemas::JobResult;
use schemas::names::report_subject;

use crate::fixture::{Fixture, RESULT};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_shown_as_far_as_it_goes_and_followed_to_the_result() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let id = fixture.queue().await?;
    let said = fixture.run(&["logs", id.as_str()]).await?;
    ensure!(said.code == Some(75) && said.err.contains("has no log yet"));
    fixture.chunk(&id, 1, "one\n", false).await?;
    let said = fixture.run(&["logs", id.as_str()]).await?;
    ensure!(
        (said.code, said.out.as_str()) == (Some(0), "one\n"),
        "{}",
        said.err
    );
    ensure!(said.err.contains("this is the log so far"));

    let mut following = fixture.command(&["logs", "-f", id.as_str()]);
    following.stdout(Stdio::piped()).stderr(Stdio::piped());
    let following = following.spawn()?;
    fixture.chunk(&id, 2, "two\n", true).await?;
    let result = JobResult {
        job_id: id.clone(),
        tenant: fixture.tenant.clone(),
        attempt: 1,
        ..JobResult::parse(RESULT)?
    };
    let subject = report_subject(&fixture.tenant, &id);
    fixture
        .publish(subject, serde_json::to_vec(&result)?)
        .await?;
    let output = tokio::task::spawn_blocking(|| following.wait_with_output()).await??;
    let err = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{err}");
    ensure!(output.stdout == b"one\ntwo\n", "{err}");

    // S3 is away, so the live log is what there is.
    let said = fixture.run(&["logs", id.as_str()]).await?;
    ensure!(said.out == "one\ntwo\n", "{}", said.err);
    ensure!(said.err.contains("cannot be read") && said.err.contains("attempt 1 on "));
    Ok(())
}

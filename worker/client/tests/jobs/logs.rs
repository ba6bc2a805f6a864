//! `sourdough logs`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use schemas::JobResult;
use schemas::names::{log_subject, report_subject};

use crate::fixture::{Fixture, RESULT};
use crate::wire::Wire;

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

    let wire = Wire::start(&fixture.url)?;
    let mut following = fixture.command_over(&wire.url, &["logs", "-f", id.as_str()]);
    let mut following = following.stdout(Stdio::piped()).spawn()?;
    let mut shown = BufReader::new(following.stdout.take().context("a pipe")?).lines();
    // It follows before there is more to show, and before there is a result.
    ensure!(shown.next().transpose()?.as_deref() == Some("one"));
    // What is read from the stream is not heard a second time, where nobody would take it.
    let heard = wire.subscription(&log_subject(&fixture.tenant, &id));
    wire.said(&format!("UNSUB {}", heard.context("a subscription")?))?;
    fixture.chunk(&id, 2, "two\n", false).await?;
    ensure!(shown.next().transpose()?.as_deref() == Some("two"));
    fixture.chunk(&id, 3, "three\n", true).await?;
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
    let rest = shown.collect::<std::io::Result<Vec<_>>>()?;
    ensure!(rest == ["three"] && following.wait()?.success(), "{rest:?}");

    // S3 is away, so the live log is what there is.
    let said = fixture.run(&["logs", id.as_str()]).await?;
    ensure!(said.out == "one\ntwo\nthree\n", "{}", said.err);
    ensure!(said.err.contains("cannot be read") && said.err.contains("attempt 1 on "));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_shown_to_its_end_where_what_ends_it_is_no_chunk() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let id = fixture.queue().await?;
    for seq in 1..=65 {
        fixture.chunk(&id, seq, "x\n", false).await?;
    }
    let subject = log_subject(&fixture.tenant, &id);
    fixture.publish(subject, b"no chunk".to_vec()).await?;
    let said = fixture.run(&["logs", id.as_str()]).await?;
    ensure!(
        said.code == Some(0) && said.out == "x\n".repeat(65),
        "{}{}",
        said.out,
        said.err
    );
    Ok(())
}

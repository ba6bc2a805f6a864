//! `sourdough result` and `sourdough wait`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use schemas::JobResult;

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_printed_once_there_is_one() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let id = fixture.queue().await?;
    let said = fixture.run(&["result", id.as_str()]).await?;
    ensure!(said.code == Some(75) && said.out.is_empty());
    ensure!(said.err.contains("has no result yet") && said.err.contains("sourdough why"));
    let said = fixture
        .run(&["wait", id.as_str(), "--timeout", "1"])
        .await?;
    ensure!(said.code == Some(75) && said.err.contains("no result after 1 s"));

    let mut waiting = fixture.command(&["wait", id.as_str(), "--json"]);
    let mut waiting = waiting
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // It waits once it tells what it waits for, and there is no result before.
    fixture.park(&id).await?;
    let mut told = BufReader::new(waiting.stderr.take().context("a pipe")?);
    let mut line = String::new();
    told.read_line(&mut line)?;
    ensure!(line.starts_with("parked: "), "{line}");
    fixture.finish(&id).await?;
    std::io::copy(&mut told, &mut std::io::sink())?;
    let waited = tokio::task::spawn_blocking(|| waiting.wait_with_output()).await??;
    let said = fixture.run(&["result", id.as_str(), "--json"]).await?;
    ensure!(said.code == Some(1) && waited.status.code() == Some(1));
    ensure!(waited.stdout == said.out.as_bytes());
    ensure!(JobResult::parse(said.out.as_bytes())?.job_id == id);
    ensure!(
        said.err
            .starts_with("status     failure: step_exit_nonzero")
    );
    Ok(())
}

//! Environments that cannot be baked, or are not.

use std::process::Output;

use anyhow::{Result, ensure};
use e2e::project::Project;
use e2e::queue;
use futures_util::TryStreamExt as _;
use schemas::Reason;
use schemas::names::bucket;

use crate::stack::Cases;

pub(crate) async fn a_setup_that_fails_is_told_with_its_step_and_its_output_and_publishes_nothing(
    cases: &mut Cases,
) -> Result<()> {
    let before = published(cases).await?;
    let output = bake(cases, "broken").await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{said}");
    ensure!(
        said.contains("deps exited with 7") && said.contains("about to fail"),
        "{said}"
    );
    ensure!(published(cases).await? == before, "something was published");
    Ok(())
}

pub(crate) async fn a_bake_of_what_nobody_defined_fails_in_words(cases: &mut Cases) -> Result<()> {
    let output = bake(cases, "nobody-defined-this").await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains("nobody-defined-this"),
        "{said}"
    );
    Ok(())
}

pub(crate) async fn a_job_whose_environment_is_not_baked_is_told_so(
    cases: &mut Cases,
) -> Result<()> {
    let job = queue::job(&cases.source, "broken", "true");
    cases
        .ends_with(&job, Reason::SnapshotUnavailable)
        .await
        .map(drop)
}

/// Asks for a bake as an operator does.
async fn bake(cases: &Cases, environment: &str) -> Result<Output> {
    let (bakery, project) = (
        &cases.stack()?.services.bakery,
        Project::of_file("README", "nothing\n")?,
    );
    let output = tokio::process::Command::new(&bakery.program)
        .arg("--config")
        .arg(&bakery.config)
        .args(["bake", environment, "--dir"])
        .arg(project.path())
        .envs(bakery.environment.iter().cloned())
        .output();
    Ok(output.await?)
}

/// How many pointers to snapshots there are.
async fn published(cases: &Cases) -> Result<usize> {
    let snapshots = cases
        .queue
        .jetstream()
        .get_key_value(bucket::SNAPSHOTS)
        .await?;
    Ok(snapshots.keys().await?.try_collect::<Vec<_>>().await?.len())
}
